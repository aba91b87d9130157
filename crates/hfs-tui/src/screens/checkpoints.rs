//! The list of a session's checkpoints, where the user rewinds.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Branch, BranchId, Checkpoint, CheckpointId, MessageRange, Seq, SessionId, Trigger};
use hfs_engine::{Conversation, ReversalPlan, RewindPlan, RewindTarget, StateAtPlace};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Preview, Screen, StaleData, split_for_preview};
use crate::canvas;
use crate::commands::Command;
use crate::modal::{Confirm, Modal, Prompt, PromptPurpose};
use crate::protocol::{Change, PreviewSource, Request, ScreenMsg, UiResult};
use crate::render::RenderContext;
use crate::text::{display_width, plural, sanitize_line, truncate, wrap_text};

/// Number of messages in the preview.
const PREVIEW_MESSAGES: u32 = 12;

#[derive(Debug)]
pub struct Checkpoints {
    session: SessionId,
    /// Newest first.
    checkpoints: Vec<Checkpoint>,
    branches: Vec<Branch>,
    /// What the user wrote before each checkpoint.
    words: BTreeMap<(BranchId, Seq), String>,
    selection: ListSelection,
    preview: Preview,
    previewed: Option<CheckpointId>,
    /// Whether a rewind plan was requested; the confirmation opens when it arrives.
    is_planning: bool,
    is_loading: bool,
}

impl Checkpoints {
    /// Opens the screen for a session.
    pub fn open(session: SessionId) -> (Self, Vec<Action>) {
        let screen = Self {
            session,
            checkpoints: Vec::new(),
            branches: Vec::new(),
            words: BTreeMap::new(),
            selection: ListSelection::default(),
            preview: Preview::default(),
            previewed: None,
            is_planning: false,
            is_loading: true,
        };
        let requests = [Request::ListBranches(session), Request::ListCheckpoints(session)];
        (screen, requests.into_iter().map(Action::run).collect())
    }

    fn set_checkpoints(&mut self, result: UiResult<Vec<Checkpoint>>, cx: &Context<'_>) -> Vec<Action> {
        self.is_loading = false;
        match result {
            Ok(mut checkpoints) => {
                checkpoints.reverse();
                self.checkpoints = checkpoints;
                self.selection.clamp(self.checkpoints.len());
                let mut actions = self.load_preview(cx);
                actions.extend(self.request_words());
                actions
            }
            Err(report) => vec![Action::error(report)],
        }
    }

    fn request_words(&self) -> Option<Action> {
        let places = self.checkpoints.iter().map(|checkpoint| (checkpoint.branch, checkpoint.seq));
        let mut places: Vec<_> = places.filter(|place| !self.words.contains_key(place)).collect();
        places.dedup();
        (!places.is_empty()).then(|| Action::run(Request::ReadWords(places)))
    }

    fn confirm_rewind(&mut self, result: UiResult<Box<RewindPlan>>) -> Vec<Action> {
        if !std::mem::take(&mut self.is_planning) {
            return Vec::new();
        }
        match result {
            Ok(plan) => vec![Action::open(Modal::Confirm(rewind_confirmation(&plan)))],
            Err(report) => vec![Action::error(report)],
        }
    }

    fn load_preview(&mut self, cx: &Context<'_>) -> Vec<Action> {
        let selected = self.checkpoints.get(self.selection.row);
        if selected.map(|checkpoint| checkpoint.id) == self.previewed {
            return Vec::new();
        }
        self.previewed = selected.map(|checkpoint| checkpoint.id);
        let Some(checkpoint) = selected else {
            self.preview.clear();
            return Vec::new();
        };
        let range = MessageRange::Before(checkpoint.seq + 1, PREVIEW_MESSAGES);
        let source = PreviewSource::Branch(checkpoint.branch, range);
        let request_id = cx.ids.next();
        self.preview.start_loading(request_id);
        vec![Action::run(Request::ReadPreview { source, request_id })]
    }

