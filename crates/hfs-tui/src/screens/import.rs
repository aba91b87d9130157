//! Taking in transcripts of other tools.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_engine::OnDuplicate;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::timeline::counted;
use super::{Act, Context};
use crate::canvas;
use crate::effect::Effect;
use crate::look::Look;
use crate::message::Answer;
use crate::modal::{Ask, AskedFor, Modal};
use crate::parts::{FoundTranscripts, ImportRequest, Imported};
use crate::text::{Piece, clip, one_line, wrap};
use crate::transcript::bytes_text;

/// How far long work has come.
#[derive(Debug, Clone, Default)]
pub struct Working {
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub total: Option<u64>,
    /// This is worked on.
    pub what: String,
}

#[derive(Debug)]
enum State {
    Looking,
    Choosing,
    Working(Working),
    Done(Box<Answer<Imported>>),
}

/// The import dialog.
#[derive(Debug)]
pub struct Import {
    /// The app greets somebody new with it.
    welcome: bool,
    found: Vec<(FoundTranscripts, bool)>,
    on_duplicate: OnDuplicate,
    picked: Picked,
    state: State,
}

impl Import {
    /// The dialog, and what it needs first.
    pub fn open() -> (Self, Vec<Act>) {
        let dialog = Self {
            welcome: false,
            found: Vec::new(),
            on_duplicate: OnDuplicate::Auto,
            picked: Picked::default(),
            state: State::Looking,
        };
        (dialog, vec![Act::Do(Effect::FindTranscripts { welcome: false })])
    }

    /// The dialog for somebody who starts the app for the first time, with what was found.
    pub fn welcome(found: Vec<FoundTranscripts>) -> Self {
        let (mut dialog, _) = Self::open();
        dialog.welcome = true;
        dialog.take_found(found);
        dialog
    }

    /// Takes what was found on the machine.
    pub fn take_found(&mut self, found: Vec<FoundTranscripts>) {
        if matches!(self.state, State::Looking) {
            self.found = found.into_iter().map(|found| (found, true)).collect();
            self.state = State::Choosing;
        }
    }

    /// Begins with this path.
    pub fn begin_with(&mut self, path: &str) -> Vec<Act> {
        self.begin(vec![PathBuf::from(path)])
    }

    fn begin(&mut self, paths: Vec<PathBuf>) -> Vec<Act> {
        if paths.is_empty() {
            return Vec::new();
        }
        self.state = State::Working(Working::default());
        vec![Act::Do(Effect::Import(ImportRequest {
            paths,
            on_duplicate: self.on_duplicate,
            dry_run: false,
        }))]
    }

    /// Takes how far it has come.
    pub fn progress(&mut self, working: Working) {
        if let State::Working(now) = &mut self.state {
            *now = working;
        }
    }

    /// Takes how it came out.
    pub fn done(&mut self, result: Answer<Imported>) {
        self.state = State::Done(Box::new(result));
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, _context: &Context<'_>) -> Vec<Act> {
        match &self.state {
            State::Working(_) => match key.code {
                KeyCode::Esc => vec![Act::Do(Effect::StopTransfer)],
                _ => Vec::new(),
            },
            State::Done(_) => match key.code {
                KeyCode::Enter => vec![Act::Command("/sessions".to_owned())],
                KeyCode::Esc | KeyCode::Char('q') => vec![Act::Back],
                _ => Vec::new(),
            },
            State::Looking | State::Choosing => self.choose(key),
        }
    }

