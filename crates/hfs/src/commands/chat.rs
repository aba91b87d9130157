//! `hfs chat`: one exchange with an agent, without the terminal app.

mod question;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hfs_core::{
    AgentError, ContextUpdate, DecidedBy, DeltaKind, ErrorExt, ErrorKind, EventPayload, Message, OutputDelta,
    Part, Project, ReplyDelta, RequestEvent, Role, SessionId, Suggestion, TextDelta, ToolEvent, ToolInput,
    patched_files, plural,
};
use hfs_engine::{
    Conversation, Engine, Exchange, ORIGINAL_TEXT, Observer, OutgoingMessage, SendError, Update,
};
use indicatif::ProgressBar;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::args::AgentArgs;
use crate::config::Key;
use crate::context::Context;
use crate::output::console::Console;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{ChatJson, ChatRunJson, MessageJson};
use crate::output::sanitize::{self, Sanitizer};
use crate::permissions::Asker;
use crate::wiring::agent::{SelectedAgent, build_asking_agent};
use crate::wiring::programs;
use crate::{attachments, interrupt, wiring};
use question::{OpenQuestion, TerminalAsker};

const EXAMPLES: &str = "\
Examples:
  hfs chat \"Why does the login fail?\"     a new session
  hfs chat -c \"And on Windows?\"           continue this project's newest session
  hfs chat -s login \"Summarise this\"      continue a session by its name or id
  hfs chat --agent claude \"Fix it\"        Claude Code answers; --allow edit,execute lets it act without asking
  hfs chat --triads small \"Is it safe?\"   groups of agents discuss the question and reply together
  git diff | hfs chat \"Explain this\"      what is piped in follows the message
  hfs chat - < question.txt               read the message from standard input

The reply streams to standard output, and a line for each tool call of the agent to standard error. Your message is saved before it is sent, and the reply while it arrives. Ctrl-C \
stops the reply and keeps what has arrived (exit code 130).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    /// The message, followed by what is piped in; without it or with -, it is read from standard input
    prompt: Option<String>,
    /// Continue this session
    #[arg(short, long, conflicts_with = "continue_newest")]
    session: Option<String>,
    /// Continue this project's newest session
    #[arg(short = 'c', long = "continue")]
    continue_newest: bool,
    /// Send this file with the message: text, or a picture (may be repeated)
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    pub agent_args: AgentArgs,
}

pub fn run(args: &ChatArgs, context: &Context) -> Result<Outcome, CliError> {
    let message = attachments::attach(&read_prompt(args, context)?, &args.files, &context.environment)?;
    let session = match &args.session {
        Some(reference) => Some(context.session(reference)?),
        None if args.continue_newest => Some(context.session("@")?),
        None => None,
    };
    let cancel = interrupt::install()?;
    wiring::runtime()?.block_on(exchange(session, message, cancel, context))
}

/// Returns the message: the prompt, and below it what is piped in.
fn read_prompt(args: &ChatArgs, context: &Context) -> Result<String, CliError> {
    // Files can be sent without words.
    let prompt = args.prompt.as_deref().or_else(|| (!args.files.is_empty()).then_some(""));
    let Some(prompt) = prompt.filter(|text| *text != "-") else {
        if args.prompt.is_none() && io::stdin().is_terminal() {
            context.console.note("type your message; Ctrl-D on an empty line sends it");
        }
        return read_stdin(context.console);
    };
    if !is_piped_in() {
        return Ok(prompt.to_owned());
    }
    let (console, done) = (context.console, AtomicBool::new(false));
    let piped = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // A script that starts hfs with a pipe which it never closes would otherwise wait without a word.
            std::thread::park_timeout(QUIET_WAIT);
            if !done.load(Ordering::SeqCst) {
                console.note("reading standard input until its end; `< /dev/null` sends the message alone");
            }
        });
        let piped = read_stdin(console);
        done.store(true, Ordering::SeqCst);
        waiting.thread().unpark();
        piped
    })?;
    let texts = [prompt, &piped].into_iter().filter(|text| !text.is_empty());
    Ok(texts.collect::<Vec<_>>().join("\n\n"))
}

/// How long `hfs chat` reads standard input before it says so.
const QUIET_WAIT: Duration = Duration::from_secs(2);

/// Whether standard input is a pipe or a file. A terminal or another device has nothing to read, and a socket belongs to a
/// supervisor such as systemd.
fn is_piped_in() -> bool {
    use rustix::fs::{FileType, fstat};
    fstat(io::stdin()).is_ok_and(|stat| {
        matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::RegularFile)
    })
}

