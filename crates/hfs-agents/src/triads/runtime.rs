//! The agents of a run: their requests and memory, and the handling of their failures.
//!
//! An agent whose model fails is lost for the rest of the run, and its triad continues with the others. An agent
//! whose budget is used up is skipped but not lost. Neither ends the run: [`AgentHandle::ask`] reports the
//! problem as an event and returns `None`, and each phase has a fallback for missing answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use hfs_core::{
    AgentError, AgentMemory, AgentStatus, EventPayload, Part, Role as MessageRole, Usage, estimate_tokens,
    lock_unpoisoned,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::budget::{Exhausted, Meter};
use super::config::{Budget, SectionConfig, TriadConfig};
use super::emitter::{AgentIdentity, RunEmitter};
use super::prompts::{self, Question};
use crate::model::{
    ChatPart, ChatRole, ChatTurn, Model, ModelReply, ModelRequest, StreamEvent, StreamHandler, TriadTask,
};

/// How many of the newest memory entries are sent with a prompt.
const SENT_ENTRIES: usize = 6;
/// How many memory entries an agent keeps.
const KEPT_ENTRIES: usize = 16;
/// Limit for one memory entry, in characters.
const MAX_ENTRY: usize = 2_000;
/// The rest of a token budget is sent as the maximum length of a reply only up to this number of tokens, which every
/// model accepts. Models refuse a maximum above their own, and a budget may be many times larger.
const MAX_CAPPED_TOKENS: u32 = 4_096;

/// One entry of an agent's memory: a prompt it was given or an answer it gave.
///
/// The memory of an agent in a checkpoint is a JSON array of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEntry {
    /// `User` for a prompt, `Assistant` for an answer.
    pub role: MessageRole,
    /// Text of the prompt or answer.
    pub text: String,
}

/// State that all agents of a run share.
pub(super) struct RunContext<'a> {
    pub emitter: &'a RunEmitter<'a>,
    pub question: Question,
    pub sections: &'a [SectionConfig],
    /// Budget of the whole run.
    pub meter: Meter,
    pub cancel: CancellationToken,
    /// The first error of a model. It is the error of the run if no agent remains.
    first_error: Mutex<Option<AgentError>>,
    lost_agents: Mutex<Vec<LostAgent>>,
}

/// An agent whose model failed.
#[derive(Debug, Clone)]
pub(super) struct LostAgent {
    pub id: String,
    /// The error of the model.
    pub error: String,
}

