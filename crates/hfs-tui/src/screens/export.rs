//! Writing a session to a file.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::SessionId;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::import::{Working, working_view};
use super::list::Picked;
use super::{Act, Context};
use crate::canvas;
use crate::effect::Effect;
use crate::look::Look;
use crate::message::Answer;
use crate::modal::{Ask, AskedFor, Modal};
use crate::parts::{ExportFormat, ExportRequest, Exported};
use crate::text::{Piece, one_line, wrap};
use crate::transcript::bytes_text;

/// A format and where it would go.
pub type Choice = (ExportFormat, PathBuf);

#[derive(Debug)]
enum State {
    Choosing,
    Working(Working),
    Done(Answer<Exported>),
}

/// The export dialog.
#[derive(Debug)]
pub struct Export {
    session: SessionId,
    choices: Vec<Choice>,
    /// The path that was typed instead of the usual one.
    path: Option<PathBuf>,
    redact: bool,
    all_branches: bool,
    picked: Picked,
    state: State,
}

impl Export {
    /// The dialog for a session; `format` is the one to begin with.
    pub fn open(session: SessionId, choices: Vec<Choice>, format: &str) -> Self {
        let row = choices.iter().position(|(choice, _)| choice.name == format).unwrap_or(0);
        Self {
            session,
            choices,
            path: None,
            redact: true,
            all_branches: true,
            picked: Picked { row },
            state: State::Choosing,
        }
    }

    /// Takes a path that was typed.
    pub fn set_path(&mut self, path: &str) {
        self.path = (!path.trim().is_empty()).then(|| PathBuf::from(path.trim()));
    }

    /// Takes how far it has come.
    pub fn progress(&mut self, working: Working) {
        if let State::Working(now) = &mut self.state {
            *now = working;
        }
    }

    /// Takes how it came out.
    pub fn done(&mut self, result: Answer<Exported>) {
        self.state = State::Done(result);
    }

    fn target(&self) -> Option<(&ExportFormat, &PathBuf)> {
        let (format, usual) = self.choices.get(self.picked.row)?;
        Some((format, self.path.as_ref().unwrap_or(usual)))
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, _context: &Context<'_>) -> Vec<Act> {
        match &self.state {
            State::Working(_) if key.code == KeyCode::Esc => return vec![Act::Do(Effect::StopTransfer)],
            State::Working(_) => return Vec::new(),
            State::Done(Ok(done)) if key.code == KeyCode::Char('c') => {
                let text = done.path.to_string_lossy().into_owned();
                return vec![Act::Do(Effect::Copy { text, what: "the path".to_owned() })];
            }
            State::Done(_) if matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) => {
                return vec![Act::Back];
            }
            State::Done(_) => return Vec::new(),
            State::Choosing => {}
        }
        if self.picked.letter_key(key, self.choices.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Act::Back],
            KeyCode::Char('r') => {
                self.redact = !self.redact;
                Vec::new()
            }
            KeyCode::Char('b') => {
                self.all_branches = !self.all_branches;
                Vec::new()
            }
            KeyCode::Char('p') => {
                let path =
                    self.target().map(|(_, path)| path.to_string_lossy().into_owned()).unwrap_or_default();
                vec![Act::Ask(Box::new(Modal::Ask(Ask::new(
                    "Export to",
                    "The file to write. ~ is your home.",
                    &path,
                    AskedFor::ExportPath,
                ))))]
            }
            KeyCode::Enter => {
                let Some((format, path)) = self.target() else { return Vec::new() };
                let request = ExportRequest {
                    session: self.session,
                    format: format.name.clone(),
                    path: path.clone(),
                    redact: self.redact,
                    all_branches: self.all_branches,
                };
                self.state = State::Working(Working::default());
                vec![Act::Do(Effect::Export(request))]
            }
            _ => Vec::new(),
        }
    }

    /// Draws the dialog.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        let keys: &[(&str, &str)] = match &self.state {
            State::Choosing => {
                &[("Enter", "export"), ("p", "path"), ("r", "secrets"), ("b", "branches"), ("Esc", "back")]
            }
            State::Working(_) => &[("Esc", "stop")],
            State::Done(_) => &[("Enter", "back"), ("c", "copy the path")],
        };
        let body = canvas::screen(buffer, area, look, "Export", "this session to a file", keys);
        match &self.state {
            State::Choosing => self.choices(buffer, body, look),
            State::Working(working) => working_view(buffer, body, look, working),
            State::Done(Ok(done)) => {
                let text =
                    format!("✓ {} ({})", one_line(&done.path.to_string_lossy()), bytes_text(done.bytes));
                let mut pieces = vec![Piece::new(text, theme.good)];
                for warning in &done.warnings {
                    pieces.push(Piece::new(format!("\n! {}", one_line(warning)), theme.warn));
                }
                canvas::lines(buffer, body, wrap(&pieces, usize::from(body.width)));
            }
            State::Done(Err(failure)) => {
                let hint = failure.hint.as_deref().map(one_line).unwrap_or_default();
                let pieces = [
                    Piece::new(format!("✗ {}", one_line(&failure.message)), theme.bad),
                    Piece::new(format!("\n{hint}"), theme.dim),
                ];
                canvas::lines(buffer, body, wrap(&pieces, usize::from(body.width)));
            }
        }
    }

    fn choices(&self, buffer: &mut Buffer, body: Rect, look: &Look) {
        let theme = &look.theme;
        canvas::line(buffer, canvas::row(body, 0), &Line::styled("Format", theme.title()));
        for (index, (format, _)) in self.choices.iter().enumerate() {
            let area = canvas::row(body, index + 1);
            let line = Line::from(vec![
                Span::styled(format!("  {:<12}", one_line(&format.name)), theme.text),
                Span::styled(one_line(&format.about), theme.dim),
            ]);
            canvas::line(buffer, area, &line);
            if index == self.picked.row {
                canvas::fill(buffer, area, theme.selected);
            }
        }
        let path = self.target().map(|(_, path)| one_line(&path.to_string_lossy())).unwrap_or_default();
        let options = [
            ("p", "file", path),
            ("r", "secrets", if self.redact { "masked" } else { "as they are" }.to_owned()),
            ("b", "branches", if self.all_branches { "all" } else { "the current one" }.to_owned()),
        ];
        let top = self.choices.len() + 2;
        for (index, (key, name, value)) in options.into_iter().enumerate() {
            let line = Line::from(vec![
                Span::styled(format!("{key}  "), theme.accent),
                Span::styled(format!("{name:<10}"), theme.dim),
                Span::styled(value, theme.text),
            ]);
            canvas::line(buffer, canvas::row(body, top + index), &line);
        }
    }
}