/// Reads a text from standard input.
///
/// # Errors
/// `Invalid` if it contains a NUL byte, as pictures and programs do. Other bytes that are not UTF-8 are replaced, with a warning:
/// a diff may contain a line in another encoding.
fn read_stdin(console: Console) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|error| CliError::io("read standard input", error))?;
    if bytes.contains(&0) {
        return Err(CliError::with_hint(
            ErrorKind::Invalid,
            "standard input is not a text: it contains NUL bytes",
            "--file sends a picture; a text in UTF-16 can be converted with iconv",
        ));
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|error| {
        console.warn("standard input is not all UTF-8; the bytes that are not are sent as \u{fffd}");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    });
    Ok(text.trim_end().to_owned())
}

async fn exchange(
    session: Option<SessionId>,
    message: OutgoingMessage,
    cancel: CancellationToken,
    context: &Context,
) -> Result<Outcome, CliError> {
    let asker = Arc::new(TerminalAsker::new(&context.console));
    let asking = Arc::clone(&asker) as Arc<dyn Asker>;
    let program = session.map(|session| programs::of_session(session, context)).transpose()?.flatten();
    let selected = match program {
        Some(name) => {
            context.console.note(&format!("{} continues this session", sanitize::line(&name)));
            build_asking_agent(&context.with_agent(&name)?, asking).await?
        }
        None => build_asking_agent(context, asking).await?,
    };
    selected.warnings.iter().for_each(|warning| context.console.warn(warning));
    let agent = Arc::clone(&selected.agent);
    let outcome = exchange_with(selected, &asker, session, message, cancel, context).await;
    // After the result was shown, an agent that is a program ends in its own time.
    agent.close().await;
    outcome
}

async fn exchange_with(
    SelectedAgent { agent, offline, .. }: SelectedAgent,
    asker: &TerminalAsker,
    session: Option<SessionId>,
    message: OutgoingMessage,
    cancel: CancellationToken,
    context: &Context,
) -> Result<Outcome, CliError> {
    let console = &context.console;
    let engine = wiring::engine(context, agent, Arc::clone(context.store()?), context.hooks()?);
    let mut conversation = match session {
        Some(session) => engine.resume(session, None).await?,
        None => Conversation::new(Some(Project::clone(context.project()))),
    };
    let agent = engine.agent().describe();
    if offline && !console.options.json {
        console.note(&format!("{}: {}", agent.name, agent.summary));
        if context.settings.agent.is_none()
            && let Some(program) =
                programs::installed(&context.settings.programs, &context.environment).next()
        {
            let title = sanitize::line(&program.title);
            console.note(&format!("{title} is installed; let it answer: hfs chat --agent {}", program.name));
        }
    } else if console.options.verbose {
        console.note(&sanitize::line(&agent.summary));
    }
    if !message.attachments.is_empty() && !agent.sees_images {
        let names: Vec<&str> = message.attachments.iter().map(|file| file.name.as_str()).collect();
        let names = sanitize::line(&names.join(", "));
        console.warn(&format!("{} does not look at pictures; {names} is saved with the message", agent.name));
    }
    // The same command again, after its message was saved and its reply was not.
    let unanswered = match message.attachments.as_slice() {
        [] => engine.find_unanswered(&conversation, &message.text).await?,
        // The same text with another picture is another message.
        _ => None,
    };
    if let Some(user) = &unanswered {
        let branch = match engine.ask_again(&mut conversation, user).await? {
            Some(branch) => {
                format!(" on branch {}", sanitize::line(&engine.store().get_branch(branch)?.name))
            }
            None => String::new(),
        };
        console
            .note(&format!("this message is saved already, without a complete reply; asking again{branch}"));
    }
    let printer = ReplyPrinter::start(console, cancel.clone());
    asker.set_printer(printer.inputs.clone());
    let result = match unanswered {
        Some(user) => engine.generate_reply(&mut conversation, user, printer.observer(), cancel).await,
        None => engine.send(&mut conversation, message, printer.observer(), cancel).await,
    };
    printer.finish();
    engine.close_session(&conversation).await;
    if let Some(plugins) = context.plugins()? {
        plugins.take_notices().iter().for_each(|notice| console.warn(&sanitize::line(notice)));
    }
    let exchange = result.inspect_err(|error| print_unsaved_reply(error, console))?;
    exchange.messages().for_each(|message| show_changed_reply(message, console));
    report(exchange, session.is_none(), &engine, &conversation, context)
}

