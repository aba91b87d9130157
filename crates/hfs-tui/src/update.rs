//! Applies messages to the model. Pure: no clock, no terminal, no store.

use std::cell::Cell;
use std::sync::Arc;

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use hfs_core::{Branch, BranchId, Message, OperationKind, Position, SessionId, Timestamp};
use hfs_engine::{Conversation, ReversalPlan, RewindPlan, Rewound};

use crate::chat::{AgentChange, ContextGauge, InputHistory, RestoredDraft, SaveState, mention_of_picture};
use crate::modal::{Modal, ModalOutcome, PermissionDialog, PromptPurpose, is_text_key};
use crate::model::{Model, MouseSelection};
use crate::ports::{
    AgentEntry, ErrorReport, FoundTranscripts, PermissionRequest, PluginView, SessionScope, Tone,
};
use crate::protocol::{
    Change, Changed, ConfigApplied, CopyOutcome, Effect, Msg, Opened, Request, ScreenMsg, TerminalCommand,
    Timer, TranscriptPage, UiResult,
};
use crate::screens::agents::Agents;
use crate::screens::checkpoints::{reversal_confirmation, rewind_confirmation};
use crate::screens::export::Export;
use crate::screens::import::Import;
use crate::screens::{Action, Handled, StaleData};
use crate::text::{format_bytes, plural, sanitize_line};
use crate::transcript::Transcript;

/// After this time without a key, the user has paused typing.
const TYPING_PAUSE_MS: u64 = 700;
/// Rows scrolled per step of the mouse wheel.
const WHEEL_ROWS: isize = 3;

/// Applies a message and returns the effects to perform.
pub fn update(model: &mut Model, message: Msg) -> Vec<Effect> {
    let mut effects = match message {
        Msg::Key(key) => model.handle_key(key),
        Msg::Paste(text) => model.handle_paste(&text),
        Msg::Mouse(event) => model.handle_mouse(event),
        Msg::Resized(width, height) => {
            model.size = (width, height);
            model.mouse_selection = None;
            Vec::new()
        }
        Msg::BackgroundReported(background) => {
            model.render.set_reported_background(background);
            Vec::new()
        }
        Msg::FocusChanged { has_focus } => {
            model.focus = Some(has_focus);
            Vec::new()
        }
        Msg::Timer(timer) => model.handle_timer(timer),
        Msg::Terminate => model.quit(),
        Msg::Exchange(update) => model.apply_exchange_update(update),
        Msg::ExchangeEnded { conversation, outcome } => model.exchange_ended(conversation, *outcome),
        Msg::Compacted { conversation, result } => model.compaction_ended(conversation, *result),
        Msg::ExchangeCrashed(report) => model.exchange_crashed(report),
        Msg::ForkedForSend(branch) => model.forked_for_send(branch),
        Msg::Opened(result) => {
            model.move_ended(result.is_ok());
            model.session_opened(result)
        }
        Msg::Messages { page, branch, result } => model.add_messages(page, branch, result),
        Msg::Reconnecting(is_reconnecting) => {
            model.is_reconnecting = is_reconnecting;
            Vec::new()
        }
        Msg::Followed { place, messages } => model.add_followed(place, messages),
        Msg::Changed { moved, result } => {
            if moved {
                model.move_ended(result.is_ok());
            }
            match *result {
                Ok(changed) => model.apply_change(changed),
                Err(report) => model.notify_error(&report),
            }
        }
        Msg::ReversalPlanned { change, result } => model.reversal_planned(change, result),
        Msg::RecentSessions(recent) => {
            model.recent = recent;
            Vec::new()
        }
        Msg::PathsCompleted(completion) => {
            model.set_path_completion(completion);
            Vec::new()
        }
        Msg::PicturesNotSeen { names } => {
            let text = format!(
                "{} does not look at pictures; saved with the message: {}",
                model.agent.name,
                names.join(", ")
            );
            model.notify(Tone::Warn, sanitize_line(&text))
        }
        Msg::ModelUsed { for_session, result } => match result {
            Ok(applied) => {
                let effects = model.config_changed(applied);
                model.has_session_model = for_session;
                effects
            }
            Err(report) => model.notify_error(&report),
        },
        Msg::ExportPrepared { session, target, result } => match result {
            Ok(choices) => match Export::open(session, choices, &target) {
                Ok((screen, actions)) => {
                    model.screen = Some(Box::new(screen));
                    model.perform(actions)
                }
                Err(text) => model.notify(Tone::Warn, text),
            },
            Err(report) => model.notify_error(&report),
        },
        Msg::ConfigSet(result) => match result {
            Ok(applied) if applied.key == "agent" => {
                model.has_set_agent = true;
                model.agent_used(false, Ok(applied))
            }
            Ok(applied) => {
                model.has_set_agent |= applied.key == "model";
                model.config_changed(applied)
            }
            Err(report) if model.chat.agent_change.is_some() => model.agent_used(false, Err(report)),
            Err(report) => model.notify_error(&report),
        },
        Msg::AgentUsed { for_session, result } => model.agent_used(for_session, result),
        Msg::Agents(view) => {
            model.agents = view;
            model.deliver_to_screen(ScreenMsg::AgentsListed)
        }
        Msg::Failed(report) => {
            model.chat.transcript.loading_failed();
            if let Some(screen) = &mut model.screen {
                screen.request_failed();
            }
            model.notify_error(&report)
        }
        Msg::PluginsChanged => vec![model.read_plugins()],
        Msg::Plugins(view) => model.set_plugins(*view),
        Msg::PluginRan { command, result } => model.plugin_command_ended(command, result),
        Msg::PluginDecided(result) => {
            model.pending_decisions.clear();
            match result {
                Ok(()) => vec![model.read_plugins()],
                Err(report) => model.notify_error(&report),
            }
        }
        Msg::PermissionAsked { id, request } => model.permission_asked(id, *request),
        Msg::PermissionWithdrawn(id) => {
            model.permission_withdrawn(id);
            Vec::new()
        }
        Msg::QuestionsWaiting(count) => {
            model.waiting_questions = count;
            Vec::new()
        }
        Msg::Edited(result) => match result {
            Ok(text) => {
                model.chat.input.set_folded(text.trim_end_matches('\n'));
                model.chat.completion = None;
                Vec::new()
            }
            Err(report) => model.notify_error(&report),
        },
        Msg::CannotSuspend => {
            model.notify(Tone::Warn, "hfs was not started by a shell that could continue it")
        }
        Msg::Copied { description, outcome } => match outcome {
            CopyOutcome::Program(program) => {
                model.notify(Tone::Good, format!("copied {description} ({program})"))
            }
            CopyOutcome::Terminal => {
                model.notify(Tone::Good, format!("copied {description}, if the terminal allows it (OSC 52)"))
            }
            CopyOutcome::TerminalCut { sent, total } => {
                let [sent, total] =
                    [sent, total].map(|bytes| format_bytes(u64::try_from(bytes).unwrap_or(0)));
                let text =
                    format!("copied only the first {sent} of {total}: a terminal takes no more (OSC 52)");
                model.notify(Tone::Warn, text)
            }
        },
        Msg::History(entries) => model.add_stored_history(entries),
        Msg::DraftRead { session, result } => model.restore_draft(session, result),
        Msg::SyntaxReady(syntax) => {
            model.render.set_syntax(syntax);
            Vec::new()
        }
        Msg::LaidOut(finished) => {
            model.is_laying_out = false;
            model.chat.transcript.set_layout(*finished);
            Vec::new()
        }
        Msg::Screen(message) => model.deliver_to_screen(message),
    };
    // Most messages can move the view close to an end of the loaded messages.
    effects.extend(model.prefetch_messages());
    model.count_moves(&effects);
    model.note_agent_change(&effects);
    model.end_declined_offer();
    // The end of a move, or of a reply, lets a queued message be sent.
    effects.extend(model.send_queued());
    effects
}

