//! The tree of a session's branches.

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Branch, BranchId, MessageRange, Seq, SessionId};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Preview, Screen, StaleData, split_for_preview};
use crate::canvas;
use crate::commands::Command;
use crate::modal::{Modal, Prompt, PromptPurpose};
use crate::protocol::{Change, PreviewSource, Request, ScreenMsg, UiResult};
use crate::text::{plural, sanitize_line, truncate};

/// Number of messages in the preview.
const PREVIEW_MESSAGES: u32 = 12;

#[derive(Debug)]
pub struct Branches {
    session: SessionId,
    current: Option<BranchId>,
    rows: Vec<Row>,
    selection: ListSelection,
    preview: Preview,
    /// The branch in the preview, with its newest message.
    previewed: Option<(BranchId, Seq)>,
    is_loading: bool,
}

#[derive(Debug)]
struct Row {
    branch: Branch,
    /// The lines of the tree to the left of the name.
    tree_lines: String,
}

impl Branches {
    /// Opens the screen for a session.
    pub fn open(session: SessionId, cx: &Context<'_>) -> (Self, Vec<Action>) {
        let screen = Self {
            session,
            current: cx.branch(),
            rows: Vec::new(),
            selection: ListSelection::default(),
            preview: Preview::default(),
            previewed: None,
            is_loading: true,
        };
        (screen, vec![Action::run(Request::ListBranches(session))])
    }

    fn set_branches(&mut self, result: UiResult<Vec<Branch>>, cx: &Context<'_>) -> Vec<Action> {
        let is_first = std::mem::take(&mut self.is_loading);
        match result {
            Ok(branches) => {
                self.rows = tree(&branches);
                if is_first {
                    let row = self.rows.iter().position(|row| Some(row.branch.id) == self.current);
                    self.selection.row = row.unwrap_or(0);
                }
                self.selection.clamp(self.rows.len());
                self.load_preview(cx)
            }
            Err(report) => vec![Action::error(report)],
        }
    }

    fn load_preview(&mut self, cx: &Context<'_>) -> Vec<Action> {
        let selected = self.rows.get(self.selection.row).map(|row| (row.branch.id, row.branch.head));
        if selected == self.previewed {
            return Vec::new();
        }
        self.previewed = selected;
        let Some((branch, _)) = selected else {
            self.preview.clear();
            return Vec::new();
        };
        let request_id = cx.ids.next();
        self.preview.start_loading(request_id);
        let source = PreviewSource::Branch(branch, MessageRange::Newest(PREVIEW_MESSAGES));
        vec![Action::run(Request::ReadPreview { source, request_id })]
    }
}

