//! A message of a turn that is being received.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use hfs_core::{AgentDescription, Part, ReplyDelta, Role, Timestamp, append_delta};
use ratatui::text::{Line, Span};

use super::message::{INDENT, Lines, header_line, part_lines, running_lines, thinking_body, thinking_header};
use crate::ports::OutputMode;
use crate::render::MessageLayout;
use crate::text::{Advance, StreamedMarkdown, beginning, display_width, sanitize_line};
use crate::theme::Theme;

/// A message of a turn that is being received: the reply of an agent that uses no tools.
#[derive(Debug)]
pub struct StreamingReply {
    role: Role,
    /// The agent, after it has started.
    pub agent: Option<AgentDescription>,
    /// Start of the exchange.
    pub started_at: Timestamp,
    parts: Vec<Part>,
    /// Ids of the calls that have ended.
    ended_calls: HashMap<String, Option<u64>>,
    /// Whether the message is complete, and with it the results of its calls.
    is_complete: bool,
    /// Grows with what is received, to detect that the cached layout is out of date.
    received: usize,
    cache: RefCell<Option<CachedLayout>>,
}

/// The layout of the reply. Each call lays out a limited number of bytes, so that a reply of any length delays no key.
#[derive(Debug)]
struct CachedLayout {
    width: usize,
    revision: u64,
    /// What had been received when the reply was laid out completely.
    received: usize,
    /// Whether something that is laid out has changed.
    is_outdated: bool,
    /// The part that is laid out next, or that may still grow, and its first row.
    part: usize,
    part_row: usize,
    progress: PartProgress,
    lines: Lines,
    /// Whether a part of the reply is not laid out yet.
    is_behind: bool,
    /// The rows of a previous layout, which are shown until this one is complete.
    previous: Option<Lines>,
}

/// The state of the layout of one part.
#[derive(Debug)]
enum PartProgress {
    /// Text, as Markdown.
    Text(Box<StreamedMarkdown>),
    /// The body of thinking. Its header is laid out each time.
    Thinking(ThinkingBody),
    /// Parts that are laid out at once.
    Whole,
}

impl PartProgress {
    fn new(part: Option<&Part>) -> Self {
        match part {
            Some(Part::Text { .. }) => Self::Text(Box::default()),
            Some(Part::Thinking { .. }) => Self::Thinking(ThinkingBody::default()),
            Some(
                Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Attachment { .. }
                | Part::Opaque { .. },
            )
            | None => Self::Whole,
        }
    }
}

impl CachedLayout {
    fn shown(&self) -> Lines {
        match &self.previous {
            Some(previous) if self.is_behind => Arc::clone(previous),
            _ => Arc::clone(&self.lines),
        }
    }
}

