//! The messages of a turn, between the agent, which writes them, and the store.

use std::collections::VecDeque;

use hfs_core::{
    CompletedMessage, MessageDraft, MessageStatus, Part, ReplyDelta, Role, Seq, append_delta, delta_for_part,
};
use serde_json::Value;

use crate::reply_guard::FAILURE;

/// The messages of a turn that the store does not have in their final form.
///
/// The agent writes `current`. The store writes the oldest of all: it streams it, and gives it its final form when the next
/// one is begun. A message is begun in the store only when it has a part, so a turn that ends in an orderly way leaves
/// no empty message, and none has to be removed.
#[derive(Debug)]
pub struct Turn {
    /// Messages that the agent has completed, oldest first.
    completed: VecDeque<TurnMessage>,
    /// The message that the agent writes; `None` after the end of the turn.
    current: Option<TurnMessage>,
    /// Seq of the newest message of the turn.
    newest: Seq,
    /// Number of changes so far.
    changes: u64,
}

#[derive(Debug)]
struct TurnMessage {
    /// The message as it was begun, or in its final form.
    draft: MessageDraft,
    /// What the agent has streamed.
    streamed: Vec<Part>,
    /// The deltas that are not stored yet.
    unsaved: Vec<ReplyDelta>,
    /// Whether the hooks have seen the final form.
    is_checked: bool,
}

impl TurnMessage {
    const fn new(draft: MessageDraft) -> Self {
        Self { draft, streamed: Vec::new(), unsaved: Vec::new(), is_checked: false }
    }
}

/// What the store is to be given next.
#[derive(Debug)]
pub enum Step {
    /// Deltas of the message that it writes.
    Extend(Vec<ReplyDelta>),
    /// The final form of the message that it writes and of those after it, and the message that it writes then.
    Continue { messages: Vec<MessageDraft>, next: Box<MessageDraft> },
    /// The final form of the last message.
    Finish(Box<MessageDraft>),
}

impl Turn {
    /// A turn whose first message was begun with this draft and seq.
    pub const fn new(first: MessageDraft, seq: Seq) -> Self {
        let completed = VecDeque::new();
        Self { completed, current: Some(TurnMessage::new(first)), newest: seq, changes: 0 }
    }

    /// Number of changes so far, to tell what a save contains.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Seq of the newest message if the turn ends now, interrupted or not.
    pub fn last_seq(&self) -> Seq {
        self.newest - u64::from(self.is_waiting_for_result())
    }

    /// Whether the agent has called a tool, and nothing of its result has arrived.
    fn is_waiting_for_result(&self) -> bool {
        !self.completed.is_empty()
            && self
                .current
                .as_ref()
                .is_some_and(|current| current.draft.role == Role::Tool && current.streamed.is_empty())
    }

    /// Seq of the newest message that the agent has completed, or of the message before the turn.
    pub const fn completed_through(&self) -> Seq {
        match self.current {
            Some(_) => self.newest.saturating_sub(1),
            None => self.newest,
        }
    }

    /// Continues the message that the agent writes. Returns what it adds, if anything, and the role of the message if this
    /// is its first part.
    pub fn append(&mut self, delta: ReplyDelta) -> Option<(ReplyDelta, Option<Role>)> {
        let current = self.current.as_mut()?;
        let delta = match delta {
            ReplyDelta::Part(part) => delta_for_part(&current.streamed, part),
            delta @ (ReplyDelta::Text(_) | ReplyDelta::Output(_)) => delta,
        };
        if delta.is_empty() {
            return None;
        }
        let begins = current.streamed.is_empty().then_some(current.draft.role);
        append_delta(&mut current.streamed, &delta);
        let rest = match current.unsaved.last_mut() {
            Some(last) => last.join(delta.clone()),
            None => Err(delta.clone()),
        };
        current.unsaved.extend(rest.err());
        self.changes += 1;
        Some((delta, begins))
    }

    /// Completes the message that the agent writes; `next` is the message after it. If the message has no part, the next
    /// one takes its place.
    pub fn next_message(&mut self, completed: CompletedMessage, next: MessageDraft) {
        let Some(current) = self.current.as_mut() else { return };
        if current.streamed.is_empty() && completed.parts.is_empty() {
            let id = current.draft.id;
            current.draft = MessageDraft { id, ..next };
            return;
        }
        let mut message = std::mem::replace(current, TurnMessage::new(next));
        complete(&mut message, completed);
        self.completed.push_back(message);
        self.newest += 1;
        self.changes += 1;
    }

    /// Ends the turn with the last message of the agent. Without any part, it is left out if another message of the turn
    /// precedes it.
    pub fn end(&mut self, last: CompletedMessage) {
        let Some(mut current) = self.current.take() else { return };
        if current.streamed.is_empty()
            && last.parts.is_empty()
            && let Some(before) = self.completed.back_mut()
        {
            self.newest -= 1;
            let draft = &mut before.draft;
            draft.usage = draft.usage.or(last.usage);
            for (key, value) in last.extra.into_map() {
                draft.extra.as_map_mut().entry(key).or_insert(value);
            }
            return;
        }
        complete(&mut current, last);
        self.completed.push_back(current);
    }