/// Returns the effects to perform when the app starts.
pub fn start(model: &mut Model, session_list: Option<SessionScope>) -> Vec<Effect> {
    let mut effects = Vec::new();
    match model.chat.conversation.session() {
        Some(session) => {
            let branch = model.chat.conversation.branch();
            effects.push(Request::Open { session, branch, at: None }.into());
        }
        None => {
            effects.push(model.list_recent_sessions());
            effects.push(Request::FindTranscripts { welcome: true }.into());
            // The list opens one of the sessions.
            if session_list.is_none() {
                effects.push(Request::ReadDraft(None).into());
            }
        }
    }
    effects.push(Request::LoadSyntax.into());
    effects.push(Request::ListAgents.into());
    effects.push(model.read_plugins());
    if let Some(scope) = session_list {
        effects.extend(model.show_sessions(scope, ""));
    }
    model.count_moves(&effects);
    effects
}

/// Input.
impl Model {
    fn handle_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        self.mouse_selection = None;
        self.last_input = Some(self.render.now);
        let is_control = key.modifiers == KeyModifiers::CONTROL;
        match key.code {
            KeyCode::Char('z') if is_control => return vec![TerminalCommand::Suspend.into()],
            KeyCode::Char('l') if is_control => return vec![TerminalCommand::Redraw.into()],
            // These keys can be the second press that confirms, such as Ctrl+C twice.
            KeyCode::Esc | KeyCode::Char('c') => {}
            _ => self.pending_confirmation = None,
        }
        // A letter for a selected message is a command.
        let is_text = is_text_key(key) && self.chat.transcript.selected().is_none();
        let was_typing = std::mem::replace(&mut self.last_text_key, is_text.then_some(self.render.now));
        let is_typing = was_typing.is_some_and(|at| self.render.now.millis_since(at) < TYPING_PAUSE_MS);
        if self.has_question_over_input() {
            // What the user types belongs to the input.
            if is_text_key(key) {
                self.modals.pop();
                return self.edit_input(key);
            }
            // The user has not seen the question yet.
            if key.code == KeyCode::Enter && is_typing && self.modal_is_new {
                return Vec::new();
            }
        }
        if let Some(mut modal) = self.modals.pop() {
            // A question that appears while the user is typing gets no key until the user pauses: its first letter would
            // answer it.
            let is_typed = is_text_key(key) || matches!(key.code, KeyCode::Enter | KeyCode::Backspace);
            let is_written =
                (is_typed && self.modal_is_new) || (is_text_key(key) && self.is_writing_below_modal);
            let outcome = if modal.appears_by_itself() && is_typing && is_written {
                ModalOutcome::NotForModal
            } else {
                self.modal_is_new = false;
                modal.handle_key(key, &self.modal_context())
            };
            self.modals.push(modal);
            if matches!(outcome, ModalOutcome::NotForModal) {
                // The next letters are not answers either, until a pause.
                self.is_writing_below_modal = is_text_key(key);
                return self.handle_key_below_modals(key);
            }
            // The key did not insert its character.
            self.last_text_key = None;
            self.is_writing_below_modal = false;
            if key.code == KeyCode::Esc {
                if matches!(outcome, ModalOutcome::StopTurn)
                    && let Some(effects) = self.ignore_repeated_esc()
                {
                    return effects;
                }
                self.closing_esc_at = Some(self.render.now);
            }
            return self.handle_modal_outcome(outcome);
        }
        self.modal_is_new = true;
        self.handle_key_below_modals(key)
    }

    /// Handles a key in the open screen, or else in the chat.
    fn handle_key_below_modals(&mut self, key: KeyEvent) -> Vec<Effect> {
        // The screen is taken out of the model while it reads the rest of the model.
        let Some(mut screen) = self.screen.take() else { return self.handle_chat_key(key) };
        if key.code == KeyCode::Esc {
            self.closing_esc_at = Some(self.render.now);
        }
        // Ctrl+C closes every screen: the screen is not put back.
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('c') {
            return Vec::new();
        }
        let actions = screen.handle_key(key, &self.context());
        self.screen = Some(screen);
        self.perform(actions)
    }

    /// Whether a yes/no question is open over the chat.
    fn has_question_over_input(&self) -> bool {
        self.screen.is_none() && matches!(self.modals.last(), Some(Modal::Confirm(_)))
    }

    fn handle_modal_outcome(&mut self, outcome: ModalOutcome) -> Vec<Effect> {
        if matches!(outcome, ModalOutcome::Open | ModalOutcome::NotForModal) {
            return Vec::new();
        }
        self.modals.pop();
        self.modal_is_new = true;
        if let Some(Modal::Permission(dialog)) = self.modals.last_mut() {
            dialog.reveal(self.render.now);
        }
        match outcome {
            ModalOutcome::Open | ModalOutcome::NotForModal => Vec::new(),
            ModalOutcome::Closed(actions) => self.perform(actions),
            ModalOutcome::Text(purpose, text) => self.handle_prompt(purpose, text.trim()),
            ModalOutcome::Insert(text) => {
                self.screen = None;
                self.chat.input.set_folded(&text);
                self.chat.completion = Some(0);
                Vec::new()
            }
            ModalOutcome::SendOnFork(conversation, text) => self.send_on_fork(conversation, text),
            ModalOutcome::Postponed(plugin) => {
                self.postponed_plugins.push(plugin);
                // The user is answering such questions now, and not later in the middle of something else.
                self.ask_for_approval();
                Vec::new()
            }
            ModalOutcome::Permission(id, answer) => vec![Request::AnswerPermission { id, answer }.into()],
            ModalOutcome::StopTurn => self.interrupt(),
        }
    }

    /// Shows a question of an agent. A dialog that the user has opened keeps the focus until it is closed.
    fn permission_asked(&mut self, id: u64, request: PermissionRequest) -> Vec<Effect> {
        /// The user has not looked at the app for this long.
        const UNWATCHED_MS: u64 = 10_000;
        let agent = sanitize_line(&request.agent);
        let dialog = Modal::Permission(PermissionDialog::new(id, request, self.render.now));
        let at = self.modals.iter().position(|modal| !modal.appears_by_itself()).unwrap_or(self.modals.len());
        self.modals.insert(at, dialog);
        let is_recent = |at: Timestamp| self.render.now.millis_since(at) < UNWATCHED_MS;
        if at + 1 == self.modals.len() {
            self.modal_is_new = true;
        }
        if self.focus.unwrap_or_else(|| self.last_input.is_some_and(is_recent)) {
            return Vec::new();
        }
        vec![TerminalCommand::Alert(format!("hfs: {agent} asks for a permission")).into()]
    }

    /// Closes a question that needs no answer any more.
    fn permission_withdrawn(&mut self, id: u64) {
        self.modals.retain(|modal| !matches!(modal, Modal::Permission(dialog) if dialog.id == id));
    }

    fn handle_prompt(&mut self, purpose: PromptPurpose, text: &str) -> Vec<Effect> {
        match purpose {
            PromptPurpose::SessionName(_) | PromptPurpose::BranchName(_) if text.is_empty() => Vec::new(),
            PromptPurpose::SessionName(session) => {
                vec![Change::Rename { session, name: text.to_owned() }.into()]
            }
            PromptPurpose::BranchName(branch) => {
                vec![Change::RenameBranch { branch, name: text.to_owned() }.into()]
            }
            PromptPurpose::CheckpointLabel(conversation) => {
                let label = (!text.is_empty()).then(|| text.to_owned());
                vec![Change::Checkpoint { conversation, label }.into()]
            }
            PromptPurpose::Setting(key) => vec![Request::SetConfig { key, value: text.to_owned() }.into()],
            PromptPurpose::OpenScreen => {
                let actions =
                    self.screen.as_mut().map(|screen| screen.handle_prompt(text)).unwrap_or_default();
                self.perform(actions)
            }
        }
    }

    fn handle_paste(&mut self, text: &str) -> Vec<Effect> {
        self.pending_confirmation = None;
        if self.has_question_over_input() {
            self.modals.pop();
        }
        if let Some(modal) = self.modals.last_mut()
            && modal.handle_paste(text)
        {
            return Vec::new();
        }
        let Some(mut screen) = self.screen.take() else {
            let mention = mention_of_picture(text);
            self.chat.input.paste(mention.as_deref().unwrap_or(text));
            self.chat.completion = Some(0);
            return self.complete_mention();
        };
        let actions = screen.handle_paste(text, &self.context());
        self.screen = Some(screen);
        self.perform(actions)
    }

    fn handle_mouse(&mut self, event: MouseEvent) -> Vec<Effect> {
        let at = (event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp => self.handle_wheel(-WHEEL_ROWS),
            MouseEventKind::ScrollDown => self.handle_wheel(WHEEL_ROWS),
            MouseEventKind::Down(MouseButton::Left) => {
                self.mouse_selection = Some(MouseSelection { from: at, to: at });
                Vec::new()
            }
            MouseEventKind::Drag(MouseButton::Left) => {
                if let Some(selection) = &mut self.mouse_selection {
                    selection.to = at;
                }
                Vec::new()
            }
            MouseEventKind::Up(MouseButton::Left) => match self.mouse_selection {
                Some(selection) if selection.from != selection.to => {
                    vec![TerminalCommand::CopySelection.into()]
                }
                _ => {
                    self.mouse_selection = None;
                    self.click(at);
                    Vec::new()
                }
            },
            MouseEventKind::Down(_)
            | MouseEventKind::Up(_)
            | MouseEventKind::Drag(_)
            | MouseEventKind::Moved
            | MouseEventKind::ScrollLeft
            | MouseEventKind::ScrollRight => Vec::new(),
        }
    }

    fn handle_wheel(&mut self, rows: isize) -> Vec<Effect> {
        self.mouse_selection = None;
        if let Some(Modal::Permission(dialog)) = self.modals.last_mut() {
            dialog.scroll(rows);
            return Vec::new();
        }
        if self.modals.is_empty() && self.screen.is_none() {
            self.scroll(rows);
            return Vec::new();
        }
        let code = if rows < 0 { KeyCode::Up } else { KeyCode::Down };
        self.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn handle_timer(&mut self, timer: Timer) -> Vec<Effect> {
        match timer {
            Timer::Spin => self.spin(),
            Timer::Notice(id) => {
                self.notice.take_if(|notice| notice.id == id);
                Vec::new()
            }
            Timer::ConfirmationExpired(id) => {
                self.pending_confirmation.take_if(|(_, pending)| *pending == id);
                Vec::new()
            }
            Timer::TypingPaused(request_id) => self.deliver_to_screen(ScreenMsg::TypingPaused(request_id)),
        }
    }

    pub(crate) fn quit(&mut self) -> Vec<Effect> {
        self.quitting = true;
        let mut effects = Vec::new();
        if self.chat.is_busy() {
            effects.push(Request::Interrupt.into());
        }
        effects.push(TerminalCommand::Quit.into());
        effects
    }
}