    fn draw_row(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        render: &RenderContext,
        index: usize,
        checkpoint: &Checkpoint,
    ) {
        let theme = &render.theme;
        let is_selected = index == self.selection.row;
        let style = |normal| if is_selected { theme.selected } else { normal };
        if is_selected {
            canvas::fill(buffer, area, theme.selected);
        }
        let total = self.checkpoints.len();
        let timeline = match (index, total) {
            (_, 1) => " ",
            (0, _) => "╷",
            (index, total) if index + 1 == total => "╵",
            _ => "│",
        };
        let branch = self.branches.iter().find(|branch| branch.id == checkpoint.branch);
        let branch = branch.map_or_else(String::new, |branch| format!("{} ", sanitize_line(&branch.name)));
        let age = render.relative_time(checkpoint.created_at);
        let details = format!("{branch}#{}  {age:>14}", checkpoint.seq);
        let used = canvas::right_aligned(buffer, area, &Line::styled(details, style(theme.dim)));
        let room = usize::from(area.width.saturating_sub(used)).saturating_sub(10);
        let (mark, mark_style) = if checkpoint.pinned {
            ("★", theme.warn)
        } else if checkpoint.trigger == Trigger::Manual {
            ("◆", theme.accent)
        } else {
            ("◇", theme.dim)
        };
        let words = self.words.get(&(checkpoint.branch, checkpoint.seq)).map(|words| sanitize_line(words));
        let words = words.filter(|words| !words.is_empty());
        let name = match (&checkpoint.label, &words) {
            (Some(label), _) => Some(sanitize_line(label)),
            // The words stand for the end of a turn.
            (None, Some(_)) if is_end_of_turn(&checkpoint.trigger) => None,
            (None, _) => Some(trigger_description(&checkpoint.trigger)),
        };
        let mut spans = vec![
            Span::styled(format!("{:>3} ", checkpoint.number), style(theme.dim)),
            Span::styled(format!("{timeline}{mark} "), style(mark_style)),
        ];
        let name = name.map(|name| truncate(&name, room)).unwrap_or_default();
        let gap = if name.is_empty() { "" } else { "  " };
        let rest = room.saturating_sub(display_width(&name) + gap.len());
        let is_labelled = checkpoint.label.is_some();
        spans.push(Span::styled(name, style(if is_labelled { theme.accent } else { theme.text })));
        if let Some(words) = words.filter(|_| rest > MIN_WORDS_WIDTH) {
            let text = format!("{gap}{}", truncate(&words, rest));
            spans.push(Span::styled(text, style(if gap.is_empty() { theme.text } else { theme.dim })));
        }
        let line = Line::from(spans);
        canvas::line(buffer, Rect { width: area.width.saturating_sub(used + 1), ..area }, &line);
    }
}

