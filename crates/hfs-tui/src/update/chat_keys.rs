//! Keys in the chat.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::MessageRange;

use crate::command::{is_command, suggestions};
use crate::editor::{Editor, KeyMode, VimMode};
use crate::effect::{Change, Effect};
use crate::message::Purpose;
use crate::modal::Modal;
use crate::model::{Armed, Model};
use crate::parts::{OutputMode, Tone};
use crate::screens::list::Picked;

impl Model {
    pub(super) fn chat_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if let Some(effects) = self.global_key(key, control) {
            return effects;
        }
        if self.chat.transcript.selected().is_some()
            && let Some(effects) = self.selection_key(key)
        {
            return effects;
        }
        if let Some(effects) = self.completion_key(key) {
            return effects;
        }
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => self.escape(key),
            KeyCode::Char('j') if control => {
                self.chat.input.insert("\n");
                Vec::new()
            }
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => {
                self.chat.input.insert("\n");
                Vec::new()
            }
            KeyCode::Enter => self.submit(),
            KeyCode::Up if alt => self.select(false),
            KeyCode::Down if alt => self.select(true),
            KeyCode::PageUp => self.page(-1),
            KeyCode::PageDown => self.page(1),
            KeyCode::Home if control => {
                self.chat.transcript.show_oldest();
                Vec::new()
            }
            KeyCode::End if control => self.show_newest(),
            _ => self.edit(key),
        }
    }

    /// Keys of commands, which mean the same whatever is in the input.
    fn global_key(&mut self, key: KeyEvent, control: bool) -> Option<Vec<Effect>> {
        let emacs = self.look.settings.keys == KeyMode::Emacs;
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let command = match key.code {
            KeyCode::Char('c') if control => return Some(self.control_c()),
            KeyCode::Char('d') if control && self.chat.input.is_empty() => return Some(self.control_c()),
            KeyCode::Char('p') if control && !emacs => return Some(self.palette()),
            KeyCode::Char('x') if alt => return Some(self.palette()),
            KeyCode::Char('r') if control && self.chat.input.vim_mode() == VimMode::Insert => {
                return Some(self.search_history());
            }
            KeyCode::Char('o') if control => return Some(self.toggle_output()),
            KeyCode::Char('n') if control && !emacs => "/new",
            KeyCode::Char('f') if control && !emacs => "/search",
            KeyCode::Char('s') if control => "/sessions",
            KeyCode::Char('t') if control => "/checkpoints",
            KeyCode::Char('g') if control => "/edit",
            KeyCode::F(1) => "/help",
            KeyCode::F(2) => "/sidebar",
            KeyCode::F(3) => "/inspect",
            KeyCode::F(4) => "/branches",
            KeyCode::F(5) => "/retry",
            _ => return None,
        };
        Some(self.run_command(command))
    }

    fn control_c(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.chat.is_busy() {
            effects.extend(self.interrupt());
        } else if !self.chat.input.is_empty() {
            self.chat.input.set("");
        }
        let (again, armed) = self.arm(Armed::Leave);
        if again {
            return self.leave();
        }
        effects.extend(armed);
        effects
    }

    fn escape(&mut self, key: KeyEvent) -> Vec<Effect> {
        if self.chat.input.key(key, self.look.settings.keys, self.input_width()) {
            return Vec::new();
        }
        if self.chat.is_busy() {
            return self.interrupt();
        }
        if self.chat.plugin_output.take().is_some() || self.chat.trouble.take().is_some() {
            return Vec::new();
        }
        if !self.chat.input.is_empty() {
            // A first Esc must not lose what was written; the second one means the input, not the checkpoints.
            let (again, armed) = self.arm(Armed::Rewind);
            if again {
                let text = self.chat.input.take();
                self.chat.history.entries.insert(0, text);
            }
            return armed;
        }
        let (again, armed) = self.arm(Armed::Rewind);
        if again { self.run_command("/checkpoints") } else { armed }
    }

    fn palette(&mut self) -> Vec<Effect> {
        self.modals.push(Modal::Palette { query: Editor::default(), picked: Picked::default() });
        Vec::new()
    }

    fn search_history(&mut self) -> Vec<Effect> {
        let mut query = Editor::default();
        query.set(self.chat.input.text().lines().next().unwrap_or_default());
        let entries = self.chat.history.entries.clone();
        self.modals.push(Modal::History { query, picked: Picked::default(), entries });
        self.load_history()
    }

    fn load_history(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.chat.history.loaded, true) {
            return Vec::new();
        }
        let project = self.project.as_ref().map(|project| project.key().to_owned());
        vec![Effect::LoadHistory { branch: self.chat.conversation.branch(), project }]
    }

    pub(super) fn toggle_output(&mut self) -> Vec<Effect> {
        let mut settings = self.look.settings.clone();
        settings.output = match settings.output {
            OutputMode::Compact => OutputMode::Verbose,
            OutputMode::Verbose => OutputMode::Compact,
        };
        let text = match settings.output {
            OutputMode::Compact => "compact: thinking and tools are folded",
            OutputMode::Verbose => "verbose: everything is unfolded",
        };
        self.look.change(settings);
        self.say(Tone::Dim, text)
    }

    fn submit(&mut self) -> Vec<Effect> {
        let text = self.chat.input.text().to_owned();
        if text.trim().is_empty() {
            return Vec::new();
        }
        if is_command(&text) {
            self.chat.input.take();
            self.remember(text.clone());
            return self.run_command(&text);
        }
        if self.chat.is_busy() {
            let text = self.chat.input.take();
            self.remember(text.clone());
            self.chat.queue.push_back(text);
            return Vec::new();
        }
        let text = self.chat.input.take();
        self.remember(text.clone());
        self.send(text)
    }

    pub(super) fn remember(&mut self, text: String) {
        let history = &mut self.chat.history;
        history.at = None;
        history.draft.clear();
        history.entries.retain(|entry| *entry != text);
        history.entries.insert(0, text);
    }

    fn edit(&mut self, key: KeyEvent) -> Vec<Effect> {
        let width = self.input_width();
        let before = self.chat.input.text().len();
        if self.chat.input.key(key, self.look.settings.keys, width) {
            if self.chat.input.text().len() != before {
                self.chat.completion = Some(0);
                self.chat.transcript.unselect();
            }
            return Vec::new();
        }
        match key.code {
            KeyCode::Up | KeyCode::Char('k') if key.modifiers.is_empty() => self.history(true),
            KeyCode::Down | KeyCode::Char('j') if key.modifiers.is_empty() => self.history(false),
            KeyCode::Char('p') if key.modifiers == KeyModifiers::CONTROL => self.history(true),
            KeyCode::Char('n') if key.modifiers == KeyModifiers::CONTROL => self.history(false),
            // Vim's normal mode on an empty field reaches the commands by their own keys.
            KeyCode::Char(':' | '/') => {
                self.chat.input.key(KeyEvent::from(KeyCode::Char('i')), KeyMode::Vim, width);
                self.chat.input.set("/");
                self.chat.completion = Some(0);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn history(&mut self, older: bool) -> Vec<Effect> {
        // What is still to be sent is nearer than what was.
        if older
            && self.chat.input.is_empty()
            && let Some(text) = self.chat.queue.pop_back()
        {
            self.chat.input.set(&text);
            self.chat.completion = None;
            return Vec::new();
        }
        let effects = self.load_history();
        let history = &mut self.chat.history;
        let next = match (history.at, older) {
            (None, true) if history.entries.is_empty() => return effects,
            (None, true) => {
                self.chat.input.text().clone_into(&mut history.draft);
                Some(0)
            }
            (Some(at), true) => Some((at + 1).min(history.entries.len().saturating_sub(1))),
            (Some(0), false) => None,
            (Some(at), false) => Some(at - 1),
            (None, false) => return effects,
        };
        history.at = next;
        let text = next.and_then(|at| history.entries.get(at)).unwrap_or(&history.draft).clone();
        self.chat.input.set(&text);
        // A command that comes from history is not being completed: Up and Down go on through it.
        self.chat.completion = None;
        effects
    }

    fn completion_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        let rows = self.completions();
        let at = self.chat.completion?;
        let row = rows.get(at)?;
        match key.code {
            KeyCode::Up if key.modifiers.is_empty() => self.chat.completion = Some(at.saturating_sub(1)),
            KeyCode::Down if key.modifiers.is_empty() => {
                self.chat.completion = Some((at + 1).min(rows.len().saturating_sub(1)));
            }
            KeyCode::Esc => self.chat.completion = None,
            KeyCode::Tab => {
                let text = format!("/{} ", row.name);
                self.chat.input.set(&text);
                self.chat.completion = Some(0);
            }
            // The selected one is run, so that `/se` and Enter is enough.
            KeyCode::Enter if key.modifiers.is_empty() => {
                let line = format!("/{}", row.name);
                self.chat.input.take();
                self.remember(line.clone());
                return Some(self.run_command(&line));
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    /// The commands that complete what is in the input: only while its name is being typed.
    #[must_use]
    pub fn completions(&self) -> Vec<crate::command::Suggestion> {
        let text = self.chat.input.text();
        let Some(name) = text.strip_prefix('/') else { return Vec::new() };
        if self.chat.completion.is_none() || name.contains(char::is_whitespace) || name.contains('/') {
            return Vec::new();
        }
        suggestions(name, &self.plugins.commands, self.look.settings.keys)
    }

    fn select(&mut self, forward: bool) -> Vec<Effect> {
        let area = self.areas().transcript;
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let tail = self.chat.tail(&self.look, width);
        self.chat.transcript.select(self.look.paper(width), &tail, height, forward);
        Vec::new()
    }

    /// Keys that act on the selected message.
    fn selection_key(&mut self, key: KeyEvent) -> Option<Vec<Effect>> {
        let message = self.chat.transcript.selected_message().cloned();
        match key.code {
            KeyCode::Esc => self.chat.transcript.unselect(),
            KeyCode::Enter | KeyCode::Char(' ') if self.chat.input.is_empty() => {
                let usual = self.look.settings.output == OutputMode::Verbose;
                self.chat.transcript.toggle_selected(usual);
            }
            KeyCode::Tab if self.chat.input.is_empty() => {
                let area = self.areas().transcript;
                let (width, height) = (usize::from(area.width), usize::from(area.height));
                let tail = self.chat.tail(&self.look, width);
                self.chat.transcript.next_fold(self.look.paper(width), &tail, height);
            }
            KeyCode::Up if self.chat.input.is_empty() => return Some(self.select(false)),
            KeyCode::Down if self.chat.input.is_empty() => return Some(self.select(true)),
            KeyCode::Char('c') if key.modifiers.is_empty() && self.chat.input.is_empty() => {
                let message = message?;
                let text = match message.content.text() {
                    text if text.is_empty() => message.content.searchable_text(),
                    text => text,
                };
                return Some(vec![Effect::Copy { text, what: format!("message {}", message.seq) }]);
            }
            KeyCode::Char('f') if key.modifiers.is_empty() && self.chat.input.is_empty() => {
                if self.chat.is_busy() {
                    return Some(self.say(Tone::Warn, "a reply is in progress; Esc stops it"));
                }
                let branch = self.chat.conversation.branch()?;
                let at = message?.seq;
                return Some(vec![Effect::Change(Change::Fork { branch, at, name: None })]);
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    /// A click opens and closes the fold whose handle it meets.
    pub(super) fn click(&mut self, (x, y): (u16, u16)) {
        let area = self.areas().transcript;
        let is_chat = self.modals.is_empty() && matches!(self.screen, crate::screens::Screen::Chat);
        if !is_chat || !area.contains((x, y).into()) {
            return;
        }
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let tail = self.chat.tail(&self.look, width);
        let rows = self.chat.transcript.rows(self.look.paper(width), &tail, height);
        if let Some(row) = rows.get(usize::from(y - area.y))
            && let Some(fold) = row.handle
        {
            let usual = self.look.settings.output == OutputMode::Verbose;
            self.chat.transcript.toggle_fold(row.seq, fold, usual);
        }
    }

    pub(super) fn scroll(&mut self, rows: isize) {
        let area = self.areas().transcript;
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let tail = self.chat.tail(&self.look, width);
        self.chat.transcript.scroll_by(self.look.paper(width), &tail, height, rows);
    }

    fn page(&mut self, direction: isize) -> Vec<Effect> {
        let height = self.areas().transcript.height;
        self.scroll(direction * isize::try_from(height.saturating_sub(2).max(1)).unwrap_or(1));
        Vec::new()
    }

    fn show_newest(&mut self) -> Vec<Effect> {
        let wanted = self.chat.transcript.show_newest();
        wanted.map(|(range, purpose)| self.read(range, purpose)).unwrap_or_default()
    }

    fn read(&self, range: MessageRange, purpose: Purpose) -> Vec<Effect> {
        let branch = self.chat.conversation.branch();
        branch.map(|branch| Effect::Read { branch, range, purpose }).into_iter().collect()
    }

    /// The next page, when the screen has come near the end of what is loaded.
    pub(super) fn wanted_messages(&mut self) -> Vec<Effect> {
        if self.chat.conversation.branch().is_none() {
            return Vec::new();
        }
        let wanted = self.chat.transcript.wanted();
        wanted.map(|(range, purpose)| self.read(range, purpose)).unwrap_or_default()
    }
}
