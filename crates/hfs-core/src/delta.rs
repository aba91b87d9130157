//! Deltas: the pieces in which a reply arrives.

use crate::Part;

/// Kind of the part that a text delta extends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeltaKind {
    /// Extends a text part.
    Text,
    /// Extends a thinking part.
    Thinking,
}

/// A piece of text or thinking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextDelta {
    /// Kind of the part that `text` extends. A change of kind starts a new part.
    pub kind: DeltaKind,
    /// Text to append.
    pub text: String,
}

impl TextDelta {
    /// A delta of the reply's text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: DeltaKind::Text, text: text.into() }
    }

    /// A delta of the model's reasoning.
    pub fn thinking(text: impl Into<String>) -> Self {
        Self { kind: DeltaKind::Thinking, text: text.into() }
    }
}

/// A change to the output of a tool result. It costs what it adds, however long the output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDelta {
    /// Id of the call. If the message has no result of this call, the delta adds one.
    pub id: String,
    /// How many bytes of the output stay; `None` for all of them.
    pub keep: Option<usize>,
    /// Text to append to what stays.
    pub text: String,
    /// Whether the call failed.
    pub is_error: bool,
}

/// A piece of a reply that is being written.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyDelta {
    /// More text or thinking.
    Text(TextDelta),
    /// A whole part. A tool call or a result replaces that of the same id, so that it can be completed later.
    Part(Part),
    /// More output of a tool that is running.
    Output(OutputDelta),
}

impl ReplyDelta {
    /// A delta of the reply's text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextDelta::text(text))
    }

    /// A delta of the model's reasoning.
    pub fn thinking(text: impl Into<String>) -> Self {
        Self::Text(TextDelta::thinking(text))
    }

    /// More output of the call `id`.
    pub fn output(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Output(OutputDelta { id: id.into(), keep: None, text: text.into(), is_error: false })
    }

    /// Whether the delta changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(delta) => delta.text.is_empty(),
            // Also an empty output adds a result, or shortens one.
            Self::Part(_) | Self::Output(_) => false,
        }
    }

    /// Joins `next` to this delta if one delta can have the effect of both; otherwise returns it.
    ///
    /// # Errors
    /// Returns `next` if it was not joined.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        match (self, next) {
            (Self::Text(last), Self::Text(next)) if last.kind == next.kind => {
                last.text.push_str(&next.text);
                Ok(())
            }
            (Self::Output(last), Self::Output(next)) if last.id == next.id && next.keep.is_none() => {
                last.text.push_str(&next.text);
                last.is_error = next.is_error;
                Ok(())
            }
            (Self::Part(last), Self::Part(next)) if have_same_call(last, &next) => {
                *last = next;
                Ok(())
            }
            (_, next) => Err(next),
        }
    }
}

impl From<TextDelta> for ReplyDelta {
    fn from(delta: TextDelta) -> Self {
        Self::Text(delta)
    }
}

/// Appends a delta to the parts of a reply. An empty delta changes nothing.
pub fn append_delta(parts: &mut Vec<Part>, delta: &ReplyDelta) {
    match delta {
        ReplyDelta::Text(delta) => append_text(parts, delta),
        ReplyDelta::Part(part) => append_part(parts, part.clone()),
        ReplyDelta::Output(delta) => append_output(parts, delta),
    }
}

/// Appends text to the last part if it is of the delta's kind, else as a new part.
pub fn append_text(parts: &mut Vec<Part>, delta: &TextDelta) {
    if delta.text.is_empty() {
        return;
    }
    match (parts.last_mut(), delta.kind) {
        (Some(Part::Text { text }), DeltaKind::Text)
        | (Some(Part::Thinking { text, .. }), DeltaKind::Thinking) => text.push_str(&delta.text),
        (_, DeltaKind::Text) => parts.push(Part::text(&*delta.text)),
        (_, DeltaKind::Thinking) => {
            parts.push(Part::Thinking { text: delta.text.clone(), signature: None });
        }
    }
}

/// Whether both parts are calls, or both are results, with the same id. Parts without an id are never the same.
fn have_same_call(a: &Part, b: &Part) -> bool {
    match (a, b) {
        (Part::ToolCall { id: a, .. }, Part::ToolCall { id: b, .. })
        | (Part::ToolResult { id: a, .. }, Part::ToolResult { id: b, .. }) => !a.is_empty() && a == b,
        _ => false,
    }
}

fn append_part(parts: &mut Vec<Part>, part: Part) {
    // Only calls and results are looked for, so that a message of many other parts takes linear time.
    let earlier = match &part {
        Part::ToolCall { .. } | Part::ToolResult { .. } => {
            parts.iter_mut().find(|earlier| have_same_call(earlier, &part))
        }
        Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } | Part::Opaque { .. } => None,
    };
    match earlier {
        Some(earlier) => *earlier = part,
        None => parts.push(part),
    }
}

fn append_output(parts: &mut Vec<Part>, delta: &OutputDelta) {
    for part in &mut *parts {
        if let Part::ToolResult { id, output, is_error } = part
            && *id == delta.id
        {
            if let Some(keep) = delta.keep {
                output.truncate(output.floor_char_boundary(keep));
            }
            output.push_str(&delta.text);
            *is_error = delta.is_error;
            return;
        }
    }
    let (id, output) = (delta.id.clone(), delta.text.clone());
    parts.push(Part::ToolResult { id, output, is_error: delta.is_error });
}

