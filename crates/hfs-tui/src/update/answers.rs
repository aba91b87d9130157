//! What comes back from the world.

use hfs_core::{Branch, OperationKind, PageRequest, Position, SessionFilter, SessionId};
use hfs_engine::{Conversation, Rewound};

use crate::effect::Effect;
use crate::message::{Answer, Changed, ConfigApplied, Msg, Opened, Purpose};
use crate::model::{Model, SaveState};
use crate::parts::{Failure, FoundTranscripts, Tone};
use crate::screens::export::Export;
use crate::screens::import::{Import, Working};
use crate::screens::preview::Preview;
use crate::screens::{Act, Screen};
use crate::text::one_line;
use crate::transcript::Transcript;

/// Sessions offered while nothing was said yet.
const RECENT: u32 = 5;
/// The list with this number is the one of the greeting.
pub const GREETING: u64 = 0;

impl Model {
    pub(super) fn list_recent(&self) -> Effect {
        let project = self.project.as_ref().map(|project| project.key().to_owned());
        let filter = SessionFilter { project, ..SessionFilter::default() };
        Effect::ListSessions { filter, page: PageRequest::first(RECENT), generation: GREETING }
    }

    pub(super) fn answer(&mut self, message: Msg) -> Vec<Effect> {
        match message {
            Msg::Opened(result) => self.opened(result),
            Msg::Forked(branch) => {
                let position = Position { branch: branch.id, head: branch.head };
                self.chat.conversation = Conversation::at(branch.session, position);
                self.chat.transcript.cut_behind(branch.head);
                let text = format!("on the new branch {}", one_line(&branch.name));
                self.chat.branch = branch.name;
                self.say(Tone::Dim, text)
            }
            Msg::Messages { purpose, branch, result } => self.messages(purpose, branch, result),
            Msg::Changed(result) => match *result {
                Ok(changed) => self.changed(changed),
                Err(failure) => self.fail(&failure),
            },
            Msg::Sessions { generation: GREETING, result } => {
                self.recent = result.map(|page| page.items).unwrap_or_default();
                Vec::new()
            }
            Msg::ExportPrepared { session, format, result: Ok(choices) } => {
                self.screen = Screen::Export(Export::open(session, choices, &format));
                Vec::new()
            }
            Msg::ExportPrepared { result: Err(failure), .. } => self.fail(&failure),
            Msg::Transcripts { welcome, found } => self.transcripts(welcome, found),
            Msg::Progress { done, total, what } => {
                let working = Working { done, total, what };
                match &mut self.screen {
                    Screen::Import(import) => import.progress(working),
                    Screen::Export(export) => export.progress(working),
                    _ => {}
                }
                Vec::new()
            }
            Msg::ConfigSet(Ok(applied)) => self.config_set(applied),
            Msg::ConfigSet(Err(failure)) | Msg::Edited(Err(failure)) => self.fail(&failure),
            Msg::PluginDecided(result) => {
                self.deciding.clear();
                match result {
                    Ok(()) => vec![Effect::ReadPlugins(self.chat.conversation.session())],
                    Err(failure) => self.fail(&failure),
                }
            }
            Msg::Failed(failure) => {
                self.chat.transcript.loading_failed();
                self.fail(&failure)
            }
            Msg::PluginsChanged => vec![Effect::ReadPlugins(self.chat.conversation.session())],
            Msg::Plugins(view) => self.plugins_changed(*view),
            Msg::PluginRan { command, result } => self.plugin_ran(&command, result),
            Msg::Edited(Ok(text)) => {
                self.chat.input.set(text.trim_end_matches('\n'));
                self.chat.completion = None;
                Vec::new()
            }
            Msg::Copied { what } => self.say(Tone::Good, format!("copied {what}")),
            Msg::History(older) => {
                self.history_came(older);
                Vec::new()
            }
            Msg::SyntaxReady(syntax) => {
                self.look.set_syntax(syntax);
                Vec::new()
            }
            other => self.screen_answer(other),
        }
    }