/// Shows a reply that a plugin has changed: what was streamed is not what was saved.
fn show_changed_reply(reply: &Message, console: &Console) {
    if reply.content.extra.get(ORIGINAL_TEXT).is_some() && !console.options.json {
        console.note("a plugin changed this reply; it is saved as:");
        console.print_stderr(&(sanitize::block(&reply.content.text()) + "\n"));
    }
}

/// If a reply could not be saved, prints it to standard error. Only needed with `--json`: otherwise the reply was
/// streamed to standard output.
fn print_unsaved_reply(error: &SendError, console: &Console) {
    if let SendError::ReplyNotSaved { messages, .. } = error
        && console.options.json
    {
        for message in messages {
            console.print_stderr(&(sanitize::block(&message.searchable_text()) + "\n"));
        }
    }
}

fn report(
    exchange: Exchange,
    is_new: bool,
    engine: &Engine,
    conversation: &Conversation,
    context: &Context,
) -> Result<Outcome, CliError> {
    let console = &context.console;
    let messages = exchange.messages().map(MessageJson::from).collect();
    let Exchange { reply, run, failure, .. } = exchange;
    let session = conversation.session().map(|id| id.to_string()).unwrap_or_default();
    let short = conversation.session().map(|id| id.short().shown().to_owned()).unwrap_or_default();
    if console.options.json {
        let branch = engine.store().get_branch(reply.branch)?.name;
        console.print_json(&ChatJson {
            session,
            branch,
            message: MessageJson::from(&reply),
            messages,
            run: ChatRunJson { id: run.id.to_string(), snapshot: &run.snapshot, events: &run.events },
        })?;
    } else if failure.is_none() && is_new && console.error_is_terminal() {
        console.note(&format!("saved as {short}; continue with: hfs chat -s {short} \"...\""));
    }
    if console.options.verbose && !console.options.json {
        let tokens = run.snapshot.usage.total().describe(|tokens| tokens.to_string());
        console
            .note(&format!("tokens: {tokens}, in {} of a model", plural(run.snapshot.usage.calls(), "call")));
    }
    match failure {
        None => Ok(Outcome::Done),
        Some(AgentError::Cancelled) if !console.options.json => {
            let kept = if reply.content.parts.is_empty() { "your message" } else { "the partial reply" };
            console.note(&format!("cancelled; {kept} is kept: hfs session show {short}"));
            Ok(Outcome::Interrupted)
        }
        Some(failure) => {
            if !reply.content.parts.is_empty() && !console.options.json {
                console.note(&format!(
                    "the reply is incomplete; the part that arrived is kept: hfs session show {short}"
                ));
            }
            // A server that cannot be reached or refuses the request may have been chosen by a setting, and so may a model
            // that it does not have.
            let keys: &[Key] = match failure.suggestion() {
                Some(Suggestion::CheckModel) => &[Key::Model],
                // The server was found, and the model replied or could have.
                Some(Suggestion::RaiseMaxTokens) => &[Key::MaxTokens],
                Some(Suggestion::RephraseMessage | Suggestion::ReduceContext) => &[],
                _ => &[Key::Provider, Key::Model, Key::BaseUrl],
            };
            Err(context.name_settings(failure.into(), keys))
        }
    }
}

/// Prints a reply while it streams. Until it starts, a status line shows the progress of the agents.
///
/// Prints on its own thread: a slow terminal or a closed pipe must not delay the saving of the reply. The channel is
/// unbounded for the same reason; a reply fits in memory.
struct ReplyPrinter {
    /// What to print.
    inputs: Sender<PrinterInput>,
    thread: JoinHandle<PrinterState>,
}

/// What the printer shows.
pub enum PrinterInput {
    Update(Update),
    /// A question of the agent. Its answer is waited for.
    Question(OpenQuestion),
    /// Ends the thread, because the channel stays open while the engine has the observer.
    End,
}

struct PrinterState {
    console: Console,
    /// Cancelled when the user stops the reply.
    cancel: CancellationToken,
    reply: Sanitizer,
    thinking: Sanitizer,
    /// Whether standard output is at the start of a line.
    at_line_start: bool,
    /// Whether standard output has been closed by its reader.
    output_closed: bool,
    /// Whether a warning about a failed save is on the screen.
    warned_unsaved: bool,
    /// Whether the last text was thinking. An empty line then separates it from the reply.
    was_thinking: bool,
    /// Whether a text of the turn is on standard output.
    has_printed_reply: bool,
    /// Whether the next text belongs to another message than the last one.
    follows_message: bool,
    /// The lines of tool calls without a result, by the ids of the calls.
    calls: HashMap<String, String>,
    status: Option<StatusLine>,
}