impl Screen for Branches {
    fn title(&self) -> &'static str {
        "Branches"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        plural(self.rows.len(), "branch")
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("Enter", "switch"),
            ("f", "fork"),
            ("n", "rename"),
            ("u", "undo"),
            ("r", "redo"),
            ("c", "checkpoints"),
            ("Esc", "back"),
        ]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        if self.selection.handle_key_with_letters(key, self.rows.len()) {
            return self.load_preview(cx);
        }
        let selected = self.rows.get(self.selection.row).map(|row| &row.branch);
        match (key.code, selected) {
            (KeyCode::Esc | KeyCode::Char('q'), _) => vec![Action::Close],
            (KeyCode::Enter | KeyCode::Char('f'), Some(_)) if cx.is_busy => vec![Action::busy()],
            (KeyCode::Enter, Some(branch)) => {
                vec![Action::run(Change::Switch { session: self.session, branch: branch.id })]
            }
            (KeyCode::Char('f'), Some(branch)) => {
                vec![Action::run(Change::Fork { branch: branch.id, at: branch.head, name: None })]
            }
            (KeyCode::Char('n'), Some(branch)) => {
                let purpose = PromptPurpose::BranchName(branch.id);
                vec![Action::open(Modal::Prompt(Prompt::new(
                    "Rename branch",
                    "New name",
                    &branch.name,
                    purpose,
                )))]
            }
            (KeyCode::Char('u'), _) => vec![Action::RunCommand(Command::Undo)],
            (KeyCode::Char('r'), _) => vec![Action::RunCommand(Command::Redo)],
            (KeyCode::Char('c'), _) => vec![Action::RunCommand(Command::Checkpoints)],
            _ => Vec::new(),
        }
    }

    fn handle_message(&mut self, message: ScreenMsg, cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Branches { session, result } if Some(session) == cx.session() => {
                Handled::Yes(self.set_branches(result, cx))
            }
            ScreenMsg::Preview { request_id, result } => {
                self.preview.set_messages(request_id, result);
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn request_failed(&mut self) {
        self.is_loading = false;
    }

    fn refresh(&mut self, stale: StaleData, cx: &Context<'_>) -> Vec<Action> {
        // A run adds messages to its branch.
        if !matches!(stale, StaleData::Branches | StaleData::Runs) {
            return Vec::new();
        }
        self.current = cx.branch();
        vec![Action::run(Request::ListBranches(self.session))]
    }

    // After an undo or redo from this screen, the user still wants to see the tree. A switch or a fork closes the
    // screen before the branch is opened.
    fn stays_open_after_switch(&self) -> bool {
        true
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let (list, preview) = split_for_preview(area);
        if self.rows.is_empty() && self.is_loading {
            canvas::line(buffer, canvas::row(list, 0), &Line::styled("loading ...", theme.dim));
        }
        let visible = self.selection.visible_range(self.rows.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, self.rows.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(row) = self.rows.get(index) else { break };
            let area = canvas::row(list, at);
            let is_selected = index == self.selection.row;
            let style = |normal| if is_selected { theme.selected } else { normal };
            if is_selected {
                canvas::fill(buffer, area, theme.selected);
            }
            let is_current = Some(row.branch.id) == self.current;
            // Imported data could contain a fork after the head.
            let own_messages = row.branch.head - row.branch.forked_at.min(row.branch.head);
            let age = cx.render.relative_time(row.branch.created_at);
            let undone = if row.branch.undone { "undone · " } else { "" };
            let details = match row.branch.parent {
                Some(_) => format!("{undone}from #{} · {own_messages} own  {age:>14}", row.branch.forked_at),
                None => format!("{own_messages} own  {age:>14}"),
            };
            let details = [details, format!("{undone}{own_messages} own  {age}"), age];
            // At least half of the row is for the name.
            let details = canvas::longest_fitting(details, usize::from(area.width / 2));
            let used = canvas::right_aligned(buffer, area, &Line::styled(details, style(theme.dim)));
            let room = usize::from(area.width.saturating_sub(used))
                .saturating_sub(row.tree_lines.chars().count() + 4);
            let (mark, name) = match row.branch.undone {
                _ if is_current => ("● ", theme.title()),
                true => ("◌ ", theme.dim),
                false => ("○ ", theme.text),
            };
            let line = Line::from(vec![
                Span::styled(row.tree_lines.clone(), style(theme.border)),
                Span::styled(mark, style(if is_current { theme.accent } else { theme.dim })),
                Span::styled(truncate(&sanitize_line(&row.branch.name), room), style(name)),
            ]);
            canvas::line(buffer, Rect { width: area.width.saturating_sub(used + 1), ..area }, &line);
        }
        self.preview.draw(buffer, preview, cx.render, "newest messages of this branch");
        None
    }
}

/// Returns the listed branches as a tree, children below their parents in order of their forks. A branch whose parent is
/// not listed is placed below its nearest ancestor that is.
fn tree(branches: &[Branch]) -> Vec<Row> {
    let visible_parent = |branch: &Branch| {
        let mut parent = branch.parent;
        // Bounded, because imported data could contain a cycle.
        for _ in 0..branches.len() {
            let found = branches.iter().find(|candidate| Some(candidate.id) == parent)?;
            if found.is_listed() {
                return Some(found.id);
            }
            parent = found.parent;
        }
        None
    };
    let mut visible: Vec<(Option<BranchId>, Branch)> = branches
        .iter()
        .filter(|branch| branch.is_listed())
        .map(|branch| (visible_parent(branch), branch.clone()))
        .collect();
    visible.sort_by_key(|(_, branch)| (branch.forked_at, branch.created_at, branch.id));
    let mut rows = Vec::new();
    // A stack instead of recursion: an imported tree can be deep enough to overflow the call stack. Each entry holds a
    // branch, the tree lines of its own row, and those of the rows below it.
    let roots = visible.iter().filter(|(parent, _)| parent.is_none());
    let mut pending: Vec<(Branch, String, String)> =
        roots.rev().map(|(_, root)| (root.clone(), String::new(), String::new())).collect();
    while let Some((branch, tree_lines, below)) = pending.pop() {
        let children: Vec<&Branch> =
            visible.iter().filter(|(parent, _)| *parent == Some(branch.id)).map(|(_, child)| child).collect();
        for (index, child) in children.iter().enumerate().rev() {
            let is_last = index + 1 == children.len();
            let (own_line, line_below) = if is_last { ("└─", "  ") } else { ("├─", "│ ") };
            pending.push((
                Branch::clone(child),
                format!("{below}{own_line}"),
                format!("{below}{line_below}"),
            ));
        }
        rows.push(Row { branch, tree_lines });
    }
    rows
}
