//! Exchanges: sending a message, receiving the reply, and handling failures of both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentDescription, AgentError, ContextUpdate, ErrorKind, EventPayload, Message, MessageDraft, MessageFlag,
    ModelContext, Part, Position, ReplyDelta, RequestEvent, Role, RunSnapshot, SessionId, StoreError,
    Timestamp, TokenTotal, ToolEvent,
};
use hfs_engine::{CompactError, Compaction, Conversation, Exchange, SendError, Update};
use ratatui::text::Line;

use crate::modal::Modal;
use crate::model::Model;
use crate::ports::{ErrorReport, Tone};
use crate::protocol::{Effect, Request, TerminalCommand, Timer};
use crate::render::MessageLayout;
use crate::screens::StaleData;
use crate::text::{plural, sanitize_line, truncate};
use crate::transcript::{Lines, StreamingReply};

/// Maximum width of a session's name in an alert.
const ALERT_NAME_WIDTH: usize = 60;
/// The bell rings after a reply that took at least this long, if the user was not watching.
const LONG_REPLY_MS: u64 = 10_000;
/// Time between two frames of the spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(120);

/// An exchange in progress.
#[derive(Debug)]
pub struct ExchangeInProgress {
    /// The session that was created for this exchange; `None` if the conversation already had one.
    pub created_session: Option<SessionId>,
    /// The user's message, until it is durable.
    pub unsaved_text: Option<String>,
    /// The user's message, after it is durable.
    pub user: Option<Arc<Message>>,
    /// The newest message of the turn as far as it has been received: the reply of an agent that uses no tools.
    pub reply: StreamingReply,
    /// The messages before it that are not durable in their final form yet, oldest first.
    pub completed: VecDeque<StreamingReply>,
    /// Whether a message of the turn is in the transcript.
    pub has_ended_message: bool,
    /// Ids and names of the tools that are running, in the order of their calls.
    pub running: Vec<(String, String)>,
    /// What a request to a model waits for, until it is answered.
    pub progress: Option<Progress>,
    /// When the newest piece of the reply arrived.
    pub last_delta_at: Option<Timestamp>,
    /// Whether the user has asked to stop.
    pub is_stopping: bool,
    /// Whether the conversation is compacted, and no reply follows.
    pub is_compaction: bool,
}

impl ExchangeInProgress {
    /// Whether a message that is shown is not laid out completely.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.completed.iter().chain([&self.reply]).any(StreamingReply::is_behind)
    }

    /// Returns the rows of the messages that are not in the transcript.
    #[must_use]
    pub fn lines(&self, layout: MessageLayout<'_>) -> Option<Lines> {
        let is_waiting = self.reply.is_empty() && (self.has_ended_message || !self.completed.is_empty());
        let newest = (!is_waiting).then(|| self.reply.lines(layout));
        if self.completed.is_empty() {
            return newest;
        }
        let mut all: Vec<Line<'static>> = Vec::new();
        for lines in self.completed.iter().map(|message| message.lines(layout)).chain(newest) {
            all.extend(lines.iter().cloned());
        }
        Some(Arc::new(all))
    }

    fn start_message(&mut self, role: Role) {
        if self.reply.is_empty() {
            self.reply.set_role(role);
            return;
        }
        let next = self.reply.next(role);
        let mut completed = std::mem::replace(&mut self.reply, next);
        completed.complete();
        self.completed.push_back(completed);
    }

    fn append(&mut self, delta: &ReplyDelta) {
        self.reply.append(delta);
        self.progress = None;
        if let ReplyDelta::Part(Part::ToolCall { id, name, .. }) = delta
            && !self.running.iter().any(|(running, _)| running == id)
        {
            self.running.push((id.clone(), name.clone()));
        }
    }

    fn end_call(&mut self, id: &str, duration_ms: Option<u64>) {
        self.running.retain(|(running, _)| running != id);
        let messages = self.completed.iter_mut().chain([&mut self.reply]);
        messages.for_each(|message| message.end_call(id, duration_ms));
    }

    /// Ends the oldest message that is not in the transcript, and returns the rows that it had.
    fn end_message(&mut self, message: &Message) -> Option<(Lines, usize, u64)> {
        self.has_ended_message = true;
        for part in &message.content.parts {
            if let Part::ToolResult { id, .. } = part {
                self.end_call(id, None);
            }
        }
        let ended = self.completed.pop_front().unwrap_or_else(|| {
            let next = self.reply.next(Role::Assistant);
            std::mem::replace(&mut self.reply, next)
        });
        ended.into_lines()
    }
}

