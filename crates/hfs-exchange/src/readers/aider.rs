//! aider's chat history: Markdown in which `# aider chat started at` begins a session, `#### ` lines are the
//! user's, `> ` lines what the program printed, and the rest the model's.

use hfs_core::{ImportError, Part, Role, SessionSink, Timestamp};
use serde_json::{Value, json};

use super::conversation::{Conversation, Drafted};
use crate::detect::Head;
use crate::json::lines::{Line, Lines};
use crate::readers::BEFORE;
use crate::tally::Tally;
use crate::{Format, Source};

const NAME: &str = "aider";
const START: &str = "# aider chat started at ";

pub(crate) struct Aider;

impl super::Reader for Aider {
    fn format(&self) -> Format {
        Format::Aider
    }

    fn recognizes(&self, head: &Head) -> bool {
        let text = String::from_utf8_lossy(head.bytes());
        text.lines().any(|line| line.starts_with(START))
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let mut lines = Lines::new(source.open()?);
        let mut reader = History { source, sink, open: None, run: None, lost: Tally::default(), sessions: 0 };
        loop {
            let bytes = lines.consumed();
            let Some((number, line)) = lines.next().map_err(|error| source.io(error))? else { break };
            super::go_on(source, reader.sink, bytes)?;
            match line {
                Line::Text(text) => reader.line(&text)?,
                Line::TooLong { .. } => reader.lost.dropped(Some(number), "a line longer than 64 MiB"),
            }
        }
        reader.end()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Program,
    Model,
}

struct History<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    open: Option<Conversation>,
    run: Option<(Speaker, Vec<String>)>,
    lost: Tally,
    sessions: u64,
}

impl History<'_> {
    fn line(&mut self, line: &str) -> Result<(), ImportError> {
        if let Some(started) = line.strip_prefix(START) {
            self.end()?;
            self.begin(Some(started.trim()));
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
        match &mut self.run {
            Some((open, lines)) if *open == speaker => lines.push(text.to_owned()),
            // A blank line ends a run of the user's and of the program's, and begins nothing.
            Some(_) if blank => self.close(),
            None if blank => {}
            _ => {
                self.close();
                self.run = Some((speaker, vec![text.to_owned()]));
            }
        }
        Ok(())
    }

    /// Turns the run of lines that has ended into a message.
    fn close(&mut self) {
        let Some((speaker, lines)) = self.run.take() else { return };
        let text = lines.join("\n");
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.open.is_none() {
            self.begin(None);
        }
        let Some(open) = &mut self.open else { return };
        if speaker == Speaker::Program {
            open.tally.opaque();
            open.events.push(text.into());
            return;
        }
        open.tally.mapped();

        let role = if speaker == Speaker::User { Role::User } else { Role::Assistant };
        let id = (open.nodes.len() + 1).to_string();
        let at = open.session.created_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut drafted = Drafted::new(NAME, id, role, vec![Part::text(text)], at);
        let events = std::mem::take(&mut open.events);
        if !events.is_empty() {
            drafted.draft.extra.insert(BEFORE.into(), Value::Array(events));
        }
        open.say(vec![drafted]);
    }

    fn begin(&mut self, started: Option<&str>) {
        self.sessions += 1;
        let place = self.source.path().map(|path| path.display().to_string()).unwrap_or_default();
        let folder = blake3::hash(place.as_bytes()).to_hex();
        let folder: String = folder.chars().take(8).collect();
        let id = format!("{folder}/{}/{}", self.sessions, started.unwrap_or_default());
        let mut conversation = Conversation::new(self.source, NAME, id);
        if let Some(started) = started {
            conversation.session.extra.insert("started_local".into(), json!(started.replacen(' ', "T", 1)));
        }
        self.open = Some(conversation);
    }

    fn end(&mut self) -> Result<(), ImportError> {
        self.close();
        if let Some(mut open) = self.open.take() {
            open.tally.absorb(std::mem::take(&mut self.lost));
            open.hand_over(self.sink)?;
        }
        Ok(())
    }
}
