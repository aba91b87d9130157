//! aider's chat history, a Markdown file. A line with `# aider chat started at` begins a session. Lines with
//! `#### ` are the user's, lines with `> ` are the program's, and all others are the model's.

use hfs_core::{ImportError, Part, Role, Timestamp};
use serde_json::{Value, json};

use super::conversation::{ConversationTree, ImportedMessage};
use crate::detect::FormatProbe;
use crate::json::lines::{Line, Lines};
use crate::readers::ReportBuilder;
use crate::readers::{BEFORE, Output};
use crate::{Format, Source};

const NAME: &str = "aider";
const SESSION_START: &str = "# aider chat started at ";

pub(crate) struct Aider;

impl super::Reader for Aider {
    fn format(&self) -> Format {
        Format::Aider
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        let text = String::from_utf8_lossy(probe.bytes());
        text.lines().any(|line| line.starts_with(SESSION_START))
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let mut lines = Lines::new(source.open()?);
        let mut reader = ChatHistory {
            source,
            out: out.reborrow(),
            open: None,
            block: None,
            pending_report: ReportBuilder::default(),
            sessions: 0,
        };
        loop {
            let bytes = lines.consumed();
            let Some((number, line)) = lines.next().map_err(|error| source.io(error))? else { break };
            reader.out.progress(bytes)?;
            match line {
                Line::Text(text) => reader.line(&text)?,
                Line::TooLong { .. } => {
                    reader.pending_report.dropped(Some(number), "a line longer than 64 MiB");
                }
            }
        }
        reader.end_session()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Program,
    Model,
}

struct ChatHistory<'a> {
    source: &'a Source,
    out: Output<'a>,
    open: Option<ConversationTree>,
    block: Option<(Speaker, Vec<String>)>,
    /// Lines of the current session that were dropped.
    pending_report: ReportBuilder,
    sessions: u64,
}

impl ChatHistory<'_> {
    fn line(&mut self, line: &str) -> Result<(), ImportError> {
        if let Some(started) = line.strip_prefix(SESSION_START) {
            self.end_session()?;
            self.begin_session(Some(started.trim()));
            return Ok(());
        }
        let (speaker, text) = if let Some(text) = line.strip_prefix("#### ") {
            (Speaker::User, text.strip_suffix("  ").unwrap_or(text))
        } else if line == "####" {
            (Speaker::User, "")
        } else if let Some(text) = line.strip_prefix("> ").or_else(|| (line == ">").then_some("")) {
            (Speaker::Program, text)
        } else {
            (Speaker::Model, line)
        };
        let blank = speaker == Speaker::Model && text.trim().is_empty();
        match &mut self.block {
            Some((open, lines)) if *open == speaker => lines.push(text.to_owned()),
            // A blank line ends a block of the user or of the program, and does not start a new one.
            Some(_) if blank => self.end_block(),
            None if blank => {}
            _ => {
                self.end_block();
                self.block = Some((speaker, vec![text.to_owned()]));
            }
        }
        Ok(())
    }

    /// Converts the current block of lines into a message.
    fn end_block(&mut self) {
        let Some((speaker, lines)) = self.block.take() else { return };
        let text = lines.join("\n");
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.open.is_none() {
            self.begin_session(None);
        }
        let Some(open) = &mut self.open else { return };
        if speaker == Speaker::Program {
            open.report.opaque();
            open.other_records.push(text.into());
            return;
        }
        open.report.mapped();

        let role = if speaker == Speaker::User { Role::User } else { Role::Assistant };
        let id = (open.nodes.len() + 1).to_string();
        let at = open.session.created_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut message = ImportedMessage::new(NAME, id, role, vec![Part::text(text)], at);
        let others = std::mem::take(&mut open.other_records);
        if !others.is_empty() {
            message.draft.extra.insert(BEFORE.into(), Value::Array(others));
        }
        open.push_messages(vec![message]);
    }

    fn begin_session(&mut self, started: Option<&str>) {
        self.sessions += 1;
        let path = self.source.path().map(|path| path.display().to_string()).unwrap_or_default();
        let folder = blake3::hash(path.as_bytes()).to_hex();
        let folder: String = folder.chars().take(8).collect();
        let id = format!("{folder}/{}/{}", self.sessions, started.unwrap_or_default());
        let mut conversation = ConversationTree::new(self.source, NAME, id);
        conversation.session.positional_ids = true;
        if let Some(started) = started {
            conversation.session.extra.insert("started_local".into(), json!(started.replacen(' ', "T", 1)));
        }
        self.open = Some(conversation);
    }

    fn end_session(&mut self) -> Result<(), ImportError> {
        self.end_block();
        if let Some(mut open) = self.open.take() {
            open.report.merge(std::mem::take(&mut self.pending_report));
            open.send_to(&mut self.out)?;
        }
        Ok(())
    }
}