/// What an exchange waits for.
#[derive(Debug)]
pub struct Progress {
    /// Shortened if there is little room.
    pub text: String,
    /// Shown whole after the text: how long the wait takes.
    pub end: String,
}

/// How full the context of the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextGauge {
    /// Tokens of the conversation.
    pub tokens: u64,
    /// Whether they are an estimate and not the server's number.
    pub is_estimate: bool,
    /// The model's limit, if it is known.
    pub limit: Option<u64>,
    /// Whether an agent that manages its context itself has reported it.
    pub is_own_report: bool,
}

impl ContextGauge {
    /// The state at the end of these messages, the newest of a branch. `None` if no server counted a reply.
    #[must_use]
    pub fn at_end<'a>(
        messages: impl IntoIterator<Item = &'a Message, IntoIter: DoubleEndedIterator>,
        agent: &AgentDescription,
    ) -> Option<Self> {
        let limit = Self::known_limit(agent);
        let mut later = 0_u64;
        for message in messages.into_iter().rev() {
            let content = &message.content;
            if content.has_flag(MessageFlag::CompactSummary) && agent.context != ModelContext::Unused {
                let tokens = later.saturating_add(content.estimated_tokens());
                return Some(Self { tokens, is_estimate: true, limit, is_own_report: false });
            }
            if let Some(gauge) = Self::after_reply(content, None, agent) {
                let tokens = gauge.tokens.saturating_add(later);
                return Some(Self { tokens, is_estimate: later > 0, ..gauge });
            }
            later = later.saturating_add(content.estimated_tokens());
        }
        None
    }

    /// The same conversation with another agent or model.
    #[must_use]
    pub fn with_agent(self, agent: &AgentDescription) -> Option<Self> {
        let is_used = agent.context != ModelContext::Unused;
        is_used.then(|| Self { is_estimate: true, limit: Self::known_limit(agent), ..self })
    }

    fn known_limit(agent: &AgentDescription) -> Option<u64> {
        agent.context.limit().map(|limit| limit.tokens)
    }

    /// The state after a reply. `None` if the reply is not that of this agent and its model.
    #[must_use]
    pub fn after_reply(reply: &MessageDraft, before: Option<Self>, agent: &AgentDescription) -> Option<Self> {
        let limit = before.and_then(|gauge| gauge.limit).or_else(|| Self::known_limit(agent));
        match (reply.usage, before) {
            // The tokens of agents that work together, or that use tools, are those of all their requests.
            _ if agent.context == ModelContext::Unused => before.filter(|gauge| gauge.is_own_report),
            _ if !reply.is_reply_of_model() || reply.agent.as_ref() != Some(&agent.name) => None,
            (Some(usage), _) => {
                Some(Self { tokens: usage.total(), is_estimate: false, limit, is_own_report: false })
            }
            (None, Some(before)) => {
                let tokens = before.tokens.saturating_add(reply.estimated_tokens());
                Some(Self { tokens, is_estimate: true, limit, is_own_report: false })
            }
            (None, None) => None,
        }
    }
}

/// Whether the whole conversation is durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SaveState {
    /// There is nothing to save.
    #[default]
    Nothing,
    /// Something is being saved.
    Saving,
    /// Everything is durable.
    Saved,
    /// Something could not be saved, for this reason.
    NotSaved(String),
}

