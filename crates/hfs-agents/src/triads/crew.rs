//! A triad at work: three agents, their memories, and what they may spend.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hfs_core::{AgentError, AgentMemory, AgentStatus, EventPayload, Part, Role as Speaks};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::budget::{Exhausted, Meter};
use super::config::{SectionConfig, TriadConfig};
use super::prompts;
use super::stage::{Identity, Stage};
use super::structured::read;
use crate::model::{Ear, Heard, Model, ModelReply, ModelRequest, Piece, Speaker, Task, Turn};

/// An entry of an agent's memory: something that it was asked or that it answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryEntry {
    /// `user` for a question, `assistant` for an answer.
    pub role: Speaks,
    /// The text.
    pub text: String,
}

/// How many entries of its memory an agent is shown again, and keeps.
const SHOWN: usize = 6;
const KEPT: usize = 16;
/// The most characters of one memory.
const LONGEST_MEMORY: usize = 2_000;

/// What all agents of a run share.
pub(super) struct Shared<'a> {
    pub stage: &'a Stage<'a>,
    /// The question, and what was said before it.
    pub question: String,
    pub before: String,
    pub sections: &'a [SectionConfig],
    pub meter: Meter,
    pub cancel: CancellationToken,
    /// The first failure of a model, for a run in which nobody is left.
    failure: Mutex<Option<AgentError>>,
}

impl<'a> Shared<'a> {
    pub fn new(
        stage: &'a Stage<'a>,
        (question, before): (String, String),
        sections: &'a [SectionConfig],
        meter: Meter,
        cancel: CancellationToken,
    ) -> Self {
        Self { stage, question, before, sections, meter, cancel, failure: Mutex::new(None) }
    }