    /// Ends the turn with an interrupted message. It may have no part, but is not a result without output: then the message
    /// with the call is the interrupted one. `last` is `None` if an error cut the message off; the hooks do not see it
    /// then. `note` says why and is kept with it.
    pub fn interrupt(&mut self, last: Option<CompletedMessage>, note: Value) {
        let newest = self.last_seq();
        // Without a current message, the turn has ended, but the hooks have not seen its end.
        if let Some(mut current) = self.current.take() {
            let is_cut_off = last.is_none();
            let last = last.unwrap_or_default();
            if newest == self.newest || !last.parts.is_empty() {
                complete(&mut current, last);
                current.is_checked |= is_cut_off;
                self.completed.push_back(current);
            } else {
                self.newest = newest;
            }
        }
        if let Some(TurnMessage { draft, .. }) = self.completed.back_mut()
            && draft.status == MessageStatus::Complete
        {
            draft.status = MessageStatus::Interrupted;
            draft.extra.insert(FAILURE.to_owned(), note);
        }
    }

    /// The oldest completed message that the hooks have not seen.
    pub fn next_unchecked(&self) -> Option<&MessageDraft> {
        self.completed.iter().find(|message| !message.is_checked).map(|message| &message.draft)
    }

    /// Sets the content of a message as the hooks have left it.
    pub fn set_checked(&mut self, checked: MessageDraft) {
        if let Some(message) = self.completed.iter_mut().find(|message| message.draft.id == checked.id) {
            // The turn may have been interrupted in the meantime, which changed other fields.
            message.draft.parts = checked.parts;
            message.draft.extra.as_map_mut().extend(checked.extra.into_map());
            message.is_checked = true;
        }
    }

    /// Marks all completed messages as final, if the hooks cannot be asked any more.
    pub fn check_all(&mut self) {
        self.completed.iter_mut().for_each(|message| message.is_checked = true);
    }

    /// The next step of the store. After it has succeeded, call [`continued`](Self::continued) or
    /// [`finished`](Self::finished); after a failure of `Extend`, [`not_extended`](Self::not_extended).
    pub fn next_step(&mut self) -> Option<Step> {
        let checked = self.completed.iter().take_while(|message| message.is_checked).count();
        let follows = match &self.current {
            Some(current) => usize::from(!current.streamed.is_empty()),
            None => 0,
        };
        // The messages that can get their final form, because another one follows.
        let finals = checked.min((self.completed.len() + follows).saturating_sub(1));
        if finals > 0 {
            let messages = self.completed.iter().take(finals).map(|message| message.draft.clone()).collect();
            let next = self.completed.get(finals).or(self.current.as_ref())?.draft.clone();
            return Some(Step::Continue { messages, next: Box::new(next) });
        }
        if self.current.is_none() && checked > 0 {
            return self.completed.front().map(|last| Step::Finish(Box::new(last.draft.clone())));
        }
        let written = self.completed.front_mut().or(self.current.as_mut())?;
        let unsaved = std::mem::take(&mut written.unsaved);
        (!unsaved.is_empty()).then_some(Step::Extend(unsaved))
    }

    /// The store has the final form of this many messages, and writes the one after them.
    pub fn continued(&mut self, messages: usize) {
        self.completed.drain(..messages.min(self.completed.len()));
    }

    /// The store has the final form of all messages.
    pub fn finished(&mut self) {
        self.completed.clear();
    }

    /// Whether the store has, or can be given, only the message that it writes: everything else has its final form there.
    pub fn has_one_message(&self) -> bool {
        let follows = self.current.as_ref().is_some_and(|current| !current.streamed.is_empty());
        self.completed.len() + usize::from(follows) <= 1
    }

    /// Whether the agent has written nothing.
    pub const fn is_untouched(&self) -> bool {
        self.changes == 0
    }

    /// Puts back deltas that could not be stored, before those that arrived in the meantime.
    pub fn not_extended(&mut self, mut deltas: Vec<ReplyDelta>) {
        if let Some(written) = self.completed.front_mut().or(self.current.as_mut()) {
            deltas.append(&mut written.unsaved);
            written.unsaved = deltas;
        }
    }

    /// The messages that the store does not have in their final form.
    pub fn unsaved_messages(&self) -> Vec<MessageDraft> {
        self.completed.iter().map(|message| message.draft.clone()).collect()
    }
}

/// Gives a message its final form.
fn complete(message: &mut TurnMessage, completed: CompletedMessage) {
    let CompletedMessage { parts, model, usage, extra, source, .. } = completed;
    let draft = &mut message.draft;
    if message.streamed.is_empty() {
        // The deltas make it durable before its final form is stored.
        message.unsaved.extend(parts.iter().cloned().map(ReplyDelta::Part));
    }
    draft.status = MessageStatus::Complete;
    draft.parts = if parts.is_empty() { message.streamed.clone() } else { parts };
    draft.model = model.or(draft.model.take());
    draft.usage = usage;
    draft.source = source;
    draft.extra.as_map_mut().extend(extra.into_map());
    // Hooks see what an agent says to the user.
    message.is_checked = draft.role != Role::Assistant;
}
