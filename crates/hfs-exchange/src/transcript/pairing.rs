//! Puts each tool result directly after its call, as the APIs of models require.
//!
//! The APIs reject a conversation in which a call has no result, a result no call, or two calls the same id. A session
//! may have all of these: a run was interrupted, the user wrote while a tool was running, or a tool's API allows more.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use hfs_core::{Message, Part, PermissionRecord, Role};
use serde_json::Value;

use super::TranscriptReport;

/// Limit on the number of messages between a call and its result. A call whose result is further away gets none, and
/// the result is written as text.
const MAX_DISTANCE: usize = 256;
/// Maximum length of the id of a call and of the name of a tool. OpenAI allows 64 characters for both.
const MAX_LENGTH: usize = 64;

/// One step of a conversation.
#[derive(Debug)]
pub(super) enum Step {
    /// A message, without the results that were moved to their calls. The ids and names of its calls are valid in the
    /// APIs, and each id is used once.
    Message { message: Rc<Message>, parts: Vec<Part> },
    /// Results from one message, each followed by its attachments. They answer calls of the newest assistant's message.
    Results { message: Rc<Message>, parts: Vec<Part> },
    /// The calls of this message that have no result.
    Unanswered { message: Rc<Message>, calls: Vec<OpenCall> },
}

/// A call without a result so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenCall {
    /// Id in the session.
    pub original: String,
    /// Id in the transcript.
    pub id: String,
}

#[derive(Debug)]
struct QueuedMessage {
    message: Rc<Message>,
    /// `None` if the message itself was written before.
    parts: Option<Vec<Part>>,
    open: Vec<OpenCall>,
    results: Vec<(Rc<Message>, Vec<Part>)>,
}

/// What is written of a call without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenCalls {
    /// The call, and a result that says that there is none.
    #[default]
    Answered,
    /// Nothing.
    LeftOut,
}

/// Buffers messages until their calls have results.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    queue: VecDeque<QueuedMessage>,
    open_calls: OpenCalls,
}

impl Pairing {
    pub(super) fn new(open_calls: OpenCalls) -> Self {
        Self { queue: VecDeque::new(), open_calls }
    }

    /// Continues a conversation whose newest assistant's message has calls without results.
    pub(super) fn resume(message: Rc<Message>, open: Vec<OpenCall>) -> Self {
        let queue = VecDeque::from([QueuedMessage { message, parts: None, open, results: Vec::new() }]);
        Self { queue, open_calls: OpenCalls::Answered }
    }

    /// Adds the next message.
    pub(super) fn push(&mut self, message: Message, ids: &mut CallIds, report: &mut TranscriptReport) {
        let message = Rc::new(message);
        let is_assistant = message.content.role == Role::Assistant;
        let mut queued = QueuedMessage {
            message: Rc::clone(&message),
            parts: None,
            open: Vec::new(),
            results: Vec::new(),
        };
        let mut parts = Vec::new();
        // Whether the preceding part is a result that was moved, and the position of its call's message in the queue.
        let mut moved: Option<Option<usize>> = None;
        // Decisions about calls are for people, not for models.
        let parts_of_model =
            message.content.parts.iter().filter(|part| PermissionRecord::read(part).is_none());
        for part in parts_of_model {
            match part {
                Part::ToolResult { id, output, is_error } => {
                    let found = answer(&mut queued.open, id).map(|id| (None, id)).or_else(|| {
                        let open = self.queue.iter_mut().enumerate().rev();
                        open.filter_map(|(at, entry)| Some((Some(at), answer(&mut entry.open, id)?))).next()
                    });
                    let Some((at, id)) = found else {
                        report.results_without_call += 1;
                        parts.push(Part::text(format!(
                            "[Result of a tool call that is not in this transcript]\n{output}"
                        )));
                        moved = None;
                        continue;
                    };
                    let result = Part::ToolResult { id, output: output.clone(), is_error: *is_error };
                    moved = Some(at);
                    push_result(self.entry(at, &mut queued), &message, result);
                }
                // Pictures in a result follow it.
                Part::Attachment { .. } if moved.is_some() => {
                    let at = moved.flatten();
                    push_result(self.entry(at, &mut queued), &message, part.clone());
                }
                Part::ToolCall { id, name, input } if is_assistant => {
                    let safe = ids.unique(id);
                    queued.open.push(OpenCall { original: id.clone(), id: safe.clone() });
                    parts.push(Part::ToolCall { id: safe, name: valid_name(name), input: input.clone() });
                    moved = None;
                }
                Part::ToolCall { name, input, .. } => {
                    parts.push(Part::text(format!("[Tool call] {name} {input}")));
                    moved = None;
                }
                other => {
                    parts.push(other.clone());
                    moved = None;
                }
            }
        }
        // A message of results alone is written with their calls.
        if !parts.is_empty() || is_assistant || message.content.parts.is_empty() {
            queued.parts = Some(parts);
            self.queue.push_back(queued);
        }
    }

