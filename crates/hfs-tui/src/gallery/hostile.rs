//! Every text that comes from outside, with something before it that must never reach the terminal.

use std::path::PathBuf;
use std::sync::Arc;

use hfs_core::{AgentDescription, Branch, Event, Message, Part, RunSnapshot, SessionSummary};
use hfs_engine::{RewindPlan, Update};
use serde_json::Value;

use crate::message::{Changed, Msg};
use crate::parts::{Failure, Imported, Node, PluginView};

/// What goes before every text.
#[derive(Debug, Clone)]
pub struct Poison(pub String);

impl Poison {
    /// Puts it before this text.
    pub fn text(&self, text: &mut String) {
        text.insert_str(0, &self.0);
    }

    fn texts<'a>(&self, texts: impl IntoIterator<Item = &'a mut String>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn path(&self, path: &mut PathBuf) {
        *path = PathBuf::from(format!("{}{}", self.0, path.display()));
    }

    /// Puts it into everything that came from outside in this message.
    pub fn message(&self, message: &mut Msg) {
        match message {
            Msg::Update(update) => self.update(update),
            Msg::Opened(Ok(opened)) => {
                self.summary(&mut opened.summary);
                self.text(&mut opened.branch.name);
                opened.messages.iter_mut().for_each(|said| self.said(said));
            }
            Msg::Messages { result: Ok(messages), .. } => {
                messages.iter_mut().for_each(|said| self.said(said));
            }
            Msg::Changed(changed) => match changed.as_mut() {
                Ok(Changed::Rewound(rewound)) => {
                    self.plan(&mut rewound.plan);
                    self.text(&mut rewound.branch.name);
                }
                Ok(_) => {}
                Err(failure) => self.failure(failure),
            },
            Msg::Sessions { result: Ok(page), .. } => page.items.iter_mut().for_each(|row| self.summary(row)),
            Msg::Found { result: Ok(results), .. } => {
                for hit in &mut results.hits {
                    self.texts([&mut hit.session_name, &mut hit.branch_name, &mut hit.snippet]);
                }
            }
            Msg::Checkpoints { result: Ok(checkpoints), .. } => {
                for checkpoint in checkpoints {
                    self.text(&mut checkpoint.trigger);
                    self.texts(&mut checkpoint.label);
                }
            }
            Msg::Planned(Ok(plan)) => self.plan(plan),
            Msg::Branches { result: Ok(branches), .. } => {
                branches.iter_mut().for_each(|row| self.branch(row));
            }
            Msg::Run(Ok(run)) => {
                run.events.iter_mut().for_each(|event| self.event(event));
                run.snapshot = RunSnapshot::fold(&run.events);
            }
            Msg::Failed(failure) => self.failure(failure),
            other => self.part(other),
        }
    }

    /// What comes from files, the configuration and plugins.
    fn part(&self, message: &mut Msg) {
        match message {
            Msg::Progress { what, .. } => self.text(what),
            Msg::ExportPrepared { result: Ok(choices), .. } => {
                for (format, path) in choices {
                    self.text(&mut format.about);
                    self.path(path);
                }
            }
            Msg::Exported(Ok(exported)) => {
                self.path(&mut exported.path);
                self.texts(&mut exported.warnings);
            }
            Msg::Imported(Ok(imported)) => self.imported(imported),
            Msg::Transcripts { found, .. } => {
                for transcripts in found {
                    self.text(&mut transcripts.tool);
                    self.path(&mut transcripts.path);
                }
            }
            Msg::Config(entries) => {
                for entry in entries {
                    self.texts([&mut entry.value, &mut entry.origin, &mut entry.about, &mut entry.key]);
                    self.texts(&mut entry.choices);
                }
            }
            Msg::Plugins(view) => self.plugins(view),
            Msg::PluginRan { command, result: Ok(text) } => self.texts([command, text]),
            Msg::History(texts) => self.texts(texts),
            _ => {}
        }
    }

