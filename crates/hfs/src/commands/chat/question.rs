//! Questions of an agent on the terminal: what it wants to do, and the user's answer.
//!
//! The printer's thread shows a question and waits for its answer, so that the reply and the question never mix.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use async_trait::async_trait;
use hfs_acp::PermissionQuestion;
use hfs_core::{DiffLine, changed_lines, lock_unpoisoned, plural};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::PrinterInput;
use crate::output::console::Console;
use crate::output::sanitize;
use crate::permissions::{Answer, Asker, action};

/// Lines of a change or of another text that are shown.
const MAX_LINES: usize = 40;
/// Equal lines that are shown around a change.
const CONTEXT_LINES: usize = 2;
/// How often a question looks whether the turn was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(50);
/// Limits the memory if the terminal sends no line breaks.
const MAX_ANSWER_BYTES: u64 = 1000;

/// Explains the answers.
const ANSWER_HELP: &str = "\
  y  the agent does it this time
  n  it does not, and is told so; Enter says the same
";
/// Explains the answers that are remembered.
const ALWAYS_HELP: &str = "\
  a  it may do what is named in brackets whenever it works in this project
  v  it may never do that here; `hfs permissions` lists such decisions and revokes them
";

/// A question that waits to be shown.
pub struct OpenQuestion {
    text: String,
    /// Whether "always" and "never" are offered.
    offers_always: bool,
    answer: oneshot::Sender<Option<Answer>>,
}

/// Asks on the terminal, through the printer of the reply.
pub struct TerminalAsker {
    can_ask: bool,
    /// Where questions are shown, once the printer has started.
    printer: Mutex<Option<Sender<PrinterInput>>>,
}

impl TerminalAsker {
    pub fn new(console: &Console) -> Self {
        let can_ask = console.error_is_terminal() && io::stdin().is_terminal() && !console.options.json;
        Self { can_ask, printer: Mutex::default() }
    }

    pub fn set_printer(&self, printer: Sender<PrinterInput>) {
        *lock_unpoisoned(&self.printer) = Some(printer);
    }
}

#[async_trait]
impl Asker for TerminalAsker {
    async fn ask(&self, question: &PermissionQuestion, covers: Option<String>) -> Option<Answer> {
        if !self.can_ask {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let text = describe(question, covers.as_deref());
        let open = OpenQuestion { text, offers_always: covers.is_some(), answer };
        lock_unpoisoned(&self.printer).as_ref()?.send(PrinterInput::Question(open)).ok()?;
        answered.await.ok().flatten()
    }
}

/// The question with what would be done, without anything that controls the terminal.
fn describe(question: &PermissionQuestion, covers: Option<&str>) -> String {
    let agent = sanitize::line(&question.agent);
    let mut text =
        format!("{agent} asks to {}: {}\n", action(question.kind), sanitize::line(&question.title));
    let mut add_lines = |lines: &mut dyn Iterator<Item = String>| {
        let lines: Vec<String> = lines.collect();
        for line in lines.iter().take(MAX_LINES) {
            text.push_str(&format!("  {line}\n"));
        }
        if let Some(more) = lines.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            text.push_str(&format!("  ... {}\n", plural(more, "more line")));
        }
    };
    if let Some(command) = question.command() {
        add_lines(&mut sanitize::block(&command).lines().map(|line| format!("$ {line}")));
    }
    for change in &question.changes {
        let what = if change.old.is_some() { "change" } else { "create" };
        let path = sanitize::line(&change.path.display().to_string());
        let shown = shown_lines(change.old.as_deref().unwrap_or_default(), &change.new);
        add_lines(&mut std::iter::once(format!("{what} {path}")).chain(shown));
    }
    if question.changes.is_empty() {
        let paths = question.locations.iter().map(|path| sanitize::line(&path.display().to_string()));
        add_lines(&mut paths.map(|path| format!("file {path}")));
    }
    if question.command().is_none() && question.changes.is_empty() {
        let input = question.input.as_ref().map(|input| sanitize::line(&input.to_string()));
        add_lines(&mut input.into_iter());
    }
    for words in &question.text {
        add_lines(&mut sanitize::block(words).lines().map(str::to_owned));
    }
    let always =
        covers.map(|covers| format!(", a = always here ({}), v = never here", sanitize::line(covers)));
    text.push_str(&format!("allow? y = yes{}, n = no [n] ", always.unwrap_or_default()));
    text
}