/// Screens.
impl Model {
    /// Performs the actions of a screen or a modal.
    pub(crate) fn perform(&mut self, actions: Vec<Action>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for action in actions {
            match action {
                Action::Close => self.screen = None,
                Action::Run(effect) => {
                    if let Effect::Request(Request::DecidePlugin { plugin, .. }) = &effect {
                        self.pending_decisions.push(plugin.clone());
                    }
                    effects.push(effect);
                }
                Action::OpenModal(modal) => self.modals.push(*modal),
                Action::Notify(tone, text) => effects.extend(self.notify(tone, text)),
                Action::RunCommand(command) => effects.extend(self.run_command(command, "")),
                Action::RunCommandLine(line) => effects.extend(self.run_command_line(&line)),
            }
        }
        effects
    }

    /// Passes a message to the open screen, or handles it if the screen did not ask for it.
    fn deliver_to_screen(&mut self, message: ScreenMsg) -> Vec<Effect> {
        let handled = match self.screen.take() {
            Some(mut screen) => {
                let handled = screen.handle_message(message, &self.context());
                self.screen = Some(screen);
                handled
            }
            None => Handled::No(message),
        };
        match handled {
            Handled::Yes(actions) => self.perform(actions),
            Handled::No(message) => self.handle_undelivered(message),
        }
    }

