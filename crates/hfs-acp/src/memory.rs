//! What an agent remembers in a checkpoint: its own session, and how far that session follows the branch.

use std::collections::HashSet;

use hfs_core::{AgentMemory, BranchId, Message, Part, Role, Seq};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::turn::ReportedLists;

/// Fingerprints that are kept: those of the newest messages.
const MAX_FINGERPRINTS: usize = 64;
/// Characters of a fingerprint, each of four bits.
const FINGERPRINT_CHARS: usize = 16;

/// An agent's own session and the messages that it contains.
///
/// The session contains exactly the branch up to `through`. It is valid only on the branch that drove it: after a rewind or a
/// fork, the other branch continues it, so the session contains more than the new branch. The fingerprints show whether a
/// message was changed since, by a plugin or by an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionMemory {
    /// The agent's id of its session.
    pub session: String,
    /// The branch that drove it.
    pub branch: BranchId,
    /// Newest message that it contains.
    pub through: Seq,
    /// Fingerprints of the newest messages up to there, oldest first. One of a message of which an agent is given nothing is
    /// empty.
    pub fingerprint: Vec<String>,
    /// The lists that the agent has reported last on the branch.
    #[serde(default, skip_serializing_if = "ReportedLists::is_empty")]
    pub lists: ReportedLists,
}

impl SessionMemory {
    /// The memory after a turn that answered `prompt` with messages of these fingerprints.
    pub fn after_turn(session: String, prompt: &Message, replies: &[String], lists: ReportedLists) -> Self {
        let of_prompt = message_fingerprint(prompt.content.role, &prompt.content.parts);
        let all = std::iter::once(&of_prompt).chain(replies);
        let skipped = (replies.len() + 1).saturating_sub(MAX_FINGERPRINTS);
        let count = u64::try_from(replies.len()).unwrap_or(u64::MAX);
        Self {
            session,
            branch: prompt.branch,
            through: prompt.seq.saturating_add(count),
            fingerprint: all.skip(skipped).cloned().collect(),
            lists,
        }
    }

    /// Whether the session contains exactly what the branch has before the last message of `history`.
    pub fn holds(&self, branch: BranchId, history: &[Message]) -> bool {
        let Some((prompt, earlier)) = history.split_last() else { return false };
        if branch != self.branch || self.through.checked_add(1) != Some(prompt.seq) {
            return false;
        }
        let mut is_seen = false;
        // Only the newest messages of a long branch are part of the history.
        let oldest = earlier.first().map_or(Seq::MAX, |message| message.seq);
        for (fingerprint, seq) in self.fingerprint.iter().rev().zip((oldest..=self.through).rev()) {
            let message = earlier.iter().rev().find(|message| message.seq == seq);
            let found =
                message.map(|message| message_fingerprint(message.content.role, &message.content.parts));
            if found.unwrap_or_default() != *fingerprint {
                return false;
            }
            is_seen |= message.is_some();
        }
        is_seen
    }
}

/// The session to which a memory of an [`AcpAgent`](crate::AcpAgent) refers: the agent's id of it, and the newest message of the
/// branch that it contains.
#[must_use]
pub fn remembered_session(memory: &AgentMemory) -> Option<(String, Seq)> {
    memory.read::<SessionMemory>().ok().map(|memory| (memory.session, memory.through))
}

/// Fingerprints of the messages of a turn, as the agent is given them in later turns: without calls that have no result.
#[derive(Debug, Default)]
pub(crate) struct TurnFingerprints {
    messages: Vec<Fingerprinted>,
    /// Ids of the calls with a result.
    answered: HashSet<String>,
}

#[derive(Debug)]
enum Fingerprinted {
    Message(String),
    /// A message with calls, whose results follow.
    WithCalls(Role, Vec<Part>),
}

impl TurnFingerprints {
    /// Adds a complete message.
    pub fn add(&mut self, role: Role, parts: Vec<Part>) {
        for part in &parts {
            if let Part::ToolResult { id, .. } = part {
                self.answered.insert(id.clone());
            }
        }
        self.messages.push(if parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
            Fingerprinted::WithCalls(role, parts)
        } else {
            Fingerprinted::Message(message_fingerprint(role, &parts))
        });
    }

    /// The fingerprints of all messages. That of a message without anything but open calls is empty.
    pub fn all(&self) -> Vec<String> {
        let is_open = |part: &Part| match part {
            Part::ToolCall { id, .. } => !id.is_empty() && !self.answered.contains(id),
            _ => false,
        };
        let fingerprints = self.messages.iter().map(|message| match message {
            Fingerprinted::Message(fingerprint) => fingerprint.clone(),
            Fingerprinted::WithCalls(role, parts) => {
                let given: Vec<Part> = parts.iter().filter(|part| !is_open(part)).cloned().collect();
                if given.is_empty() { String::new() } else { message_fingerprint(*role, &given) }
            }
        });
        fingerprints.collect()
    }
}