/// An error of the newest exchange, shown above the input.
#[derive(Debug, Clone)]
pub struct ErrorBanner {
    /// The error with its causes.
    pub message: String,
    /// Whether the end of the interrupted reply shows the error, so that the banner need not repeat it.
    pub is_in_reply: bool,
    /// A suggestion for the user.
    pub suggestion: Option<String>,
    /// The message to retry; `None` if it was not saved and is back in the input.
    pub user: Option<Arc<Message>>,
}

impl Model {
    /// Sends a message.
    pub(crate) fn send(&mut self, text: String) -> Vec<Effect> {
        let conversation = self.chat.conversation.clone();
        let mut effects = self.start_exchange(Some(text.clone()), None);
        effects.push(Request::Send { conversation, text }.into());
        effects
    }

    /// Sends a message on a new branch, after a conflict.
    pub(crate) fn send_on_fork(&mut self, conversation: Conversation, text: String) -> Vec<Effect> {
        // The failed send put the text into the input, before the text that the user had written during the send.
        if let Some(rest) = self.chat.input.full_text().strip_prefix(&text) {
            self.chat.input.set_folded(rest.trim_start());
        }
        let mut effects = self.start_exchange(Some(text.clone()), None);
        effects.push(Request::SendOnFork { conversation, text }.into());
        effects
    }

    /// Asks for another reply to the message that failed, or else to the user's newest message. The draft in the input is
    /// never sent by this.
    pub(crate) fn retry(&mut self) -> Vec<Effect> {
        if self.chat.must_wait() {
            return self.notify_busy();
        }
        let failed = self.chat.error_banner.take().and_then(|banner| banner.user);
        let newest = || self.chat.transcript.messages().rev().find(|message| message.content.is_typed());
        let Some(user) = failed.or_else(|| newest().cloned()) else {
            return self
                .notify(Tone::Dim, "there is no message to answer yet; Enter sends what you have written");
        };
        let conversation = self.chat.conversation.clone();
        let mut effects = self.start_exchange(None, Some(Arc::clone(&user)));
        effects.push(Request::Retry { conversation, user }.into());
        effects
    }

    fn start_exchange(&mut self, unsaved_text: Option<String>, user: Option<Arc<Message>>) -> Vec<Effect> {
        self.chat.error_banner = None;
        self.chat.plugin_output = None;
        self.chat.save = SaveState::Saving;
        self.chat.run = RunSnapshot::default();
        self.chat.events.clear();
        if !self.chat.has_open_steps() {
            self.chat.plan.clear();
        }
        self.chat.exchange = Some(ExchangeInProgress {
            created_session: None,
            unsaved_text,
            user,
            reply: StreamingReply::new(self.render.now),
            completed: VecDeque::new(),
            has_ended_message: false,
            running: Vec::new(),
            progress: None,
            last_delta_at: None,
            is_stopping: false,
            is_compaction: false,
        });
        let page = self.chat.transcript.show_newest();
        let mut effects = self.read_page(page);
        if self.render.settings.animations {
            effects.push(Request::StartTimer(SPINNER_INTERVAL, Timer::Spin).into());
        }
        effects
    }

    /// Replaces the conversation in the model's context by a summary.
    pub(crate) fn compact(&mut self) -> Vec<Effect> {
        if self.chat.must_wait() {
            return self.notify_busy();
        }
        let conversation = self.chat.conversation.clone();
        let mut effects = self.start_exchange(None, None);
        self.chat.save = SaveState::Saved;
        if let Some(exchange) = &mut self.chat.exchange {
            exchange.is_compaction = true;
        }
        effects.push(Request::Compact(conversation).into());
        effects
    }

