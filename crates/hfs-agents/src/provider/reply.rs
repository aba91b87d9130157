//! Collects a reply while it streams: its parts, usage and stop reason, in the same form for every protocol.

use hfs_core::{DeltaKind, IncompleteReason, Part, TextDelta, Usage, append_text};
use serde_json::Value;

use super::json::CutCharacter;

/// Tags around thinking that a server left in the text, as (opening, closing).
const THINKING_TAGS: [(&str, &str); 8] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
];

/// Tags at the beginning of a reply that follows thinking.
const REPLY_TAGS: [&str; 2] = ["<|start|>assistant<|channel|>final<|message|>", "<|START_RESPONSE|>"];

/// How the model ended its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    Incomplete(IncompleteReason),
}

impl Ending {
    /// The ending that a stop reason stands for. Servers invent reasons, so unknown ones are judged by their words.
    pub fn of_stop_reason(reason: &str) -> Self {
        let reason = reason.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        // `stop_sequence` and `eos_token` are complete endings.
        if has(&["stop", "end_turn", "eos", "tool", "function_call"])
            && !has(&["malformed", "error", "unexpected", "missing", "too_many"])
        {
            Self::Complete
        } else if has(&["refus"]) {
            Self::Incomplete(IncompleteReason::Refusal)
        } else if has(&[
            "filter",
            "safety",
            "prohibited",
            "blocklist",
            "blocked",
            "recitation",
            "spii",
            "sensitive",
            "guardrail",
            "language",
            "toxic",
        ]) {
            Self::Incomplete(IncompleteReason::ContentFilter)
        } else if has(&["length", "token", "context", "limit", "max", "truncat"]) {
            Self::Incomplete(IncompleteReason::Length)
        } else if has(&[
            "error",
            "fail",
            "abort",
            "cancel",
            "malformed",
            "unexpected",
            "missing",
            "too_many",
            "insufficient",
            "timeout",
            "interrupt",
            "incomplete",
            "other",
        ]) {
            Self::Incomplete(IncompleteReason::Failure)
        } else {
            Self::Complete
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ReplyBuilder {
    parts: Vec<Part>,
    /// Deltas that were not taken yet.
    deltas: Vec<TextDelta>,
    tags: TagSplitter,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    /// The tokens of the prompt that were neither read from the server's cache nor written to it, if it counts these
    /// separately.
    uncached_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    stop_reason: Option<String>,
    /// The server's sentence about the stop reason.
    stop_explanation: Option<String>,
    refused: bool,
    /// Whether the server blocked the prompt.
    is_blocked: bool,
    /// Whether text followed a stop reason, so that the server's stop reasons may not be the end.
    pub resumed_after_stop: bool,
    /// Whether the server's end marker arrived.
    pub is_done: bool,
    /// Whether the usage arrived that only the last chunk has.
    pub has_last_usage: bool,
    /// Index of the choice that is read, where the protocol has several.
    pub choice_index: Option<u64>,
    /// Tools that the model called although the request declares none.
    pub called_tools: Vec<String>,
    /// Whether thinking was streamed as text, because its opening tag is missing.
    pub streamed_thinking_as_text: bool,
    /// The last words that the server sent outside of its protocol.
    pub stray_text: Option<String>,
    /// The halves of characters at the ends of the payload that is being read.
    pub cut: CutCharacter,
    /// The first half of a character whose second half may follow in the next payload.
    held_half: Option<(DeltaKind, u16)>,
}

impl ReplyBuilder {
    /// Appends text, in which thinking may be enclosed in tags.
    pub fn text(&mut self, text: &str) {
        for delta in self.tags.push(text) {
            self.add(delta);
        }
    }

    pub fn thinking(&mut self, text: &str) {
        self.add(TextDelta::thinking(text));
    }

    /// Appends the words with which the model refuses.
    pub fn refusal(&mut self, text: &str) {
        if !text.is_empty() {
            self.refused = true;
            self.add(TextDelta::text(text));
        }
    }

    fn add(&mut self, mut delta: TextDelta) {
        if delta.text.is_empty() {
            return;
        }
        self.resumed_after_stop |= self.stop_reason.is_some();
        if let Some((kind, high)) = self.held_half.take() {
            let low = self.cut.begins_with.filter(|_| kind == delta.kind);
            match (low, delta.text.strip_prefix(char::REPLACEMENT_CHARACTER)) {
                (Some(low), Some(rest)) => {
                    delta.text = format!("{}{rest}", String::from_utf16_lossy(&[high, low]));
                }
                _ => self.push_replacement(kind),
            }
        }
        if let Some(high) = self.cut.ends_with
            && delta.text.ends_with(char::REPLACEMENT_CHARACTER)
        {
            delta.text.pop();
            self.held_half = Some((delta.kind, high));
        }
        self.push(delta);
    }

    fn push(&mut self, delta: TextDelta) {
        if !delta.text.is_empty() {
            append_text(&mut self.parts, &delta);
            self.deltas.push(delta);
        }
    }

    /// Appends the character that stands for a half without its other half.
    fn push_replacement(&mut self, kind: DeltaKind) {
        self.push(TextDelta { kind, text: char::REPLACEMENT_CHARACTER.to_string() });
    }

    /// Appends to the signature of the last thinking part. A model may also sign thinking whose text it omits.
    pub fn signature(&mut self, more: &str) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.parts.last(), Some(Part::Thinking { .. })) {
            self.parts.push(Part::Thinking { text: String::new(), signature: None });
        }
        if let Some(Part::Thinking { signature, .. }) = self.parts.last_mut() {
            signature.get_or_insert_default().push_str(more);
        }
    }

    /// Adds the names of the functions in the list `tool_calls` of a message.
    pub fn tool_calls(&mut self, calls: Option<&Value>) {
        let calls = calls.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names = calls.iter().filter_map(|call| call.pointer("/function/name")?.as_str());
        self.called_tools.extend(names.map(str::to_owned));
    }

    /// Sets the stop reason, which may be enclosed in an object with an explanation. Null and empty reasons are ignored,
    /// also those that are written as text; a later reason replaces an earlier one.
    pub fn stop_reason(&mut self, reason: Option<&Value>) {
        let field = |name: &str| reason.and_then(|reason| reason.get(name));
        let inner = field("type").or_else(|| field("reason"));
        let text = reason.and_then(Value::as_str).or_else(|| inner?.as_str());
        if let Some(reason) = text.filter(|reason| is_reason(reason)) {
            self.stop_reason = Some(reason.to_owned());
            self.explain_stop(field("message"));
        }
    }

    /// Sets the server's sentence about the stop reason.
    pub fn explain_stop(&mut self, explanation: Option<&Value>) {
        let text = explanation.and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        if let Some(text) = text {
            self.stop_explanation = Some(text.to_owned());
        }
    }

    /// Sets the reason for which the server blocked the prompt.
    pub fn block(&mut self, reason: &Value, explanation: Option<&Value>) {
        if reason.as_str().is_some_and(is_reason) {
            self.stop_reason(Some(reason));
            self.explain_stop(explanation);
            self.is_blocked = true;
        }
    }

    /// Whether the model has ended its reply.
    pub fn is_ended(&self) -> bool {
        self.stop_reason.is_some() || (self.has_last_usage && self.has_content())
    }

    /// Sets the numbers of tokens. Numbers may be floats; null and other types are ignored.
    pub fn usage(&mut self, prompt: Option<&Value>, completion: Option<&Value>, total: Option<&Value>) {
        let count = |value: Option<&Value>| token_count(value?);
        self.prompt_tokens = count(prompt).or(self.prompt_tokens);
        self.completion_tokens = count(completion).or(self.completion_tokens);
        self.total_tokens = count(total).or(self.total_tokens);
    }

    /// Sets how many of the prompt's tokens were read from the server's cache and written to it.
    pub fn cached(&mut self, read: Option<&Value>, written: Option<&Value>) {
        let count = |value: Option<&Value>| token_count(value?);
        self.cache_read_tokens = count(read).or(self.cache_read_tokens);
        self.cache_write_tokens = count(written).or(self.cache_write_tokens);
    }

    /// Sets the numbers of tokens of a server that counts those in its cache separately. Events after the first repeat
    /// some of them, and some of these as 0. If none is known, a number of the prompt's tokens from another field stays.
    pub fn usage_with_cache(
        &mut self,
        uncached: Option<&Value>,
        read: Option<&Value>,
        written: Option<&Value>,
        completion: Option<&Value>,
    ) {
        let count = |value: Option<&Value>, known: Option<u64>| match value.and_then(token_count) {
            Some(0) | None if known.is_some() => known,
            counted => counted,
        };
        self.uncached_tokens = count(uncached, self.uncached_tokens);
        self.cache_read_tokens = count(read, self.cache_read_tokens);
        self.cache_write_tokens = count(written, self.cache_write_tokens);
        let parts = [self.uncached_tokens, self.cache_read_tokens, self.cache_write_tokens];
        let prompt = parts.into_iter().flatten().fold(0, u64::saturating_add);
        self.prompt_tokens = (prompt > 0).then_some(prompt).or(self.prompt_tokens);
        self.usage(None, completion, None);
    }

    /// Sets numbers of tokens that no other field has.
    pub fn usage_if_unknown(&mut self, prompt: Option<&Value>, completion: Option<&Value>) {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() {
            self.usage(prompt, completion, None);
        }
    }

    /// The tokens; `None` unless those of the prompt and of the reply are known. Servers that do not count send zeros.
    fn known_usage(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens.filter(|tokens| *tokens > 0);
        let completion = self.completion_tokens.filter(|tokens| *tokens > 0 || !self.has_content());
        let total = self.total_tokens.filter(|tokens| *tokens > 0);
        let rest = |part: u64| total?.checked_sub(part);
        let (prompt_tokens, completion_tokens) = match (prompt, completion) {
            (Some(prompt), Some(completion)) => (prompt, completion),
            (Some(prompt), None) if !self.has_content() => (prompt, rest(prompt).unwrap_or(0)),
            (Some(prompt), None) => (prompt, rest(prompt).filter(|tokens| *tokens > 0)?),
            (None, Some(completion)) => (rest(completion).filter(|tokens| *tokens > 0)?, completion),
            (None, None) => return None,
        };
        let usage = Usage::new(prompt_tokens, completion_tokens);
        Some(usage.with_cache(self.cache_read_tokens, self.cache_write_tokens))
    }

    /// Whether text or thinking has arrived.
    pub fn has_content(&self) -> bool {
        !self.parts.is_empty()
    }

    pub fn take_deltas(&mut self) -> Vec<TextDelta> {
        std::mem::take(&mut self.deltas)
    }

    /// Ends the text. Returns the last deltas.
    pub fn finish(&mut self) -> Vec<TextDelta> {
        if let Some(delta) = std::mem::take(&mut self.tags).finish() {
            self.add(delta);
        }
        if let Some((kind, _)) = self.held_half.take() {
            self.push_replacement(kind);
        }
        self.separate_unopened_thinking();
        // Signed thinking goes back to its model as it is.
        self.parts.retain(
            |part| !matches!(part, Part::Thinking { text, signature: None } if text.trim().is_empty()),
        );
        self.take_deltas()
    }

    /// Separates thinking whose opening tag is part of the model's prompt. It is recognized only when its closing tag
    /// arrives, so its deltas were those of text.
    fn separate_unopened_thinking(&mut self) {
        let Some(index) = self.parts.iter().position(|part| matches!(part, Part::Text { .. })) else {
            return;
        };
        let Some(Part::Text { text }) = self.parts.get(index) else { return };
        let Some((thinking, reply)) = split_unopened_thinking(text) else { return };
        self.streamed_thinking_as_text = !thinking.is_empty();
        let parts = [
            (!thinking.is_empty()).then(|| Part::Thinking { text: thinking.to_owned(), signature: None }),
            (!reply.is_empty()).then(|| Part::text(reply)),
        ];
        self.parts.splice(index..=index, parts.into_iter().flatten());
    }

    pub fn into_parts(self) -> (Vec<Part>, Option<Usage>, Option<String>) {
        let usage = self.known_usage();
        let stop_reason = match (self.stop_reason, self.stop_explanation) {
            (Some(reason), Some(explanation)) => Some(format!("{reason}: {explanation}")),
            (reason, explanation) => reason.or(explanation),
        };
        (self.parts, usage, stop_reason)
    }

    /// How the reply ended, if the model or the server ended it.
    pub fn ending(&self) -> Ending {
        if self.is_blocked {
            return Ending::Incomplete(IncompleteReason::ContentFilter);
        }
        let ending = self.stop_reason.as_deref().map_or(Ending::Complete, Ending::of_stop_reason);
        match ending {
            Ending::Complete if self.refused => Ending::Incomplete(IncompleteReason::Refusal),
            Ending::Complete if !self.has_text() && self.has_content() => {
                Ending::Incomplete(IncompleteReason::OnlyThinking)
            }
            ending => ending,
        }
    }

    pub fn has_text(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Text { text } if !text.trim().is_empty()))
    }
}