    fn choose(&mut self, key: KeyEvent) -> Vec<Act> {
        if self.picked.letter_key(key, self.found.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Act::Back],
            KeyCode::Char(' ') => {
                if let Some((_, chosen)) = self.found.get_mut(self.picked.row) {
                    *chosen = !*chosen;
                }
                Vec::new()
            }
            KeyCode::Char('d') => {
                self.on_duplicate = match self.on_duplicate {
                    OnDuplicate::Auto => OnDuplicate::Skip,
                    OnDuplicate::Skip => OnDuplicate::Copy,
                    OnDuplicate::Copy => OnDuplicate::Update,
                    OnDuplicate::Update => OnDuplicate::Auto,
                };
                Vec::new()
            }
            KeyCode::Char('p') => {
                let hint = "A file or a directory; its format is found by looking. ~ is your home.";
                vec![Act::Ask(Box::new(Modal::Ask(Ask::new("Import", hint, "", AskedFor::ImportPath))))]
            }
            KeyCode::Enter => {
                let paths = self
                    .found
                    .iter()
                    .filter(|(_, chosen)| *chosen)
                    .map(|(found, _)| found.path.clone())
                    .collect();
                self.begin(paths)
            }
            _ => Vec::new(),
        }
    }

    /// Draws the dialog.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        let keys: &[(&str, &str)] = match &self.state {
            State::Working(_) => &[("Esc", "stop; what is finished stays")],
            State::Done(_) => &[("Enter", "see the sessions"), ("Esc", "back")],
            State::Looking | State::Choosing => &[
                ("Enter", "import"),
                ("Space", "choose"),
                ("p", "another path"),
                ("d", "known sessions"),
                ("Esc", "not now"),
            ],
        };
        let (title, subtitle) =
            if self.welcome { ("Welcome to hfs", "") } else { ("Import", "transcripts of other tools") };
        let body = canvas::screen(buffer, area, look, title, subtitle, keys);
        match &self.state {
            State::Looking => {
                canvas::line(
                    buffer,
                    canvas::row(body, 0),
                    &Line::styled("looking for transcripts ...", theme.dim),
                );
            }
            State::Choosing => self.choices(buffer, body, look),
            State::Working(working) => {
                canvas::line(buffer, canvas::row(body, 0), &Line::styled("Importing", theme.title()));
                working_view(
                    buffer,
                    Rect { y: body.y + 2, height: body.height.saturating_sub(2), ..body },
                    look,
                    working,
                );
            }
            State::Done(result) => {
                canvas::lines(buffer, body, result_lines(result, look, usize::from(body.width)));
            }
        }
    }

    fn choices(&self, buffer: &mut Buffer, body: Rect, look: &Look) {
        let theme = &look.theme;
        let intro = match (self.welcome, self.found.is_empty()) {
            (true, _) => {
                "These conversations with other tools are on this machine. hfs can take them in: you can then search them, read them and go on with them here. The files themselves are only read."
            }
            (false, false) => "Found on this machine. The files themselves are only read.",
            (false, true) => {
                "No transcripts were found where other tools keep theirs. p imports from any path."
            }
        };
        let mut lines = wrap(&[Piece::new(intro, theme.text)], usize::from(body.width).min(90));
        lines.push(Line::default());
        let top = lines.len();
        canvas::lines(buffer, body, lines);
        for (index, (found, chosen)) in self.found.iter().enumerate() {
            let area = canvas::row(body, top + index);
            let (mark, style) = if *chosen { ("☑ ", theme.accent) } else { ("☐ ", theme.dim) };
            let files = counted(usize::try_from(found.files).unwrap_or(usize::MAX), "file");
            let line = Line::from(vec![
                Span::styled(mark, style),
                Span::styled(format!("{:<14}", clip(&one_line(&found.tool), 13)), theme.text),
                Span::styled(format!("{:<26}", format!("{files}, {}", bytes_text(found.bytes))), theme.dim),
                Span::styled(one_line(&found.path.to_string_lossy()), theme.dim),
            ]);
            canvas::line(buffer, area, &line);
            if index == self.picked.row {
                canvas::fill(buffer, area, theme.selected);
            }
        }
        let duplicates = match self.on_duplicate {
            OnDuplicate::Auto => "get what is new in them",
            OnDuplicate::Skip => "stay as they are",
            OnDuplicate::Copy => "are taken again as copies",
            OnDuplicate::Update => "get what is new in them, ours too",
        };
        let line = Line::from(vec![
            Span::styled("Sessions that are here already ", theme.dim),
            Span::styled(duplicates, theme.text),
        ]);
        canvas::line(buffer, canvas::row(body, top + self.found.len() + 1), &line);
    }
}

/// A progress bar and what is worked on.
#[allow(clippy::cast_precision_loss, reason = "a bar is no more exact than its cells")]
pub fn working_view(buffer: &mut Buffer, area: Rect, look: &Look, working: &Working) {
    let theme = &look.theme;
    let width = usize::from(area.width).saturating_sub(24).clamp(10, 60);
    let (bar, numbers) = match working.total {
        Some(total) if total > 0 => {
            let ratio = working.done as f64 / total as f64;
            (canvas::bar(ratio, width), format!("{} of {}", bytes_text(working.done), bytes_text(total)))
        }
        _ => (String::new(), bytes_text(working.done)),
    };
    let line = Line::from(vec![
        Span::styled(bar.clone(), theme.accent),
        Span::styled("░".repeat(width.saturating_sub(bar.chars().count())), theme.frame),
        Span::styled(format!("  {numbers}"), theme.dim),
    ]);
    canvas::line(buffer, canvas::row(area, 0), &line);
    let what = clip(&one_line(&working.what), usize::from(area.width));
    canvas::line(buffer, canvas::row(area, 1), &Line::styled(what, theme.dim));
}

fn result_lines(result: &Answer<Imported>, look: &Look, width: usize) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let mut lines = Vec::new();
    let mut say = |style, text: String| lines.extend(wrap(&[Piece::new(text, style)], width));
    match result {
        Err(failure) => {
            say(theme.bad, one_line(&failure.message));
            if let Some(hint) = &failure.hint {
                say(theme.dim, one_line(hint));
            }
        }
        Ok(done) => {
            let messages: u64 = done.imported.iter().map(|session| session.messages).sum();
            say(
                theme.good,
                format!("✓ {} with {messages} messages", counted(done.imported.len(), "session")),
            );
            let opaque: u64 = done.imported.iter().map(|session| session.report.opaque).sum();
            let dropped: u64 = done.imported.iter().map(|session| session.report.dropped).sum();
            if opaque + dropped > 0 {
                say(
                    theme.dim,
                    format!(
                        "  {opaque} records kept as they came, {dropped} damaged or repeated ones left out"
                    ),
                );
            }
            if !done.skipped.is_empty() {
                say(theme.dim, format!("○ {} as before", counted(done.skipped.len(), "session")));
            }
            for (file, failure) in &done.failed {
                say(theme.bad, format!("✗ {}: {}", one_line(file), one_line(&failure.message)));
            }
            say(theme.text, String::new());
            for session in done.imported.iter().take(100) {
                say(
                    theme.text,
                    clip(
                        &format!(
                            "  {} · {} messages · {}",
                            one_line(&session.name),
                            session.messages,
                            one_line(&session.format)
                        ),
                        width,
                    ),
                );
            }
        }
    }
    lines
}