impl Screen for Checkpoints {
    fn title(&self) -> &'static str {
        "Checkpoints"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        match self.checkpoints.len() {
            0 => String::new(),
            count => format!("{}, newest first", plural(count, "checkpoint")),
        }
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("Enter", "rewind"),
            ("c", "new checkpoint"),
            ("p", "pin"),
            ("x", "delete"),
            ("u", "undo"),
            ("b", "branches"),
            ("Esc", "back"),
        ]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        if self.selection.handle_key_with_letters(key, self.checkpoints.len()) {
            return self.load_preview(cx);
        }
        let selected = self.checkpoints.get(self.selection.row);
        match (key.code, selected) {
            (KeyCode::Esc | KeyCode::Char('q'), _) => vec![Action::Close],
            (KeyCode::Enter, Some(_)) if cx.is_busy => vec![Action::busy()],
            (KeyCode::Enter, Some(checkpoint)) => {
                self.is_planning = true;
                vec![Action::run(Request::PlanRewind(checkpoint.id.into()))]
            }
            (KeyCode::Char('p'), Some(checkpoint)) => {
                vec![Action::run(Change::Pin { checkpoint: checkpoint.id, pinned: !checkpoint.pinned })]
            }
            (KeyCode::Char('x') | KeyCode::Delete, Some(checkpoint)) => {
                let confirm = Confirm {
                    title: "Delete this checkpoint?".to_owned(),
                    text: vec![
                        "You can no longer rewind to it. The conversation itself does not change.".to_owned(),
                        "A deleted checkpoint cannot be restored.".to_owned(),
                    ],
                    confirm_label: "delete",
                    on_confirm: Change::DeleteCheckpoint(checkpoint.id).into(),
                };
                vec![Action::open(Modal::Confirm(confirm))]
            }
            (KeyCode::Char('c'), _) => vec![Action::open(label_prompt(cx.conversation))],
            (KeyCode::Char('u'), _) => vec![Action::RunCommand(Command::Undo)],
            (KeyCode::Char('r'), _) => vec![Action::RunCommand(Command::Redo)],
            (KeyCode::Char('b'), _) => vec![Action::RunCommand(Command::Branches)],
            _ => Vec::new(),
        }
    }

    fn handle_message(&mut self, message: ScreenMsg, cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Checkpoints { session, result } if Some(session) == cx.session() => {
                Handled::Yes(self.set_checkpoints(result, cx))
            }
            ScreenMsg::Branches { result: Ok(branches), .. } => {
                self.branches = branches;
                Handled::Yes(Vec::new())
            }
            ScreenMsg::Words(words) => {
                self.words.extend(words.into_iter().map(|(branch, seq, words)| ((branch, seq), words)));
                Handled::Yes(Vec::new())
            }
            ScreenMsg::RewindPlanned(result) => Handled::Yes(self.confirm_rewind(result)),
            ScreenMsg::Preview { request_id, result } => {
                self.preview.set_messages(request_id, result);
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn request_failed(&mut self) {
        self.is_loading = false;
        self.is_planning = false;
    }

    fn refresh(&mut self, stale: StaleData, _cx: &Context<'_>) -> Vec<Action> {
        // The end of a run creates a checkpoint.
        match stale {
            StaleData::Checkpoints | StaleData::Runs => {
                vec![Action::run(Request::ListCheckpoints(self.session))]
            }
            StaleData::Sessions | StaleData::Branches | StaleData::Config => Vec::new(),
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let (list, preview) = split_for_preview(area);
        if self.checkpoints.is_empty() {
            let text = if self.is_loading {
                "loading ..."
            } else {
                "no checkpoints yet: each complete reply creates one, and so does c. To rewind to any other message, \
                 go back, select it with Alt+↑, and press r."
            };
            canvas::lines(buffer, list, wrap_text(text, theme.dim, usize::from(list.width)));
            return None;
        }
        let visible = self.selection.visible_range(self.checkpoints.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, self.checkpoints.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(checkpoint) = self.checkpoints.get(index) else { break };
            self.draw_row(buffer, canvas::row(list, at), cx.render, index, checkpoint);
        }
        self.preview.draw(buffer, preview, cx.render, "messages up to this checkpoint");
        None
    }
}

/// The beginning of a word says nothing, so words get at least this width.
const MIN_WORDS_WIDTH: usize = 8;

fn is_end_of_turn(trigger: &Trigger) -> bool {
    matches!(trigger, Trigger::Event(kind) if kind == "run.ended")
}

/// Describes the trigger of a checkpoint.
fn trigger_description(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Manual => "created by you".to_owned(),
        Trigger::Event(kind) => match kind.as_str() {
            "run.ended" => "after a reply".to_owned(),
            "phase.ended" => "after a phase".to_owned(),
            "negotiation.resolved" => "a section was resolved".to_owned(),
            other => sanitize_line(other),
        },
    }
}

/// Asks for the label of a new checkpoint.
pub fn label_prompt(conversation: &Conversation) -> Modal {
    Modal::Prompt(Prompt::new(
        "New checkpoint",
        "A label, or nothing. The checkpoint is kept until you delete it.",
        "",
        PromptPurpose::CheckpointLabel(conversation.clone()),
    ))
}

/// Explains the effects of a rewind and asks for confirmation.
pub fn rewind_confirmation(plan: &RewindPlan) -> Confirm {
    let current = sanitize_line(&plan.current.name);
    let restored = match plan.state {
        StateAtPlace::Kept(_) => " Every agent's memory is restored to that point.",
        StateAtPlace::Initial => "",
        StateAtPlace::NotKept => {
            " No state of the agents is kept for that message: the messages return, the agents' state does not."
        }
    };
    let place = match plan.in_view {
        0 => "before the first message".to_owned(),
        seq => format!("after message {seq} with {} in view", plural(seq, "message")),
    };
    let mut text = vec![format!("A new branch starts {place}.{restored}")];
    text.push(if plan.out_of_view == 0 {
        format!("\"{current}\" does not change.")
    } else {
        format!(
            "\"{current}\" keeps its {} after that point. To return to it, switch branches or undo.",
            plural(plan.out_of_view, "message")
        )
    });
    let effects = plan.side_effects.describe();
    text.extend(effects.map(|effects| sanitize_line(&format!("Not taken back: {effects}."))));
    if let Some(prompt) = &plan.prompt {
        text.push("Your message after that point is put into the input:".to_owned());
        text.push(truncate(&sanitize_line(&prompt.content.text()), 120));
    }
    let title = match plan.target {
        RewindTarget::Checkpoint(_) => "Rewind to this checkpoint?",
        RewindTarget::Message { .. } => "Rewind to this message?",
    };
    Confirm {
        title: title.to_owned(),
        text,
        confirm_label: "rewind",
        on_confirm: Change::Rewind(plan.target).into(),
    }
}

/// Explains that an undo or redo takes messages out of view, and asks for confirmation.
pub fn reversal_confirmation(plan: &ReversalPlan, change: Change) -> Confirm {
    let (from, to) = (sanitize_line(&plan.from.name), sanitize_line(&plan.to.name));
    let (verb, confirm_label) = match change {
        Change::Redo(_) => ("Redo", "redo"),
        _ => ("Undo", "undo"),
    };
    Confirm {
        title: format!("{verb} the {}?", plan.target.kind),
        text: vec![
            format!(
                "\"{to}\" becomes the current branch. It does not show {} of \"{from}\".",
                plural(plan.out_of_view, "message")
            ),
            format!("\"{from}\" keeps its messages. To return to it, open the list of branches (F4)."),
        ],
        confirm_label,
        on_confirm: change.into(),
    }
}
