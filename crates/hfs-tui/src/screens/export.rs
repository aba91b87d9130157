//! Export of a session to a file.

use std::path::{Path, PathBuf};

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::SessionId;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::import::draw_progress;
use super::{Action, Context, Handled, ListSelection, Screen};
use crate::canvas;
use crate::modal::{Confirm, Modal, Prompt, PromptPurpose};
use crate::ports::{ExportFormat, ExportRequest, Exported};
use crate::protocol::{ExportChoice, Request, ScreenMsg, TerminalCommand, TransferProgress, UiResult};
use crate::render::RenderContext;
use crate::text::{Fragment, format_bytes, sanitize_line, wrap, wrap_text};

#[derive(Debug)]
enum ExportStep {
    Choosing,
    Exporting(TransferProgress),
    Done(UiResult<Exported>),
}

#[derive(Debug)]
pub struct Export {
    session: SessionId,
    choices: Vec<ExportChoice>,
    /// The path that the user typed instead of the default.
    path: Option<PathBuf>,
    redact: bool,
    all_branches: bool,
    selection: ListSelection,
    step: ExportStep,
}

impl Export {
    /// Opens the screen with the format and the path that `target` names, and exports to the path if there is one.
    ///
    /// # Errors
    /// Returns an explanation for the user if `target` names no format.
    pub fn open(
        session: SessionId,
        choices: Vec<ExportChoice>,
        target: &str,
    ) -> Result<(Self, Vec<Action>), String> {
        let (row, path) = parse_target(&choices, target)?;
        let mut screen = Self {
            session,
            choices,
            path,
            redact: false,
            all_branches: true,
            selection: ListSelection { row: row.unwrap_or(0) },
            step: ExportStep::Choosing,
        };
        let actions = if screen.path.is_some() { screen.start() } else { Vec::new() };
        Ok((screen, actions))
    }

    fn request(&self, replaces: bool) -> Option<ExportRequest> {
        let (format, path) = self.target()?;
        Some(ExportRequest {
            session: self.session,
            format: format.name.clone(),
            path: path.clone(),
            redact: self.redact,
            all_branches: self.all_branches,
            replaces,
        })
    }

    fn start(&mut self) -> Vec<Action> {
        let Some(request) = self.request(false) else { return Vec::new() };
        self.step = ExportStep::Exporting(TransferProgress::default());
        vec![Action::run(Request::Export(request))]
    }

    /// Asks whether the file should be replaced.
    fn ask_to_replace(&mut self, path: &Path) -> Vec<Action> {
        self.step = ExportStep::Choosing;
        let Some(request) = self.request(true) else { return Vec::new() };
        let confirm = Confirm {
            title: "Replace this file?".to_owned(),
            text: vec![
                sanitize_line(&path.to_string_lossy()),
                "It has this name already. It is replaced when the export is complete.".to_owned(),
            ],
            confirm_label: "replace it",
            on_confirm: Request::Export(request).into(),
        };
        vec![Action::open(Modal::Confirm(confirm))]
    }

    fn target(&self) -> Option<(&ExportFormat, &PathBuf)> {
        let (format, default) = self.choices.get(self.selection.row)?;
        Some((format, self.path.as_ref().unwrap_or(default)))
    }

    fn handle_choosing_key(&mut self, key: KeyEvent) -> Vec<Action> {
        if self.selection.handle_key_with_letters(key, self.choices.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Action::Close],
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
                let hint = "The file to write. ~ is your home directory.";
                let prompt = Prompt::new("Export to", hint, &path, PromptPurpose::OpenScreen);
                vec![Action::open(Modal::Prompt(prompt))]
            }
            KeyCode::Enter => self.start(),
            _ => Vec::new(),
        }
    }

    fn draw_choices(&self, buffer: &mut Buffer, area: Rect, render: &RenderContext) {
        let theme = &render.theme;
        canvas::line(buffer, canvas::row(area, 0), &Line::styled("Format", theme.title()));
        for (index, (format, _)) in self.choices.iter().enumerate() {
            let row = canvas::row(area, index + 1);
            let line = Line::from(vec![
                Span::styled(format!("  {:<12}", sanitize_line(&format.name)), theme.text),
                Span::styled(sanitize_line(&format.about), theme.dim),
            ]);
            canvas::line(buffer, row, &line);
            if index == self.selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
        let path = self.target().map(|(_, path)| sanitize_line(&path.to_string_lossy())).unwrap_or_default();
        let options = [
            ("p", "file", path),
            ("r", "secrets", if self.redact { "masked" } else { "not masked, but counted" }.to_owned()),
            ("b", "branches", if self.all_branches { "all" } else { "the current one" }.to_owned()),
        ];
        /// Width of the key and the name of an option.
        const LABEL_WIDTH: usize = 13;
        let mut lines = Vec::new();
        for (key, name, value) in options {
            // A long path is shown whole.
            let values = wrap_text(&value, theme.text, usize::from(area.width).saturating_sub(LABEL_WIDTH));
            for (index, value) in values.into_iter().enumerate() {
                let (key, name) = if index == 0 { (key, name) } else { ("", "") };
                let mut spans = vec![
                    Span::styled(format!("{key:<3}"), theme.accent),
                    Span::styled(format!("{name:<10}"), theme.dim),
                ];
                spans.extend(value.spans);
                lines.push(Line::from(spans));
            }
        }
        canvas::lines(buffer, canvas::below(area, self.choices.len() + 2), lines);
    }
}

