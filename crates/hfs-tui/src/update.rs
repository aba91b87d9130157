//! What every message changes, and what is to be done about it. Pure: no clock, no terminal, no store.

mod answers;
mod chat_keys;
mod commands;
mod exchange;

use std::time::Duration;

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::effect::{Change, Effect};
use crate::message::{Msg, Timer};
use crate::modal::{Answered, AskedFor, Modal};
use crate::model::{Armed, Marked, Model, Notice};
use crate::parts::Tone;
use crate::screens::{Act, Context, Screen};

/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(6);
/// How long the first of two Ctrl+C or Esc is remembered.
const ARMED: Duration = Duration::from_millis(1_500);
/// Rows that one notch of the wheel scrolls.
const NOTCH: isize = 3;

/// Applies a message.
pub fn update(model: &mut Model, message: Msg) -> Vec<Effect> {
    let mut effects = match message {
        Msg::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Msg::Key(key) => model.key(key),
        Msg::Paste(text) => model.paste(&text),
        Msg::Mouse(event) => model.mouse(event),
        Msg::Resized(width, height) => {
            model.size = (width, height);
            model.marked = None;
            Vec::new()
        }
        Msg::Timer(timer) => model.timer(timer),
        Msg::Terminate => model.leave(),
        Msg::Update(update) => model.exchange_update(update),
        Msg::Ended { conversation, outcome } => model.exchange_ended(conversation, *outcome),
        other => model.answer(other),
    };
    model.deciding.extend(effects.iter().filter_map(|effect| match effect {
        Effect::DecidePlugin { plugin, .. } => Some(plugin.clone()),
        _ => None,
    }));
    // Reaching the edge of what is loaded asks for what lies behind it, however one came there.
    effects.extend(model.wanted_messages());
    effects
}

/// What the app does first.
pub fn start(model: &mut Model, pick: Option<crate::parts::PickFrom>) -> Vec<Effect> {
    let mut effects = vec![Effect::LoadSyntax, Effect::ReadPlugins(model.chat.conversation.session())];
    match model.chat.conversation.session() {
        Some(session) => {
            let branch = model.chat.conversation.branch();
            effects.insert(0, Effect::Open { session, branch, at: None });
        }
        None => {
            effects.push(model.list_recent());
            effects.push(Effect::FindTranscripts { welcome: true });
        }
    }
    if let Some(from) = pick {
        effects.extend(model.open_sessions(from, ""));
    }
    effects
}

impl Model {
    /// What screens may know of the rest; a fresh number goes along.
    fn with_screen(&mut self, work: impl FnOnce(&mut Screen, &Context<'_>) -> Vec<Act>) -> Vec<Effect> {
        let fresh = self.fresh();
        let context = Context {
            conversation: &self.chat.conversation,
            project: self.project.as_ref(),
            plugins: &self.plugins,
            busy: self.chat.is_busy(),
            fresh,
        };
        let acts = work(&mut self.screen, &context);
        self.perform(acts)
    }

    fn perform(&mut self, acts: Vec<Act>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for act in acts {
            match act {
                Act::Back => self.screen = Screen::Chat,
                Act::Do(effect) => effects.extend(self.before_effect(effect)),
                Act::Ask(modal) => self.modals.push(*modal),
                Act::Say(tone, text) => effects.extend(self.say(tone, text)),
                Act::Command(line) => effects.extend(self.run_command(&line)),
            }
        }
        effects
    }

    /// Some effects of answers begin an exchange, which the model must know of.
    fn before_effect(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::SendOnFork { conversation, text } => {
                // The text waits in the input; what was written behind it stays there.
                if let Some(rest) = self.chat.input.text().strip_prefix(&text) {
                    let rest = rest.trim_start().to_owned();
                    self.chat.input.set(&rest);
                }
                let mut effects = self.begin_exchange(Some(text.clone()), None);
                effects.push(Effect::SendOnFork { conversation, text });
                effects
            }
            other => vec![other],
        }
    }