    fn handle_undelivered(&mut self, message: ScreenMsg) -> Vec<Effect> {
        match message {
            ScreenMsg::Imported(Ok(done)) => {
                self.notify(Tone::Good, format!("imported {}", plural(done.imported.len(), "session")))
            }
            ScreenMsg::Exported(Ok(done)) => {
                self.notify(Tone::Good, format!("exported to {}", done.path.display()))
            }
            ScreenMsg::ExportFileExists(path) => {
                let path = path.display();
                self.notify(Tone::Warn, format!("not exported, because a file has this name: {path}"))
            }
            ScreenMsg::Imported(Err(report)) | ScreenMsg::Exported(Err(report)) => {
                self.notify(Tone::Bad, report.message)
            }
            ScreenMsg::Trashed(_) => self
                .notify(Tone::Good, "deleted; /undo restores it, and so does the trash (Ctrl+S, then Tab)"),
            ScreenMsg::Transcripts { welcome, found } => {
                self.offer_import(welcome, found);
                Vec::new()
            }
            ScreenMsg::RewindPlanned(result) => self.rewind_planned(result),
            // The screen was left.
            ScreenMsg::StatsProgress { request_id, .. } => vec![Request::StopStats { request_id }.into()],
            // Late results: the screen was closed, or its query has changed.
            ScreenMsg::Sessions { .. }
            | ScreenMsg::SearchResults { .. }
            | ScreenMsg::Stats { .. }
            | ScreenMsg::TypingPaused(_)
            | ScreenMsg::Preview { .. }
            | ScreenMsg::Checkpoints { .. }
            | ScreenMsg::Words(_)
            | ScreenMsg::Branches { .. }
            | ScreenMsg::Runs { .. }
            | ScreenMsg::Run { .. }
            | ScreenMsg::Progress(_)
            | ScreenMsg::Models(_)
            | ScreenMsg::AgentsListed
            | ScreenMsg::InstallOutput(_)
            | ScreenMsg::Config(_) => Vec::new(),
            ScreenMsg::AgentInstalled { agent, result: Ok(()) } => {
                let mut effects =
                    self.notify(Tone::Good, format!("installed; /agent {agent} lets it answer"));
                effects.push(Request::ListAgents.into());
                effects
            }
            ScreenMsg::AgentInstalled { result: Err(report), .. } => self.notify_error(&report),
        }
    }

