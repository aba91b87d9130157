//! Import of other tools' transcripts. On the first start, the app offers it as its welcome screen.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_engine::OnDuplicate;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Screen};
use crate::canvas;
use crate::commands::Command;
use crate::modal::{Modal, Prompt, PromptPurpose};
use crate::ports::{FoundTranscripts, ImportRequest, Imported};
use crate::protocol::{Request, ScreenMsg, TransferProgress, UiResult};
use crate::render::RenderContext;
use crate::text::{Fragment, format_bytes, plural, sanitize_line, truncate, wrap};

/// Maximum number of imported sessions in the summary.
const LISTED_SESSIONS: usize = 100;

#[derive(Debug)]
enum ImportStep {
    Searching,
    Choosing,
    Importing(TransferProgress),
    Done(Box<UiResult<Imported>>),
}

#[derive(Debug)]
struct Candidate {
    transcripts: FoundTranscripts,
    is_chosen: bool,
}

#[derive(Debug)]
pub struct Import {
    is_welcome: bool,
    candidates: Vec<Candidate>,
    on_duplicate: OnDuplicate,
    selection: ListSelection,
    step: ImportStep,
}

impl Import {
    fn new() -> Self {
        Self {
            is_welcome: false,
            candidates: Vec::new(),
            on_duplicate: OnDuplicate::Auto,
            selection: ListSelection::default(),
            step: ImportStep::Searching,
        }
    }

    /// Opens the screen and searches for transcripts. If a path is given, imports that path immediately instead.
    pub fn open(path: &str) -> (Self, Vec<Action>) {
        let mut screen = Self::new();
        let actions = if path.is_empty() {
            vec![Action::run(Request::FindTranscripts { welcome: false })]
        } else {
            screen.start_import(vec![PathBuf::from(path)])
        };
        (screen, actions)
    }

    /// Opens the screen as the welcome screen.
    pub fn open_welcome(found: Vec<FoundTranscripts>) -> (Self, Vec<Action>) {
        let mut screen = Self { is_welcome: true, ..Self::new() };
        screen.set_candidates(found);
        (screen, Vec::new())
    }

    fn set_candidates(&mut self, found: Vec<FoundTranscripts>) {
        // A result that arrives later must not end an import that the user has started.
        if matches!(self.step, ImportStep::Searching) {
            self.candidates =
                found.into_iter().map(|transcripts| Candidate { transcripts, is_chosen: true }).collect();
            self.step = ImportStep::Choosing;
        }
    }

    fn start_import(&mut self, paths: Vec<PathBuf>) -> Vec<Action> {
        if paths.is_empty() {
            return Vec::new();
        }
        self.step = ImportStep::Importing(TransferProgress::default());
        let request = ImportRequest { paths, on_duplicate: self.on_duplicate, dry_run: false };
        vec![Action::run(Request::Import(request))]
    }

