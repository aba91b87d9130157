//! The reply that is arriving.

use std::cell::RefCell;
use std::sync::Arc;

use hfs_core::{AgentDescription, DeltaKind, Timestamp};
use ratatui::text::{Line, Span};

use super::Paper;
use super::item::{Lines, header_line, thinking_lines};
use crate::parts::OutputMode;
use crate::text::{StreamedMarkdown, cells, markdown, one_line};

const INDENT: &str = "  ";

/// A reply that is arriving, piece by piece.
#[derive(Debug)]
pub struct Reply {
    /// Who answers.
    pub agent: Option<AgentDescription>,
    /// Since when.
    pub started_at: Timestamp,
    parts: Vec<Arriving>,
    /// How many bytes have come: tells whether what was laid out is still all of it.
    arrived: usize,
    laid_out: RefCell<Option<LaidOut>>,
}

#[derive(Debug)]
struct Arriving {
    kind: DeltaKind,
    text: String,
}

/// The picture so far. Only the rows of the newest part change while it grows.
#[derive(Debug)]
struct LaidOut {
    width: usize,
    epoch: u64,
    arrived: usize,
    /// How many parts there are, and which row the newest one begins at.
    parts: usize,
    newest: usize,
    markdown: StreamedMarkdown,
    lines: Lines,
}

impl Reply {
    /// A reply of which nothing has come yet.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self { agent: None, started_at, parts: Vec::new(), arrived: 0, laid_out: RefCell::new(None) }
    }

    /// Says who answers.
    pub fn answered_by(&mut self, agent: AgentDescription) {
        self.agent = Some(agent);
        self.laid_out.replace(None);
    }

    /// The reply goes on.
    pub fn extend(&mut self, kind: DeltaKind, text: &str) {
        self.arrived += text.len();
        match self.parts.last_mut() {
            Some(last) if last.kind == kind => last.text.push_str(text),
            _ => self.parts.push(Arriving { kind, text: text.to_owned() }),
        }
    }

    /// Whether anything has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Its rows.
    #[must_use]
    pub fn lines(&self, paper: Paper<'_>) -> Lines {
        let mut slot = self.laid_out.borrow_mut();
        let same = |done: &LaidOut| {
            (done.width, done.epoch, done.parts) == (paper.width, paper.epoch, self.parts.len())
        };
        let mut done = slot.take().filter(same).unwrap_or_else(|| self.lay_out_settled(paper));
        if done.arrived != self.arrived || done.lines.len() == done.newest {
            self.lay_out_newest(&mut done, paper);
        }
        let lines = Arc::clone(&done.lines);
        *slot = Some(done);
        lines
    }

    /// The rows of everything but the newest part.
    fn lay_out_settled(&self, paper: Paper<'_>) -> LaidOut {
        let theme = paper.ink.theme;
        let name = self.agent.as_ref().map_or_else(|| "Assistant".to_owned(), |agent| one_line(&agent.name));
        let model = self.agent.as_ref().and_then(|agent| agent.model.as_deref());
        let mut lines = vec![Line::default(), header_line("● ", &name, theme.title(), model, None, paper)];
        let width = paper.width.saturating_sub(cells(INDENT));
        let settled = self.parts.len().saturating_sub(1);
        for part in self.parts.iter().take(settled) {
            let rows = match part.kind {
                DeltaKind::Thinking => thinking(&part.text, false, width, paper),
                DeltaKind::Text => markdown(&part.text, width, paper.ink),
            };
            lines.extend(rows.into_iter().map(indented));
        }
        LaidOut {
            width: paper.width,
            epoch: paper.epoch,
            arrived: 0,
            parts: self.parts.len(),
            newest: lines.len(),
            markdown: StreamedMarkdown::default(),
            lines: Arc::new(lines),
        }
    }

    fn lay_out_newest(&self, done: &mut LaidOut, paper: Paper<'_>) {
        done.arrived = self.arrived;
        let Some(part) = self.parts.last() else { return };
        let width = paper.width.saturating_sub(cells(INDENT));
        let (kept, rows) = match part.kind {
            DeltaKind::Thinking => (0, thinking(&part.text, true, width, paper)),
            DeltaKind::Text => done.markdown.advance(&part.text, width, paper.ink),
        };
        // Nobody else holds the rows between two pictures, so that nothing is copied here.
        let lines = Arc::make_mut(&mut done.lines);
        lines.truncate(done.newest + kept);
        lines.extend(rows.into_iter().map(indented));
    }
}

fn thinking(text: &str, live: bool, width: usize, paper: Paper<'_>) -> Vec<Line<'static>> {
    thinking_lines(text, paper.output == OutputMode::Verbose, live, width, paper.ink.theme)
}

fn indented(mut line: Line<'static>) -> Line<'static> {
    line.spans.insert(0, Span::raw(INDENT));
    line
}