/// Returns the row of the format and the path that the user has typed: the name of a format, a path whose extension selects
/// the format, or both.
fn parse_target(choices: &[ExportChoice], typed: &str) -> Result<(Option<usize>, Option<PathBuf>), String> {
    let typed = typed.trim();
    let (first, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
    let lower = first.to_lowercase();
    let named = choices
        .iter()
        .position(|(format, _)| format.name == lower)
        .or_else(|| choices.iter().position(|(format, _)| format.extensions.contains(&lower)));
    match (named, unquote(if named.is_some() { rest } else { typed })) {
        (_, path) if path.is_empty() => Ok((named, None)),
        (Some(row), path) => Ok((Some(row), Some(path.into()))),
        (None, path) => {
            let path = PathBuf::from(path);
            let is_folder = typed.ends_with('/');
            let row = row_of_extension(choices, &path);
            let names =
                || choices.iter().map(|(format, _)| format.name.as_str()).collect::<Vec<_>>().join(", ");
            match path.extension() {
                _ if row.is_some() || is_folder => Ok((row, Some(path))),
                Some(extension) => Err(format!(
                    "no format has the extension .{}; name one before the path: {}",
                    sanitize_line(&extension.to_string_lossy()),
                    names()
                )),
                // One word without an extension is rather a format than a file.
                None if rest.is_empty() && !typed.contains('/') && !typed.starts_with('~') => {
                    Err(format!("no format {:?}; the formats are {}", sanitize_line(typed), names()))
                }
                None => Ok((None, Some(path))),
            }
        }
    }
}

/// The first format that the extension of a file selects.
fn row_of_extension(choices: &[ExportChoice], path: &Path) -> Option<usize> {
    let extension = path.extension()?.to_string_lossy().to_lowercase();
    choices.iter().position(|(format, _)| format.extensions.contains(&extension))
}

/// Removes the quotes around a path and the backslashes before its spaces, which a shell would need.
fn unquote(path: &str) -> String {
    let path = path.trim();
    let quoted = |quote: char| path.strip_prefix(quote)?.strip_suffix(quote);
    match quoted('"').or_else(|| quoted('\'')) {
        Some(inner) => inner.to_owned(),
        None => path.replace("\\ ", " "),
    }
}

impl Screen for Export {
    fn title(&self) -> &'static str {
        "Export"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        "this session to a file".to_owned()
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        match &self.step {
            ExportStep::Choosing => {
                vec![("Enter", "export"), ("p", "path"), ("r", "secrets"), ("b", "branches"), ("Esc", "back")]
            }
            ExportStep::Exporting(_) => vec![("Esc", "stop")],
            ExportStep::Done(Ok(_)) => vec![("c", "copy the path"), ("Enter", "back")],
            ExportStep::Done(Err(_)) => vec![("Enter", "back")],
        }
    }

    fn handle_key(&mut self, key: KeyEvent, _cx: &Context<'_>) -> Vec<Action> {
        match (&self.step, key.code) {
            (ExportStep::Choosing, _) => self.handle_choosing_key(key),
            (ExportStep::Exporting(_), KeyCode::Esc) => vec![Action::run(Request::StopTransfer)],
            (ExportStep::Done(Ok(done)), KeyCode::Char('c')) => {
                let text = done.path.to_string_lossy().into_owned();
                vec![Action::run(TerminalCommand::Copy { text, description: "the path".to_owned() })]
            }
            (ExportStep::Done(_), KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) => vec![Action::Close],
            (ExportStep::Exporting(_) | ExportStep::Done(_), _) => Vec::new(),
        }
    }

    fn handle_prompt(&mut self, text: &str) -> Vec<Action> {
        self.path = (!text.trim().is_empty()).then(|| PathBuf::from(unquote(text)));
        if let Some(row) = self.path.as_deref().and_then(|path| row_of_extension(&self.choices, path)) {
            self.selection = ListSelection { row };
        }
        Vec::new()
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Progress(progress) => match &mut self.step {
                // The user has agreed that a file is replaced.
                step @ ExportStep::Choosing => *step = ExportStep::Exporting(progress),
                ExportStep::Exporting(current) => *current = progress,
                ExportStep::Done(_) => {}
            },
            ScreenMsg::ExportFileExists(path) => return Handled::Yes(self.ask_to_replace(&path)),
            ScreenMsg::Exported(result) => self.step = ExportStep::Done(result),
            other => return Handled::No(other),
        }
        Handled::Yes(Vec::new())
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let width = usize::from(area.width);
        match &self.step {
            ExportStep::Choosing => self.draw_choices(buffer, area, cx.render),
            ExportStep::Exporting(progress) => draw_progress(buffer, area, cx.render, progress),
            ExportStep::Done(Ok(done)) => {
                let path = sanitize_line(&done.path.to_string_lossy());
                let mut text = vec![
                    Fragment::new(format!("✓ exported, {}", format_bytes(done.bytes)), theme.good),
                    // A path that is longer than a line would leave the mark alone on the line above it.
                    Fragment::new(format!("\n{path}"), theme.text),
                ];
                for warning in &done.warnings {
                    text.push(Fragment::new(format!("\n! {}", sanitize_line(warning)), theme.warn));
                }
                canvas::lines(buffer, area, wrap(&text, width));
            }
            ExportStep::Done(Err(report)) => {
                let suggestion = report.suggestion.as_deref().map(sanitize_line).unwrap_or_default();
                let text = [
                    Fragment::new(format!("✗ {}", sanitize_line(&report.message)), theme.bad),
                    Fragment::new(format!("\n{suggestion}"), theme.dim),
                ];
                canvas::lines(buffer, area, wrap(&text, width));
            }
        }
        None
    }
}