    /// Opens the welcome screen if transcripts were found and the user has not started anything yet.
    fn offer_import(&mut self, welcome: bool, found: Vec<FoundTranscripts>) {
        if welcome && !found.is_empty() && self.screen.is_none() && self.chat.is_untouched() {
            let (screen, _) = Import::open_welcome(found);
            self.screen = Some(Box::new(screen));
        }
    }

    pub(crate) fn refresh_screen(&mut self, stale: StaleData) -> Vec<Effect> {
        let Some(mut screen) = self.screen.take() else { return Vec::new() };
        let actions = screen.refresh(stale, &self.context());
        self.screen = Some(screen);
        self.perform(actions)
    }

    pub(crate) fn notify_error(&mut self, report: &ErrorReport) -> Vec<Effect> {
        let text = match &report.suggestion {
            Some(suggestion) => format!("{} ({suggestion})", report.message),
            None => report.message.clone(),
        };
        self.notify(Tone::Bad, text)
    }
}

/// Sessions, branches and checkpoints.
impl Model {
    /// Counts the requests that move the conversation; [`Msg::Opened`], [`Msg::Changed`] and [`Msg::ReversalPlanned`]
    /// end them.
    fn count_moves(&mut self, effects: &[Effect]) {
        let moves = effects.iter().filter(|effect| match effect {
            Effect::Request(request) => request.moves_conversation(),
            Effect::Terminal(_) => false,
        });
        self.chat.moves_in_progress += moves.count();
    }

    fn move_ended(&mut self, has_moved: bool) {
        self.chat.moves_in_progress = self.chat.moves_in_progress.saturating_sub(1);
        if !has_moved {
            // The queued messages were written for the other session or branch.
            self.move_queue_to_input();
        }
    }

    fn session_opened(&mut self, result: UiResult<Box<Opened>>) -> Vec<Effect> {
        let Opened { conversation, summary, branch, messages, at, agent } = match result {
            Ok(opened) => *opened,
            Err(report) => return self.notify_error(&report),
        };
        if self.chat.is_busy() {
            // Messages wait while a conversation moves, so this is a session that was opened elsewhere. Showing it would
            // mix two sessions.
            return self.notify_busy();
        }
        let mut effects: Vec<Effect> = Vec::new();
        let is_same_position = self.chat.conversation.session() == conversation.session()
            && self.chat.conversation.branch() == conversation.branch();
        let is_other_session = self.chat.conversation.session() != conversation.session();
        // The app may start in a session, which has no name until it is opened.
        if is_other_session || self.chat.name.is_none() {
            effects.extend(self.session_agent_changed(agent));
            effects.push(Request::ReadDraft(conversation.session()).into());
        }
        if is_other_session {
            if self.chat.conversation.session().is_some() {
                effects.push(Request::LeaveConversation(self.chat.conversation.clone()).into());
            }
            self.chat.run = hfs_core::RunSnapshot::default();
            self.chat.events.clear();
            self.chat.plan.clear();
            self.chat.tokens = 0;
            self.chat.has_unknown_tokens = false;
            self.chat.history = InputHistory::default();
        }
        self.chat.conversation = conversation;
        self.chat.name = Some(summary.session.name);
        self.chat.branch = branch.name;
        self.chat.save = if branch.head == 0 { SaveState::Nothing } else { SaveState::Saved };
        if !is_same_position {
            self.chat.error_banner = None;
            self.chat.is_planning_rewind = false;
        }
        let is_newest = messages.last().is_some_and(|newest| newest.seq == branch.head);
        self.chat.context = ContextGauge::at_end(&messages, &self.agent).filter(|_| is_newest);
        self.chat.transcript = Transcript::default();
        self.chat.transcript.open(messages, branch.head, at);
        self.screen.take_if(|screen| !screen.stays_open_after_switch());
        effects.extend(self.refresh_screen(StaleData::Branches));
        effects.push(Request::EnterConversation(self.chat.conversation.clone()).into());
        effects.push(self.read_plugins());
        effects
    }