impl<'a> RunContext<'a> {
    pub fn new(
        emitter: &'a RunEmitter<'a>,
        question: Question,
        sections: &'a [SectionConfig],
        meter: Meter,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            emitter,
            question,
            sections,
            meter,
            cancel,
            first_error: Mutex::default(),
            lost_agents: Mutex::default(),
        }
    }

    /// Waits forever if the run is cancelled, else returns at once. A cancelled run drops its future, but agents may be
    /// polled once more before that. Waiting keeps them from reporting the cancelled request as a failure.
    async fn park_if_cancelled(&self) {
        if self.cancel.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    fn first_error(&self) -> MutexGuard<'_, Option<AgentError>> {
        lock_unpoisoned(&self.first_error)
    }

    /// The agents that were lost so far.
    pub fn lost_agents(&self) -> Vec<LostAgent> {
        lock_unpoisoned(&self.lost_agents).clone()
    }

    pub fn take_first_error(&self) -> Option<AgentError> {
        self.first_error().take()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Prompt {
    pub task: TriadTask,
    pub text: String,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
}

impl Prompt {
    pub const fn new(task: TriadTask, text: String) -> Self {
        Self { task, text, temperature: None, max_tokens: None }
    }
}

/// An agent with its model and its memory.
pub(super) struct AgentHandle {
    pub identity: AgentIdentity,
    model: Arc<dyn Model>,
    system_prompt: String,
    memory: Mutex<Vec<MemoryEntry>>,
    is_lost: AtomicBool,
}

impl AgentHandle {
    pub fn new(
        identity: AgentIdentity,
        model: Arc<dyn Model>,
        system_prompt: String,
        memory: Option<&AgentMemory>,
    ) -> Self {
        // A memory that cannot be read was stored by another kind of agent with the same id; start without one.
        let memory = memory.and_then(|memory| memory.read().ok()).unwrap_or_default();
        Self { identity, model, system_prompt, memory: Mutex::new(memory), is_lost: AtomicBool::new(false) }
    }

    /// Whether the agent can be asked: its model has not failed in this run.
    pub fn is_available(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed)
    }

    fn memory(&self) -> MutexGuard<'_, Vec<MemoryEntry>> {
        lock_unpoisoned(&self.memory)
    }

    fn model_request(&self, prompt: &Prompt, cancel: &CancellationToken) -> ModelRequest {
        let mut turns: Vec<ChatTurn> = Vec::new();
        let memory = self.memory();
        let remembered = memory.iter().skip(memory.len().saturating_sub(SENT_ENTRIES));
        let current = MemoryEntry { role: MessageRole::User, text: prompt.text.clone() };
        for entry in remembered.chain([&current]) {
            let role =
                if entry.role == MessageRole::Assistant { ChatRole::Assistant } else { ChatRole::User };
            let part = ChatPart::Text(entry.text.clone());
            match turns.last_mut() {
                Some(last) if last.role == role => last.parts.push(part),
                // Providers require that the user has the first turn.
                None if role == ChatRole::Assistant => {}
                _ => turns.push(ChatTurn { role, parts: vec![part] }),
            }
        }
        ModelRequest {
            system: Some(self.system_prompt.clone()),
            turns,
            max_tokens: prompt.max_tokens,
            temperature: prompt.temperature,
            cancel: cancel.clone(),
            task: Some(prompt.task.clone()),
        }
    }

    /// Adds the prompt and the answer to the memory, drops the oldest entries, and returns the new memory.
    fn remember(&self, prompt: &Prompt, answer: &str) -> Option<AgentMemory> {
        let mut memory = self.memory();
        for (role, text) in [(MessageRole::User, prompt.text.as_str()), (MessageRole::Assistant, answer)] {
            memory.push(MemoryEntry { role, text: prompts::truncate(text, MAX_ENTRY) });
        }
        let excess = memory.len().saturating_sub(KEPT_ENTRIES);
        memory.drain(..excess);
        // Strings and roles can always be serialized.
        AgentMemory::new(&*memory).ok()
    }

    /// Asks the agent, within the budgets of the run and of its triad (`triad_meter`).
    ///
    /// Returns `None` if there is no answer. The reason was emitted as an error event, by this call or by the call in which
    /// the agent was lost.
    pub async fn ask(
        &self,
        context: &RunContext<'_>,
        triad_meter: Option<&Meter>,
        prompt: &Prompt,
    ) -> Option<String> {
        match self.ask_streaming(context, triad_meter, prompt, &mut |_| {}).await? {
            Ok(reply) => Some(reply_text(&reply)),
            Err(error) => {
                context.first_error().get_or_insert(error);
                None
            }
        }
    }

    /// Like [`ask`](Self::ask), but passes all stream events to `handler` and returns an error of the model.
    ///
    /// `None` means that a budget was used up before or during the call, or that the agent is lost.
    pub async fn ask_streaming(
        &self,
        context: &RunContext<'_>,
        triad_meter: Option<&Meter>,
        prompt: &Prompt,
        handler: StreamHandler<'_>,
    ) -> Option<Result<ModelReply, AgentError>> {
        let emitter = context.emitter;
        let id = self.identity.id.as_str();
        context.park_if_cancelled().await;
        if !self.is_available() {
            return None;
        }
        let remaining = match remaining_budget(&context.meter, triad_meter) {
            Ok(remaining) => remaining,
            Err(exhausted) => {
                emitter.error(Some(id), format!("{id} was not asked: {}", exhausted.as_str()));
                return None;
            }
        };
        let _running = (triad_meter.map(Meter::start_call), context.meter.start_call());
        emitter.agent_started(&self.identity);
        let mut request = self.model_request(prompt, &context.cancel);
        if let Ok(tokens) = u32::try_from(remaining.tokens)
            && tokens <= MAX_CAPPED_TOKENS
        {
            request.max_tokens = Some(request.max_tokens.map_or(tokens, |limit| limit.min(tokens)));
        }
        let mut has_output = false;
        let mut handler = |event: StreamEvent<'_>| {
            // An agent reports what it does long before the first words of its answer.
            has_output |= matches!(event, StreamEvent::Delta(_) | StreamEvent::Reported(_));
            emitter.events(event.payload(id));
            handler(event);
        };
        let result = tokio::time::timeout(remaining.time, self.model.reply(&request, &mut handler)).await;
        if has_output && !matches!(result, Ok(Ok(_))) {
            // The server has counted tokens, but reports them only at the end of a reply.
            emitter.usage(&self.identity, None);
        }
        match result {
            Ok(Ok(reply)) => {
                if let Some(memory) = self.remember(prompt, &reply_text(&reply)) {
                    emitter.remember(id, memory);
                }
                // A budget must hold although the server does not report tokens.
                let spent = reply.usage.map_or_else(|| estimated_tokens(&request, &reply), Usage::total);
                triad_meter.into_iter().chain([&context.meter]).for_each(|meter| meter.spend(spent));
                emitter.usage(&self.identity, reply.usage);
                emitter.events(prompts::answer_event(
                    id,
                    &prompt.task,
                    &reply_text(&reply),
                    context.sections,
                ));
                if let Some(incomplete) = &reply.incomplete {
                    emitter.error(Some(id), incomplete.to_string());
                }
                emitter.agent_ended(id, AgentStatus::Idle);
                Some(Ok(reply))
            }
            Ok(Err(error)) => {
                context.park_if_cancelled().await;
                self.is_lost.store(true, Ordering::Relaxed);
                let lost = LostAgent { id: id.to_owned(), error: error.to_string() };
                lock_unpoisoned(&context.lost_agents).push(lost);
                emitter.error(Some(id), error.to_string());
                emitter.agent_ended(id, AgentStatus::Blocked);
                Some(Err(error))
            }
            Err(_elapsed) => {
                let message = format!("{id} was interrupted: {}", Exhausted::Time.as_str());
                emitter.error(Some(id), message);
                emitter.agent_ended(id, AgentStatus::Idle);
                None
            }
        }
    }

    /// Asks for JSON of the given shape. If the answer cannot be parsed, asks once more; if the second answer cannot
    /// be parsed either, emits an error event and returns `None`.
    pub async fn ask_for<T: DeserializeOwned>(
        &self,
        context: &RunContext<'_>,
        triad_meter: Option<&Meter>,
        prompt: Prompt,
        shape: &str,
    ) -> Option<T> {
        let prompt = Prompt { text: prompts::with_shape(&prompt.text, shape), ..prompt };
        let answer = self.ask(context, triad_meter, &prompt).await?;
        if let Some(value) = prompts::parse_answer(&answer) {
            return Some(value);
        }
        let repeated = Prompt { text: prompts::repeat_in_shape(shape), ..prompt };
        let answer = self.ask(context, triad_meter, &repeated).await?;
        let value = prompts::parse_answer(&answer);
        if value.is_none() {
            let id = &self.identity.id;
            context.emitter.error(Some(id), format!("{id} answered twice in a form that cannot be read"));
        }
        value
    }
}

