//! The timeline of checkpoints: looked at before one goes back to them.

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Branch, Checkpoint, CheckpointId, MessageRange, SessionId};
use hfs_engine::RewindPlan;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::preview::Preview;
use super::sessions::split;
use super::{Act, Context};
use crate::canvas;
use crate::effect::{Change, Effect};
use crate::look::Look;
use crate::message::Answer;
use crate::modal::{Ask, AskedFor, Confirm, Modal};
use crate::parts::Tone;
use crate::text::{clip, one_line};

/// Messages shown before a checkpoint.
const SEEN: u32 = 12;

/// The timeline.
#[derive(Debug)]
pub struct Timeline {
    session: SessionId,
    /// Newest first.
    checkpoints: Vec<Checkpoint>,
    branches: Vec<Branch>,
    picked: Picked,
    preview: Preview,
    previewed: Option<CheckpointId>,
    /// Asked for, so that the answer opens the question.
    planning: bool,
    loading: bool,
}

impl Timeline {
    /// The timeline of a session, and what it needs first.
    pub fn open(session: SessionId) -> (Self, Vec<Act>) {
        let timeline = Self {
            session,
            checkpoints: Vec::new(),
            branches: Vec::new(),
            picked: Picked::default(),
            preview: Preview::default(),
            previewed: None,
            planning: false,
            loading: true,
        };
        let acts = [Effect::ListBranches(session), Effect::ListCheckpoints(session)];
        (timeline, acts.into_iter().map(Act::Do).collect())
    }

    /// Lists anew.
    pub fn reload(&self) -> Vec<Act> {
        vec![Act::Do(Effect::ListCheckpoints(self.session))]
    }

    /// Takes the checkpoints.
    pub fn take(&mut self, result: Answer<Vec<Checkpoint>>, fresh: u64) -> Vec<Act> {
        self.loading = false;
        match result {
            Ok(mut checkpoints) => {
                checkpoints.reverse();
                self.checkpoints = checkpoints;
                self.picked.clamp(self.checkpoints.len());
                self.look_into(fresh)
            }
            Err(failure) => vec![Act::Say(Tone::Bad, failure.message)],
        }
    }

    /// Takes the branches.
    pub fn take_branches(&mut self, branches: Vec<Branch>) {
        self.branches = branches;
    }

    /// Takes what a rewind would do, and asks.
    pub fn planned(&mut self, result: Answer<Box<RewindPlan>>) -> Vec<Act> {
        if !std::mem::take(&mut self.planning) {
            return Vec::new();
        }
        match result {
            Ok(plan) => vec![Act::Ask(Box::new(Modal::Confirm(confirm_rewind(&plan))))],
            Err(failure) => vec![Act::Say(Tone::Bad, failure.message)],
        }
    }

    /// The messages before the selected checkpoint.
    pub fn preview_mut(&mut self) -> &mut Preview {
        &mut self.preview
    }

