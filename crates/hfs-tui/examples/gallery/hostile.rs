//! Inserts hostile text into all untrusted text of the messages to the model. The tests check that the view never
//! passes it to the terminal unchanged.

use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{Branch, Event, Message, Part, ReplyDelta, RunSnapshot, SessionSummary, Trigger};
use hfs_engine::{GroupKey, RewindPlan, SkipReason, StateAtPlace, Update};
use serde_json::Value;

use crate::ports::{ErrorReport, Imported, Node, PermissionRequest, PluginView};
use crate::protocol::{Changed, Msg, ScreenMsg};

/// Hostile text, such as escape sequences.
#[derive(Debug, Clone)]
pub struct HostileText(pub String);

impl HostileText {
    /// Inserts the hostile text before `text`.
    pub fn insert(&self, text: &mut String) {
        text.insert_str(0, &self.0);
    }

    fn insert_all<'a>(&self, texts: impl IntoIterator<Item = &'a mut String>) {
        texts.into_iter().for_each(|text| self.insert(text));
    }

    fn insert_into_path(&self, path: &mut PathBuf) {
        *path = PathBuf::from(format!("{}{}", self.0, path.display()));
    }

    /// Inserts the hostile text into all untrusted text of a message.
    pub fn insert_into(&self, message: &mut Msg) {
        match message {
            Msg::Exchange(update) => self.insert_into_update(update),
            Msg::Opened(Ok(opened)) => {
                self.insert_into_summary(&mut opened.summary);
                self.insert(&mut opened.branch.name);
                opened.messages.iter_mut().for_each(|message| self.insert_into_message(message));
            }
            Msg::Messages { result: Ok(messages), .. } => {
                messages.iter_mut().for_each(|message| self.insert_into_message(message));
            }
            Msg::Changed { result, .. } => match result.as_mut() {
                Ok(Changed::Rewound(rewound)) => {
                    self.insert_into_plan(&mut rewound.plan);
                    self.insert(&mut rewound.branch.name);
                }
                Ok(_) => {}
                Err(report) => self.insert_into_report(report),
            },
            Msg::RecentSessions(recent) => {
                recent.sessions.iter_mut().for_each(|row| self.insert_into_summary(row));
                self.insert_all(recent.last_words.iter_mut().map(|(_, text)| text));
            }
            Msg::PathsCompleted(completion) => self.insert_all(&mut completion.found.paths),
            Msg::PicturesNotSeen { names } => self.insert_all(names),
            Msg::ExportPrepared { result: Ok(choices), .. } => {
                for (format, path) in choices {
                    self.insert(&mut format.about);
                    self.insert_into_path(path);
                }
            }
            Msg::Failed(report) => self.insert_into_report(report),
            Msg::Plugins(view) => self.insert_into_plugins(view),
            Msg::PluginRan { command, result: Ok(text) } => self.insert_all([command, text]),
            Msg::History(texts) => self.insert_all(texts),
            Msg::Agents(view) => {
                for agent in &mut view.agents {
                    self.insert_all([&mut agent.title, &mut agent.about]);
                }
            }
            Msg::PermissionAsked { request, .. } => self.insert_into_permission(request),
            Msg::Screen(message) => self.insert_into_screen_message(message),
            _ => {}
        }
    }

    fn insert_into_screen_message(&self, message: &mut ScreenMsg) {
        match message {
            ScreenMsg::Sessions { result: Ok(page), .. } => {
                page.items.iter_mut().for_each(|row| self.insert_into_summary(row));
            }
            ScreenMsg::SearchResults { result: Ok(results), .. } => {
                for hit in &mut results.hits {
                    self.insert_all([&mut hit.session_name, &mut hit.branch_name, &mut hit.snippet]);
                }
            }
            ScreenMsg::Preview { result: Ok(messages), .. } => {
                messages.iter_mut().for_each(|message| self.insert_into_message(message));
            }
            ScreenMsg::Checkpoints { result: Ok(checkpoints), .. } => {
                for checkpoint in checkpoints {
                    self.insert_into_trigger(&mut checkpoint.trigger);
                    self.insert_all(&mut checkpoint.label);
                }
            }
            ScreenMsg::Words(words) => self.insert_all(words.iter_mut().map(|(_, _, words)| words)),
            ScreenMsg::RewindPlanned(Ok(plan)) => self.insert_into_plan(plan),
            ScreenMsg::Branches { result: Ok(branches), .. } => {
                branches.iter_mut().for_each(|row| self.insert_into_branch(row));
            }
            ScreenMsg::Run { result: Ok(run), .. } => {
                run.events.iter_mut().for_each(|event| self.insert_into_event(event));
                run.snapshot = RunSnapshot::fold(&run.events);
            }
            ScreenMsg::Stats { result: Ok(stats), .. } => {
                for page in &mut stats.groupings {
                    let groups = std::mem::take(&mut page.groups).into_iter();
                    let hostile = |key: &str| GroupKey::Named(format!("{}{key}", self.0));
                    page.groups = groups.map(|(key, group)| (hostile(key.as_str()), group)).collect();
                }
            }
            ScreenMsg::InstallOutput(line) => self.insert(line),
            ScreenMsg::Progress(progress) => self.insert(&mut progress.item),
            ScreenMsg::Exported(Ok(exported)) => {
                self.insert_into_path(&mut exported.path);
                self.insert_all(&mut exported.warnings);
            }
            ScreenMsg::ExportFileExists(path) => self.insert_into_path(path),
            ScreenMsg::Imported(Ok(imported)) => self.insert_into_import(imported),
            ScreenMsg::Transcripts { found, .. } => {
                for transcripts in found {
                    self.insert(&mut transcripts.tool);
                    self.insert_into_path(&mut transcripts.path);
                }
            }
            ScreenMsg::Config(entries) => {
                for entry in entries {
                    self.insert_all([&mut entry.value, &mut entry.origin, &mut entry.about, &mut entry.key]);
                    self.insert_all(&mut entry.choices);
                }
            }
            _ => {}
        }
    }

    fn insert_into_permission(&self, request: &mut PermissionRequest) {
        self.insert_all([&mut request.agent, &mut request.title]);
        self.insert_all(request.command.iter_mut().chain(&mut request.always));
        self.insert_all(request.paths.iter_mut().chain(&mut request.text));
        for change in &mut request.changes {
            self.insert_all([&mut change.path, &mut change.new]);
            self.insert_all(&mut change.old);
        }
        request.input.iter_mut().for_each(|input| self.insert_into_json(input));
    }

    fn insert_into_update(&self, update: &mut Update) {
        match update {
            Update::SessionCreated { name: text, .. }
            | Update::NotSaved { reason: text }
            | Update::CheckpointFailed { reason: text } => self.insert(text),
            Update::Delta(delta) => match delta {
                ReplyDelta::Text(delta) => self.insert(&mut delta.text),
                ReplyDelta::Part(part) => self.insert_into_part(part),
                ReplyDelta::Output(delta) => self.insert(&mut delta.text),
            },
            Update::Sent(message) | Update::MessageEnded(message) => {
                self.insert_into_message(Arc::make_mut(message));
            }
            Update::ReplyStarted(agent) => {
                self.insert_all([&mut agent.name, &mut agent.summary]);
                self.insert_all(&mut agent.model);
            }
            Update::Event(event) => self.insert_into_event(Arc::make_mut(event)),
            _ => {}
        }
    }

    fn insert_into_report(&self, report: &mut ErrorReport) {
        self.insert(&mut report.message);
        self.insert_all(&mut report.suggestion);
    }

    fn insert_into_trigger(&self, trigger: &mut Trigger) {
        *trigger = Trigger::Event(format!("{}{trigger}", self.0));
    }

    fn insert_into_branch(&self, branch: &mut Branch) {
        self.insert(&mut branch.name);
    }

    fn insert_into_summary(&self, summary: &mut SessionSummary) {
        self.insert_all([&mut summary.session.name, &mut summary.branch]);
    }

    fn insert_into_plan(&self, plan: &mut RewindPlan) {
        if let StateAtPlace::Kept(checkpoint) = &mut plan.state {
            self.insert_into_trigger(&mut checkpoint.trigger);
            self.insert_all(&mut checkpoint.label);
        }
        let effects = &mut plan.side_effects;
        self.insert_all(effects.files.iter_mut().chain(&mut effects.commands));
        self.insert_all(effects.uncertain_files.iter_mut().chain(&mut effects.uncertain_commands));
        self.insert_into_branch(&mut plan.from);
        self.insert_into_branch(&mut plan.current);
        plan.prompt.iter_mut().for_each(|prompt| self.insert_into_message(prompt));
    }

    fn insert_into_message(&self, message: &mut Message) {
        self.insert_all(&mut message.content.agent);
        self.insert_all(&mut message.content.model);
        for value in message.content.extra.as_map_mut().values_mut() {
            self.insert_into_json(value);
        }
        message.content.parts.iter_mut().for_each(|part| self.insert_into_part(part));
    }

    fn insert_into_part(&self, part: &mut Part) {
        match part {
            Part::Text { text } | Part::Thinking { text, .. } => self.insert(text),
            Part::ToolCall { name, input, .. } => {
                self.insert(name);
                self.insert_into_json(input);
            }
            Part::ToolResult { output, .. } => self.insert(output),
            Part::Attachment { media_type, name, .. } => {
                self.insert(media_type);
                self.insert_all(name);
            }
            Part::Opaque { source, raw } => {
                self.insert(source);
                self.insert_into_json(raw);
            }
        }
    }

    /// Inserts the hostile text into every string of a JSON value, except into fields whose value must still parse,
    /// such as enum variants, ids and times.
    fn insert_into_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.insert(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.insert_into_json(item)),
            Value::Object(fields) => {
                const VARIANT_FIELDS: [&str; 6] = ["type", "status", "ending", "decision", "run", "at"];
                let texts = fields.iter_mut().filter(|(name, _)| !VARIANT_FIELDS.contains(&name.as_str()));
                texts.for_each(|(_, value)| self.insert_into_json(value));
            }
            _ => {}
        }
    }

    fn insert_into_event(&self, event: &mut Event) {
        let mut payload = serde_json::to_value(&event.payload).unwrap();
        // The id of a message would not parse with other text in it.
        payload.as_object_mut().unwrap().remove("answers");
        self.insert_into_json(&mut payload);
        event.payload = serde_json::from_value(payload).unwrap();
    }

    fn insert_into_import(&self, imported: &mut Imported) {
        for session in &mut imported.imported {
            self.insert_all([&mut session.file, &mut session.format, &mut session.name]);
        }
        for skipped in &mut imported.skipped {
            self.insert(&mut skipped.file);
            if let SkipReason::AlreadyImported { name }
            | SkipReason::NothingNew { name }
            | SkipReason::InTrash { name, .. } = &mut skipped.reason
            {
                self.insert(name);
            }
        }
        for (file, report) in &mut imported.failed {
            self.insert(file);
            self.insert_into_report(report);
        }
    }

    fn insert_into_plugins(&self, view: &mut PluginView) {
        for row in &mut view.plugins {
            self.insert_all([&mut row.name, &mut row.version, &mut row.reason]);
            self.insert_all(&mut row.capabilities);
        }
        for command in &mut view.commands {
            self.insert_all([&mut command.name, &mut command.about]);
        }
        for widget in &mut view.widgets {
            self.insert(&mut widget.plugin);
            for node in &mut widget.nodes {
                match node {
                    Node::Text(fragments) => self.insert_all(fragments.iter_mut().map(|(text, _)| text)),
                    Node::Gauge { label, .. } => self.insert(label),
                    Node::Table { header, rows } => {
                        self.insert_all(header);
                        self.insert_all(rows.iter_mut().flatten());
                    }
                    Node::Sparkline { .. } => {}
                }
            }
        }
        for request in &mut view.pending {
            self.insert_all([&mut request.plugin, &mut request.version, &mut request.about]);
            self.insert_all(&mut request.permissions);
            self.insert_all(&mut request.new_permissions);
        }
        view.notices.push(self.0.clone());
    }
}