/// The tokens and time that remain in both budgets: for each, the smaller of the two amounts.
fn remaining_budget(run: &Meter, triad: Option<&Meter>) -> Result<Budget, Exhausted> {
    let run = run.remaining()?;
    let triad = triad.map_or(Ok(run), Meter::remaining)?;
    Ok(Budget { tokens: triad.tokens.min(run.tokens), time: triad.time.min(run.time) })
}

/// An estimate of the tokens of a call.
fn estimated_tokens(request: &ModelRequest, reply: &ModelReply) -> u64 {
    let prompt = request.system.iter().map(|text| estimate_tokens(text));
    let turns = request.turns.iter().map(|turn| estimate_tokens(&turn.text()));
    let answer = reply.parts.iter().map(|part| match part {
        Part::Text { text } | Part::Thinking { text, .. } => estimate_tokens(text),
        _ => 0,
    });
    prompt.chain(turns).chain(answer).sum()
}

fn reply_text(reply: &ModelReply) -> String {
    let texts = reply.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// A triad in a run.
pub(super) struct TriadRuntime<'a> {
    pub config: &'a TriadConfig,
    /// The first available agent leads the triad.
    pub agents: [AgentHandle; 3],
    pub meter: Meter,
    /// Number of lost agents that were reported.
    reported_lost: Mutex<usize>,
}

impl<'a> TriadRuntime<'a> {
    pub fn new(config: &'a TriadConfig, agents: [AgentHandle; 3]) -> Self {
        Self { config, agents, meter: Meter::new(config.budget), reported_lost: Mutex::new(0) }
    }

    pub fn available_agents(&self) -> impl Iterator<Item = &AgentHandle> {
        self.agents.iter().filter(|agent| agent.is_available())
    }

    /// The first available agent. `None` if all agents are lost.
    pub fn lead(&self) -> Option<&AgentHandle> {
        self.available_agents().next()
    }

    /// The agent itself if it is available, else the lead.
    pub fn available_or_lead<'b>(&'b self, agent: &'b AgentHandle) -> Option<&'b AgentHandle> {
        if agent.is_available() { Some(agent) } else { self.lead() }
    }

    /// See [`AgentHandle::ask`]; charged to this triad.
    pub async fn ask(
        &self,
        context: &RunContext<'_>,
        agent: &AgentHandle,
        task: TriadTask,
        text: String,
    ) -> Option<String> {
        let answer = agent.ask(context, Some(&self.meter), &Prompt::new(task, text)).await;
        self.report_losses(context);
        answer
    }

    /// See [`AgentHandle::ask_for`]; charged to this triad.
    pub async fn ask_for<T: DeserializeOwned>(
        &self,
        context: &RunContext<'_>,
        agent: &AgentHandle,
        prompt: Prompt,
        shape: &str,
    ) -> Option<T> {
        let answer = agent.ask_for(context, Some(&self.meter), prompt, shape).await;
        self.report_losses(context);
        answer
    }

    /// Emits an event if agents were lost since the last report. The agents of a triad work in parallel, so one
    /// of them may report the loss of another.
    fn report_losses(&self, context: &RunContext<'_>) {
        let lost: Vec<String> = self
            .agents
            .iter()
            .filter(|agent| !agent.is_available())
            .map(|agent| agent.identity.id.clone())
            .collect();
        let mut reported = lock_unpoisoned(&self.reported_lost);
        if lost.len() > *reported {
            *reported = lost.len();
            drop(reported);
            context.emitter.event(EventPayload::TriadDegraded { triad: self.config.id.clone(), lost });
        }
    }
}
