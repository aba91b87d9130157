//! The reply that is being received.

use std::cell::RefCell;
use std::sync::Arc;

use hfs_core::{AgentDescription, Part, ReplyDelta, Timestamp, append_delta};
use ratatui::text::{Line, Span};

use super::message::{INDENT, Lines, header_line, thinking_lines};
use crate::ports::OutputMode;
use crate::render::MessageLayout;
use crate::text::{StreamedMarkdown, display_width, markdown, sanitize_line};

/// A reply that is being received.
#[derive(Debug)]
pub struct StreamingReply {
    /// The agent, after it has started.
    pub agent: Option<AgentDescription>,
    /// Start of the exchange.
    pub started_at: Timestamp,
    /// Text and thinking; deltas create no other parts.
    parts: Vec<Part>,
    /// Number of bytes received, to detect that the cached layout is out of date.
    received: usize,
    cache: RefCell<Option<CachedLayout>>,
}

/// The layout of the reply. While the reply grows, only the rows of its newest part are laid out again.
#[derive(Debug)]
struct CachedLayout {
    width: usize,
    revision: u64,
    received: usize,
    /// Number of parts.
    parts: usize,
    /// First row of the newest part.
    newest_row: usize,
    markdown: StreamedMarkdown,
    lines: Lines,
}

impl StreamingReply {
    /// Creates an empty reply.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self { agent: None, started_at, parts: Vec::new(), received: 0, cache: RefCell::new(None) }
    }

    /// Sets the agent, whose name is shown in the header.
    pub fn set_agent(&mut self, agent: AgentDescription) {
        self.agent = Some(agent);
        self.cache.replace(None);
    }

    /// Appends received text.
    pub fn append(&mut self, delta: &ReplyDelta) {
        self.received += delta.text.len();
        append_delta(&mut self.parts, delta);
    }

    /// Whether nothing has been received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the rows.
    #[must_use]
    pub fn lines(&self, layout: MessageLayout<'_>) -> Lines {
        let mut slot = self.cache.borrow_mut();
        let is_valid = |cached: &CachedLayout| {
            (cached.width, cached.revision, cached.parts) == (layout.width, layout.revision, self.parts.len())
        };
        let mut cached = slot.take().filter(is_valid).unwrap_or_else(|| self.layout_complete_parts(layout));
        // The second condition detects a new layout, which does not contain the newest part yet.
        if cached.received != self.received || cached.lines.len() == cached.newest_row {
            self.layout_newest_part(&mut cached, layout);
        }
        let lines = Arc::clone(&cached.lines);
        *slot = Some(cached);
        lines
    }

    /// Lays out the header and all parts but the newest one, which may still grow.
    fn layout_complete_parts(&self, layout: MessageLayout<'_>) -> CachedLayout {
        let theme = layout.text_style.theme;
        let name =
            self.agent.as_ref().map_or_else(|| "Assistant".to_owned(), |agent| sanitize_line(&agent.name));
        let model = self.agent.as_ref().and_then(|agent| agent.model.as_deref());
        let mut lines = vec![Line::default(), header_line("● ", &name, theme.title(), model, None, layout)];
        let width = layout.width.saturating_sub(display_width(INDENT));
        let complete = self.parts.len().saturating_sub(1);
        for part in self.parts.iter().take(complete) {
            let rows = match part {
                Part::Text { text } => markdown(text, width, layout.text_style),
                Part::Thinking { text, .. } => thinking(text, false, width, layout),
                _ => Vec::new(),
            };
            lines.extend(rows.into_iter().map(indented));
        }
        CachedLayout {
            width: layout.width,
            revision: layout.revision,
            received: 0,
            parts: self.parts.len(),
            newest_row: lines.len(),
            markdown: StreamedMarkdown::default(),
            lines: Arc::new(lines),
        }
    }

    fn layout_newest_part(&self, cached: &mut CachedLayout, layout: MessageLayout<'_>) {
        cached.received = self.received;
        let Some(part) = self.parts.last() else { return };
        let width = layout.width.saturating_sub(display_width(INDENT));
        // The first `kept` rows of the part are unchanged; `rows` replaces the others.
        let (kept, rows) = match part {
            Part::Text { text } => cached.markdown.advance(text, width, layout.text_style),
            Part::Thinking { text, .. } => (0, thinking(text, true, width, layout)),
            _ => (0, Vec::new()),
        };
        // The rows that were returned for the previous frame have been dropped, so `make_mut` does not clone.
        let lines = Arc::make_mut(&mut cached.lines);
        lines.truncate(cached.newest_row + kept);
        lines.extend(rows.into_iter().map(indented));
    }
}

fn thinking(text: &str, is_streaming: bool, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    thinking_lines(text, layout.output == OutputMode::Verbose, is_streaming, width, layout.text_style.theme)
}

fn indented(mut line: Line<'static>) -> Line<'static> {
    line.spans.insert(0, Span::raw(INDENT));
    line
}