    pub(crate) fn compaction_ended(
        &mut self,
        conversation: Conversation,
        result: Result<Compaction, CompactError>,
    ) -> Vec<Effect> {
        self.chat.conversation = conversation;
        let is_stopped = self.chat.exchange.take().is_some_and(|exchange| exchange.is_stopping)
            && matches!(result, Err(CompactError::Agent(AgentError::Cancelled)));
        if result.is_err() && !is_stopped {
            self.move_queue_to_input();
        }
        let mut effects = match result {
            Ok(Compaction { messages, .. }) => {
                let messages = plural(messages, "message");
                let text = format!("the model now sees a summary of {messages}; all of them stay saved");
                self.notify(Tone::Good, text)
            }
            Err(CompactError::Agent(AgentError::Cancelled)) => {
                self.notify(Tone::Dim, "stopped; the conversation was not compacted")
            }
            Err(error) => {
                let report = ErrorReport::from_error(&error, self.suggestion_wording);
                self.notify_error(&report)
            }
        };
        effects.extend(self.send_queued());
        effects
    }

    /// Stops the exchange. What was queued for the end of the reply returns to the input at once: what is submitted from now
    /// on is meant to be sent, however long the agent takes to stop.
    pub(crate) fn interrupt(&mut self) -> Vec<Effect> {
        match &mut self.chat.exchange {
            Some(exchange) if !exchange.is_stopping => {
                exchange.is_stopping = true;
                self.move_queue_to_input();
                vec![Request::Interrupt.into()]
            }
            _ => Vec::new(),
        }
    }

    /// Shows the next frame of the spinner. The timer stops with the exchange, so that an idle app does nothing.
    pub(crate) fn spin(&mut self) -> Vec<Effect> {
        if !self.chat.is_busy() || !self.render.settings.animations {
            return Vec::new();
        }
        self.spinner_frame = self.spinner_frame.wrapping_add(1);
        vec![Request::StartTimer(SPINNER_INTERVAL, Timer::Spin).into()]
    }

    pub(crate) fn apply_exchange_update(&mut self, update: Update) -> Vec<Effect> {
        let chat = &mut self.chat;
        match update {
            Update::SessionCreated { session, name } => {
                chat.name = Some(name);
                if let Some(exchange) = &mut chat.exchange {
                    exchange.created_session = Some(session);
                }
                return vec![Request::ReadPlugins(Some(session)).into()];
            }
            Update::Compacting { messages } => {
                if let Some(exchange) = &mut chat.exchange {
                    let text = format!("summarizing {}", plural(messages, "message"));
                    exchange.progress = Some(Progress { text, end: String::new() });
                }
            }
            Update::Compacted(message) => {
                let position = Position { branch: message.branch, head: message.seq };
                if let Some(session) = chat.conversation.session() {
                    chat.conversation = Conversation::at(session, position);
                }
                chat.context = ContextGauge::at_end([message.as_ref()], &self.agent);
                chat.transcript.push(message);
                if let Some(exchange) = &mut chat.exchange {
                    exchange.progress = None;
                }
            }
            Update::CompactionFailed { reason } => {
                let text = format!("the conversation could not be summarized: {reason}");
                return self.notify(Tone::Bad, text);
            }
            Update::Sent(message) => {
                chat.save = SaveState::Saved;
                let created = chat.exchange.as_ref().and_then(|exchange| exchange.created_session);
                if let Some(session) = chat.conversation.session().or(created) {
                    let position = Position { branch: message.branch, head: message.seq };
                    chat.conversation = Conversation::at(session, position);
                }
                chat.transcript.push(Arc::clone(&message));
                if let Some(exchange) = &mut chat.exchange {
                    exchange.unsaved_text = None;
                    exchange.user = Some(message);
                }
                // Of what was kept, at least a part has been sent.
                return chat.forget_restored_draft();
            }
            Update::ReplyStarted(agent) => {
                if let Some(exchange) = &mut chat.exchange {
                    exchange.reply.set_agent(agent);
                }
            }
            Update::MessageStarted { role } => {
                if let Some(exchange) = &mut chat.exchange {
                    exchange.start_message(role);
                }
            }
            Update::MessageEnded(message) => {
                let position = Position { branch: message.branch, head: message.seq };
                let created = chat.exchange.as_ref().and_then(|exchange| exchange.created_session);
                if let Some(session) = chat.conversation.session().or(created) {
                    chat.conversation = Conversation::at(session, position);
                }
                let received = chat.exchange.as_mut().and_then(|exchange| exchange.end_message(&message));
                chat.transcript.push_reply(message, received);
            }
            Update::Delta(delta) => {
                if let Some(exchange) = &mut chat.exchange {
                    exchange.append(&delta);
                    exchange.last_delta_at = Some(self.render.now);
                }
                if !matches!(chat.save, SaveState::NotSaved(_)) {
                    chat.save = SaveState::Saving;
                }
            }
            Update::Event(event) => {
                chat.run.apply(&event);
                chat.events.push(Arc::clone(&event));
                return self.apply_agent_event(&event.payload);
            }
            Update::Saved => chat.save = SaveState::Saved,
            Update::NotSaved { reason } => chat.save = SaveState::NotSaved(reason),
            Update::CheckpointFailed { reason } => {
                return self.notify(Tone::Bad, format!("the checkpoint could not be created: {reason}"));
            }
            // `Update` is non-exhaustive: the engine may report more than the app shows.
            _ => {}
        }
        Vec::new()
    }