    /// Puts what was not sent when an earlier app ended into the input, before what the user has written since.
    fn restore_draft(&mut self, session: Option<SessionId>, result: UiResult<Option<String>>) -> Vec<Effect> {
        let text = match result {
            Ok(Some(text)) if session == self.chat.conversation.session() => text,
            // The user has gone on to another session, and the text stays where it is.
            Ok(_) => return Vec::new(),
            Err(report) => return self.notify_error(&report),
        };
        // A text that was restored in another session is in the input, so that session does not keep it any more.
        let mut effects = match self.chat.restored_draft.take() {
            Some(RestoredDraft { session }) => {
                vec![Request::WriteDraft { session, text: String::new() }.into()]
            }
            None => Vec::new(),
        };
        self.chat.restored_draft = Some(RestoredDraft { session });
        self.return_to_input(&text);
        effects.extend(self.notify(Tone::Plain, "what you had not sent is back in the input"));
        effects
    }

    fn add_messages(
        &mut self,
        page: TranscriptPage,
        branch: BranchId,
        result: UiResult<Vec<Message>>,
    ) -> Vec<Effect> {
        match result {
            Ok(messages) => {
                if self.chat.conversation.branch() == Some(branch) {
                    let head = self.chat.conversation.head();
                    self.chat.transcript.add_page(page, messages, head);
                }
                Vec::new()
            }
            Err(report) => {
                self.chat.transcript.loading_failed();
                self.notify_error(&report)
            }
        }
    }

    /// The position after which other processes may add messages that the app shows; `None` while it writes itself.
    #[must_use]
    pub fn followed_place(&self) -> Option<Position> {
        let chat = &self.chat;
        let is_idle = !chat.is_busy() && chat.queue.is_empty() && chat.moves_in_progress == 0;
        let branch = chat.conversation.branch().filter(|_| is_idle)?;
        Some(Position { branch, head: chat.conversation.head() })
    }

    /// Shows messages of other processes. What the user is writing stays.
    fn add_followed(&mut self, place: Position, messages: Vec<Message>) -> Vec<Effect> {
        // The conversation may have moved in the meantime.
        let (Some(session), true) = (self.chat.conversation.session(), self.followed_place() == Some(place))
        else {
            return Vec::new();
        };
        let text = format!("{}, written elsewhere", plural(messages.len() as u64, "new message"));
        let Some(head) = messages.last().map(|message| message.seq) else { return Vec::new() };
        for message in messages {
            self.chat.transcript.push(Arc::new(message));
        }
        self.chat.conversation = Conversation::at(session, Position { head, ..place });
        self.notify(Tone::Dim, text)
    }

    /// Moves the conversation to the branch that was created for a retry or after a conflict.
    fn forked_for_send(&mut self, branch: Branch) -> Vec<Effect> {
        let position = Position { branch: branch.id, head: branch.head };
        self.chat.conversation = Conversation::at(branch.session, position);
        self.chat.transcript.truncate_after(branch.head);
        let text = format!("on the new branch {}", sanitize_line(&branch.name));
        self.chat.branch = branch.name;
        self.notify(Tone::Dim, text)
    }

