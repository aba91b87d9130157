//! aider's chat history, a Markdown file. A line with `# aider chat started at` begins a session. Lines with
//! `#### ` are the user's, lines with `> ` are the program's, and all others are the model's.
//!
//! An answer may contain headings and quotations that look the same. aider ends the lines that it writes itself with two
//! blanks, except for the first lines of long outputs. Programs that strip white space at the ends of lines may have
//! removed the blanks from the whole file.

use hfs_core::{ImportError, MessageFlag, Part, Role, Timestamp};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::conversation::{ConversationTree, ImportedMessage};
use crate::detect::FormatProbe;
use crate::json::lines::{Line, Lines};
use crate::readers::BEFORE;
use crate::readers::{Output, ReportBuilder};
use crate::{Format, Source};

const NAME: &str = "aider";
const SESSION_START: &str = "# aider chat started at ";
const USER_PREFIX: &str = "#### ";
const PROGRAM_PREFIX: &str = "> ";
/// End of the lines that aider itself writes: a line break in Markdown.
const LINE_END: &str = "  ";

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
        let mut reader = ChatHistory {
            source,
            out: out.reborrow(),
            open: None,
            block: None,
            has_line_ends: has_line_ends(source)?,
            in_code: false,
            pending_report: ReportBuilder::default(),
            sessions: 0,
        };
        let mut lines = Lines::new(source.open()?);
        loop {
            let bytes = lines.consumed();
            let Some((number, line)) = lines.next().map_err(|error| source.io(error))? else { break };
            reader.out.progress(bytes)?;
            let last = match line {
                Line::Text(text) => text.into_owned(),
                Line::TooLong { .. } => {
                    reader.pending_report.dropped(Some(number), "a line longer than 64 MiB");
                    continue;
                }
            };
            // Without a line end, aider may not have finished the line.
            if lines.consumed() - bytes == last.len() as u64 && is_incomplete(&last) {
                reader.pending_report.dropped(Some(number), "an incomplete line at the end");
            } else {
                reader.line(&last)?;
            }
        }
        reader.end_session()
    }
}

/// Whether the beginning of a line does not show yet what the line is.
fn is_incomplete(line: &str) -> bool {
    line.starts_with(SESSION_START)
        || !line.is_empty() && [SESSION_START, USER_PREFIX, "> "].iter().any(|mark| mark.starts_with(line))
}

/// Whether the user's lines in the file end with two blanks.
fn has_line_ends(source: &Source) -> Result<bool, ImportError> {
    let mut lines = Lines::new(source.open()?);
    while let Some((_, line)) = lines.next().map_err(|error| source.io(error))? {
        if let Line::Text(text) = line
            && text.starts_with(USER_PREFIX)
            && text.ends_with(LINE_END)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Commands of aider whose arguments are not a prompt for the model.
const COMMANDS: [&str; 37] = [
    "/add",
    "/chat-mode",
    "/clear",
    "/commit",
    "/copy",
    "/copy-context",
    "/diff",
    "/drop",
    "/edit",
    "/editor",
    "/editor-model",
    "/exit",
    "/git",
    "/lint",
    "/load",
    "/ls",
    "/map",
    "/map-refresh",
    "/model",
    "/models",
    "/multiline-mode",
    "/paste",
    "/quit",
    "/read-only",
    "/reasoning-effort",
    "/report",
    "/reset",
    "/run",
    "/save",
    "/settings",
    "/test",
    "/think-tokens",
    "/tokens",
    "/undo",
    "/voice",
    "/weak-model",
    "/web",
];

/// Whether a line of the user is a command to aider, and not a prompt for the model.
fn is_command(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| COMMANDS.contains(&word))
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
    /// Whether the user's lines end with two blanks.
    has_line_ends: bool,
    /// Whether the current block of the model is inside a code fence.
    in_code: bool,
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
        let (speaker, text) = self.speaker(line);
        // A command is one line, and a message of its own. Further lines of a prompt may look like commands.
        let ends_input = match &self.block {
            Some((Speaker::User, lines)) => lines.first().is_some_and(|line| is_command(line)),
            _ => false,
        };
        let blank = speaker == Speaker::Model && text.trim().is_empty();
        match &mut self.block {
            Some((open, lines)) if *open == speaker && !ends_input => lines.push(text.to_owned()),
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

    /// The author of a line, and the line without its prefix.
    fn speaker<'l>(&mut self, line: &'l str) -> (Speaker, &'l str) {
        let is_whole = line.ends_with(LINE_END);
        let in_answer = matches!(self.block, Some((Speaker::Model, _)));
        self.in_code &= in_answer;
        if let Some(text) = line.strip_prefix(USER_PREFIX)
            && (is_whole || !self.has_line_ends && !self.in_code)
        {
            return (Speaker::User, text.strip_suffix(LINE_END).unwrap_or(text));
        }
        if line == "####" && !self.in_code {
            return (Speaker::User, "");
        }
        // The first lines of a long output have no blanks at their ends.
        if let Some(text) = line.strip_prefix(PROGRAM_PREFIX).or_else(|| (line == ">").then_some(""))
            && (is_whole || !self.in_code)
        {
            return (Speaker::Program, text);
        }
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            self.in_code = !self.in_code;
        }
        (Speaker::Model, line)
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
        let at = open.session.created_at.unwrap_or(Timestamp::UNKNOWN);
        let is_command = role == Role::User && is_command(text);
        let mut message = ImportedMessage::new(NAME, id, role, vec![Part::text(text)], at)
            .flagged(MessageFlag::Meta, is_command);
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
            // aider writes local times.
            conversation.session.created_at = crate::time::parse_in(started, &TimeZone::system());
            conversation.session.updated_at = conversation.session.created_at;
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
