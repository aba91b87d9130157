//! The turns of an agent that hfs has recorded, for an import of the agent's own transcript.
//!
//! A transcript divides a turn into messages in another way than the agent's protocol, and has more in it: instructions, thinking
//! with signatures, subagents. Only the words of the user are the same in both. So each of the user's messages in the transcript is
//! looked for among those of the branch, in order. One that is found begins a turn that hfs has recorded; one that is not
//! begins a turn that the user held with the agent elsewhere.
//!
//! What the protocol does not carry and the recorded messages have a place for is taken from the transcript: see [`Supplement`].

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;

use hfs_core::{
    BranchId, BranchKey, Message, MessageDraft, MessageFlag, MessageRange, MessageStatus, Part, Role, Seq,
    Store, StoreResult,
};
use serde_json::Value;

/// Number of messages in one read.
const BATCH: u32 = 200;
/// Field of the user's message with the texts that the agent inserted into the conversation of its turn.
const INJECTED_CONTEXT: &str = "injected_context";

/// The turns of a branch.
#[derive(Debug)]
pub(super) struct RecordedTurns {
    branch: BranchId,
    turns: Vec<RecordedTurn>,
    /// How far the transcript was compared, for each of its branches.
    states: HashMap<BranchKey, State>,
    /// Turns that the transcript has completed, with what it has of them besides.
    supplements: VecDeque<(RangeInclusive<Seq>, Supplement)>,
}

#[derive(Debug)]
struct RecordedTurn {
    /// What the user wrote.
    prompt: String,
    /// The user's message.
    start: Seq,
    /// The last message of the turn.
    end: Seq,
}

/// How far a branch of the transcript was compared.
#[derive(Debug)]
struct State {
    /// The next turn that may be found.
    next: usize,
    /// Whether the newest message of the user was found. What precedes the first one is not a part of any turn.
    is_recorded: bool,
    /// What the transcript has of the newest turn besides.
    supplement: Supplement,
}

/// What a transcript has of a turn besides what the agent has sent.
#[derive(Debug, Default)]
struct Supplement {
    /// Names of tools, by the ids of their calls. Agents send only a title and a kind.
    tools: HashMap<String, String>,
    /// Signatures of thinking, by its text.
    signatures: HashMap<String, String>,
    /// Instructions, and context that the agent inserted in the user's name.
    context: Vec<String>,
    /// Such texts after the newest message of the agent: if a prompt follows, they belong to its turn.
    newest_context: Vec<String>,
}

impl RecordedTurns {
    /// Reads the turns of a branch that were held in hfs.
    pub(super) fn read(store: &dyn Store, branch: BranchId) -> StoreResult<Self> {
        let mut turns: Vec<RecordedTurn> = Vec::new();
        let mut is_imported = false;
        let mut next = 1;
        loop {
            let page = store.read_messages(branch, MessageRange::From(next, BATCH))?;
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            for message in &page {
                let (content, seq) = (&message.content, message.seq);
                if content.is_typed() {
                    is_imported = content.source.is_some();
                    if !is_imported {
                        turns.push(RecordedTurn { prompt: words(content), start: seq, end: seq });
                    }
                } else if let Some(turn) =
                    turns.last_mut().filter(|_| !is_imported && content.source.is_none())
                {
                    turn.end = seq;
                }
            }
        }
        Ok(Self { branch, turns, states: HashMap::new(), supplements: VecDeque::new() })
    }

    /// The last stored message of the turn to which a message of the transcript belongs. `None` if hfs has not recorded it.
    pub(super) fn end_of_turn(&mut self, key: BranchKey, message: &MessageDraft) -> Option<Seq> {
        if message.is_typed() {
            let next = self.state(key).next;
            let words = words(message);
            // The first prompt of a session may follow the conversation so far, as text.
            let is_first = next == 0;
            let is_prompt = |prompt: &str| {
                let rest = words.strip_prefix(prompt);
                // Names of files may follow.
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
                    || (is_first && !prompt.is_empty() && words.ends_with(prompt))
            };
            let later = self.turns.iter().enumerate().skip(next);
            let found = later.into_iter().find(|(_, turn)| is_prompt(&turn.prompt)).map(|(index, _)| index);
            self.end_supplement(key, found.is_some());
            let state = self.state(key);
            state.is_recorded = found.is_some();
            state.next = found.map_or(next, |index| index + 1);
        }
        let state = self.state(key);
        if !state.is_recorded {
            return None;
        }
        state.supplement.add(message);
        let turn = state.next.checked_sub(1);
        Some(turn.and_then(|turn| self.turns.get(turn)).map_or(0, |turn| turn.end))
    }

    /// Continues after a stored message that hfs wrote into the transcript: its turn and earlier ones do not follow.
    pub(super) fn continue_after(&mut self, key: BranchKey, seq: Seq) {
        let passed = self.turns.partition_point(|turn| turn.start <= seq);
        let state = self.state(key);
        state.next = state.next.max(passed);
    }

