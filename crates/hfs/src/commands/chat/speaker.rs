//! Shows a reply as it arrives, without ever holding up the exchange that it belongs to.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hfs_core::{DeltaKind, EventPayload};
use hfs_engine::{Observer, Update};
use indicatif::ProgressBar;

use crate::console::Console;
use crate::plain;

/// Prints on a thread of its own: a slow terminal or a closed pipe must not keep the reply from being saved.
pub struct Speaker {
    /// `None` says that there is nothing more to come.
    updates: Sender<Option<Update>>,
    printer: JoinHandle<Voice>,
}

/// How the printing went.
struct Voice {
    console: Console,
    text: plain::Stream,
    thoughts: plain::Stream,
    /// Whether standard output is at the beginning of a line.
    at_line_start: bool,
    /// Whether somebody still reads it.
    heard: bool,
    unsaved: bool,
    thinking: bool,
    /// What agents are doing while there is no reply yet, where a person can see it.
    doing: Option<Doing>,
}

/// The line that says what agents are doing.
struct Doing {
    line: ProgressBar,
    phase: String,
    working: usize,
    tokens: u64,
}

impl Speaker {
    /// Begins to listen.
    pub fn start(console: &Console) -> Self {
        let (updates, received) = channel();
        let voice = Voice {
            console: *console,
            text: plain::Stream::default(),
            thoughts: plain::Stream::default(),
            at_line_start: true,
            heard: true,
            unsaved: false,
            thinking: false,
            doing: None,
        };
        let printer = std::thread::spawn(move || voice.speak(&received));
        Self { updates, printer }
    }

    /// What the engine tells.
    pub fn observer(&self) -> Arc<dyn Observer> {
        let updates = self.updates.clone();
        // Whoever does not listen any more misses nothing that is not saved.
        Arc::new(move |update: Update| {
            let _ = updates.send(Some(update));
        })
    }

    /// Waits until everything is shown; the reply's last line is ended.
    pub fn finish(self) {
        let _ = self.updates.send(None);
        if let Ok(mut voice) = self.printer.join() {
            voice.stop_watching();
            voice.end_line();
        }
    }
}

impl Voice {
    fn speak(mut self, updates: &Receiver<Option<Update>>) -> Self {
        while let Ok(Some(update)) = updates.recv() {
            match update {
                Update::Reply { kind: DeltaKind::Text, text } => self.say(&text),
                Update::Reply { kind: DeltaKind::Thinking, text } if self.verbose() => {
                    self.stop_watching();
                    self.thinking = true;
                    let text = self.thoughts.next(&text);
                    aside(&text);
                }
                Update::NotSaved { reason } if !self.unsaved => {
                    self.unsaved = true;
                    self.tell(&format!("warning: not saved yet: {}; trying again\n", plain::line(&reason)));
                }
                Update::Saved if self.unsaved => {
                    self.unsaved = false;
                    self.tell("everything is saved now\n");
                }
                Update::CheckpointFailed { reason } => {
                    self.tell(&format!("warning: no checkpoint was made: {}\n", plain::line(&reason)));
                }
                Update::Event(event) => self.happened(&event.payload),
                _ => {}
            }
        }
        self
    }

    const fn verbose(&self) -> bool {
        self.console.manner.verbose && !self.console.manner.json
    }

    /// Shows what agents are doing and says what a person should know of it.
    fn happened(&mut self, payload: &EventPayload) {
        let verbose = self.verbose();
        match (payload, &mut self.doing) {
            (EventPayload::TriadDegraded { triad, lost }, _) => {
                let (triad, lost) = (plain::line(triad), plain::line(&lost.join(", ")));
                self.tell(&format!("warning: the triad {triad} goes on without {lost}\n"));
            }
            (EventPayload::ErrorOccurred { message, .. }, _) if verbose => {
                self.tell(&format!("{}\n", plain::line(message)));
            }
            (EventPayload::PhaseStarted { phase }, doing) => {
                let begin =
                    || Doing { line: self.console.progress(0), phase: String::new(), working: 0, tokens: 0 };
                let doing = doing.get_or_insert_with(begin);
                doing.phase = plain::line(phase);
                doing.show();
            }
            (EventPayload::AgentStarted { .. }, Some(doing)) => {
                doing.working += 1;
                doing.show();
            }
            (EventPayload::AgentEnded { .. }, Some(doing)) => {
                doing.working = doing.working.saturating_sub(1);
                doing.show();
            }
            (EventPayload::UsageRecorded { usage, .. }, Some(doing)) => {
                doing.tokens += usage.total();
                doing.show();
            }
            _ => {}
        }
    }

    fn stop_watching(&mut self) {
        if let Some(doing) = self.doing.take() {
            doing.line.finish_and_clear();
        }
    }

    fn say(&mut self, text: &str) {
        if self.console.manner.json || !self.heard {
            return;
        }
        self.stop_watching();
        if std::mem::take(&mut self.thinking) {
            aside("\n\n");
        }
        let text = self.text.next(text);
        if let Some(last) = text.chars().last() {
            self.at_line_start = last == '\n';
            let mut output = io::stdout().lock();
            self.heard = output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok();
        }
    }

    /// Says something on standard error, on a line of its own.
    fn tell(&mut self, text: &str) {
        if self.console.manner.quiet || self.console.manner.json {
            return;
        }
        let gap = if self.at_line_start { "" } else { "\n" };
        let text = format!("{gap}{text}");
        match &self.doing {
            Some(doing) => doing.line.suspend(|| aside(&text)),
            None => aside(&text),
        }
    }

    fn end_line(&mut self) {
        if !self.at_line_start && self.heard {
            let mut output = io::stdout().lock();
            let _ = output.write_all(b"\n").and_then(|()| output.flush());
            self.at_line_start = true;
        }
    }
}

impl Doing {
    fn show(&self) {
        let agents = if self.working == 1 { "agent" } else { "agents" };
        let Self { phase, working, tokens, .. } = self;
        self.line.set_message(format!("{phase}: {working} {agents} at work, {tokens} tokens so far"));
    }
}

fn aside(text: &str) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}