impl StreamingReply {
    /// Creates an empty reply.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            role: Role::Assistant,
            agent: None,
            started_at,
            parts: Vec::new(),
            ended_calls: HashMap::new(),
            is_complete: false,
            received: 0,
            cache: RefCell::new(None),
        }
    }

    /// Creates the next message of the same turn.
    #[must_use]
    pub fn next(&self, role: Role) -> Self {
        let ended_calls = self.ended_calls.clone();
        Self { role, agent: self.agent.clone(), ended_calls, ..Self::new(self.started_at) }
    }

    /// Sets the role of a message that has no part.
    pub fn set_role(&mut self, role: Role) {
        self.role = role;
        self.cache.replace(None);
    }

    /// Records that a call has ended, so that it is no longer shown as running.
    ///
    /// `duration_ms` is how long it took, if that is known.
    pub fn end_call(&mut self, id: &str, duration_ms: Option<u64>) {
        let is_shown = self.parts.iter().any(|part| match part {
            Part::ToolCall { id: shown, .. } | Part::ToolResult { id: shown, .. } => shown == id,
            Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } | Part::Opaque { .. } => {
                false
            }
        });
        let known = self.ended_calls.get(id).copied();
        let duration_ms = duration_ms.or(known.flatten());
        if known != Some(duration_ms) {
            self.ended_calls.insert(id.to_owned(), duration_ms);
            if is_shown {
                self.lay_out_again();
            }
        }
    }

    /// Records that the message is complete. Only calls are still running.
    pub fn complete(&mut self) {
        self.is_complete = true;
        self.lay_out_again();
    }

    /// Discards the layout. Rows that were laid out are shown until all are laid out again.
    fn lay_out_again(&mut self) {
        if let Some(cached) = self.cache.get_mut() {
            cached.is_outdated = true;
        }
    }

    /// Sets the agent, whose name is shown in the header.
    pub fn set_agent(&mut self, agent: AgentDescription) {
        self.agent = Some(agent);
        self.cache.replace(None);
    }

    /// Appends what was received.
    pub fn append(&mut self, delta: &ReplyDelta) {
        let before = self.parts.len();
        append_delta(&mut self.parts, delta);
        match delta {
            ReplyDelta::Text(delta) => self.received += delta.text.len(),
            ReplyDelta::Part(_) | ReplyDelta::Output(_) => {
                self.received += 1;
                // A part that was laid out has changed.
                if self.parts.len() == before {
                    self.lay_out_again();
                }
            }
        }
    }

    /// Whether nothing has been received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the rows. After a change of the width, the previous rows are returned until all are laid out again.
    #[must_use]
    pub fn lines(&self, layout: MessageLayout<'_>) -> Lines {
        let mut slot = self.cache.borrow_mut();
        let mut cached = match slot.take() {
            Some(cached)
                if (cached.width, cached.revision) == (layout.width, layout.revision)
                    && !cached.is_outdated =>
            {
                cached
            }
            outdated => self.new_layout(layout, outdated.map(|outdated| outdated.shown())),
        };
        if cached.received != self.received || cached.is_behind {
            self.advance(&mut cached, layout);
        }
        let lines = cached.shown();
        *slot = Some(cached);
        lines
    }

    /// Whether [`lines`](Self::lines) must be called again, because it has not laid out everything yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.cache.borrow().as_ref().is_some_and(|cached| cached.is_behind)
    }

    /// Returns the complete rows with the width and the revision of their layout.
    #[must_use]
    pub fn into_lines(self) -> Option<(Lines, usize, u64)> {
        let cached = self.cache.into_inner().filter(|cached| !cached.is_behind)?;
        Some((cached.lines, cached.width, cached.revision))
    }

    fn new_layout(&self, layout: MessageLayout<'_>, previous: Option<Lines>) -> CachedLayout {
        let theme = layout.text_style.theme;
        let name =
            self.agent.as_ref().map_or_else(|| "Assistant".to_owned(), |agent| sanitize_line(&agent.name));
        let model = self.agent.as_ref().and_then(|agent| agent.model.as_deref());
        let lines = match (self.role, layout.output) {
            // Results are shown below their calls, as `MessageView` shows them.
            (Role::Tool, OutputMode::Compact) => Vec::new(),
            (Role::Tool, OutputMode::Verbose) => vec![Line::default()],
            (Role::User | Role::Assistant | Role::System, _) => {
                vec![Line::default(), header_line("● ", &name, theme.title(), model, None, layout)]
            }
        };
        CachedLayout {
            width: layout.width,
            revision: layout.revision,
            received: 0,
            is_outdated: false,
            part: 0,
            part_row: lines.len(),
            progress: PartProgress::new(self.parts.first()),
            lines: Arc::new(lines),
            is_behind: !self.parts.is_empty(),
            previous,
        }
    }

    /// Lays out what has arrived, but not more than one piece of it.
    fn advance(&self, cached: &mut CachedLayout, layout: MessageLayout<'_>) {
        let theme = layout.text_style.theme;
        let width = layout.width.saturating_sub(display_width(INDENT));
        // The rows that were returned for the previous frame have been dropped, so `make_mut` does not clone.
        let lines = Arc::make_mut(&mut cached.lines);
        while let Some(part) = self.parts.get(cached.part) {
            if matches!(cached.progress, PartProgress::Whole) {
                cached.progress = PartProgress::new(Some(part));
            }
            let is_growing = cached.part + 1 == self.parts.len();
            let advance = match (part, &mut cached.progress) {
                (Part::Text { text }, PartProgress::Text(markdown)) => {
                    markdown.advance(text, width, layout.text_style)
                }
                (Part::Thinking { text, .. }, PartProgress::Thinking(body)) => {
                    let is_open = layout.output == OutputMode::Verbose;
                    let header = indented(thinking_header(text, is_open, is_growing, width, theme));
                    match lines.get_mut(cached.part_row) {
                        Some(row) => *row = header,
                        None => lines.push(header),
                    }
                    if is_open {
                        body.advance(text, width, theme)
                    } else {
                        Advance { kept: 1, ..Advance::default() }
                    }
                }
                (part, _) => Advance { lines: self.whole_part(part, width, layout), ..Advance::default() },
            };
            lines.truncate(cached.part_row + advance.kept);
            lines.extend(advance.lines.into_iter().map(indented));
            cached.is_behind = advance.is_behind || !is_growing;
            if advance.is_behind {
                return;
            }
            if is_growing {
                break;
            }
            cached.part += 1;
            cached.part_row = lines.len();
            cached.progress = PartProgress::new(self.parts.get(cached.part));
        }
        cached.received = self.received;
        cached.previous = None;
    }

    /// Returns the rows of a part that is not text or thinking.
    fn whole_part(&self, part: &Part, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
        let is_open = layout.output == OutputMode::Verbose;
        let is_running = match part {
            Part::ToolCall { id, .. } => !self.ended_calls.contains_key(id),
            Part::ToolResult { id, .. } => !self.is_complete && !self.ended_calls.contains_key(id),
            Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } | Part::Opaque { .. } => {
                false
            }
        };
        let running = if is_running { running_lines(part, is_open, width, layout) } else { None };
        let duration_ms = match part {
            Part::ToolResult { id, .. } => self.ended_calls.get(id).copied().flatten(),
            _ => None,
        };
        running.unwrap_or_else(|| part_lines(part, is_open, width, layout, duration_ms))
    }
}