    fn entry<'q>(&'q mut self, at: Option<usize>, own: &'q mut QueuedMessage) -> &'q mut QueuedMessage {
        match at.and_then(|at| self.queue.get_mut(at)) {
            Some(entry) => entry,
            None => own,
        }
    }

    /// The next steps, if they are complete: a message and the results of its calls. With `all`, or if the buffer is
    /// full, calls without results are complete too.
    pub(super) fn next(&mut self, all: bool, report: &mut TranscriptReport) -> Option<Vec<Step>> {
        let first = self.queue.front()?;
        if !first.open.is_empty() && !all && self.queue.len() < MAX_DISTANCE {
            return None;
        }
        let QueuedMessage { message, mut parts, mut open, results } = self.queue.pop_front()?;
        let mut steps = Vec::with_capacity(1 + results.len());
        if self.open_calls == OpenCalls::LeftOut {
            let left_out = std::mem::take(&mut open);
            report.calls_without_result += left_out.len() as u64;
            let is_open = |part: &Part| match part {
                Part::ToolCall { id, .. } => left_out.iter().any(|call| call.id == *id),
                _ => false,
            };
            parts.iter_mut().for_each(|parts| parts.retain(|part| !is_open(part)));
        }
        if let Some(parts) = parts {
            steps.push(Step::Message { message: Rc::clone(&message), parts });
        }
        steps.extend(results.into_iter().map(|(message, parts)| Step::Results { message, parts }));
        if !open.is_empty() {
            report.calls_without_result += open.len() as u64;
            steps.push(Step::Unanswered { message, calls: open });
        }
        Some(steps)
    }
}

/// Removes the call with this id from the open ones, and returns its id in the transcript.
fn answer(open: &mut Vec<OpenCall>, original: &str) -> Option<String> {
    let at = open.iter().position(|call| call.original == original)?;
    Some(open.remove(at).id)
}

fn push_result(entry: &mut QueuedMessage, message: &Rc<Message>, part: Part) {
    match entry.results.last_mut().filter(|(last, _)| Rc::ptr_eq(last, message)) {
        Some((_, parts)) => parts.push(part),
        None => entry.results.push((Rc::clone(message), vec![part])),
    }
}

/// The ids of the calls in a transcript.
#[derive(Debug, Default)]
pub(super) struct CallIds {
    /// Each id, with the number that its next copy gets. Some models number the calls of each turn from 1, so that an
    /// id is repeated as often as there are turns.
    used: HashMap<String, u64>,
}

impl CallIds {
    /// Marks an id as used that is written as it is.
    pub(super) fn reserve(&mut self, id: &str) {
        self.used.entry(id.to_owned()).or_insert(2);
    }