/// The smallest delta that adds `part` to the parts of a reply, or puts it in the place of the result of the same call. A
/// result whose output begins like the earlier one becomes the rest of the output.
#[must_use]
pub fn delta_for_part(parts: &[Part], part: Part) -> ReplyDelta {
    if let Part::ToolResult { id, output, is_error } = &part
        && let Some(Part::ToolResult { output: earlier, .. }) =
            parts.iter().find(|earlier| have_same_call(earlier, &part))
    {
        let same = earlier.bytes().zip(output.bytes()).take_while(|(a, b)| a == b).count();
        let same = earlier.floor_char_boundary(same).min(output.floor_char_boundary(same));
        let keep = (same < earlier.len()).then_some(same);
        let text = output.get(same..).unwrap_or_default().to_owned();
        return ReplyDelta::Output(OutputDelta { id: id.clone(), keep, text, is_error: *is_error });
    }
    ReplyDelta::Part(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn result(output: &str) -> Part {
        Part::ToolResult { id: "1".into(), output: output.into(), is_error: false }
    }

    fn call(id: &str, input: serde_json::Value) -> Part {
        Part::ToolCall { id: id.into(), name: "run".into(), input }
    }

    #[test]
    fn text_extends_the_last_part_of_its_kind() {
        let mut parts = Vec::new();
        for delta in [
            ReplyDelta::thinking("hm"),
            ReplyDelta::thinking("m"),
            ReplyDelta::text(""),
            ReplyDelta::text("Hel"),
            ReplyDelta::text("lo"),
            ReplyDelta::thinking("done"),
        ] {
            append_delta(&mut parts, &delta);
        }
        let thinking = |text: &str| Part::Thinking { text: text.into(), signature: None };
        assert_eq!(parts, [thinking("hmm"), Part::text("Hello"), thinking("done")]);
    }

    #[test]
    fn a_part_ends_the_text_before_it_and_replaces_that_of_the_same_call() {
        let mut parts = Vec::new();
        for delta in [
            ReplyDelta::text("a"),
            ReplyDelta::Part(call("1", json!({}))),
            ReplyDelta::text("b"),
            ReplyDelta::Part(call("1", json!({"command": "ls"}))),
            // Without an id, calls cannot be told apart.
            ReplyDelta::Part(call("", json!(1))),
            ReplyDelta::Part(call("", json!(2))),
        ] {
            append_delta(&mut parts, &delta);
        }
        let expected = [
            Part::text("a"),
            call("1", json!({"command": "ls"})),
            Part::text("b"),
            call("", json!(1)),
            call("", json!(2)),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn output_is_appended_to_the_result_of_its_call() {
        let mut parts = Vec::new();
        let other = OutputDelta { id: "2".into(), keep: Some(7), text: "x".into(), is_error: true };
        for delta in [
            ReplyDelta::output("1", ""),
            ReplyDelta::Output(other),
            ReplyDelta::output("1", "one é"),
            ReplyDelta::Output(OutputDelta {
                id: "1".into(),
                keep: Some(5),
                text: "!".into(),
                is_error: false,
            }),
        ] {
            append_delta(&mut parts, &delta);
        }
        let failed = Part::ToolResult { id: "2".into(), output: "x".into(), is_error: true };
        assert_eq!(parts, [result("one !"), failed], "a place inside of a character is moved before it");
    }

    #[test]
    fn a_repeated_output_costs_only_what_is_new() {
        let delta = |before: &str, after: &str| delta_for_part(&[result(before)], result(after));
        assert_eq!(delta("one\n", "one\ntwo\n"), ReplyDelta::output("1", "two\n"));
        assert_eq!(delta("", ""), ReplyDelta::output("1", ""));
        let shorter = OutputDelta { id: "1".into(), keep: Some(2), text: "x".into(), is_error: false };
        assert_eq!(delta("one", "onx"), ReplyDelta::Output(shorter));
        assert_eq!(delta_for_part(&[], result("one")), ReplyDelta::Part(result("one")));
    }

    proptest! {
        #[test]
        fn the_delta_for_a_part_has_the_effect_of_the_part(before in "[aé🦀]{0,6}", after in "[aé🦀]{0,6}") {
            let mut parts = vec![Part::text("t"), result(&before), result("")];
            let delta = delta_for_part(&parts, result(&after));
            append_delta(&mut parts, &delta);
            prop_assert_eq!(parts, [Part::text("t"), result(&after), result("")]);
        }

        #[test]
        fn joined_deltas_have_the_effect_of_the_single_ones(
            deltas in prop::collection::vec(any_delta(), 0..12),
        ) {
            let (mut single, mut joined) = (Vec::new(), Vec::<ReplyDelta>::new());
            for delta in deltas {
                append_delta(&mut single, &delta);
                let rest = match joined.last_mut() {
                    Some(last) => last.join(delta),
                    None => Err(delta),
                };
                joined.extend(rest.err());
            }
            let mut parts = Vec::new();
            joined.iter().for_each(|delta| append_delta(&mut parts, delta));
            prop_assert_eq!(parts, single);
        }
    }

    fn any_delta() -> impl Strategy<Value = ReplyDelta> {
        let text = || "[aé]{0,3}";
        prop_oneof![
            text().prop_map(ReplyDelta::text),
            text().prop_map(ReplyDelta::thinking),
            text().prop_map(|input| ReplyDelta::Part(call("1", input.into()))),
            (text(), "[12]").prop_map(|(output, id)| {
                ReplyDelta::Part(Part::ToolResult { id, output, is_error: true })
            }),
            (text(), "[12]", prop::option::of(0_usize..5), any::<bool>()).prop_map(
                |(text, id, keep, is_error)| ReplyDelta::Output(OutputDelta { id, keep, text, is_error })
            ),
        ]
    }
}
