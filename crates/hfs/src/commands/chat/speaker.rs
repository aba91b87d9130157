//! Shows a reply as it arrives, without ever holding up the exchange that it belongs to.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hfs_core::PieceKind;
use hfs_engine::{Observer, Update};

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
    json: bool,
    quiet: bool,
    verbose: bool,
    text: plain::Stream,
    thoughts: plain::Stream,
    /// Whether standard output is at the beginning of a line.
    at_line_start: bool,
    /// Whether somebody still reads it.
    heard: bool,
    unsaved: bool,
    thinking: bool,
}

impl Speaker {
    /// Begins to listen.
    pub fn start(console: &Console) -> Self {
        let (updates, received) = channel();
        let manner = console.manner;
        let voice = Voice {
            json: manner.json,
            quiet: manner.quiet,
            verbose: manner.verbose,
            text: plain::Stream::default(),
            thoughts: plain::Stream::default(),
            at_line_start: true,
            heard: true,
            unsaved: false,
            thinking: false,
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
            voice.end_line();
        }
    }
}

impl Voice {
    fn speak(mut self, updates: &Receiver<Option<Update>>) -> Self {
        while let Ok(Some(update)) = updates.recv() {
            match update {
                Update::Reply { kind: PieceKind::Text, text } => self.say(&text),
                Update::Reply { kind: PieceKind::Thinking, text } if self.verbose && !self.json => {
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
                _ => {}
            }
        }
        self
    }

    fn say(&mut self, text: &str) {
        if self.json || !self.heard {
            return;
        }
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
        if self.quiet || self.json {
            return;
        }
        let gap = if self.at_line_start { "" } else { "\n" };
        aside(&format!("{gap}{text}"));
    }

    fn end_line(&mut self) {
        if !self.at_line_start && self.heard {
            let mut output = io::stdout().lock();
            let _ = output.write_all(b"\n").and_then(|()| output.flush());
            self.at_line_start = true;
        }
    }
}

fn aside(text: &str) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}
