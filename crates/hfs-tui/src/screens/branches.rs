//! The tree of branches.

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Branch, BranchId, MessageRange, SessionId};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::preview::Preview;
use super::sessions::split;
use super::timeline::counted;
use super::{Act, Context};
use crate::canvas;
use crate::effect::{Change, Effect};
use crate::look::Look;
use crate::message::Answer;
use crate::modal::{Ask, AskedFor, Modal};
use crate::parts::Tone;
use crate::text::{clip, one_line};

/// Messages shown of a branch.
const SEEN: u32 = 12;

/// The tree.
#[derive(Debug)]
pub struct Branches {
    session: SessionId,
    current: Option<BranchId>,
    rows: Vec<Row>,
    picked: Picked,
    preview: Preview,
    previewed: Option<BranchId>,
    loading: bool,
}

#[derive(Debug)]
struct Row {
    branch: Branch,
    /// The lines of the tree before its name.
    rails: String,
}

impl Branches {
    /// The tree of a session, and what it needs first.
    pub fn open(session: SessionId, current: Option<BranchId>) -> (Self, Vec<Act>) {
        let tree = Self {
            session,
            current,
            rows: Vec::new(),
            picked: Picked::default(),
            preview: Preview::default(),
            previewed: None,
            loading: true,
        };
        (tree, vec![Act::Do(Effect::ListBranches(session))])
    }

    /// Lists anew; `current` is where the conversation is.
    pub fn reload(&mut self, current: Option<BranchId>) -> Vec<Act> {
        self.current = current;
        vec![Act::Do(Effect::ListBranches(self.session))]
    }

    /// Takes the branches.
    pub fn take(&mut self, result: Answer<Vec<Branch>>, fresh: u64) -> Vec<Act> {
        let first = std::mem::take(&mut self.loading);
        match result {
            Ok(branches) => {
                self.rows = tree(&branches);
                if first {
                    let row = self.rows.iter().position(|row| Some(row.branch.id) == self.current);
                    self.picked.row = row.unwrap_or(0);
                }
                self.picked.clamp(self.rows.len());
                self.look_into(fresh)
            }
            Err(failure) => vec![Act::Say(Tone::Bad, failure.message)],
        }
    }

    /// The messages of the selected branch.
    pub fn preview_mut(&mut self) -> &mut Preview {
        &mut self.preview
    }

