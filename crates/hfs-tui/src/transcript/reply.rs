//! The reply that is arriving.

use std::cell::RefCell;
use std::sync::Arc;

use hfs_core::{AgentDescription, PieceKind, Timestamp};
use ratatui::text::{Line, Span};

use super::Paper;
use super::item::{Lines, header_line, thinking_lines};
use crate::parts::OutputMode;
use crate::text::{StreamedMarkdown, cells, one_line};

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
    kind: PieceKind,
    text: String,
    markdown: RefCell<StreamedMarkdown>,
    epoch: RefCell<u64>,
}

#[derive(Debug)]
struct LaidOut {
    width: usize,
    epoch: u64,
    arrived: usize,
    lines: Lines,
}

impl Reply {
    /// A reply of which nothing has come yet.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self { agent: None, started_at, parts: Vec::new(), arrived: 0, laid_out: RefCell::new(None) }
    }

    /// The reply goes on.
    pub fn extend(&mut self, kind: PieceKind, text: &str) {
        self.arrived += text.len();
        match self.parts.last_mut() {
            Some(last) if last.kind == kind => last.text.push_str(text),
            _ => self.parts.push(Arriving {
                kind,
                text: text.to_owned(),
                markdown: RefCell::default(),
                epoch: RefCell::new(0),
            }),
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
        if let Some(done) = self.laid_out.borrow().as_ref()
            && (done.width, done.epoch, done.arrived) == (paper.width, paper.epoch, self.arrived)
        {
            return Arc::clone(&done.lines);
        }
        let lines = Arc::new(self.lay_out(paper));
        let (width, epoch, arrived) = (paper.width, paper.epoch, self.arrived);
        self.laid_out.replace(Some(LaidOut { width, epoch, arrived, lines: Arc::clone(&lines) }));
        lines
    }

    fn lay_out(&self, paper: Paper<'_>) -> Vec<Line<'static>> {
        let theme = paper.ink.theme;
        let name = self.agent.as_ref().map_or_else(|| "Assistant".to_owned(), |agent| one_line(&agent.name));
        let model = self.agent.as_ref().and_then(|agent| agent.model.as_deref());
        let mut lines = vec![Line::default(), header_line("● ", &name, theme.title(), model, None, paper)];
        let width = paper.width.saturating_sub(cells(INDENT));
        let last = self.parts.len().saturating_sub(1);
        for (index, part) in self.parts.iter().enumerate() {
            let content = match part.kind {
                PieceKind::Thinking => {
                    let unfolded = paper.output == OutputMode::Verbose;
                    thinking_lines(&part.text, unfolded, index == last, width, theme)
                }
                PieceKind::Text => {
                    let mut markdown = part.markdown.borrow_mut();
                    if part.epoch.replace(paper.epoch) != paper.epoch {
                        *markdown = StreamedMarkdown::default();
                    }
                    markdown.lines(&part.text, width, paper.ink)
                }
            };
            for line in content {
                let mut spans = vec![Span::raw(INDENT)];
                spans.extend(line.spans);
                lines.push(Line::from(spans));
            }
        }
        lines
    }
}