    /// Shows what a request to the model waits for, what was left out of it, and how full the context is.
    fn apply_agent_event(&mut self, payload: &EventPayload) -> Vec<Effect> {
        if let Some(update) = ContextUpdate::read(payload) {
            let limit = update.limit.map(|limit| limit.tokens);
            let (tokens, is_own_report) = (update.tokens, self.agent.context == ModelContext::Unused);
            let is_estimate = !is_own_report;
            self.chat.context = Some(ContextGauge { tokens, is_estimate, limit, is_own_report });
            return match update.describe_left_out() {
                Some(text) => self.notify(Tone::Warn, format!("{text}; /compact summarizes them")),
                None => Vec::new(),
            };
        }
        if let Some(event) = ToolEvent::read(payload) {
            return self.apply_tool_event(event);
        }
        match RequestEvent::read(payload) {
            Some(event @ RequestEvent::LeftOut { .. }) => self.notify(Tone::Warn, event.describe()),
            // Several agents ask at once; the phase says more.
            Some(RequestEvent::Waiting { .. }) if self.chat.current_phase().is_some() => Vec::new(),
            Some(event) => {
                if let Some(exchange) = &mut self.chat.exchange {
                    let (text, end) = event.describe_in_parts();
                    exchange.progress = Some(Progress { text, end });
                }
                Vec::new()
            }
            None => {
                let is_answered = matches!(
                    payload,
                    EventPayload::UsageRecorded { .. }
                        | EventPayload::UsageUnknown { .. }
                        | EventPayload::AgentEnded { .. }
                );
                if let Some(exchange) = self.chat.exchange.as_mut().filter(|_| is_answered) {
                    exchange.progress = None;
                }
                Vec::new()
            }
        }
    }

    /// Shows what an agent that uses tools reports beside its messages.
    fn apply_tool_event(&mut self, event: ToolEvent) -> Vec<Effect> {
        match event {
            ToolEvent::ToolEnded { call, duration_ms, .. } => {
                if let Some(exchange) = &mut self.chat.exchange {
                    exchange.end_call(&call, Some(duration_ms));
                }
                Vec::new()
            }
            ToolEvent::PlanUpdated { steps, .. } => {
                self.chat.plan = steps;
                Vec::new()
            }
            ToolEvent::NoticeReceived { ref agent, .. } => {
                let text = sanitize_line(&format!("{agent}: {}", event.describe()));
                self.notify(Tone::Plain, text)
            }
            _ => match event.describe_handover() {
                Some(text) => self.notify(Tone::Plain, sanitize_line(&text)),
                None => Vec::new(),
            },
        }
    }