/// The rows of thinking below its header. Complete lines are laid out once.
#[derive(Debug, Default)]
struct ThinkingBody {
    complete_bytes: usize,
    complete_rows: usize,
}

impl ThinkingBody {
    fn advance(&mut self, text: &str, width: usize, theme: &Theme) -> Advance {
        /// Bytes that one call lays out at most.
        const MAX_PIECE: usize = 64 << 10;
        let kept = 1 + self.complete_rows;
        let rest = text.get(self.complete_bytes..).unwrap_or_default();
        let piece = beginning(rest, MAX_PIECE);
        let is_behind = piece.len() < rest.len();
        let whole_lines = piece.rfind('\n').map(|line_break| line_break + 1);
        let complete = whole_lines.unwrap_or(if is_behind { piece.len() } else { 0 });
        let (complete, open) = piece.split_at_checked(complete).unwrap_or((piece, ""));
        let mut lines = Vec::new();
        if !complete.is_empty() {
            let text = complete.strip_suffix('\n').unwrap_or(complete);
            lines.extend(thinking_body(text, width, theme));
            self.complete_rows += lines.len();
            self.complete_bytes += complete.len();
        }
        if !open.is_empty() && !is_behind {
            lines.extend(thinking_body(open, width, theme));
        }
        Advance { kept, lines, is_behind }
    }
}