    fn state(&mut self, key: BranchKey) -> &mut State {
        self.states.entry(key).or_insert_with(|| State {
            next: 0,
            is_recorded: true,
            supplement: Supplement::default(),
        })
    }

    /// Completes the newest turn of a branch of the transcript. What precedes the first turn belongs to that one.
    fn end_supplement(&mut self, key: BranchKey, has_next: bool) {
        let Some(state) = self.states.get_mut(&key) else { return };
        let Some(turn) = state.next.checked_sub(1).and_then(|turn| self.turns.get(turn)) else { return };
        let mut supplement = std::mem::take(&mut state.supplement);
        if has_next {
            state.supplement.newest_context = std::mem::take(&mut supplement.newest_context);
        }
        supplement.keep_newest_context();
        if state.is_recorded && !supplement.is_empty() {
            self.supplements.push_back((turn.start..=turn.end, supplement));
        }
    }

    /// Completes the newest turn of every branch of the transcript.
    pub(super) fn end(&mut self) {
        let keys: Vec<BranchKey> = self.states.keys().copied().collect();
        keys.into_iter().for_each(|key| self.end_supplement(key, false));
    }

    /// The messages of the next turn that the transcript has completed, with what it has besides; only those that this changes. `None`
    /// if there is no such turn.
    pub(super) fn next_supplemented(&mut self, store: &dyn Store) -> StoreResult<Option<Vec<MessageDraft>>> {
        let Some((turn, supplement)) = self.supplements.pop_front() else { return Ok(None) };
        let mut fuller = Vec::new();
        let mut next = *turn.start();
        while next <= *turn.end() {
            let page = store.read_messages(self.branch, MessageRange::From(next, BATCH))?;
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            let of_turn = page.iter().filter(|message| turn.contains(&message.seq));
            fuller.extend(
                of_turn.filter_map(|message| supplement.added_to(message, message.seq == *turn.start())),
            );
        }
        Ok(Some(fuller))
    }
}

impl Supplement {
    fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.signatures.is_empty() && self.context.is_empty()
    }

    /// Collects from a message of the transcript.
    fn add(&mut self, message: &MessageDraft) {
        // What a subagent did is no part of the recorded messages.
        if message.has_flag(MessageFlag::Sidechain) {
            return;
        }
        if matches!(message.role, Role::Assistant | Role::Tool) {
            self.keep_newest_context();
        }
        for part in &message.parts {
            match part {
                Part::Text { text } => {
                    let is_instruction = message.role == Role::System;
                    let context =
                        if is_instruction { text.as_str() } else { message.split_text(text).0 }.trim();
                    if !context.is_empty() {
                        self.newest_context.push(context.to_owned());
                    }
                }
                Part::Thinking { text, signature: Some(signature) } if !text.trim().is_empty() => {
                    self.signatures.insert(text.trim().to_owned(), signature.clone());
                }
                Part::ToolCall { id, name, .. } if !id.is_empty() && !name.is_empty() => {
                    self.tools.insert(id.clone(), name.clone());
                }
                Part::Thinking { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Attachment { .. }
                | Part::Opaque { .. } => {}
            }
        }
    }

    /// Adds the newest context to that of the turn. Agents repeat it.
    fn keep_newest_context(&mut self) {
        for text in std::mem::take(&mut self.newest_context) {
            if !self.context.contains(&text) {
                self.context.push(text);
            }
        }
    }

    /// A recorded message of the turn with what the transcript has besides. `None` if that is nothing.
    fn added_to(&self, message: &Message, is_prompt: bool) -> Option<MessageDraft> {
        let recorded = &message.content;
        if recorded.source.is_some() || recorded.status == MessageStatus::Streaming {
            return None;
        }
        let mut fuller = recorded.clone();
        for part in &mut fuller.parts {
            match part {
                Part::ToolCall { id, name, .. } => {
                    if let Some(tool) = self.tools.get(id) {
                        name.clone_from(tool);
                    }
                }
                Part::Thinking { text, signature: signature @ None } => {
                    *signature = self.signatures.get(text.trim()).cloned();
                }
                Part::Text { .. }
                | Part::Thinking { .. }
                | Part::ToolResult { .. }
                | Part::Attachment { .. }
                | Part::Opaque { .. } => {}
            }
        }
        if is_prompt {
            self.add_context(&mut fuller);
        }
        (fuller != *recorded).then_some(fuller)
    }

    fn add_context(&self, prompt: &mut MessageDraft) {
        let known = prompt.extra.get(INJECTED_CONTEXT).and_then(Value::as_array).cloned().unwrap_or_default();
        let is_new = |text: &&String| !known.iter().any(|known| known == text.as_str());
        let new: Vec<Value> = self.context.iter().filter(is_new).map(|text| text.as_str().into()).collect();
        if !new.is_empty() {
            prompt.extra.insert(INJECTED_CONTEXT.to_owned(), [known, new].concat().into());
        }
    }
}

fn words(message: &MessageDraft) -> String {
    message.text().trim().to_owned()
}