/// A fingerprint of what an agent has said and was told in a message.
pub(crate) fn message_fingerprint(role: Role, parts: &[Part]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(role.as_str().as_bytes());
    for part in parts {
        let content = match part {
            Part::Text { text } => json!(["text", text]),
            Part::Thinking { text, signature: _ } => json!(["thinking", text]),
            // An import of the agent's transcript completes the names of tools and the signatures of thinking.
            Part::ToolCall { id, name: _, input } => json!(["call", id, input]),
            Part::ToolResult { id, output, is_error } => json!(["result", id, output, is_error]),
            Part::Attachment { media_type, hash, .. } => {
                json!(["attachment", media_type, hash.map(|hash| hash.to_string())])
            }
            Part::Opaque { source, raw } => json!(["opaque", source, raw]),
        };
        hasher.update(content.to_string().as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().chars().take(FINGERPRINT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use hfs_core::{MessageDraft, Timestamp};

    use super::*;

    fn message(branch: BranchId, seq: Seq, role: Role, text: &str) -> Message {
        let content = MessageDraft::new(role, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
        Message { branch, seq, content }
    }

    #[test]
    fn a_session_holds_only_for_the_branch_and_the_messages_that_it_contains() {
        let branch = BranchId::generate();
        let prompt = message(branch, 3, Role::User, "question");
        let reply = message(branch, 4, Role::Assistant, "answer");
        let fingerprint = message_fingerprint(Role::Assistant, &reply.content.parts);
        let memory = SessionMemory::after_turn("s".into(), &prompt, &[fingerprint], ReportedLists::default());
        let next = message(branch, 5, Role::User, "next");
        let history = [prompt.clone(), reply.clone(), next.clone()];
        assert!(memory.holds(branch, &history));
        // The history of a long branch begins later.
        assert!(memory.holds(branch, &history[1..]));
        assert!(!memory.holds(branch, &history[2..]));
        // A rewind or a fork.
        assert!(!memory.holds(BranchId::generate(), &history));
        // Something was said to another agent in between.
        let later = message(branch, 7, Role::User, "next");
        assert!(!memory.holds(branch, &[prompt.clone(), reply.clone(), later]));
        // A plugin has changed the reply, or an import has replaced the prompt.
        let changed = message(branch, 4, Role::Assistant, "another answer");
        assert!(!memory.holds(branch, &[prompt, changed, next.clone()]));
        let changed = message(branch, 3, Role::User, "another question");
        assert!(!memory.holds(branch, &[changed, reply, next]));
    }

    #[test]
    fn a_call_without_a_result_is_no_part_of_what_a_session_holds() {
        let branch = BranchId::generate();
        let call = |id: &str| Part::ToolCall { id: id.into(), name: "Bash".into(), input: json!({}) };
        let mut turn = TurnFingerprints::default();
        turn.add(Role::Assistant, vec![Part::text("both"), call("1"), call("open")]);
        let result = Part::ToolResult { id: "1".into(), output: "done".into(), is_error: false };
        turn.add(Role::Tool, vec![result.clone()]);
        turn.add(Role::Assistant, vec![call("also open")]);
        let prompt = message(branch, 1, Role::User, "question");
        let memory = SessionMemory::after_turn("s".into(), &prompt, &turn.all(), ReportedLists::default());
        let with_parts = |seq, role, parts| {
            let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
            Message { branch, seq, content }
        };
        let given = with_parts(2, Role::Assistant, vec![Part::text("both"), call("1")]);
        let results = with_parts(3, Role::Tool, vec![result]);
        let next = message(branch, 5, Role::User, "next");
        assert!(memory.holds(branch, &[prompt.clone(), given.clone(), results.clone(), next.clone()]));
        let more = message(branch, 4, Role::Assistant, "something else");
        assert!(!memory.holds(branch, &[prompt, given, results, more, next]));
    }
}