    fn update(&self, update: &mut Update) {
        match update {
            Update::SessionCreated { name: text, .. }
            | Update::Reply { text, .. }
            | Update::NotSaved { reason: text }
            | Update::CheckpointFailed { reason: text } => self.text(text),
            Update::Sent(message) => self.said(Arc::make_mut(message)),
            Update::Answering(AgentDescription { name, model, summary }) => {
                self.texts([name, summary]);
                self.texts(model);
            }
            Update::Event(event) => self.event(Arc::make_mut(event)),
            _ => {}
        }
    }

    fn failure(&self, failure: &mut Failure) {
        self.text(&mut failure.message);
        self.texts(&mut failure.hint);
    }

    fn branch(&self, branch: &mut Branch) {
        self.text(&mut branch.name);
    }

    fn summary(&self, summary: &mut SessionSummary) {
        self.texts([&mut summary.session.name, &mut summary.branch]);
    }

    fn plan(&self, plan: &mut RewindPlan) {
        self.text(&mut plan.checkpoint.trigger);
        self.texts(&mut plan.checkpoint.label);
        self.branch(&mut plan.from);
        plan.prompt.iter_mut().for_each(|prompt| self.said(prompt));
    }

    fn said(&self, message: &mut Message) {
        self.texts(&mut message.content.agent);
        self.texts(&mut message.content.model);
        for value in message.content.extra.values_mut() {
            self.json(value);
        }
        for part in &mut message.content.parts {
            match part {
                Part::Text { text } | Part::Thinking { text, .. } => self.text(text),
                Part::ToolCall { name, input, .. } => {
                    self.text(name);
                    self.json(input);
                }
                Part::ToolResult { output, .. } => self.text(output),
                Part::Attachment { media_type, name, .. } => {
                    self.text(media_type);
                    self.texts(name);
                }
                Part::Opaque { source, raw } => {
                    self.text(source);
                    self.json(raw);
                }
            }
        }
    }

    /// Into every text of a document, but for the words that decide what it is.
    fn json(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(fields) => {
                const DECIDING: [&str; 6] = ["type", "status", "ending", "decision", "run", "at"];
                let outside = fields.iter_mut().filter(|(name, _)| !DECIDING.contains(&name.as_str()));
                outside.for_each(|(_, value)| self.json(value));
            }
            _ => {}
        }
    }

    fn event(&self, event: &mut Event) {
        let mut payload = serde_json::to_value(&event.payload).unwrap();
        payload.as_object_mut().unwrap().remove("answers");
        self.json(&mut payload);
        event.payload = serde_json::from_value(payload).unwrap();
    }

    fn imported(&self, imported: &mut Imported) {
        for taken in &mut imported.imported {
            self.texts([&mut taken.file, &mut taken.format, &mut taken.name]);
        }
        for skipped in &mut imported.skipped {
            self.texts([&mut skipped.file, &mut skipped.reason]);
        }
        for (file, failure) in &mut imported.failed {
            self.text(file);
            self.failure(failure);
        }
    }

    fn plugins(&self, view: &mut PluginView) {
        for row in &mut view.plugins {
            self.texts([&mut row.name, &mut row.version, &mut row.state, &mut row.reason]);
            self.texts(&mut row.capabilities);
        }
        for command in &mut view.commands {
            self.texts([&mut command.name, &mut command.about]);
        }
        for widget in &mut view.widgets {
            self.text(&mut widget.plugin);
            for node in &mut widget.nodes {
                match node {
                    Node::Text(pieces) => self.texts(pieces.iter_mut().map(|(text, _)| text)),
                    Node::Gauge { label, .. } => self.text(label),
                    Node::Table { header, rows } => {
                        self.texts(header);
                        self.texts(rows.iter_mut().flatten());
                    }
                    Node::Sparkline { .. } => {}
                }
            }
        }
        for request in &mut view.pending {
            self.texts([&mut request.plugin, &mut request.version, &mut request.about]);
            self.texts(&mut request.permissions);
            self.texts(&mut request.new_permissions);
        }
        view.notices.push(self.0.clone());
    }
}