/// The line that shows what triads are doing, or what a request waits for, until the reply starts.
struct StatusLine {
    bar: ProgressBar,
    /// What is waited for.
    wait: String,
    phase: String,
    working_agents: usize,
    tokens: u64,
    /// Whether a server did not report its tokens.
    is_usage_unknown: bool,
}

impl ReplyPrinter {
    fn start(console: &Console, cancel: CancellationToken) -> Self {
        let (inputs, receiver) = channel();
        let state = PrinterState {
            console: *console,
            cancel,
            reply: Sanitizer::default(),
            thinking: Sanitizer::default(),
            at_line_start: true,
            output_closed: false,
            warned_unsaved: false,
            was_thinking: false,
            has_printed_reply: false,
            follows_message: false,
            calls: HashMap::new(),
            status: None,
        };
        let thread = std::thread::spawn(move || state.run(&receiver));
        Self { inputs, thread }
    }

    /// The observer to pass to the engine.
    fn observer(&self) -> Arc<dyn Observer> {
        let inputs = self.inputs.clone();
        Arc::new(move |update: Update| {
            // Sending fails only after `finish`, when the thread has ended and nothing is printed any more.
            let _ = inputs.send(PrinterInput::Update(update));
        })
    }

    /// Waits until everything is printed, and ends the last line of the reply.
    fn finish(self) {
        let _ = self.inputs.send(PrinterInput::End);
        if let Ok(mut state) = self.thread.join() {
            state.clear_status();
            state.end_line();
        }
    }
}

impl PrinterState {
    fn run(mut self, inputs: &Receiver<PrinterInput>) -> Self {
        loop {
            let update = match inputs.recv() {
                Ok(PrinterInput::Update(update)) => update,
                Ok(PrinterInput::Question(question)) => {
                    self.ask(question);
                    continue;
                }
                Ok(PrinterInput::End) | Err(_) => break,
            };
            match update {
                Update::MessageStarted { role } => self.start_message(role),
                Update::Delta(delta) => self.print_delta(delta),
                Update::NotSaved { reason } if !self.warned_unsaved => {
                    self.warned_unsaved = true;
                    let reason = sanitize::line(&reason);
                    self.print_line(&format!("warning: not saved yet: {reason}; retrying\n"));
                }
                Update::Saved if self.warned_unsaved => {
                    self.warned_unsaved = false;
                    self.print_line("everything is saved now\n");
                }
                Update::CheckpointFailed { reason } => {
                    let reason = sanitize::line(&reason);
                    self.print_line(&format!("warning: no checkpoint was created: {reason}\n"));
                }
                Update::Event(event) => self.handle_event(&event.payload),
                Update::Compacting { messages } => {
                    self.print_line(&format!(
                        "summarizing {} for the model's context ...\n",
                        plural(messages, "message")
                    ));
                }
                Update::Compacted(_) => {
                    self.print_line("the model now sees a summary of them; all of them stay saved\n");
                }
                Update::CompactionFailed { reason } => {
                    let reason = sanitize::line(&reason);
                    self.print_line(&format!("warning: the conversation was not summarized: {reason}\n"));
                }
                Update::Sent(message) if message.content.extra.get(ORIGINAL_TEXT).is_some() => {
                    let text = sanitize::block(&message.content.text());
                    self.print_line(&format!("a plugin changed your message to: {text}\n"));
                }
                _ => {}
            }
        }
        self
    }

    fn ask(&mut self, question: OpenQuestion) {
        self.clear_status();
        self.end_line();
        question.ask(&self.console, &self.cancel);
    }

    /// Reports what an agent does beside its messages.
    fn handle_tool_event(&mut self, event: &ToolEvent) {
        if let Some(text) = event.describe_handover() {
            self.print_line(&format!("{}\n", sanitize::line(&text)));
        }
        match event {
            ToolEvent::PermissionDecided { agent, title, kind, by: DecidedBy::NoTerminal, .. } => {
                let (agent, title, kind) =
                    (sanitize::line(agent), sanitize::line(title), sanitize::line(kind));
                self.print_line(&format!(
                    "warning: {agent} was refused, because there is no terminal to ask on: {title}; --allow {kind} allows it\n"
                ));
            }
            ToolEvent::NoticeReceived { agent, .. } => {
                let text = sanitize::line(&event.describe());
                self.print_line(&format!("{}: {text}\n", sanitize::line(agent)));
            }
            _ => {}
        }
    }

