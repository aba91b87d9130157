//! Sending, and what comes back while a reply is on its way.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{AgentError, ErrorExt, RunSnapshot, StoreError};
use hfs_engine::{Conversation, Exchange, SendError, Update};

use crate::effect::Effect;
use crate::message::Timer;
use crate::modal::Modal;
use crate::model::{Exchanging, Model, SaveState, Trouble};
use crate::parts::{Failure, Tone};
use crate::screens::Screen;
use crate::transcript::Reply;

/// How often the spinner turns.
pub const SPIN: Duration = Duration::from_millis(120);

impl Model {
    /// Sends what the user said.
    pub(super) fn send(&mut self, text: String) -> Vec<Effect> {
        let conversation = self.chat.conversation.clone();
        let mut effects = self.begin_exchange(Some(text.clone()), None);
        effects.push(Effect::Send { conversation, text });
        effects
    }

    /// Answers the newest message of the user again, on a branch of its own.
    pub(super) fn retry(&mut self) -> Vec<Effect> {
        if self.chat.is_busy() {
            return self.say(Tone::Warn, "a reply is in progress; Esc stops it");
        }
        let from_trouble = self.chat.trouble.take().and_then(|trouble| trouble.user);
        let newest = || {
            self.chat.transcript.messages().rev().find(|message| message.content.role == hfs_core::Role::User)
        };
        let Some(user) = from_trouble.or_else(|| newest().cloned()) else {
            return match self.chat.input.is_empty() {
                true => self.say(Tone::Dim, "there is nothing to answer yet"),
                false => {
                    let text = self.chat.input.take();
                    self.send(text)
                }
            };
        };
        let conversation = self.chat.conversation.clone();
        let mut effects = self.begin_exchange(None, Some(Arc::clone(&user)));
        effects.push(Effect::AnswerAgain { conversation, user });
        effects
    }

    pub(super) fn begin_exchange(
        &mut self,
        sending: Option<String>,
        user: Option<Arc<hfs_core::Message>>,
    ) -> Vec<Effect> {
        self.chat.trouble = None;
        self.chat.plugin_output = None;
        self.chat.save = SaveState::Saving;
        self.chat.run = RunSnapshot::default();
        self.chat.exchange = Some(Exchanging {
            created: None,
            sending,
            user,
            reply: Reply::new(self.look.now),
            stopping: false,
        });
        let wanted = self.chat.transcript.show_newest();
        let mut effects = vec![Effect::After(SPIN, Timer::Spin)];
        if let (Some((range, purpose)), Some(branch)) = (wanted, self.chat.conversation.branch()) {
            effects.push(Effect::Read { branch, range, purpose });
        }
        effects
    }