/// Whether a text is a stop reason. Some servers write one into every chunk that stands for none.
fn is_reason(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    !matches!(text.as_str(), "" | "null" | "none" | "nil" | "undefined") && !text.ends_with("unspecified")
}

/// A number of tokens, which some servers send as a float or as text.
pub(super) fn token_count(value: &Value) -> Option<u64> {
    /// Larger numbers are mistakes, and their sums could overflow.
    const MAX: u64 = 1_000_000_000_000_000;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    let whole = |number: f64| (0.0..1e15).contains(&number).then_some(number.round() as u64);
    let count = match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    count.filter(|count| *count < MAX)
}

/// Separates thinking in tags at the beginning of a text from the reply.
///
/// Only the beginning is examined: later in a text, a tag is something that the reply talks about.
#[derive(Debug, Default)]
struct TagSplitter {
    state: TagState,
    /// Text that may be part of a tag.
    held: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TagState {
    #[default]
    Start,
    Thinking {
        closing: &'static str,
        /// Whether words have arrived. Space before them is dropped: models that do not think send empty tags.
        has_begun: bool,
    },
    /// After the closing tag; blank lines before the reply are dropped.
    AfterThinking,
    Text,
}

impl TagSplitter {
    fn push(&mut self, text: &str) -> Vec<TextDelta> {
        let mut deltas = Vec::new();
        self.held.push_str(text);
        loop {
            match self.state {
                TagState::Text => {
                    if !self.held.is_empty() {
                        deltas.push(TextDelta::text(std::mem::take(&mut self.held)));
                    }
                    return deltas;
                }
                TagState::Start => {
                    let trimmed = self.held.trim_start();
                    let opened = THINKING_TAGS.iter().find_map(|(opening, closing)| {
                        Some((trimmed.strip_prefix(opening)?.to_owned(), *closing))
                    });
                    if let Some((rest, closing)) = opened {
                        self.held = rest;
                        self.state = TagState::Thinking { closing, has_begun: false };
                    } else if THINKING_TAGS.iter().any(|(opening, _)| opening.starts_with(trimmed)) {
                        return deltas;
                    } else {
                        self.state = TagState::Text;
                    }
                }
                TagState::Thinking { closing, has_begun } => match self.held.split_once(closing) {
                    Some((thinking, rest)) => {
                        let thinking = if has_begun { thinking } else { thinking.trim_start() };
                        deltas.push(TextDelta::thinking(thinking));
                        self.held = rest.to_owned();
                        self.state = TagState::AfterThinking;
                    }
                    None => {
                        let kept = (1..closing.len())
                            .rev()
                            .find(|length| {
                                closing.get(..*length).is_some_and(|start| self.held.ends_with(start))
                            })
                            .unwrap_or(0);
                        let held = self.held.split_off(self.held.len() - kept);
                        let thinking = std::mem::replace(&mut self.held, held);
                        let thinking = if has_begun { thinking.as_str() } else { thinking.trim_start() };
                        self.state =
                            TagState::Thinking { closing, has_begun: has_begun || !thinking.is_empty() };
                        deltas.push(TextDelta::thinking(thinking));
                        return deltas;
                    }
                },
                TagState::AfterThinking => {
                    self.held = self.held.trim_start().to_owned();
                    if REPLY_TAGS.iter().any(|tag| tag.len() > self.held.len() && tag.starts_with(&self.held))
                    {
                        return deltas;
                    }
                    self.held = without_reply_tag(&self.held).to_owned();
                    self.state = TagState::Text;
                }
            }
        }
    }