    const fn is_verbose(&self) -> bool {
        self.console.options.verbose && !self.console.options.json
    }

    fn handle_event(&mut self, payload: &EventPayload) {
        let is_verbose = self.is_verbose();
        if let Some(event) = RequestEvent::read(payload) {
            self.handle_request_event(&event);
            return;
        }
        if let Some(event) = ToolEvent::read(payload) {
            self.handle_tool_event(&event);
            return;
        }
        if let Some(left_out) = ContextUpdate::read(payload).and_then(|update| update.describe_left_out()) {
            let hint = "`hfs compact @` summarizes a conversation";
            self.print_line(&format!("warning: {}; {hint}\n", sanitize::line(&left_out)));
            return;
        }
        match (payload, &mut self.status) {
            (EventPayload::TriadDegraded { triad, lost }, _) => {
                let (triad, lost) = (sanitize::line(triad), sanitize::line(&lost.join(", ")));
                self.print_line(&format!("warning: the triad {triad} continues without {lost}\n"));
            }
            // The error of the run itself is reported at the end.
            (EventPayload::ErrorOccurred { agent: None, phase: None, .. }, _) => {}
            (EventPayload::ErrorOccurred { message, .. }, _) if is_verbose => {
                self.print_line(&format!("{}\n", sanitize::line(message)));
            }
            (EventPayload::PhaseStarted { phase }, status) => {
                let status = status.get_or_insert_with(|| StatusLine::new(&self.console));
                status.phase = sanitize::line(phase);
                status.update();
            }
            (EventPayload::AgentStarted { .. }, Some(status)) => {
                status.working_agents += 1;
                status.wait.clear();
                status.update();
            }
            (EventPayload::AgentEnded { .. }, Some(status)) => {
                status.working_agents = status.working_agents.saturating_sub(1);
                status.update();
            }
            (EventPayload::UsageRecorded { usage, .. }, Some(status)) => {
                status.tokens += usage.total();
                status.update();
            }
            (EventPayload::UsageUnknown { .. }, Some(status)) => status.is_usage_unknown = true,
            _ => {}
        }
    }

    fn handle_request_event(&mut self, event: &RequestEvent) {
        // The agent of a single model is not named: its user has chosen it.
        let agent = if self.status.as_ref().is_some_and(|status| !status.phase.is_empty()) {
            format!("{}: ", sanitize::line(event.agent()))
        } else {
            String::new()
        };
        let text = format!("{agent}{}", sanitize::line(&event.describe()));
        match event {
            RequestEvent::LeftOut { .. } => self.print_line(&format!("warning: {text}\n")),
            // A status line is shown on a terminal only, and its text disappears.
            RequestEvent::Retrying { .. } if !self.console.error_is_terminal() => {
                self.print_line(&format!("{text}\n"));
            }
            // Output that has begun shares its line with the cursor.
            _ if self.at_line_start => {
                let status = self.status.get_or_insert_with(|| StatusLine::new(&self.console));
                status.wait = text;
                status.update();
            }
            _ => {}
        }
    }

    fn clear_status(&mut self) {
        if let Some(status) = self.status.take() {
            status.bar.finish_and_clear();
        }
    }

    /// Begins another message of the turn: an empty line separates what the agent says from what it said before.
    fn start_message(&mut self, role: Role) {
        if role == Role::Assistant {
            self.follows_message = self.has_printed_reply;
        }
    }

    fn print_delta(&mut self, delta: ReplyDelta) {
        match delta {
            ReplyDelta::Text(TextDelta { kind: DeltaKind::Text, text }) => self.print_reply(&text),
            ReplyDelta::Text(TextDelta { kind: DeltaKind::Thinking, text }) => {
                if self.is_verbose() {
                    self.clear_status();
                    self.was_thinking = true;
                    let text = self.thinking.push(&text);
                    self.console.print_stderr(&text);
                }
            }
            ReplyDelta::Part(Part::ToolCall { id, name, input }) => self.print_call(&id, &name, &input),
            ReplyDelta::Part(Part::ToolResult { id, is_error: true, .. })
            | ReplyDelta::Output(OutputDelta { id, is_error: true, .. }) => self.print_failed_call(&id),
            ReplyDelta::Part(_) | ReplyDelta::Output(_) => {}
        }
    }