    /// An id that is valid and was not returned before: this one if possible.
    fn unique(&mut self, id: &str) -> String {
        let mut safe = valid_characters(id, MAX_LENGTH);
        if safe.is_empty() {
            safe.push_str("call");
        }
        if let Some(number) = self.used.get(&safe).copied() {
            let base: String = safe.chars().take(MAX_LENGTH - 21).collect();
            let copies = (number..).map(|number| (number, format!("{base}-{number}")));
            let free = copies.into_iter().find(|(_, copy)| !self.used.contains_key(copy));
            if let Some((number, copy)) = free {
                self.used.insert(safe, number + 1);
                safe = copy;
            }
        }
        self.used.insert(safe.clone(), 2);
        safe
    }
}

/// Replaces characters other than letters, digits, `_` and `-` of ASCII by `_`.
fn valid_characters(text: &str, length: usize) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    text.chars().take(length).map(valid).collect()
}

fn valid_name(name: &str) -> String {
    let valid = valid_characters(name, MAX_LENGTH);
    if valid.is_empty() { "tool".to_owned() } else { valid }
}

/// The input of a call as an object.
pub(super) fn object_input(input: &Value) -> Value {
    match input {
        Value::Object(_) => input.clone(),
        Value::Null => Value::Object(serde_json::Map::new()),
        // Some tools send JSON as text.
        Value::String(text) => match crate::json::parse(text) {
            Some(crate::json::Parsed { value: value @ Value::Object(_), .. }) => value,
            _ => serde_json::json!({ "input": text }),
        },
        other => serde_json::json!({ "input": other }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hfs_core::{BranchId, MessageDraft, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn call(id: &str) -> Part {
        Part::ToolCall { id: id.into(), name: "read".into(), input: Value::Null }
    }

    fn result(id: &str) -> Part {
        Part::ToolResult { id: id.into(), output: "out".into(), is_error: false }
    }

    fn steps(messages: Vec<(Role, Vec<Part>)>) -> (Vec<Step>, TranscriptReport) {
        let (mut pairing, mut ids) = (Pairing::default(), CallIds::default());
        let (mut steps, mut report) = (Vec::new(), TranscriptReport::default());
        let branch = BranchId::generate();
        for ((role, parts), seq) in messages.into_iter().zip(1..) {
            let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
            pairing.push(Message { branch, seq, content }, &mut ids, &mut report);
            while let Some(next) = pairing.next(false, &mut report) {
                steps.extend(next);
            }
        }
        while let Some(next) = pairing.next(true, &mut report) {
            steps.extend(next);
        }
        (steps, report)
    }

    /// The rules of the APIs. Returns the number of calls and results.
    fn check(steps: &[Step]) -> (usize, usize) {
        let mut used = HashSet::new();
        let mut open: Vec<String> = Vec::new();
        let (mut calls, mut results) = (0, 0);
        for step in steps {
            match step {
                Step::Message { parts, .. } => {
                    assert!(open.is_empty(), "a message follows a call without a result");
                    for part in parts {
                        match part {
                            Part::ToolCall { id, name, .. } => {
                                for text in [id, name] {
                                    assert!(!text.is_empty() && text.len() <= 64, "{text:?}");
                                    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                                    assert!(text.chars().all(valid), "{text:?}");
                                }
                                assert!(used.insert(id.clone()), "{id} is used twice");
                                open.push(id.clone());
                                calls += 1;
                            }
                            Part::ToolResult { .. } => panic!("a result is not with its call"),
                            _ => {}
                        }
                    }
                }
                Step::Results { parts, .. } => {
                    assert!(matches!(parts.first(), Some(Part::ToolResult { .. })));
                    for part in parts {
                        if let Part::ToolResult { id, .. } = part {
                            let at = open.iter().position(|call| call == id);
                            open.remove(at.expect("a result without a call"));
                            results += 1;
                        }
                    }
                }
                Step::Unanswered { calls, .. } => {
                    assert!(!calls.is_empty());
                    for call in calls {
                        open.retain(|id| *id != call.id);
                    }
                }
            }
        }
        assert!(open.is_empty());
        (calls, results)
    }

    #[test]
    fn a_result_that_comes_late_follows_its_call() {
        let picture = Part::Attachment { media_type: "image/png".into(), name: None, hash: None, bytes: 1 };
        let (steps, report) = steps(vec![
            (Role::Assistant, vec![call("a"), call("b")]),
            (Role::User, vec![Part::text("typed while the tools run")]),
            (Role::Tool, vec![result("b"), picture, result("a")]),
            (Role::Assistant, vec![call("a")]),
            (Role::Tool, vec![result("a"), result("unknown")]),
        ]);
        assert_eq!(check(&steps), (3, 3));
        assert_eq!((report.results_without_call, report.calls_without_result), (1, 0));
        let Step::Results { parts, .. } = &steps[1] else { panic!("{steps:?}") };
        assert!(matches!(
            parts[..],
            [Part::ToolResult { .. }, Part::Attachment { .. }, Part::ToolResult { .. }]
        ));
    }

    #[test]
    fn a_call_that_stays_open_does_not_hold_back_the_rest() {
        let mut messages = vec![(Role::Assistant, vec![call("lost")])];
        messages.extend((0..2 * MAX_DISTANCE).map(|_| (Role::User, vec![Part::text("go on")])));
        messages.push((Role::Tool, vec![result("lost")]));
        let (steps, report) = steps(messages);
        assert_eq!(check(&steps), (1, 0));
        assert_eq!((report.results_without_call, report.calls_without_result), (1, 1));
    }

    #[test]
    fn an_open_call_can_be_left_out_with_nothing_in_its_place() {
        let (mut pairing, mut ids) = (Pairing::new(OpenCalls::LeftOut), CallIds::default());
        let mut report = TranscriptReport::default();
        let branch = BranchId::generate();
        let messages = [
            (Role::Assistant, vec![Part::text("both"), call("a"), call("lost")]),
            (Role::Tool, vec![result("a")]),
            (Role::Assistant, vec![call("also lost")]),
        ];
        for ((role, parts), seq) in messages.into_iter().zip(1..) {
            let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
            pairing.push(Message { branch, seq, content }, &mut ids, &mut report);
        }
        let mut steps = Vec::new();
        while let Some(next) = pairing.next(true, &mut report) {
            steps.extend(next);
        }
        let [
            Step::Message { parts: both, .. },
            Step::Results { parts: results, .. },
            Step::Message { parts: nothing, .. },
        ] = &steps[..]
        else {
            panic!("{steps:?}")
        };
        assert_eq!(
            (both.as_slice(), results.as_slice()),
            (&[Part::text("both"), call("a")][..], &[result("a")][..])
        );
        assert_eq!((nothing.len(), report.calls_without_result), (0, 2));
    }

    proptest! {
        #[test]
        fn every_conversation_becomes_valid(
            messages in prop::collection::vec(
                (0..3_usize, prop::collection::vec((0..4_usize, "[ab:. ]{0,2}"), 0..4)),
                0..20,
            ),
        ) {
            let messages = messages.into_iter().map(|(role, parts)| {
                let parts = parts.into_iter().map(|(kind, id)| match kind {
                    0 => call(&id),
                    1 => result(&id),
                    2 => Part::Attachment { media_type: "image/png".into(), name: None, hash: None, bytes: 1 },
                    _ => Part::text(id),
                });
                ([Role::Assistant, Role::User, Role::Tool][role], parts.collect())
            });
            let (steps, _) = steps(messages.collect());
            check(&steps);
        }

        #[test]
        fn ids_stay_different(ids in prop::collection::vec(".{0,80}", 0..20)) {
            let mut unique = CallIds::default();
            let safe: HashSet<String> = ids.iter().map(|id| unique.unique(id)).collect();
            prop_assert_eq!(safe.len(), ids.len());
            prop_assert!(safe.iter().all(|id| id.len() <= MAX_LENGTH));
        }
    }
}