    /// Answers that only the screen which asked has a use for; without it they are late and fall to the ground.
    fn screen_answer(&mut self, message: Msg) -> Vec<Effect> {
        self.with_screen(|screen, context| match (screen, message) {
            (Screen::Sessions(screen), Msg::Sessions { generation, result }) => {
                screen.take(generation, result, context.fresh)
            }
            (Screen::Search(screen), Msg::Found { generation, result }) => {
                screen.take(generation, result);
                Vec::new()
            }
            (Screen::Timeline(screen), Msg::Checkpoints { session, result })
                if Some(session) == context.session() =>
            {
                screen.take(result, context.fresh)
            }
            (Screen::Timeline(screen), Msg::Branches { result: Ok(branches), .. }) => {
                screen.take_branches(branches);
                Vec::new()
            }
            (Screen::Timeline(screen), Msg::Planned(result)) => screen.planned(result),
            (Screen::Branches(screen), Msg::Branches { session, result })
                if Some(session) == context.session() =>
            {
                screen.take(result, context.fresh)
            }
            (Screen::Inspect(screen), Msg::Runs { session, result })
                if Some(session) == context.session() =>
            {
                screen.take_runs(result)
            }
            (Screen::Inspect(screen), Msg::Run(result)) => screen.take_run(result),
            (Screen::Import(screen), Msg::Imported(result)) => {
                screen.done(result);
                Vec::new()
            }
            (Screen::Export(screen), Msg::Exported(result)) => {
                screen.done(result);
                Vec::new()
            }
            (_, Msg::Imported(Ok(done))) => {
                vec![Act::Say(Tone::Good, format!("imported {} sessions", done.imported.len()))]
            }
            (_, Msg::Exported(Ok(done))) => {
                vec![Act::Say(Tone::Good, format!("exported to {}", done.path.display()))]
            }
            (_, Msg::Imported(Err(failure)) | Msg::Exported(Err(failure))) => {
                vec![Act::Say(Tone::Bad, failure.message)]
            }
            (Screen::Config(screen), Msg::Config(entries)) => {
                screen.take(entries);
                Vec::new()
            }
            _ => Vec::new(),
        })
    }

    /// Tells of a failure.
    pub(super) fn fail(&mut self, failure: &Failure) -> Vec<Effect> {
        let text = match &failure.hint {
            Some(hint) => format!("{} ({hint})", failure.message),
            None => failure.message.clone(),
        };
        self.say(Tone::Bad, text)
    }

    fn opened(&mut self, result: Answer<Box<Opened>>) -> Vec<Effect> {
        let opened = match result {
            Ok(opened) => *opened,
            Err(failure) => return self.fail(&failure),
        };
        let mut effects = Vec::new();
        let same = self.chat.conversation.session() == opened.conversation.session();
        if !same {
            if self.chat.conversation.session().is_some() {
                effects.push(Effect::Leave(self.chat.conversation.clone()));
            }
            self.chat.run = hfs_core::RunSnapshot::default();
            self.chat.tokens = 0;
            self.chat.history = crate::model::History::default();
        }
        let branch = opened.branch;
        self.chat.conversation = opened.conversation;
        self.chat.name = Some(opened.summary.session.name);
        self.chat.branch = branch.name;
        self.chat.save = if branch.head == 0 { SaveState::Nothing } else { SaveState::Saved };
        self.chat.trouble = None;
        self.chat.transcript = Transcript::default();
        self.chat.transcript.open(opened.messages, branch.head, opened.at);
        match &mut self.screen {
            // One goes on looking at the tree after a switch or an undo there.
            Screen::Branches(screen) => {
                let acts = screen.reload(Some(branch.id));
                effects.extend(self.perform(acts));
            }
            _ => self.screen = Screen::Chat,
        }
        effects.push(Effect::Enter(self.chat.conversation.clone()));
        effects.push(Effect::ReadPlugins(self.chat.conversation.session()));
        effects
    }

