//! The turns of an agent that hfs has recorded, for an import of the agent's own transcript.
//!
//! A transcript divides a turn into messages in another way than the agent's protocol, and has more in it: instructions, thinking
//! with signatures, subagents. Only the words of the user are the same in both. So each of the user's messages in the transcript is
//! looked for among those of the branch, in order. One that is found begins a turn that hfs has recorded; one that is not
//! begins a turn that the user held with the agent elsewhere.

use std::collections::HashMap;

use hfs_core::{BranchId, BranchKey, MessageDraft, MessageRange, Seq, Store, StoreResult};

/// Number of messages in one read.
const BATCH: u32 = 200;

/// The turns of a branch.
#[derive(Debug)]
pub(super) struct RecordedTurns {
    turns: Vec<RecordedTurn>,
    /// How far the transcript was compared, for each of its branches.
    states: HashMap<BranchKey, State>,
}

#[derive(Debug)]
struct RecordedTurn {
    /// What the user wrote.
    prompt: String,
    /// The last message of the turn.
    end: Seq,
}

/// How far a branch of the transcript was compared.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The next turn that may be found.
    next: usize,
    /// Whether the newest message of the user was found. What precedes the first one is not a part of any turn.
    is_recorded: bool,
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
                let content = &message.content;
                if content.is_typed() {
                    is_imported = content.source.is_some();
                    if !is_imported {
                        turns.push(RecordedTurn { prompt: words(content), end: message.seq });
                    }
                } else if let Some(turn) =
                    turns.last_mut().filter(|_| !is_imported && content.source.is_none())
                {
                    turn.end = message.seq;
                }
            }
        }
        Ok(Self { turns, states: HashMap::new() })
    }

    /// The last stored message of the turn to which a message of the transcript belongs. `None` if hfs has not recorded it.
    pub(super) fn end_of_turn(&mut self, key: BranchKey, message: &MessageDraft) -> Option<Seq> {
        let state = self.states.entry(key).or_insert(State { next: 0, is_recorded: true });
        if message.is_typed() {
            let words = words(message);
            // The first prompt of a session may follow the conversation so far, as text.
            let is_first = state.next == 0;
            let is_prompt = |prompt: &str| {
                let rest = words.strip_prefix(prompt);
                // Names of files may follow.
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
                    || (is_first && !prompt.is_empty() && words.ends_with(prompt))
            };
            let later = self.turns.iter().enumerate().skip(state.next);
            let found = later.into_iter().find(|(_, turn)| is_prompt(&turn.prompt)).map(|(index, _)| index);
            state.is_recorded = found.is_some();
            state.next = found.map_or(state.next, |index| index + 1);
        }
        if !state.is_recorded {
            return None;
        }
        let turn = state.next.checked_sub(1).and_then(|index| self.turns.get(index));
        Some(turn.map_or(0, |turn| turn.end))
    }
}

fn words(message: &MessageDraft) -> String {
    message.text().trim().to_owned()
}