    /// Goes on, or, once the run is cancelled, waits to be dropped: nothing of what agents do after a cancel
    /// may look like their failure.
    async fn unless_cancelled(&self) {
        if self.cancel.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    pub fn take_failure(&self) -> Option<AgentError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep_failure(&self, error: AgentError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// One question to an agent.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub task: Task,
    pub prompt: String,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
}

impl Ask {
    pub const fn new(task: Task, prompt: String) -> Self {
        Self { task, prompt, temperature: None, max_tokens: None }
    }
}

/// An agent with its memory.
pub(super) struct Member {
    pub who: Identity,
    model: Arc<dyn Model>,
    system: String,
    memory: Mutex<Vec<MemoryEntry>>,
    lost: AtomicBool,
}

impl Member {
    pub fn new(who: Identity, model: Arc<dyn Model>, system: String, memory: Option<AgentMemory>) -> Self {
        Self {
            who,
            model,
            system,
            // A memory that another version or agent wrote cannot be continued; the agent then starts without one.
            memory: Mutex::new(memory.and_then(|memory| memory.read().ok()).unwrap_or_default()),
            lost: AtomicBool::new(false),
        }
    }

    pub fn works(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }

    fn memory(&self) -> MutexGuard<'_, Vec<MemoryEntry>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, ask: &Ask, cancel: &CancellationToken) -> ModelRequest {
        let mut turns: Vec<Turn> = Vec::new();
        let memory = self.memory().clone();
        let shown = memory.iter().skip(memory.len().saturating_sub(SHOWN));
        let asked = [MemoryEntry { role: Speaks::User, text: ask.prompt.clone() }];
        for entry in shown.chain(&asked) {
            let speaker = if entry.role == Speaks::Assistant { Speaker::Assistant } else { Speaker::User };
            let piece = Piece::Text(entry.text.clone());
            match turns.last_mut() {
                Some(last) if last.speaker == speaker => last.pieces.push(piece),
                // The first word is the user's.
                None if speaker == Speaker::Assistant => {}
                _ => turns.push(Turn { speaker, pieces: vec![piece] }),
            }
        }
        ModelRequest {
            system: Some(self.system.clone()),
            turns,
            max_tokens: ask.max_tokens,
            temperature: ask.temperature,
            cancel: cancel.clone(),
            task: Some(ask.task.clone()),
        }
    }

    /// Adds what was asked and answered, and forgets what is older than it keeps.
    fn remember(&self, ask: &Ask, answer: &str) -> serde_json::Result<AgentMemory> {
        let mut entries = self.memory();
        for (role, text) in [(Speaks::User, ask.prompt.as_str()), (Speaks::Assistant, answer)] {
            entries.push(MemoryEntry { role, text: prompts::shortened(text, LONGEST_MEMORY) });
        }
        let too_many = entries.len().saturating_sub(KEPT);
        entries.drain(..too_many);
        AgentMemory::new(&*entries)
    }

    /// Asks, within what is left to spend. What goes wrong is told, and `None` then.
    ///
    /// An agent whose model fails is lost for the rest of the run; one that has nothing left to spend is not.
    pub async fn ask(&self, shared: &Shared<'_>, own: Option<&Meter>, ask: &Ask) -> Option<String> {
        match self.ask_aloud(shared, own, ask, &mut |_| {}).await? {
            Ok(reply) => Some(text_of(&reply)),
            Err(error) => {
                shared.keep_failure(error);
                None
            }
        }
    }

    /// The same, with everything that is heard on the way given to `ear`; a failure of the model comes back.
    pub async fn ask_aloud(
        &self,
        shared: &Shared<'_>,
        own: Option<&Meter>,
        ask: &Ask,
        ear: &mut (dyn FnMut(&Heard<'_>) + Send),
    ) -> Option<Result<ModelReply, AgentError>> {
        let stage = shared.stage;
        let id = self.who.id.as_str();
        shared.unless_cancelled().await;
        if !self.works() {
            return None;
        }
        let left = shared.meter.left().and_then(|all| {
            let own = own.map_or(Ok(all), Meter::left)?;
            Ok((own.tokens.min(all.tokens), own.time.min(all.time)))
        });
        let (tokens, time) = match left {
            Ok(left) => left,
            Err(exhausted) => {
                stage.error(Some(id), format!("{id} was not asked: {}", exhausted.as_str()));
                return None;
            }
        };
        let _working = (own.map(Meter::work), shared.meter.work());
        stage.agent_started(&self.who);
        let mut request = self.request(ask, &shared.cancel);
        if let Ok(tokens) = u32::try_from(tokens) {
            request.max_tokens = Some(request.max_tokens.map_or(tokens, |most| most.min(tokens)));
        }
        let mut told = |heard: Heard<'_>| {
            if let Heard::Retrying(error, pause) = &heard {
                let pause = pause.as_secs_f64();
                stage.error(Some(id), format!("{error}; trying again in {pause:.1} s"));
            }
            ear(&heard);
        };
        let ear: Ear<'_> = &mut told;
        match tokio::time::timeout(time, self.model.reply(&request, ear)).await {
            Ok(Ok(reply)) => {
                match self.remember(ask, &text_of(&reply)) {
                    Ok(memory) => stage.remember(id, memory),
                    Err(error) => stage.error(Some(id), format!("the memory of {id} was not kept: {error}")),
                }
                let usage = reply.usage.unwrap_or_default();
                own.into_iter().chain([&shared.meter]).for_each(|meter| meter.spend(usage.total()));
                stage.usage(&self.who, usage);
                stage.agent_ended(id, AgentStatus::Idle);
                Some(Ok(reply))
            }
            Ok(Err(error)) => {
                shared.unless_cancelled().await;
                self.lost.store(true, Ordering::Relaxed);
                stage.error(Some(id), error.to_string());
                stage.agent_ended(id, AgentStatus::Blocked);
                Some(Err(error))
            }
            Err(_) => {
                let message = format!("{id} was interrupted: {}", Exhausted::Time.as_str());
                stage.error(Some(id), message);
                stage.agent_ended(id, AgentStatus::Idle);
                None
            }
        }
    }

    /// Asks for an answer of a given shape; what does not have it is asked for once more, then told as an
    /// error and left out.
    pub async fn ask_for<T: DeserializeOwned>(
        &self,
        shared: &Shared<'_>,
        own: Option<&Meter>,
        ask: Ask,
        shape: &str,
    ) -> Option<T> {
        let ask = Ask { prompt: prompts::with_shape(&ask.prompt, shape), ..ask };
        let answer = self.ask(shared, own, &ask).await?;
        if let Some(value) = read(&answer) {
            return Some(value);
        }
        let again = Ask { prompt: prompts::once_more(shape), ..ask };
        let answer = self.ask(shared, own, &again).await?;
        let value = read(&answer);
        if value.is_none() {
            let id = &self.who.id;
            shared.stage.error(Some(id), format!("{id} answered twice in a form that cannot be read"));
        }
        value
    }
}

fn text_of(reply: &ModelReply) -> String {
    let texts = reply.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// A triad.
pub(super) struct Crew<'a> {
    pub config: &'a TriadConfig,
    /// The first one leads while it can.
    pub members: [Member; 3],
    pub meter: Meter,
    told_lost: Mutex<usize>,
}

impl<'a> Crew<'a> {
    pub fn new(config: &'a TriadConfig, members: [Member; 3]) -> Self {
        Self { config, members, meter: Meter::new(config.budget), told_lost: Mutex::new(0) }
    }

    /// Those who can still work.
    pub fn able(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.works())
    }

    /// Who speaks for the triad; nobody when all are lost.
    pub fn lead(&self) -> Option<&Member> {
        self.able().next()
    }

    /// This member if it can still work, else whoever leads.
    pub fn able_or_lead<'b>(&'b self, member: &'b Member) -> Option<&'b Member> {
        if member.works() { Some(member) } else { self.lead() }
    }

    pub async fn ask(
        &self,
        shared: &Shared<'_>,
        member: &Member,
        task: Task,
        prompt: String,
    ) -> Option<String> {
        let answer = member.ask(shared, Some(&self.meter), &Ask::new(task, prompt)).await;
        self.tell_losses(shared);
        answer
    }

    pub async fn ask_for<T: DeserializeOwned>(
        &self,
        shared: &Shared<'_>,
        member: &Member,
        ask: Ask,
        shape: &str,
    ) -> Option<T> {
        let answer = member.ask_for(shared, Some(&self.meter), ask, shape).await;
        self.tell_losses(shared);
        answer
    }

    /// Says so when the triad has become smaller.
    fn tell_losses(&self, shared: &Shared<'_>) {
        let lost: Vec<String> = self
            .members
            .iter()
            .filter(|member| !member.works())
            .map(|member| member.who.id.clone())
            .collect();
        let mut told = self.told_lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() > *told {
            *told = lost.len();
            drop(told);
            shared.stage.event(EventPayload::TriadDegraded { triad: self.config.id.clone(), lost });
        }
    }
}