    fn look_into(&mut self, fresh: u64) -> Vec<Act> {
        let selected = self.checkpoints.get(self.picked.row);
        if selected.map(|checkpoint| checkpoint.id) == self.previewed {
            return Vec::new();
        }
        self.previewed = selected.map(|checkpoint| checkpoint.id);
        let Some(checkpoint) = selected else { return Vec::new() };
        let range = MessageRange::Before(checkpoint.seq + 1, SEEN);
        let (branch, purpose) = (checkpoint.branch, self.preview.expect(fresh));
        vec![Act::Do(Effect::Read { branch, range, purpose })]
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Act> {
        if self.picked.letter_key(key, self.checkpoints.len()) {
            return self.look_into(context.fresh);
        }
        let selected = self.checkpoints.get(self.picked.row);
        match (key.code, selected) {
            (KeyCode::Esc | KeyCode::Char('q'), _) => vec![Act::Back],
            (KeyCode::Enter, Some(_)) if context.busy => {
                vec![Act::Say(Tone::Warn, "a reply is in progress; Esc in the chat stops it".to_owned())]
            }
            (KeyCode::Enter, Some(checkpoint)) => {
                self.planning = true;
                vec![Act::Do(Effect::PlanRewind(checkpoint.id))]
            }
            (KeyCode::Char('p'), Some(checkpoint)) => {
                let (checkpoint, pinned) = (checkpoint.id, !checkpoint.pinned);
                vec![Act::Do(Effect::Change(Change::Pin { checkpoint, pinned }))]
            }
            (KeyCode::Char('x') | KeyCode::Delete, Some(checkpoint)) => {
                let confirm = Confirm {
                    title: "Delete this checkpoint?".to_owned(),
                    text: vec![
                        "It cannot be gone back to any more. The conversation itself stays as it is."
                            .to_owned(),
                        "A deleted checkpoint cannot be brought back.".to_owned(),
                    ],
                    yes: "delete",
                    then: Effect::Change(Change::DeleteCheckpoint(checkpoint.id)),
                };
                vec![Act::Ask(Box::new(Modal::Confirm(confirm)))]
            }
            (KeyCode::Char('c'), _) => vec![Act::Ask(Box::new(ask_label(context)))],
            (KeyCode::Char('u'), _) => vec![Act::Command("/undo".to_owned())],
            (KeyCode::Char('r'), _) => vec![Act::Command("/redo".to_owned())],
            (KeyCode::Char('b'), _) => vec![Act::Command("/branches".to_owned())],
            _ => Vec::new(),
        }
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        let keys = [
            ("Enter", "go back to it"),
            ("c", "mark this place"),
            ("p", "pin"),
            ("x", "delete"),
            ("u", "undo"),
            ("b", "branches"),
            ("Esc", "back"),
        ];
        let subtitle = format!("{}, newest first", counted(self.checkpoints.len(), "checkpoint"));
        let body = canvas::screen(buffer, area, look, "Checkpoints", &subtitle, &keys);
        let (list, preview) = split(body);
        if self.checkpoints.is_empty() {
            let text = if self.loading {
                "loading ..."
            } else {
                "none yet: every finished reply makes one, and c marks this place"
            };
            canvas::line(buffer, canvas::row(list, 0), &Line::styled(text, theme.dim));
            return;
        }
        let total = self.checkpoints.len();
        for (at, index) in self.picked.window(total, usize::from(list.height)).enumerate() {
            let Some(checkpoint) = self.checkpoints.get(index) else { break };
            let rail = match (index, total) {
                (_, 1) => " ",
                (0, _) => "╷",
                (index, total) if index + 1 == total => "╵",
                _ => "│",
            };
            let number = total - index;
            let area = canvas::row(list, at);
            self.row(buffer, area, look, checkpoint, (number, rail, index == self.picked.row));
        }
        self.preview.view(buffer, preview, look, "what was said until then");
    }

    fn row(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        look: &Look,
        checkpoint: &Checkpoint,
        (number, rail, selected): (usize, &str, bool),
    ) {
        let theme = &look.theme;
        let style = |normal| if selected { theme.selected } else { normal };
        if selected {
            canvas::fill(buffer, area, theme.selected);
        }
        let branch = self.branches.iter().find(|branch| branch.id == checkpoint.branch);
        let branch = branch.map_or_else(String::new, |branch| format!("{} ", one_line(&branch.name)));
        let details = format!("{branch}#{}  {:>10}", checkpoint.seq, look.age(checkpoint.created_at));
        let taken = canvas::right(buffer, area, &Line::styled(details, style(theme.dim)));
        let room = usize::from(area.width.saturating_sub(taken)).saturating_sub(10);
        let (mark, mark_style) = match (checkpoint.pinned, checkpoint.trigger.as_str()) {
            (true, _) => ("★", theme.warn),
            (false, "manual") => ("◆", theme.accent),
            _ => ("◇", theme.dim),
        };
        let name =
            checkpoint.label.as_deref().map_or_else(|| trigger_text(checkpoint.trigger.as_str()), one_line);
        let line = Line::from(vec![
            Span::styled(format!("{number:>3} "), style(theme.dim)),
            Span::styled(format!("{rail}{mark} "), style(mark_style)),
            Span::styled(clip(&name, room), style(theme.text)),
        ]);
        canvas::line(buffer, Rect { width: area.width.saturating_sub(taken + 1), ..area }, &line);
    }
}

/// What made a checkpoint, in words.
fn trigger_text(trigger: &str) -> String {
    match trigger {
        "manual" => "marked by hand".to_owned(),
        "run.ended" => "after a reply".to_owned(),
        "phase.ended" => "after a phase".to_owned(),
        "negotiation.resolved" => "a section was settled".to_owned(),
        other => one_line(other),
    }
}

/// `1 checkpoint`, `2 checkpoints`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The question for a label.
pub fn ask_label(context: &Context<'_>) -> Modal {
    let about = AskedFor::CheckpointLabel(context.conversation.clone());
    Modal::Ask(Ask::new(
        "Mark this place",
        "A label to find it by; may stay empty. It is kept until you delete it.",
        "",
        about,
    ))
}

/// Says what a rewind does, and asks.
pub fn confirm_rewind(plan: &RewindPlan) -> Confirm {
    let messages = |count: u64| counted(usize::try_from(count).unwrap_or(usize::MAX), "message");
    let mut text = vec![format!(
        "A new branch begins behind message {}: {} in view, and every agent remembers what it did then.",
        plan.checkpoint.seq,
        messages(plan.in_view)
    )];
    text.push(if plan.out_of_view == 0 {
        format!("\"{}\" stays as it is.", one_line(&plan.from.name))
    } else {
        format!(
            "\"{}\" stays as it is with its {} beyond that; the tree of branches leads back, and so does undo.",
            one_line(&plan.from.name),
            messages(plan.out_of_view)
        )
    });
    if let Some(prompt) = &plan.prompt {
        text.push(format!(
            "Your next message comes back into the input: \"{}\"",
            clip(&one_line(&prompt.content.text()), 120)
        ));
    }
    Confirm {
        title: "Go back to this checkpoint?".to_owned(),
        text,
        yes: "go back",
        then: Effect::Change(Change::Rewind(plan.checkpoint.id)),
    }
}