    fn apply_change(&mut self, changed: Changed) -> Vec<Effect> {
        match changed {
            Changed::Renamed { session, name } => {
                if self.chat.conversation.session() == Some(session) {
                    self.chat.name = Some(name.clone());
                }
                let mut effects = self.notify(Tone::Good, format!("renamed to {}", sanitize_line(&name)));
                effects.extend(self.refresh_screen(StaleData::Sessions));
                effects
            }
            Changed::Trashed { session } => {
                let mut effects = self.deliver_to_screen(ScreenMsg::Trashed(session));
                self.last_trashed = Some(session);
                if self.chat.conversation.session() == Some(session) {
                    // A new conversation closes the screen, but the list of sessions must stay open.
                    let screen = self.screen.take();
                    effects.extend(self.start_new_conversation());
                    self.screen = screen;
                }
                effects.extend(self.refresh_screen(StaleData::Sessions));
                effects
            }
            Changed::Restored { session } => {
                let mut effects = self.notify(Tone::Good, "restored");
                // /undo in the chat opens the session that it restored.
                let was_undone_in_chat = self.last_trashed.take() == Some(session) && self.screen.is_none();
                if was_undone_in_chat && self.chat.is_untouched() {
                    effects.push(Request::Open { session, branch: None, at: None }.into());
                }
                effects.extend(self.refresh_screen(StaleData::Sessions));
                effects
            }
            Changed::Checkpointed(checkpoint) => {
                let label = checkpoint
                    .label
                    .map_or_else(String::new, |label| format!(" \"{}\"", sanitize_line(&label)));
                let text = format!("checkpoint{label} created at message {}", checkpoint.seq);
                let mut effects = self.notify(Tone::Good, text);
                effects.extend(self.refresh_screen(StaleData::Checkpoints));
                effects
            }
            Changed::Pinned | Changed::CheckpointDeleted => self.refresh_screen(StaleData::Checkpoints),
            Changed::Rewound(rewound) => self.rewound(&rewound),
            Changed::Forked(branch) => {
                self.open_branch(&branch, format!("on the new branch {}", sanitize_line(&branch.name)))
            }
            Changed::Switched(branch) => {
                self.open_branch(&branch, format!("on branch {}", sanitize_line(&branch.name)))
            }
            Changed::BranchRenamed(branch) => {
                if self.chat.conversation.branch() == Some(branch.id) {
                    self.chat.branch.clone_from(&branch.name);
                }
                self.refresh_screen(StaleData::Branches)
            }
            Changed::Reversed { target, operation } => {
                let verb = if operation.kind == OperationKind::Redo { "redone" } else { "undone" };
                let detail = if target.detail.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", sanitize_line(&target.detail))
                };
                let mut effects = self.notify(Tone::Good, format!("{verb}: {}{detail}", target.kind));
                effects.push(Request::Open { session: operation.session, branch: None, at: None }.into());
                effects.extend(self.refresh_screen(StaleData::Sessions));
                effects
            }
        }
    }

    /// Asks whether to rewind to the message that was selected in the chat.
    fn rewind_planned(&mut self, result: UiResult<Box<RewindPlan>>) -> Vec<Effect> {
        if !std::mem::take(&mut self.chat.is_planning_rewind) {
            return Vec::new();
        }
        match result {
            Ok(plan) => {
                self.modals.push(Modal::Confirm(rewind_confirmation(&plan)));
                Vec::new()
            }
            Err(report) => self.notify_error(&report),
        }
    }

    /// Performs an undo or redo, or asks first if it takes messages out of view.
    fn reversal_planned(&mut self, change: Change, result: UiResult<Box<ReversalPlan>>) -> Vec<Effect> {
        match result {
            Ok(plan) if plan.out_of_view == 0 => {
                self.move_ended(true);
                vec![change.into()]
            }
            Ok(plan) => {
                self.move_ended(false);
                self.modals.push(Modal::Confirm(reversal_confirmation(&plan, change)));
                Vec::new()
            }
            Err(report) => {
                self.move_ended(false);
                self.notify_error(&report)
            }
        }
    }

    fn rewound(&mut self, rewound: &Rewound) -> Vec<Effect> {
        if let Some(prompt) = &rewound.plan.prompt
            && self.chat.input.is_empty()
        {
            self.chat.input.offer(&prompt.content.text());
            self.chat.completion = None;
        }
        let name = sanitize_line(&rewound.branch.name);
        let text = format!(
            "rewound to message {} on the new branch {name}; /undo reverses it",
            rewound.plan.in_view
        );
        self.open_branch(&rewound.branch, text)
    }

    /// Opens a branch that the store has already made the current one.
    fn open_branch(&mut self, branch: &Branch, notice: String) -> Vec<Effect> {
        self.screen = None;
        let mut effects = self.notify(Tone::Good, notice);
        effects.push(Request::Open { session: branch.session, branch: None, at: None }.into());
        effects
    }

    /// Adds messages from the store to the history, after those that were written since the app started.
    fn add_stored_history(&mut self, stored: Vec<String>) -> Vec<Effect> {
        let entries = &mut self.chat.history.entries;
        for text in stored {
            if !entries.contains(&text) {
                entries.push(text);
            }
        }
        if let Some(Modal::History { entries, .. }) = self.modals.last_mut() {
            entries.clone_from(&self.chat.history.entries);
        }
        let is_awaited = std::mem::take(&mut self.chat.history.is_awaited);
        let is_idle = self.chat.input.is_empty() && self.chat.queue.is_empty();
        if is_awaited && is_idle { self.walk_history(true) } else { Vec::new() }
    }
}

/// Configuration and plugins.
impl Model {
    fn config_changed(&mut self, applied: ConfigApplied) -> Vec<Effect> {
        if let Some(mut settings) = applied.settings {
            // Ctrl+O changes the output mode of this run only; keep it unless the setting itself was changed.
            if applied.key != "output_mode" {
                settings.output = self.render.settings.output;
            }
            self.render.set_settings(settings);
        }
        if let Some(agent) = applied.agent.filter(|agent| *agent != self.agent) {
            self.chat.context = self.chat.context.and_then(|gauge| gauge.with_agent(&agent));
            self.agent = agent;
        }
        if applied.key == "model" {
            self.has_session_model = false;
        }
        let note = if applied.note.is_empty() {
            format!("{} changed", sanitize_line(&applied.key))
        } else {
            sanitize_line(&applied.note)
        };
        let mut effects = self.notify(Tone::Good, note);
        effects.extend(self.refresh_screen(StaleData::Config));
        effects
    }