    /// Tells the user something for a moment.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) -> Vec<Effect> {
        let number = self.fresh();
        self.notice = Some(Notice { number, tone, text: text.into() });
        vec![Effect::After(NOTICE, Timer::Notice(number))]
    }

    fn timer(&mut self, timer: Timer) -> Vec<Effect> {
        match timer {
            Timer::Spin if self.chat.is_busy() => {
                self.spin = self.spin.wrapping_add(1);
                vec![Effect::After(exchange::SPIN, Timer::Spin)]
            }
            Timer::Spin => Vec::new(),
            Timer::Notice(number) => {
                if self.notice.as_ref().is_some_and(|notice| notice.number == number) {
                    self.notice = None;
                }
                Vec::new()
            }
            Timer::Disarm(number) => {
                if self.armed.is_some_and(|(_, armed)| armed == number) {
                    self.armed = None;
                }
                Vec::new()
            }
            Timer::Typed(number) => self.with_screen(|screen, _| match screen {
                Screen::Search(search) => search.paused(number),
                _ => Vec::new(),
            }),
        }
    }

    /// Remembers a first press of a key; `true` when it was the second.
    fn arm(&mut self, what: Armed) -> (bool, Vec<Effect>) {
        if self.armed.take().is_some_and(|(armed, _)| armed == what) {
            return (true, Vec::new());
        }
        let number = self.fresh();
        self.armed = Some((what, number));
        (false, vec![Effect::After(ARMED, Timer::Disarm(number))])
    }

    fn leave(&mut self) -> Vec<Effect> {
        self.leaving = true;
        let mut effects = Vec::new();
        if self.chat.is_busy() {
            effects.push(Effect::Interrupt);
        }
        effects.push(Effect::Quit);
        effects
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        self.marked = None;
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('z') {
            return vec![Effect::Suspend];
        }
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('l') {
            return vec![Effect::Redraw];
        }
        if !matches!(key.code, KeyCode::Esc | KeyCode::Char('c')) {
            self.armed = None;
        }
        if let Some(modal) = self.modals.last_mut() {
            let answered = modal.key(key, &self.plugins, self.look.settings.keys);
            return self.answered(answered);
        }
        if matches!(self.screen, Screen::Chat) {
            return self.chat_key(key);
        }
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('c') {
            self.screen = Screen::Chat;
            return Vec::new();
        }
        let run = std::mem::take(&mut self.chat.run);
        let effects = self.with_screen(|screen, context| match screen {
            Screen::Chat => Vec::new(),
            Screen::Sessions(screen) => screen.key(key, context),
            Screen::Search(screen) => screen.key(key, context),
            Screen::Timeline(screen) => screen.key(key, context),
            Screen::Branches(screen) => screen.key(key, context),
            Screen::Inspect(screen) => screen.key(key, context, &run),
            Screen::Import(screen) => screen.key(key, context),
            Screen::Export(screen) => screen.key(key, context),
            Screen::Config(screen) => screen.key(key, context),
            Screen::Plugins(screen) => screen.key(key, context),
            Screen::Help(screen) => screen.key(key, context),
        });
        self.chat.run = run;
        effects
    }

    fn answered(&mut self, answered: Answered) -> Vec<Effect> {
        match answered {
            Answered::Open => Vec::new(),
            Answered::Closed(acts) => {
                self.modals.pop();
                self.perform(acts)
            }
            Answered::Text(about, text) => {
                self.modals.pop();
                self.take_text(about, &text)
            }
            Answered::Insert(text) => {
                self.modals.pop();
                self.screen = Screen::Chat;
                self.chat.input.set(&text);
                self.chat.completion = Some(0);
                Vec::new()
            }
            Answered::Later(plugin) => {
                self.modals.pop();
                self.asked.push(plugin);
                Vec::new()
            }
        }
    }

    fn take_text(&mut self, about: AskedFor, text: &str) -> Vec<Effect> {
        let text = text.trim();
        match about {
            AskedFor::SessionName(_) | AskedFor::BranchName(_) | AskedFor::ImportPath if text.is_empty() => {
                Vec::new()
            }
            AskedFor::SessionName(session) => {
                vec![Effect::Change(Change::Rename { session, name: text.to_owned() })]
            }
            AskedFor::BranchName(branch) => {
                vec![Effect::Change(Change::RenameBranch { branch, name: text.to_owned() })]
            }
            AskedFor::CheckpointLabel(conversation) => {
                let label = (!text.is_empty()).then(|| text.to_owned());
                vec![Effect::Change(Change::Checkpoint { conversation, label })]
            }
            AskedFor::Setting(key) => vec![Effect::SetConfig { key, value: text.to_owned() }],
            AskedFor::ExportPath => {
                if let Screen::Export(export) = &mut self.screen {
                    export.set_path(text);
                }
                Vec::new()
            }
            AskedFor::ImportPath => self.with_screen(|screen, _| match screen {
                Screen::Import(import) => import.begin_with(text),
                _ => Vec::new(),
            }),
        }
    }

    fn paste(&mut self, text: &str) -> Vec<Effect> {
        if let Some(modal) = self.modals.last_mut() {
            modal.paste(text);
            return Vec::new();
        }
        match &mut self.screen {
            Screen::Chat => {
                self.chat.input.insert(text);
                self.chat.completion = Some(0);
                Vec::new()
            }
            Screen::Sessions(sessions) => {
                sessions.paste(text);
                Vec::new()
            }
            Screen::Search(_) => self.with_screen(|screen, context| match screen {
                Screen::Search(search) => search.paste(text, context.fresh),
                _ => Vec::new(),
            }),
            _ => Vec::new(),
        }
    }

    fn mouse(&mut self, event: MouseEvent) -> Vec<Effect> {
        let at = (event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp => self.wheel(-NOTCH),
            MouseEventKind::ScrollDown => self.wheel(NOTCH),
            MouseEventKind::Down(MouseButton::Left) => {
                self.marked = Some(Marked { from: at, to: at });
                Vec::new()
            }
            MouseEventKind::Drag(MouseButton::Left) => {
                if let Some(marked) = &mut self.marked {
                    marked.to = at;
                }
                Vec::new()
            }
            MouseEventKind::Up(MouseButton::Left) => match self.marked {
                Some(marked) if marked.from != marked.to => vec![Effect::CopyMarked],
                _ => {
                    self.marked = None;
                    self.click(at);
                    Vec::new()
                }
            },
            _ => Vec::new(),
        }
    }

    fn wheel(&mut self, rows: isize) -> Vec<Effect> {
        self.marked = None;
        if self.modals.is_empty() && matches!(self.screen, Screen::Chat) {
            self.scroll(rows);
            return Vec::new();
        }
        let code = if rows < 0 { KeyCode::Up } else { KeyCode::Down };
        self.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// Asks about the next plugin that waits, when nothing else is being asked.
    fn ask_about_plugins(&mut self) {
        let open = self.modals.iter().any(|modal| matches!(modal, Modal::Approval { .. }));
        let is_settled = |name: &String| self.asked.contains(name) || self.deciding.contains(name);
        let next = self.plugins.pending.iter().find(|request| !is_settled(&request.plugin));
        if let (false, Some(request)) = (open, next) {
            self.modals.push(Modal::Approval { request: request.clone(), choice: 0 });
        }
    }
}

#[cfg(test)]
mod tests;