    fn handle_choosing_key(&mut self, key: KeyEvent) -> Vec<Action> {
        if self.selection.handle_key_with_letters(key, self.candidates.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => vec![Action::Close],
            KeyCode::Char(' ') => {
                if let Some(candidate) = self.candidates.get_mut(self.selection.row) {
                    candidate.is_chosen = !candidate.is_chosen;
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
                let hint = "A file or a directory. The format is detected. ~ is your home directory.";
                vec![Action::open(Modal::Prompt(Prompt::new("Import", hint, "", PromptPurpose::OpenScreen)))]
            }
            KeyCode::Enter => {
                let chosen = self.candidates.iter().filter(|candidate| candidate.is_chosen);
                let paths = chosen.map(|candidate| candidate.transcripts.path.clone()).collect();
                self.start_import(paths)
            }
            _ => Vec::new(),
        }
    }

    fn draw_choices(&self, buffer: &mut Buffer, area: Rect, render: &RenderContext) {
        let theme = &render.theme;
        let intro = match (self.is_welcome, self.candidates.is_empty()) {
            (true, _) => {
                "These conversations with other tools are on this machine. hfs can import them, so that you can search, read and continue them here. The original files are not changed."
            }
            (false, false) => "Found on this machine. The original files are not changed.",
            (false, true) => {
                "No transcripts were found in the default locations of other tools. Press p to import from any path."
            }
        };
        let mut lines = wrap(&[Fragment::new(intro, theme.text)], usize::from(area.width).min(90));
        lines.push(Line::default());
        let top = lines.len();
        canvas::lines(buffer, area, lines);
        let duplicates = match self.on_duplicate {
            OnDuplicate::Auto => "add their new messages (skip hfs exports)",
            OnDuplicate::Skip => "skip them",
            OnDuplicate::Copy => "import them again as copies",
            OnDuplicate::Update => "add their new messages (hfs exports too)",
        };
        let text =
            [Fragment::new("Sessions imported before: ", theme.dim), Fragment::new(duplicates, theme.text)];
        let foot = wrap(&text, usize::from(area.width));
        let below = canvas::below(area, top);
        // A blank row and what follows the list.
        let room = usize::from(below.height).saturating_sub(foot.len() + 1).max(1);
        let visible = self.selection.visible_range(self.candidates.len(), room);
        let list = Rect { height: canvas::as_u16(visible.len()).min(below.height), ..below };
        canvas::scroll_mark(buffer, list, &visible, self.candidates.len(), theme);
        let gap = usize::from(!visible.is_empty());
        canvas::lines(buffer, canvas::below(below, visible.len() + gap), foot);
        for (at, index) in visible.enumerate() {
            let Some(Candidate { transcripts, is_chosen }) = self.candidates.get(index) else { break };
            let row = canvas::row(list, at);
            let (mark, style) = if *is_chosen { ("☑ ", theme.accent) } else { ("☐ ", theme.dim) };
            let files = plural(transcripts.files, "file");
            let size = format!("{files}, {}", format_bytes(transcripts.bytes));
            let line = Line::from(vec![
                Span::styled(mark, style),
                Span::styled(format!("{:<14}", truncate(&sanitize_line(&transcripts.tool), 13)), theme.text),
                Span::styled(format!("{size:<26}"), theme.dim),
                Span::styled(sanitize_line(&transcripts.path.to_string_lossy()), theme.dim),
            ]);
            canvas::line(buffer, row, &line);
            if index == self.selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
    }
}

impl Screen for Import {
    fn title(&self) -> &'static str {
        if self.is_welcome { "Welcome to hfs" } else { "Import" }
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        if self.is_welcome { String::new() } else { "transcripts of other tools".to_owned() }
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        match &self.step {
            ImportStep::Importing(_) => vec![("Esc", "stop; sessions already imported are kept")],
            ImportStep::Done(_) => vec![("Enter", "show the sessions"), ("Esc", "back")],
            ImportStep::Choosing if self.candidates.is_empty() => {
                vec![("p", "import from a path"), ("d", "known sessions"), ("Esc", "back")]
            }
            ImportStep::Searching | ImportStep::Choosing => vec![
                ("Enter", "import"),
                ("Space", "select"),
                ("p", "another path"),
                ("d", "known sessions"),
                ("Esc", "not now"),
            ],
        }
    }

    fn handle_key(&mut self, key: KeyEvent, _cx: &Context<'_>) -> Vec<Action> {
        match (&self.step, key.code) {
            (ImportStep::Searching | ImportStep::Choosing, _) => self.handle_choosing_key(key),
            (ImportStep::Importing(_), KeyCode::Esc) => vec![Action::run(Request::StopTransfer)],
            // The imported sessions belong to the projects in which they were held.
            (ImportStep::Done(_), KeyCode::Enter) => vec![Action::RunCommand(Command::Resume)],
            (ImportStep::Done(_), KeyCode::Esc | KeyCode::Char('q')) => vec![Action::Close],
            (ImportStep::Importing(_) | ImportStep::Done(_), _) => Vec::new(),
        }
    }

    fn handle_prompt(&mut self, text: &str) -> Vec<Action> {
        if text.is_empty() { Vec::new() } else { self.start_import(vec![PathBuf::from(text)]) }
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Transcripts { found, .. } => self.set_candidates(found),
            ScreenMsg::Progress(progress) => {
                if let ImportStep::Importing(current) = &mut self.step {
                    *current = progress;
                }
            }
            ScreenMsg::Imported(result) => self.step = ImportStep::Done(Box::new(result)),
            other => return Handled::No(other),
        }
        Handled::Yes(Vec::new())
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        match &self.step {
            ImportStep::Searching => {
                let line = Line::styled("searching for transcripts ...", theme.dim);
                canvas::line(buffer, canvas::row(area, 0), &line);
            }
            ImportStep::Choosing => self.draw_choices(buffer, area, cx.render),
            ImportStep::Importing(progress) => {
                canvas::line(buffer, canvas::row(area, 0), &Line::styled("Importing", theme.title()));
                let below = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
                draw_progress(buffer, below, cx.render, progress);
            }
            ImportStep::Done(result) => {
                let mut lines = result_lines(result, cx.render, usize::from(area.width));
                let room = usize::from(area.height);
                if lines.len() > room {
                    let hidden = lines.len() - room + 1;
                    lines.truncate(room.saturating_sub(1));
                    lines.push(Line::styled(format!("… {}", plural(hidden, "more line")), theme.dim));
                }
                canvas::lines(buffer, area, lines);
            }
        }
        None
    }
}