    /// Returns to the configured agent and model, because those that were chosen for a session apply to that session alone.
    pub(crate) fn end_session_choices(&mut self) -> Vec<Effect> {
        let agent = std::mem::take(&mut self.has_session_agent).then_some(Request::UseAgent { agent: None });
        let model = std::mem::take(&mut self.has_session_model).then_some(Request::UseModel { model: None });
        agent.into_iter().chain(model).map(Effect::from).collect()
    }

    /// Lets the agent of a session that was opened answer, or else the configured one.
    fn session_agent_changed(&mut self, agent: Option<String>) -> Vec<Effect> {
        // Two changes of the agent at once would have no order.
        let had_agent = std::mem::take(&mut self.has_session_agent);
        let mut effects = self.end_session_choices();
        match agent {
            Some(agent) if agent == self.agent.name => self.has_session_agent = had_agent,
            Some(agent) => effects.push(Request::UseAgent { agent: Some(agent) }.into()),
            None if had_agent => effects.push(Request::UseAgent { agent: None }.into()),
            None => {}
        }
        effects
    }

    /// Records that the agent is changing, if one of the effects changes it. Messages wait until the change has ended.
    fn note_agent_change(&mut self, effects: &[Effect]) {
        let changes_agent = effects.iter().any(|effect| match effect {
            Effect::Request(request) => request.changes_agent(),
            Effect::Terminal(_) => false,
        });
        if changes_agent {
            self.chat.agent_change = Some(AgentChange::InProgress);
        }
    }

    /// An agent was chosen for this session, or the configured one is used again.
    fn agent_used(&mut self, for_session: bool, result: UiResult<ConfigApplied>) -> Vec<Effect> {
        let mut applied = match result {
            Ok(applied) => applied,
            Err(report) => {
                self.chat.agent_change = None;
                self.move_queue_to_input();
                return self.notify_error(&report);
            }
        };
        self.chat.agent_change = None;
        self.has_session_agent = for_session;
        if let Some(agent) = applied.agent.as_ref().filter(|_| for_session) {
            let when = if self.chat.is_busy() { "your next message" } else { "from now on" };
            let mut note = format!("{} answers {when}", agent.name);
            if agent.name != self.agent.name && self.chat.conversation.head() > 0 {
                note.push_str("; it gets the conversation so far");
            }
            if !applied.note.is_empty() {
                note.push_str("; ");
                note.push_str(&applied.note);
            }
            applied.note = note;
        }
        self.config_changed(applied)
    }

    /// Offers the agents that were found, if the user has configured nothing and a message was written. Returns whether the
    /// message waits for the choice.
    pub(crate) fn offer_agents(&mut self, text: &str) -> bool {
        let has_found = self.agents.agents.iter().any(AgentEntry::is_found);
        if !self.is_unconfigured() || !has_found {
            return false;
        }
        self.chat.queue.push_back(text.to_owned());
        self.chat.agent_change = Some(AgentChange::Offered);
        self.screen = Some(Box::new(Agents::open_offer()));
        true
    }

    /// Puts the message back if the user has closed the offer without a choice.
    fn end_declined_offer(&mut self) {
        if self.chat.agent_change == Some(AgentChange::Offered) && self.screen.is_none() {
            self.chat.agent_change = None;
            self.move_queue_to_input();
        }
    }

    fn read_plugins(&self) -> Effect {
        Request::ReadPlugins(self.chat.conversation.session()).into()
    }

    fn set_plugins(&mut self, mut view: PluginView) -> Vec<Effect> {
        let notices = std::mem::take(&mut view.notices);
        self.plugins = view;
        // Close approvals that were decided elsewhere, such as with `hfs plugin approve`.
        let is_pending = |name: &str| self.plugins.pending.iter().any(|request| request.plugin == name);
        self.modals.retain(|modal| match modal {
            Modal::Approval { request, .. } => is_pending(&request.plugin),
            Modal::Confirm(_)
            | Modal::Prompt(_)
            | Modal::Palette { .. }
            | Modal::History { .. }
            | Modal::Conflict { .. }
            | Modal::Permission(_) => true,
        });
        self.ask_for_approval();
        if notices.is_empty() {
            return Vec::new();
        }
        let notices: Vec<String> = notices.iter().map(|notice| sanitize_line(notice)).collect();
        self.notify(Tone::Plain, notices.join(" · "))
    }

    /// Opens the approval of the next pending plugin, unless an approval is open.
    fn ask_for_approval(&mut self) {
        let is_open = self.modals.iter().any(|modal| matches!(modal, Modal::Approval { .. }));
        let is_answered =
            |name: &String| self.postponed_plugins.contains(name) || self.pending_decisions.contains(name);
        let next = self.plugins.pending.iter().find(|request| !is_answered(&request.plugin));
        if let (false, Some(request)) = (is_open, next) {
            self.modals.push(Modal::Approval {
                request: request.clone(),
                choice: 0,
                scroll: Cell::default(),
            });
        }
    }

    fn plugin_command_ended(&mut self, command: String, result: UiResult<String>) -> Vec<Effect> {
        self.remove_running_notice(&command);
        match result {
            Ok(text) => {
                self.chat.plugin_output = Some((command, text));
                vec![self.read_plugins()]
            }
            Err(report) => self.notify_error(&report),
        }
    }
}

#[cfg(test)]
mod tests;