    /// The rest of the text.
    fn finish(self) -> Option<TextDelta> {
        let kind = match self.state {
            TagState::Thinking { .. } => DeltaKind::Thinking,
            TagState::Start | TagState::AfterThinking | TagState::Text => DeltaKind::Text,
        };
        (!self.held.is_empty()).then_some(TextDelta { kind, text: self.held })
    }
}

fn without_reply_tag(text: &str) -> &str {
    REPLY_TAGS.iter().find_map(|tag| text.strip_prefix(tag)).unwrap_or(text)
}

/// Splits a text at the closing tag of thinking whose opening tag is missing. A text that mentions the opening tag as well,
/// or has the closing tag in code or quotes, is about tags.
fn split_unopened_thinking(text: &str) -> Option<(&str, &str)> {
    THINKING_TAGS.iter().find_map(|(opening, closing)| {
        let (thinking, reply) = text.split_once(closing)?;
        let is_quoted = thinking.ends_with(['`', '"', '\'', '“', '‘', '«', '(', '\\']);
        let is_code = thinking.matches('`').count() % 2 == 1;
        let is_thinking = !is_quoted && !is_code && !text.contains(opening) && !reply.contains(closing);
        is_thinking.then(|| (thinking.trim(), reply.trim_start()))
    })
}

/// Removes thinking in tags from the beginning of a text.
pub(crate) fn without_tagged_thinking(text: &str) -> &str {
    let trimmed = text.trim_start();
    THINKING_TAGS
        .iter()
        .find_map(|(opening, closing)| trimmed.strip_prefix(opening)?.split_once(closing))
        .or_else(|| split_unopened_thinking(text))
        .map_or(text, |(_, reply)| without_reply_tag(reply.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&str]) -> (String, String) {
        let mut builder = ReplyBuilder::default();
        chunks.iter().for_each(|chunk| builder.text(chunk));
        let mut deltas = builder.take_deltas();
        deltas.extend(builder.finish());
        let of_kind = |kind| -> String {
            deltas.iter().filter(|delta| delta.kind == kind).map(|delta| delta.text.as_str()).collect()
        };
        (of_kind(DeltaKind::Thinking), of_kind(DeltaKind::Text))
    }

    #[test]
    fn thinking_in_tags_at_the_beginning_is_separated_wherever_the_text_is_split() {
        let text = "\n<think>\nhm < 3 </th </think>\n\nAnswer <think>kept</think>";
        let expected = ("hm < 3 </th ".to_owned(), "Answer <think>kept</think>".to_owned());
        assert_eq!(split(&[text]), expected);
        let characters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(split(&characters.iter().map(String::as_str).collect::<Vec<_>>()), expected);
        for at in 0..=text.len() {
            assert_eq!(split(&[&text[..at], &text[at..]]), expected, "{at}");
        }
    }

    #[test]
    fn text_that_only_resembles_a_tag_is_text() {
        for text in ["<thin", "<thinker>", " \n", "a <think>b</think>", "<", "< think>", "</think>x"] {
            assert_eq!(split(&[text]), (String::new(), text.to_owned()));
        }
        assert_eq!(split(&["<think>never closed </thi"]), ("never closed </thi".into(), String::new()));
        assert_eq!(split(&["<thought>x</thought>y"]), ("x".into(), "y".into()));
    }

    #[test]
    fn stop_reasons_of_all_servers_are_classified() {
        use IncompleteReason::{ContentFilter, Failure, Length, Refusal};
        for (reasons, ending) in [
            (
                &[
                    "stop",
                    "STOP",
                    "end_turn",
                    "stop_sequence",
                    "eos_token",
                    "tool_calls",
                    "tool_use",
                    "pause_turn",
                    "unknown",
                ][..],
                Ending::Complete,
            ),
            (
                &["length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded"],
                Ending::Incomplete(Length),
            ),
            (
                &[
                    "content_filter",
                    "SAFETY",
                    "RECITATION",
                    "PROHIBITED_CONTENT",
                    "BLOCKLIST",
                    "SPII",
                    "IMAGE_SAFETY",
                    "sensitive",
                    "guardrail_intervened",
                ],
                Ending::Incomplete(ContentFilter),
            ),
            (&["refusal"], Ending::Incomplete(Refusal)),
            (
                &[
                    "error",
                    "network_error",
                    "insufficient_system_resource",
                    "abort",
                    "MALFORMED_FUNCTION_CALL",
                    "UNEXPECTED_TOOL_CALL",
                    "TOO_MANY_TOOL_CALLS",
                    "MISSING_THOUGHT_SIGNATURE",
                    "OTHER",
                ],
                Ending::Incomplete(Failure),
            ),
        ] {
            for reason in reasons {
                assert_eq!(Ending::of_stop_reason(reason), ending, "{reason}");
            }
        }
    }

    #[test]
    fn usage_is_unknown_unless_both_numbers_are_known() {
        let usage = |text: &str, prompt: Option<u64>, completion: Option<u64>, total: Option<u64>| {
            let mut builder = ReplyBuilder::default();
            builder.text(text);
            let value = |number: Option<u64>| number.map(Value::from);
            builder.usage(value(prompt).as_ref(), value(completion).as_ref(), value(total).as_ref());
            builder.into_parts().1.map(|usage| (usage.prompt_tokens, usage.completion_tokens))
        };
        assert_eq!(usage("x", Some(5), Some(7), None), Some((5, 7)));
        assert_eq!(usage("x", Some(5), None, Some(12)), Some((5, 7)));
        assert_eq!(usage("x", None, Some(7), Some(12)), Some((5, 7)));
        assert_eq!(usage("", Some(13), None, None), Some((13, 0)), "a blocked reply has no tokens");
        for (prompt, completion, total) in [
            (None, None, None),
            (Some(0), Some(0), Some(0)),
            (Some(5), None, None),
            (Some(5), Some(0), None),
            (None, Some(7), None),
            (None, None, Some(12)),
            (Some(5), None, Some(3)),
        ] {
            assert_eq!(usage("x", prompt, completion, total), None, "{prompt:?} {completion:?} {total:?}");
        }
    }

    #[test]
    fn tokens_are_counted_from_integers_floats_and_text() {
        for (value, count) in [
            (serde_json::json!(5), Some(5)),
            (serde_json::json!(5.0), Some(5)),
            (serde_json::json!("5"), Some(5)),
            (serde_json::json!(null), None),
            (serde_json::json!(-1), None),
            (serde_json::json!(1e300), None),
            (serde_json::json!(u64::MAX), None),
            (serde_json::json!(u64::MAX.to_string()), None),
        ] {
            assert_eq!(token_count(&value), count, "{value}");
        }
    }

    #[test]
    fn tagged_thinking_is_removed_from_the_beginning_of_a_text_only() {
        assert_eq!(without_tagged_thinking("<think>a</think>\n\nb"), "b");
        assert_eq!(without_tagged_thinking("b <think>a</think>"), "b <think>a</think>");
        assert_eq!(without_tagged_thinking("<think>open"), "<think>open");
        assert_eq!(without_tagged_thinking("a</think>b"), "b");
    }

    /// The parts of a whole reply with this text, as (thinking, text).
    fn parts_of(chunks: &[&str]) -> (String, String) {
        let mut builder = ReplyBuilder::default();
        chunks.iter().for_each(|chunk| builder.text(chunk));
        builder.finish();
        let (parts, ..) = builder.into_parts();
        let (mut thinking, mut reply) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Text { text } => reply.push_str(&text),
                Part::Thinking { text, .. } => thinking.push_str(&text),
                other => panic!("{other:?}"),
            }
        }
        (thinking, reply)
    }

    #[test]
    fn thinking_without_its_opening_tag_is_separated_unless_the_text_is_about_tags() {
        for (chunks, thinking, reply) in [
            (&["hm", "m\n</thi", "nk>\n\nAnswer"][..], "hmm", "Answer"),
            (&["hmm</think>Answer"], "hmm", "Answer"),
            (&["</think>\n\nAnswer"], "", "Answer"),
            (&["hmm</thought>Answer"], "hmm", "Answer"),
            (&["hmm</think>"], "hmm", ""),
            (&["<think>\n", "\n</think>", "\n\nAnswer"], "", "Answer"),
        ] {
            assert_eq!(parts_of(chunks), (thinking.to_owned(), reply.to_owned()), "{chunks:?}");
        }
        for text in [
            "The tag `</think>` ends it.",
            "It ends with \"</think>\".",
            "```\nx</think>y\n```",
            "Between <think> and </think> it thinks.",
            "a</think>b</think>c",
            "no tag",
        ] {
            assert_eq!(parts_of(&[text]), (String::new(), text.to_owned()));
        }
    }

    #[test]
    fn a_character_that_is_cut_between_two_payloads_is_whole_in_the_reply() {
        let high = CutCharacter { ends_with: Some(0xd83c), ..CutCharacter::default() };
        let low = CutCharacter { begins_with: Some(0xdf89), ..CutCharacter::default() };
        let reply = |payloads: &[(CutCharacter, &str)]| {
            let mut builder = ReplyBuilder::default();
            for (cut, text) in payloads {
                builder.cut = *cut;
                builder.text(text);
            }
            let mut deltas = builder.take_deltas();
            deltas.extend(builder.finish());
            deltas.into_iter().map(|delta| delta.text).collect::<String>()
        };
        let none = CutCharacter::default();
        assert_eq!(reply(&[(high, "a\u{fffd}"), (none, ""), (low, "\u{fffd} hi")]), "a🎉 hi");
        assert_eq!(reply(&[(high, "a\u{fffd}"), (none, "b")]), "a\u{fffd}b");
        assert_eq!(reply(&[(high, "a\u{fffd}")]), "a\u{fffd}");
        assert_eq!(reply(&[(low, "\u{fffd} hi")]), "\u{fffd} hi");
    }
}