/// The changed lines with a little context.
fn shown_lines(old: &str, new: &str) -> Vec<String> {
    let shown = changed_lines(old, new, CONTEXT_LINES).into_iter().map(|line| match line {
        DiffLine::Same(line) => format!("  {}", sanitize::block(line)),
        DiffLine::Removed(line) => format!("- {}", sanitize::block(line)),
        DiffLine::Added(line) => format!("+ {}", sanitize::block(line)),
    });
    shown.collect()
}

impl OpenQuestion {
    /// Shows the question and waits for the answer, or until `cancel` is cancelled. An answer that is none of the letters is
    /// explained, and the question asked again a few times; after that it is a no.
    pub fn ask(self, console: &Console, cancel: &CancellationToken) {
        const ATTEMPTS: usize = 3;
        if cancel.is_cancelled() || self.answer.is_closed() {
            return;
        }
        // What was typed before the question is not an answer to it.
        if hfs_tui::keep_typed_ahead() {
            console.print_stderr("\n");
        }
        console.print_stderr(&self.text);
        let mut answer = Answer::Once { allowed: false };
        for _ in 0..ATTEMPTS {
            let Some(line) = self.read_line(console, cancel) else { return };
            if let Some(given) = parse_answer(&line, self.offers_always) {
                answer = given;
                break;
            }
            let always = if self.offers_always { ALWAYS_HELP } else { "" };
            let question = self.text.lines().next_back().unwrap_or_default();
            console.print_stderr(&format!("{ANSWER_HELP}{always}{question}"));
        }
        // The turn may have ended.
        let _ = self.answer.send(Some(answer));
    }

    /// Reads a line from the terminal; `None` if the turn has ended before.
    fn read_line(&self, console: &Console, cancel: &CancellationToken) -> Option<String> {
        let (sender, receiver) = channel();
        // Its own thread: a read from the terminal cannot be interrupted. After a cancel, it ends with the process.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut line);
            let _ = sender.send(read.map(|_| line).unwrap_or_default());
        });
        loop {
            match receiver.recv_timeout(CANCEL_CHECK) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() || self.answer.is_closed() => {
                    console.print_stderr("\n");
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// The answer that was typed; `None` if it is none of the letters.
fn parse_answer(line: &str, offers_always: bool) -> Option<Answer> {
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(Answer::Once { allowed: true }),
        "n" | "no" | "" => Some(Answer::Once { allowed: false }),
        "a" | "always" if offers_always => Some(Answer::Always { allowed: true }),
        "v" | "never" if offers_always => Some(Answer::Always { allowed: false }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hfs_acp::{ActionKind, FileChange};
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_letter_or_enter_answers_a_question() {
        let allowed = |line: &str, offers_always| match parse_answer(line, offers_always) {
            Some(Answer::Once { allowed }) => Some((false, allowed)),
            Some(Answer::Always { allowed }) => Some((true, allowed)),
            None => None,
        };
        assert_eq!(allowed("Y\n", false), Some((false, true)));
        assert_eq!(allowed("\n", true), Some((false, false)));
        assert_eq!(allowed("a\n", true), Some((true, true)));
        assert_eq!(allowed("v\n", true), Some((true, false)));
        for unclear in ["?\n", "help\n", "yn\n"] {
            assert_eq!(allowed(unclear, true), None, "{unclear}");
        }
        assert_eq!(allowed("a\n", false), None);
    }

    #[test]
    fn a_question_shows_what_would_be_done_and_cannot_control_the_terminal() {
        let question = PermissionQuestion {
            agent: "claude".into(),
            call: "1".into(),
            title: "Run\u{1b}[2J it".into(),
            kind: ActionKind::Execute,
            input: Some(json!({"command": "echo 'a\u{1b}]0;x\u{7}b'\nrm -rf build"})),
            changes: vec![FileChange {
                path: "/src/a.rs".into(),
                old: Some("same\nold\n".into()),
                new: "same\nnew\n".into(),
            }],
            locations: Vec::new(),
            text: vec!["why".into()],
            request: serde_json::Value::Null,
        };
        assert_eq!(
            describe(&question, Some("execute rm")),
            "claude asks to run a command: Run it\n  $ echo 'ab'\n  $ rm -rf build\n  change /src/a.rs\n    same\n  - old\n  + new\n  why\n\
             allow? y = yes, a = always here (execute rm), v = never here, n = no [n] "
        );
        assert!(describe(&question, None).ends_with("allow? y = yes, n = no [n] "));
        let long = PermissionQuestion { text: vec!["line\n".repeat(100)], changes: Vec::new(), ..question };
        assert!(describe(&long, None).contains("... 60 more lines"));
    }
}