    fn look_into(&mut self, fresh: u64) -> Vec<Act> {
        let selected = self.rows.get(self.picked.row).map(|row| row.branch.id);
        if selected == self.previewed {
            return Vec::new();
        }
        self.previewed = selected;
        let Some(branch) = selected else { return Vec::new() };
        let purpose = self.preview.expect(fresh);
        vec![Act::Do(Effect::Read { branch, range: MessageRange::Newest(SEEN), purpose })]
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Act> {
        if self.picked.letter_key(key, self.rows.len()) {
            return self.look_into(context.fresh);
        }
        let selected = self.rows.get(self.picked.row).map(|row| &row.branch);
        match (key.code, selected) {
            (KeyCode::Esc | KeyCode::Char('q'), _) => vec![Act::Back],
            (KeyCode::Enter | KeyCode::Char('f'), Some(_)) if context.busy => {
                vec![Act::Say(Tone::Warn, "a reply is in progress; Esc in the chat stops it".to_owned())]
            }
            (KeyCode::Enter, Some(branch)) => {
                let (session, branch) = (self.session, branch.id);
                vec![Act::Do(Effect::Change(Change::Switch { session, branch }))]
            }
            (KeyCode::Char('f'), Some(branch)) => {
                let (branch, at) = (branch.id, branch.head);
                vec![Act::Do(Effect::Change(Change::Fork { branch, at, name: None }))]
            }
            (KeyCode::Char('n'), Some(branch)) => {
                let about = AskedFor::BranchName(branch.id);
                vec![Act::Ask(Box::new(Modal::Ask(Ask::new(
                    "Rename branch",
                    "Its new name",
                    &branch.name,
                    about,
                ))))]
            }
            (KeyCode::Char('u'), _) => vec![Act::Command("/undo".to_owned())],
            (KeyCode::Char('r'), _) => vec![Act::Command("/redo".to_owned())],
            (KeyCode::Char('c'), _) => vec![Act::Command("/checkpoints".to_owned())],
            _ => Vec::new(),
        }
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        let keys = [
            ("Enter", "switch to it"),
            ("f", "fork it"),
            ("n", "rename"),
            ("u", "undo"),
            ("r", "redo"),
            ("c", "checkpoints"),
            ("Esc", "back"),
        ];
        let subtitle = counted(self.rows.len(), "branch").replace("branchs", "branches");
        let body = canvas::screen(buffer, area, look, "Branches", &subtitle, &keys);
        let (list, preview) = split(body);
        if self.rows.is_empty() && self.loading {
            canvas::line(buffer, canvas::row(list, 0), &Line::styled("loading ...", theme.dim));
        }
        for (at, index) in self.picked.window(self.rows.len(), usize::from(list.height)).enumerate() {
            let Some(row) = self.rows.get(index) else { break };
            let area = canvas::row(list, at);
            let selected = index == self.picked.row;
            let style = |normal| if selected { theme.selected } else { normal };
            if selected {
                canvas::fill(buffer, area, theme.selected);
            }
            let current = Some(row.branch.id) == self.current;
            let own = row.branch.head - row.branch.forked_at.min(row.branch.head);
            let details = match row.branch.parent {
                Some(_) => format!(
                    "from #{} · {own} own  {:>10}",
                    row.branch.forked_at,
                    look.age(row.branch.created_at)
                ),
                None => format!("{own} own  {:>10}", look.age(row.branch.created_at)),
            };
            let taken = canvas::right(buffer, area, &Line::styled(details, style(theme.dim)));
            let room =
                usize::from(area.width.saturating_sub(taken)).saturating_sub(row.rails.chars().count() + 4);
            let (mark, name) = if current { ("● ", theme.title()) } else { ("○ ", theme.text) };
            let line = Line::from(vec![
                Span::styled(row.rails.clone(), style(theme.frame)),
                Span::styled(mark, style(if current { theme.accent } else { theme.dim })),
                Span::styled(clip(&one_line(&row.branch.name), room), style(name)),
            ]);
            canvas::line(buffer, Rect { width: area.width.saturating_sub(taken + 1), ..area }, &line);
        }
        self.preview.view(buffer, preview, look, "newest messages of this branch");
    }
}

/// The branches that are not undone as a tree, children under their parents in order of their forks. One whose
/// parent is undone stands under the nearest ancestor that is not.
fn tree(branches: &[Branch]) -> Vec<Row> {
    let visible_parent = |branch: &Branch| {
        let mut parent = branch.parent;
        for _ in 0..branches.len() {
            let found = branches.iter().find(|candidate| Some(candidate.id) == parent)?;
            if !found.undone {
                return Some(found.id);
            }
            parent = found.parent;
        }
        None
    };
    let mut children: Vec<(Option<BranchId>, Branch)> = branches
        .iter()
        .filter(|branch| !branch.undone)
        .map(|branch| (visible_parent(branch), branch.clone()))
        .collect();
    children.sort_by_key(|(_, branch)| (branch.forked_at, branch.created_at, branch.id));
    let mut rows = Vec::new();
    // Explicit instead of recursive: an imported tree can be deep.
    let mut pending: Vec<(Branch, String, String)> = roots(&children);
    while let Some((branch, rails, below)) = pending.pop() {
        let own: Vec<&Branch> = children
            .iter()
            .filter(|(parent, _)| *parent == Some(branch.id))
            .map(|(_, child)| child)
            .collect();
        for (index, child) in own.iter().enumerate().rev() {
            let last = index + 1 == own.len();
            let (rail, rest) = if last { ("└─", "  ") } else { ("├─", "│ ") };
            pending.push((Branch::clone(child), format!("{below}{rail}"), format!("{below}{rest}")));
        }
        rows.push(Row { branch, rails });
    }
    rows
}

fn roots(children: &[(Option<BranchId>, Branch)]) -> Vec<(Branch, String, String)> {
    let roots = children.iter().filter(|(parent, _)| parent.is_none());
    roots.rev().map(|(_, root)| (root.clone(), String::new(), String::new())).collect()
}