/// Draws a progress bar and the file being processed.
#[allow(clippy::cast_precision_loss, reason = "the bar shows eighths of a cell at best")]
pub fn draw_progress(buffer: &mut Buffer, area: Rect, render: &RenderContext, progress: &TransferProgress) {
    let theme = &render.theme;
    let width = usize::from(area.width).saturating_sub(24).clamp(10, 60);
    let (bar, numbers) = match progress.total {
        Some(total) if total > 0 => {
            let ratio = progress.done as f64 / total as f64;
            let numbers = format!("{} of {}", format_bytes(progress.done), format_bytes(total));
            (canvas::bar(ratio, width), numbers)
        }
        _ => (String::new(), format_bytes(progress.done)),
    };
    let rest = "░".repeat(width.saturating_sub(bar.chars().count()));
    let line = Line::from(vec![
        Span::styled(bar, theme.accent),
        Span::styled(rest, theme.border),
        Span::styled(format!("  {numbers}"), theme.dim),
    ]);
    canvas::line(buffer, canvas::row(area, 0), &line);
    let item = truncate(&sanitize_line(&progress.item), usize::from(area.width));
    canvas::line(buffer, canvas::row(area, 1), &Line::styled(item, theme.dim));
}

fn result_lines(result: &UiResult<Imported>, render: &RenderContext, width: usize) -> Vec<Line<'static>> {
    let theme = &render.theme;
    let mut lines = Vec::new();
    let mut add = |style, text: String| lines.extend(wrap(&[Fragment::new(text, style)], width));
    match result {
        Err(report) => {
            add(theme.bad, sanitize_line(&report.message));
            if let Some(suggestion) = &report.suggestion {
                add(theme.dim, sanitize_line(suggestion));
            }
        }
        Ok(done) => {
            let messages: u64 = done.imported.iter().map(|session| session.messages).sum();
            let sessions = plural(done.imported.len(), "session");
            add(theme.good, format!("✓ {sessions} with {}", plural(messages, "message")));
            let opaque: u64 = done.imported.iter().map(|session| session.report.opaque).sum();
            let dropped: u64 = done.imported.iter().map(|session| session.report.dropped).sum();
            if opaque + dropped > 0 {
                add(
                    theme.dim,
                    format!(
                        "  {} kept verbatim, {dropped} damaged or duplicate ones left out",
                        plural(opaque, "record")
                    ),
                );
            }
            if !done.skipped.is_empty() {
                add(theme.dim, format!("○ {} skipped", plural(done.skipped.len(), "session")));
            }
            for (file, report) in &done.failed {
                add(theme.bad, format!("✗ {}: {}", sanitize_line(file), sanitize_line(&report.message)));
            }
            add(theme.text, String::new());
            for session in done.imported.iter().take(LISTED_SESSIONS) {
                let name = sanitize_line(&session.name);
                let format = sanitize_line(&session.format);
                let text = format!("  {name} · {} · {format}", plural(session.messages, "message"));
                add(theme.text, truncate(&text, width));
            }
            if let Some(more @ 1..) = done.imported.len().checked_sub(LISTED_SESSIONS) {
                add(theme.dim, format!("  and {more} more"));
            }
        }
    }
    lines
}