    pub(super) fn interrupt(&mut self) -> Vec<Effect> {
        match &mut self.chat.exchange {
            Some(exchange) if !exchange.stopping => {
                exchange.stopping = true;
                vec![Effect::Interrupt]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn exchange_update(&mut self, update: Update) -> Vec<Effect> {
        let chat = &mut self.chat;
        match update {
            Update::SessionCreated { session, name } => {
                chat.name = Some(name);
                if let Some(exchange) = &mut chat.exchange {
                    exchange.created = Some(session);
                }
                return vec![Effect::ReadPlugins(Some(session))];
            }
            Update::Sent(message) => {
                chat.save = SaveState::Saved;
                let created = chat.exchange.as_ref().and_then(|exchange| exchange.created);
                if let Some(session) = chat.conversation.session().or(created) {
                    let position = hfs_core::Position { branch: message.branch, head: message.seq };
                    chat.conversation = Conversation::at(session, position);
                }
                chat.transcript.push(Arc::clone(&message));
                if let Some(exchange) = &mut chat.exchange {
                    exchange.sending = None;
                    exchange.user = Some(message);
                }
            }
            Update::Answering(agent) => {
                if let Some(exchange) = &mut chat.exchange {
                    exchange.reply.answered_by(agent);
                }
            }
            Update::Reply { kind, text } => {
                if let Some(exchange) = &mut chat.exchange {
                    exchange.reply.extend(kind, &text);
                }
                if !matches!(chat.save, SaveState::NotSaved(_)) {
                    chat.save = SaveState::Saving;
                }
            }
            Update::Event(event) => chat.run.apply(&event),
            Update::Saved => chat.save = SaveState::Saved,
            Update::NotSaved { reason } => chat.save = SaveState::NotSaved(reason),
            Update::CheckpointFailed { reason } => {
                return self.say(Tone::Bad, format!("a checkpoint could not be made: {reason}"));
            }
            _ => {}
        }
        Vec::new()
    }

    pub(super) fn exchange_ended(
        &mut self,
        conversation: Conversation,
        outcome: Result<Exchange, SendError>,
    ) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.chat.conversation, conversation);
        let exchange = self.chat.exchange.take();
        let is_whole = matches!(&outcome, Ok(done) if done.failure.is_none());
        if !is_whole {
            self.take_back_queue();
        }
        let mut effects = match outcome {
            Ok(done) => self.exchange_done(done),
            Err(error) => self.exchange_failed(error, before, exchange),
        };
        if let Some(text) = self.chat.queue.pop_front() {
            effects.extend(self.send(text));
        }
        effects.extend(self.with_screen(|screen, _| match screen {
            Screen::Inspect(inspect) => inspect.reload(),
            Screen::Timeline(timeline) => timeline.reload(),
            _ => Vec::new(),
        }));
        effects
    }

    /// What was to be said next goes back to the input: after a reply that did not come whole, it may not be
    /// what one wants to say any more.
    fn take_back_queue(&mut self) {
        if self.chat.queue.is_empty() {
            return;
        }
        let mut texts: Vec<String> = self.chat.queue.drain(..).collect();
        texts.extend(Some(self.chat.input.take()).filter(|draft| !draft.is_empty()));
        self.chat.input.set(&texts.join("\n\n"));
        self.chat.completion = None;
    }

    fn exchange_done(&mut self, done: Exchange) -> Vec<Effect> {
        self.chat.save = SaveState::Saved;
        self.chat.tokens += done.run.snapshot.usage.total_tokens;
        self.chat.run = done.run.snapshot;
        self.chat.transcript.push(Arc::new(done.reply));
        match done.failure {
            None => Vec::new(),
            Some(AgentError::Cancelled) => self.say(Tone::Dim, "stopped; what had arrived is kept"),
            Some(error) => {
                let failure = Failure::of(&error);
                self.chat.trouble = Some(Trouble {
                    message: failure.message,
                    hint: failure.hint,
                    user: Some(Arc::new(done.user)),
                });
                Vec::new()
            }
        }
    }

    fn exchange_failed(
        &mut self,
        error: SendError,
        before: Conversation,
        exchange: Option<Exchanging>,
    ) -> Vec<Effect> {
        let failure = Failure::of(&error);
        let user = exchange.as_ref().and_then(|exchange| exchange.user.clone());
        let unsent = exchange.and_then(|exchange| exchange.sending);
        // What was not sent goes back to where it can be sent from; nobody has to type it again.
        if let Some(text) = &unsent {
            let draft = self.chat.input.take();
            let both = if draft.is_empty() { text.clone() } else { format!("{text}\n\n{draft}") };
            self.chat.input.set(&both);
            self.chat.completion = None;
            self.chat.save = if self.chat.conversation.session().is_some() {
                SaveState::Saved
            } else {
                SaveState::Nothing
            };
        }
        match error {
            SendError::NotSaved {
                text,
                source: source @ (StoreError::HeadMismatch { .. } | StoreError::Locked { .. }),
            } => {
                self.modals.push(Modal::Conflict { conversation: before, text, reason: source.to_string() });
            }
            SendError::ReplyNotSaved { reply, .. } => {
                self.chat.save = SaveState::NotSaved(failure.message.clone());
                self.remember(reply.text());
                self.chat.trouble = Some(Trouble {
                    message: failure.message,
                    hint: Some("the reply is kept in the input's history (Up) until you leave".to_owned()),
                    user,
                });
            }
            _ => {
                if unsent.is_none() && failure.kind != hfs_core::ErrorKind::Invalid {
                    self.chat.save = SaveState::NotSaved(failure.message.clone());
                }
                self.chat.trouble = Some(Trouble { message: failure.message, hint: failure.hint, user });
            }
        }
        Vec::new()
    }
}