    /// Prints a tool call on standard error, in one line, when its arguments are known.
    fn print_call(&mut self, id: &str, name: &str, input: &Value) {
        let line = format!("{}  {}", sanitize::line(name), call_summary(input));
        let line = line.trim_end().to_owned();
        let is_new = self.calls.get(id) != Some(&line);
        if is_new {
            self.clear_status();
            self.end_line();
            self.print_line(&format!("> {line}\n"));
            self.calls.insert(id.to_owned(), line);
        }
    }

    fn print_failed_call(&mut self, id: &str) {
        if let Some(line) = self.calls.remove(id) {
            self.print_line(&format!("! {line} failed\n"));
        }
    }

    fn print_reply(&mut self, text: &str) {
        if self.console.options.json || self.output_closed {
            return;
        }
        self.clear_status();
        if std::mem::take(&mut self.was_thinking) {
            self.console.print_stderr("\n\n");
        }
        if std::mem::take(&mut self.follows_message) {
            self.end_line();
            self.output_closed = self.console.print("\n").is_err();
        }
        self.has_printed_reply = true;
        let text = self.reply.push(text);
        if let Some(last) = text.chars().last() {
            self.at_line_start = last == '\n';
            self.output_closed = self.console.print(&text).is_err();
        }
    }

    /// Prints a message on standard error, on its own line.
    fn print_line(&self, text: &str) {
        if self.console.options.quiet || self.console.options.json {
            return;
        }
        let line_break = if self.at_line_start { "" } else { "\n" };
        let text = format!("{line_break}{text}");
        match &self.status {
            Some(status) => status.bar.suspend(|| self.console.print_stderr(&text)),
            None => self.console.print_stderr(&text),
        }
    }

    fn end_line(&mut self) {
        if !self.at_line_start && !self.output_closed {
            let _ = self.console.print("\n");
            self.at_line_start = true;
        }
    }
}

/// The arguments of a tool call in one line.
fn call_summary(input: &Value) -> String {
    /// Characters of arguments that are shown.
    const MAX_CHARS: usize = 120;
    let text = match ToolInput::of(input) {
        ToolInput::Command(command) => command,
        ToolInput::Edits { path, .. } => path.unwrap_or_default().to_owned(),
        ToolInput::Patch(patch) => patched_files(patch).collect::<Vec<_>>().join(", "),
        ToolInput::File { path, .. } => path.to_owned(),
        ToolInput::Other => match input {
            Value::Object(fields) if fields.is_empty() => String::new(),
            Value::Null => String::new(),
            other => other.to_string(),
        },
    };
    let line = sanitize::line(&text);
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

impl StatusLine {
    fn new(console: &Console) -> Self {
        let bar = console.progress(0);
        Self {
            bar,
            wait: String::new(),
            phase: String::new(),
            working_agents: 0,
            tokens: 0,
            is_usage_unknown: false,
        }
    }

    fn update(&self) {
        if self.phase.is_empty() {
            self.bar.set_message(self.wait.clone());
            return;
        }
        let agents = if self.working_agents == 1 { "agent" } else { "agents" };
        let Self { phase, working_agents, wait, .. } = self;
        let wait = if wait.is_empty() { String::new() } else { format!("; {wait}") };
        let tokens = match (self.tokens, self.is_usage_unknown) {
            (0, true) => "tokens unknown".to_owned(),
            (tokens, true) => format!("at least {tokens} tokens so far"),
            (tokens, false) => format!("{tokens} tokens so far"),
        };
        self.bar.set_message(format!("{phase}: {working_agents} {agents} working, {tokens}{wait}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_one_line_without_control_characters() {
        let cases = [
            (json!({"command": "ls -l\n\u{1b}[31mrm"}), "ls -l"),
            (json!({"file_path": "src/a.rs", "old_string": "a", "new_string": "b"}), "src/a.rs"),
            (json!({"pattern": "x", "path": "src"}), "{\"pattern\":\"x\",\"path\":\"src\"}"),
            (json!({}), ""),
            (Value::Null, ""),
        ];
        for (input, expected) in cases {
            let summary = call_summary(&input);
            assert!(summary.starts_with(expected), "{summary:?}");
            assert!(!summary.contains(['\n', '\u{1b}']), "{summary:?}");
        }
        let long = call_summary(&json!({"command": "é".repeat(500)}));
        assert_eq!((long.chars().count(), long.ends_with('…')), (122, true));
    }
}