    pub(crate) fn exchange_ended(
        &mut self,
        conversation: Conversation,
        outcome: Result<Exchange, SendError>,
    ) -> Vec<Effect> {
        let previous = std::mem::replace(&mut self.chat.conversation, conversation);
        let mut exchange = self.chat.exchange.take();
        let started_at = exchange.as_ref().map_or(self.render.now, |exchange| exchange.reply.started_at);
        let is_complete = matches!(&outcome, Ok(done) if done.failure.is_none());
        // What is still in the queue was submitted after the user stopped the reply.
        let is_stopped = exchange.as_ref().is_some_and(|exchange| exchange.is_stopping)
            && matches!(&outcome, Ok(Exchange { failure: Some(AgentError::Cancelled), .. }));
        if !is_complete && !is_stopped {
            self.move_queue_to_input();
        }
        let mut effects = match outcome {
            Ok(done) => self.exchange_succeeded(done, exchange.take()),
            Err(error) => {
                self.exchange_failed(error, previous, exchange);
                Vec::new()
            }
        };
        let is_long = self.render.now.millis_since(started_at) >= LONG_REPLY_MS;
        if is_long && self.chat.queue.is_empty() && !self.is_watched_since(started_at) {
            let how = if is_complete { "is complete" } else { "has ended early" };
            let name = self.chat.name.as_deref().map_or_else(String::new, |name| {
                format!(" in {}", truncate(&sanitize_line(name), ALERT_NAME_WIDTH))
            });
            effects.push(TerminalCommand::Alert(format!("hfs: the reply{name} {how}")).into());
        }
        effects.extend(self.send_queued());
        effects.extend(self.refresh_screen(StaleData::Runs));
        effects
    }

    /// Sends the oldest queued message, unless something else must end before.
    pub(crate) fn send_queued(&mut self) -> Vec<Effect> {
        if self.chat.must_wait() {
            return Vec::new();
        }
        self.chat.queue.pop_front().map(|text| self.send(text)).unwrap_or_default()
    }

    /// Ends an exchange whose task panicked. Opens the branch again, because the position is not known.
    pub(crate) fn exchange_crashed(&mut self, report: ErrorReport) -> Vec<Effect> {
        let exchange = self.chat.exchange.take();
        self.move_queue_to_input();
        let user = exchange.as_ref().and_then(|exchange| exchange.user.clone());
        if let Some(text) = exchange.and_then(|exchange| exchange.unsaved_text) {
            self.return_to_input(&text);
        }
        let ErrorReport { message, suggestion, .. } = report;
        self.chat.save = match self.chat.conversation.session() {
            Some(_) => SaveState::NotSaved(message.clone()),
            None => SaveState::Nothing,
        };
        self.chat.error_banner = Some(ErrorBanner { message, is_in_reply: false, suggestion, user });
        let position = self.chat.conversation.session().zip(self.chat.conversation.branch());
        position
            .map(|(session, branch)| Request::Open { session, branch: Some(branch), at: None }.into())
            .into_iter()
            .collect()
    }

    /// Puts a message that was not sent before the text of the input.
    pub(crate) fn return_to_input(&mut self, text: &str) {
        let draft = self.chat.input.take();
        let input = if draft.is_empty() { text.to_owned() } else { format!("{text}\n\n{draft}") };
        self.chat.input.set_folded(&input);
        self.chat.completion = None;
    }

    /// Moves queued messages to the input, because after an incomplete reply the user may want to change them.
    pub(crate) fn move_queue_to_input(&mut self) {
        if self.chat.queue.is_empty() {
            return;
        }
        let mut texts: Vec<String> = self.chat.queue.drain(..).collect();
        texts.extend(Some(self.chat.input.take()).filter(|draft| !draft.is_empty()));
        self.chat.input.set_folded(&texts.join("\n\n"));
        self.chat.completion = None;
    }