fn indented(mut line: Line<'static>) -> Line<'static> {
    line.spans.insert(0, Span::raw(INDENT));
    line
}

#[cfg(test)]
mod tests {
    use hfs_core::{DeltaKind, TextDelta};

    use super::*;
    use crate::text::TextStyle;

    fn layout(theme: &Theme, width: usize) -> MessageLayout<'_> {
        let zone = Box::leak(Box::new(jiff::tz::TimeZone::UTC));
        let text_style = TextStyle { theme, syntax: None };
        MessageLayout {
            width,
            today: jiff::civil::date(2026, 2, 1),
            text_style,
            revision: 1,
            output: OutputMode::Verbose,
            time_zone: zone,
        }
    }

    fn delta(kind: DeltaKind, text: &str) -> ReplyDelta {
        ReplyDelta::Text(TextDelta { kind, text: text.to_owned() })
    }

    fn all_rows(reply: &StreamingReply, layout: MessageLayout<'_>) -> Vec<String> {
        loop {
            let lines = reply.lines(layout);
            if !reply.is_behind() {
                return lines.iter().map(ToString::to_string).collect();
            }
        }
    }

    #[test]
    fn a_resize_of_a_long_reply_shows_the_previous_rows_until_all_are_laid_out_again() {
        let theme = Theme::dark();
        let mut reply = StreamingReply::new(Timestamp::UNIX_EPOCH);
        reply.append(&delta(DeltaKind::Text, &format!("```\n{}", "let answer = 42;\n".repeat(30_000))));
        let wide = all_rows(&reply, layout(&theme, 80));
        assert_eq!(wide.len(), 30_002);
        let mut calls = 0;
        loop {
            let lines = reply.lines(layout(&theme, 12));
            calls += 1;
            if !reply.is_behind() {
                assert_eq!(lines.len(), 2 + 60_000);
                break;
            }
            assert_eq!(lines.len(), wide.len(), "the previous rows");
        }
        assert!(calls > 5, "{calls} calls laid out 500 KB");
        reply.append(&delta(DeltaKind::Text, "the end"));
        let lines = reply.lines(layout(&theme, 12));
        assert!(!reply.is_behind());
        assert!(lines.last().unwrap().to_string().contains("the end"));
    }

    #[test]
    fn only_a_message_with_the_call_that_ended_is_laid_out_again() {
        let theme = Theme::dark();
        let call = |id: &str| {
            ReplyDelta::Part(Part::ToolCall {
                id: id.into(),
                name: "Bash".into(),
                input: serde_json::json!({"command": "cargo test"}),
            })
        };
        let mut reply = StreamingReply::new(Timestamp::UNIX_EPOCH);
        reply.append(&call("call-1"));
        let running = all_rows(&reply, layout(&theme, 80));
        reply.end_call("call-2", None);
        assert!(!reply.cache.borrow().as_ref().unwrap().is_outdated);
        reply.end_call("call-1", None);
        assert_ne!(all_rows(&reply, layout(&theme, 80)), running);
        // The call of another message, which ended before its part arrived.
        reply.append(&call("call-2"));
        let mut next = reply.next(Role::Assistant);
        next.append(&call("call-2"));
        assert_eq!(all_rows(&next, layout(&theme, 80)).last(), all_rows(&reply, layout(&theme, 80)).last());
    }

    #[test]
    fn thinking_and_text_that_arrive_in_pieces_have_all_their_rows() {
        let theme = Theme::dark();
        let parts = [
            (DeltaKind::Thinking, "first thought\nsecond thought\n".repeat(10_000)),
            (DeltaKind::Text, "Some *words*.\n\n".repeat(2_000)),
            (DeltaKind::Thinking, "one more".to_owned()),
            (DeltaKind::Text, "The end.".to_owned()),
        ];
        let (mut in_pieces, mut whole) =
            (StreamingReply::new(Timestamp::UNIX_EPOCH), StreamingReply::new(Timestamp::UNIX_EPOCH));
        for (kind, text) in &parts {
            for piece in text.as_bytes().chunks(4_999) {
                in_pieces.append(&delta(*kind, std::str::from_utf8(piece).unwrap()));
                let _ = in_pieces.lines(layout(&theme, 60));
            }
            whole.append(&delta(*kind, text));
        }
        let rows = all_rows(&whole, layout(&theme, 60));
        assert_eq!(all_rows(&in_pieces, layout(&theme, 60)), rows);
        assert_eq!(rows.iter().filter(|row| row.contains("second thought")).count(), 10_000);
        assert!(rows.iter().any(|row| row.contains("Thought · 20000 lines")));
        assert!(rows.iter().any(|row| row.contains("│ one more")));
        assert!(rows.last().unwrap().contains("The end."));
    }
}