    fn messages(
        &mut self,
        purpose: Purpose,
        branch: hfs_core::BranchId,
        result: Answer<Vec<hfs_core::Message>>,
    ) -> Vec<Effect> {
        match (purpose, result) {
            (Purpose::Preview(generation), result) => {
                if let (Ok(messages), Some(preview)) = (result, self.preview()) {
                    preview.take(generation, messages);
                }
                Vec::new()
            }
            (_, Ok(messages)) => {
                if self.chat.conversation.branch() == Some(branch) {
                    let head = self.chat.conversation.head();
                    self.chat.transcript.take(purpose, messages, head);
                }
                Vec::new()
            }
            (_, Err(failure)) => {
                self.chat.transcript.loading_failed();
                self.fail(&failure)
            }
        }
    }

    fn preview(&mut self) -> Option<&mut Preview> {
        match &mut self.screen {
            Screen::Sessions(screen) => Some(screen.preview_mut()),
            Screen::Timeline(screen) => Some(screen.preview_mut()),
            Screen::Branches(screen) => Some(screen.preview_mut()),
            _ => None,
        }
    }

    fn changed(&mut self, changed: Changed) -> Vec<Effect> {
        let here = self.chat.conversation.session();
        match changed {
            Changed::Renamed { session, name } => {
                if here == Some(session) {
                    self.chat.name = Some(name.clone());
                }
                let mut effects = self.say(Tone::Good, format!("renamed to {}", one_line(&name)));
                effects.extend(self.reload_sessions());
                effects
            }
            Changed::Trashed { session } => self.trashed(session),
            Changed::Restored { session } => {
                let mut effects = self.say(Tone::Good, "brought back");
                // Whoever takes a deletion back in the chat wants to go on there.
                if self.deleted.take() == Some(session)
                    && matches!(self.screen, Screen::Chat)
                    && self.is_untouched()
                {
                    effects.push(Effect::Open { session, branch: None, at: None });
                }
                effects.extend(self.reload_sessions());
                effects
            }
            Changed::Checkpointed(checkpoint) => {
                let label =
                    checkpoint.label.map_or_else(String::new, |label| format!(" \"{}\"", one_line(&label)));
                let mut effects =
                    self.say(Tone::Good, format!("marked{label} at message {}", checkpoint.seq));
                effects.extend(self.reload_timeline());
                effects
            }
            Changed::Pinned | Changed::CheckpointDeleted => self.reload_timeline(),
            Changed::Rewound(rewound) => self.rewound(&rewound),
            Changed::Forked(branch) => {
                self.moved_to(&branch, format!("on the new branch {}", one_line(&branch.name)))
            }
            Changed::Switched(branch) => {
                self.moved_to(&branch, format!("on branch {}", one_line(&branch.name)))
            }
            Changed::BranchRenamed(branch) => {
                if self.chat.conversation.branch() == Some(branch.id) {
                    self.chat.branch.clone_from(&branch.name);
                }
                let current = self.chat.conversation.branch();
                self.with_screen(|screen, _| match screen {
                    Screen::Branches(screen) => screen.reload(current),
                    _ => Vec::new(),
                })
            }
            Changed::Reversed { target, operation } => {
                let verb = if operation.kind == OperationKind::Redo { "did again" } else { "took back" };
                let detail = if target.detail.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", one_line(&target.detail))
                };
                let mut effects = self.say(Tone::Good, format!("{verb}: {}{detail}", target.kind));
                effects.push(Effect::Open { session: operation.session, branch: None, at: None });
                effects.extend(self.reload_sessions());
                effects
            }
        }
    }

    fn trashed(&mut self, session: SessionId) -> Vec<Effect> {
        let mut effects = if let Screen::Sessions(list) = &mut self.screen {
            list.deleted(session);
            self.say(Tone::Good, "deleted; Ctrl+U brings it back, and so does the trash (Tab)")
        } else {
            self.say(Tone::Good, "deleted; /undo brings it back, and so does the trash (Ctrl+S, then Tab)")
        };
        self.deleted = Some(session);
        if self.chat.conversation.session() == Some(session) {
            let screen = std::mem::take(&mut self.screen);
            effects.extend(self.new_conversation());
            self.screen = screen;
        }
        effects.extend(self.reload_sessions());
        effects
    }

    fn rewound(&mut self, rewound: &Rewound) -> Vec<Effect> {
        if let Some(prompt) = &rewound.plan.prompt
            && self.chat.input.is_empty()
        {
            self.chat.input.set(&prompt.content.text());
            self.chat.completion = None;
        }
        let name = one_line(&rewound.branch.name);
        let text =
            format!("back at message {}, on the new branch {name}; /undo returns", rewound.plan.in_view);
        self.moved_to(&rewound.branch, text)
    }

    fn moved_to(&mut self, branch: &Branch, how: String) -> Vec<Effect> {
        self.screen = Screen::Chat;
        let mut effects = self.say(Tone::Good, how);
        effects.push(Effect::Open { session: branch.session, branch: None, at: None });
        effects
    }

    fn reload_sessions(&mut self) -> Vec<Effect> {
        self.with_screen(|screen, context| match screen {
            Screen::Sessions(sessions) => sessions.reload(context.fresh),
            _ => Vec::new(),
        })
    }

    fn reload_timeline(&mut self) -> Vec<Effect> {
        self.with_screen(|screen, _| match screen {
            Screen::Timeline(timeline) => timeline.reload(),
            _ => Vec::new(),
        })
    }

    fn transcripts(&mut self, welcome: bool, found: Vec<FoundTranscripts>) -> Vec<Effect> {
        let untouched = self.is_untouched();
        match &mut self.screen {
            Screen::Import(import) => import.take_found(found),
            // Only somebody who has not begun anything is offered it unasked.
            Screen::Chat if welcome && !found.is_empty() && untouched => {
                self.screen = Screen::Import(Import::welcome(found));
            }
            _ => {}
        }
        Vec::new()
    }

    fn is_untouched(&self) -> bool {
        self.chat.conversation.session().is_none() && self.chat.input.is_empty() && !self.chat.is_busy()
    }

    fn config_set(&mut self, applied: ConfigApplied) -> Vec<Effect> {
        if let Some(mut settings) = applied.settings {
            // What a key has folded or unfolded stays so, unless it is this that was set.
            if applied.key != "output_mode" {
                settings.output = self.look.settings.output;
            }
            self.look.change(settings);
        }
        if let Some(agent) = applied.agent {
            self.agent = agent;
        }
        let note = if applied.note.is_empty() {
            format!("{} is set", one_line(&applied.key))
        } else {
            one_line(&applied.note)
        };
        let mut effects = self.say(Tone::Good, note);
        if matches!(self.screen, Screen::Config(_)) {
            effects.push(Effect::ReadConfig);
        }
        effects
    }

    fn plugins_changed(&mut self, mut view: crate::parts::PluginView) -> Vec<Effect> {
        let notices = std::mem::take(&mut view.notices);
        self.plugins = view;
        // What somebody has decided elsewhere is no question any more.
        let waits = |name: &str| self.plugins.pending.iter().any(|request| request.plugin == name);
        self.modals.retain(|modal| match modal {
            crate::modal::Modal::Approval { request, .. } => waits(&request.plugin),
            _ => true,
        });
        self.ask_about_plugins();
        if notices.is_empty() {
            return Vec::new();
        }
        let notices: Vec<String> = notices.iter().map(|notice| one_line(notice)).collect();
        self.say(Tone::Plain, notices.join(" · "))
    }

    fn plugin_ran(&mut self, command: &str, result: Answer<String>) -> Vec<Effect> {
        let running = super::commands::is_running(command);
        self.notice.take_if(|notice| notice.text == running);
        match result {
            Ok(text) => {
                self.chat.plugin_output = Some((command.to_owned(), text));
                vec![Effect::ReadPlugins(self.chat.conversation.session())]
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// What was typed since goes before what comes from the store.
    fn history_came(&mut self, older: Vec<String>) {
        let entries = &mut self.chat.history.entries;
        for text in older {
            if !entries.contains(&text) {
                entries.push(text);
            }
        }
        if let Some(crate::modal::Modal::History { entries, .. }) = self.modals.last_mut() {
            entries.clone_from(&self.chat.history.entries);
        }
    }
}