    fn exchange_succeeded(
        &mut self,
        done: Exchange,
        mut exchange: Option<ExchangeInProgress>,
    ) -> Vec<Effect> {
        self.chat.save = SaveState::Saved;
        self.chat.context = ContextGauge::after_reply(&done.reply.content, self.chat.context, &self.agent);
        let usage = &done.run.snapshot.usage;
        self.chat.tokens += usage.total_tokens;
        self.chat.has_unknown_tokens |= !matches!(usage.total(), TokenTotal::Exact(_));
        self.chat.run = done.run.snapshot;
        let shown = self.chat.transcript.messages().next_back().map_or(0, |newest| newest.seq);
        let messages = done.earlier.into_iter().chain([done.reply]).filter(|message| message.seq > shown);
        for message in messages {
            let received = exchange.as_mut().and_then(|exchange| exchange.end_message(&message));
            self.chat.transcript.push_reply(Arc::new(message), received);
        }
        match done.failure {
            None => Vec::new(),
            Some(AgentError::Cancelled) => {
                self.notify(Tone::Dim, "stopped; the part of the reply that arrived is saved")
            }
            Some(error) => {
                let ErrorReport { message, suggestion, .. } =
                    ErrorReport::from_error(&error, self.suggestion_wording);
                let user = Some(Arc::new(done.user));
                self.chat.error_banner = Some(ErrorBanner { message, is_in_reply: true, suggestion, user });
                Vec::new()
            }
        }
    }

    fn exchange_failed(
        &mut self,
        error: SendError,
        previous: Conversation,
        exchange: Option<ExchangeInProgress>,
    ) {
        let report = ErrorReport::from_error(&error, self.suggestion_wording);
        let user = exchange.as_ref().and_then(|exchange| exchange.user.clone());
        let unsaved_text = exchange.and_then(|exchange| exchange.unsaved_text);
        if let Some(text) = &unsaved_text {
            self.return_to_input(text);
            self.chat.save = if self.chat.conversation.session().is_some() {
                SaveState::Saved
            } else {
                SaveState::Nothing
            };
        }
        match error {
            SendError::NotSaved { text, source: StoreError::HeadMismatch { expected, found } } => {
                let reason = match found.head.checked_sub(expected.head) {
                    Some(added @ 1..) => {
                        format!("Another process has added {} to it.", plural(added, "message"))
                    }
                    Some(0) | None => "Another process has changed its messages.".to_owned(),
                };
                self.modals.push(Modal::Conflict { conversation: previous, text, reason });
            }
            SendError::NotSaved { text, source: StoreError::Locked { seq } } => {
                let reason = format!("Another process is writing a reply to it, as message {seq}.");
                self.modals.push(Modal::Conflict { conversation: previous, text, reason });
            }
            SendError::ReplyNotSaved { messages, .. } => {
                self.chat.save = SaveState::NotSaved(report.message.clone());
                let texts = messages.iter().map(MessageDraft::text).filter(|text| !text.is_empty());
                self.add_to_history(texts.collect::<Vec<_>>().join("\n\n"));
                let suggestion = "until you quit, the reply is kept in the input's history (Up)".to_owned();
                let suggestion = Some(suggestion);
                let message = report.message;
                self.chat.error_banner = Some(ErrorBanner { message, is_in_reply: false, suggestion, user });
            }
            _ => {
                if unsaved_text.is_none() && report.kind != ErrorKind::Invalid {
                    self.chat.save = SaveState::NotSaved(report.message.clone());
                }
                let ErrorReport { message, suggestion, .. } = report;
                self.chat.error_banner = Some(ErrorBanner { message, is_in_reply: false, suggestion, user });
            }
        }
    }
}
