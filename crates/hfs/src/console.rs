//! Everything that is written to standard output and standard error goes through here.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use hfs_core::ErrorKind;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::failure::{ErrorDocument, Failure};

/// The styles in use; all of them plain where colours are off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    /// Headings of tables.
    pub heading: Style,
    /// What can be overlooked.
    pub dim: Style,
    /// Names and matches.
    pub strong: Style,
    /// Who speaks.
    pub role: Style,
    /// What is well.
    pub good: Style,
    /// What needs attention.
    pub warning: Style,
    /// What failed.
    pub error: Style,
}

impl Palette {
    const fn coloured() -> Self {
        Self {
            heading: Style::new().bold().underline(),
            dim: Style::new().dimmed(),
            strong: Style::new().bold(),
            role: AnsiColor::Yellow.on_default().bold(),
            good: AnsiColor::Green.on_default(),
            warning: AnsiColor::Yellow.on_default().bold(),
            error: AnsiColor::Red.on_default().bold(),
        }
    }

    fn chosen(choice: ColorChoice) -> Self {
        if choice == ColorChoice::Never { Self::default() } else { Self::coloured() }
    }
}

/// How much is said, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// One JSON document instead of text.
    pub json: bool,
    /// No notes, no progress.
    pub quiet: bool,
    /// More detail.
    pub verbose: bool,
}

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// How much is said, and how.
    pub manner: Manner,
    /// The styles of standard output.
    pub palette: Palette,
    error_palette: Palette,
    output_is_terminal: bool,
    error_is_terminal: bool,
}

impl Console {
    /// The process's own. `color` is `auto`, `always` or `never`.
    pub fn new(manner: Manner, color: &str) -> Self {
        let (output, error) = match color {
            "always" => (ColorChoice::Always, ColorChoice::Always),
            "never" => (ColorChoice::Never, ColorChoice::Never),
            _ => (anstream::AutoStream::choice(&io::stdout()), anstream::AutoStream::choice(&io::stderr())),
        };
        Self {
            manner,
            palette: Palette::chosen(output),
            error_palette: Palette::chosen(error),
            output_is_terminal: io::stdout().is_terminal(),
            error_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether a person sits at both ends: questions can be asked.
    pub fn can_ask(&self) -> bool {
        self.output_is_terminal && self.error_is_terminal && io::stdin().is_terminal() && !self.manner.json
    }

    /// Whether standard output is a terminal.
    pub const fn output_is_terminal(&self) -> bool {
        self.output_is_terminal
    }

    /// Whether standard error is a terminal.
    pub const fn error_is_terminal(&self) -> bool {
        self.error_is_terminal
    }

    /// How many columns there are; `None` where nothing needs to fit.
    pub fn width(&self) -> Option<usize> {
        let (width, _) = self.output_is_terminal.then(terminal_size::terminal_size)??;
        Some(usize::from(width.0))
    }

    /// Writes text to standard output. It must be safe to show.
    ///
    /// # Errors
    /// `ClosedPipe` when nobody reads it any more.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(output_failed)
    }

    /// Writes a document to standard output as JSON.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub fn json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let mut bytes = to_json(document, self.output_is_terminal);
        bytes.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&bytes).and_then(|()| output.flush()).map_err(output_failed)
    }

    /// Says something on standard error that is no error.
    pub fn note(&self, text: &str) {
        if !self.manner.quiet {
            let dim = self.error_palette.dim;
            to_error(&format!("{dim}{text}{dim:#}\n"));
        }
    }

    /// Warns on standard error.
    pub fn warn(&self, text: &str) {
        if !self.manner.quiet {
            let style = self.error_palette.warning;
            to_error(&format!("{style}warning:{style:#} {text}\n"));
        }
    }

    /// Says before it is done what cannot be undone. On a terminal a person has to agree; a script has said so by
    /// its command.
    ///
    /// # Errors
    /// `Denied` when the person does not agree.
    pub fn before_what_cannot_be_undone(&self, text: &str) -> Result<(), Failure> {
        if self.manner.quiet || self.manner.json {
            return Ok(());
        }
        self.warn(&format!("this cannot be undone: {text}"));
        if !(self.error_is_terminal && io::stdin().is_terminal()) {
            return Ok(());
        }
        to_error("go on? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().take(1000).read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(Failure::Refused {
            kind: ErrorKind::Denied,
            message: "it was not agreed to, and nothing was changed".into(),
            hint: None,
        })
    }

    /// Writes text to standard error as it is. It must be safe to show.
    pub fn aside(&self, text: &str) {
        to_error(text);
    }

    /// Tells a failure: message, causes, hint; as JSON where that is wanted.
    pub fn fail(&self, error: &ErrorDocument) {
        if self.manner.json {
            #[derive(Serialize)]
            struct Document<'a> {
                error: &'a ErrorDocument,
            }
            let bytes = to_json(&Document { error }, self.error_is_terminal);
            to_error(&(String::from_utf8_lossy(&bytes) + "\n"));
        } else {
            to_error(&self.render(error));
        }
    }

    fn render(&self, error: &ErrorDocument) -> String {
        let Palette { error: style, dim, strong, .. } = self.error_palette;
        let mut text = format!("{style}error:{style:#} {}\n", safe_lines(&error.message));
        for cause in &error.causes {
            text += &format!("  {dim}because:{dim:#} {}\n", safe_lines(cause));
        }
        if let Some(hint) = &error.hint {
            text += &format!("{strong}hint:{strong:#} {}\n", safe_lines(hint));
        }
        text
    }

    /// A bar for work on `length` bytes or things (0 for work of unknown length), where a person can see it.
    pub fn progress(&self, length: u64) -> ProgressBar {
        if self.manner.quiet || self.manner.json || !self.error_is_terminal {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
        let template = if length == 0 { "{spinner} {msg}" } else { "{bar:30} {percent:>3}% {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if length == 0 {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar
    }
}

fn safe_lines(text: &str) -> String {
    crate::plain::block(text).trim_end().replace('\n', "\n  ")
}

fn output_failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::ClosedPipe
    } else {
        Failure::io("write to standard output", error)
    }
}

/// Nobody can be told that standard error is closed.
fn to_error(text: &str) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}

fn to_json(document: &impl Serialize, pretty: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Only maps with other keys than texts can fail, and no document has them.
    let _ = if pretty {
        document
            .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Safe(PrettyFormatter::new())))
    } else {
        document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Safe(CompactFormatter)))
    };
    bytes
}

/// Writes those control characters as escapes that JSON would allow as they are: some terminals obey them.
struct Safe<F>(F);

fn is_unsafe(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escaped(fragment: &str) -> Cow<'_, str> {
    if fragment.contains(is_unsafe) {
        let escape = |c: char| if is_unsafe(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        Cow::Owned(fragment.chars().map(escape).collect())
    } else {
        Cow::Borrowed(fragment)
    }
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $ty)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        }
    )*};
}

impl<F: Formatter> Formatter for Safe<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.0.write_string_fragment(writer, &escaped(fragment))
    }

    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_no_byte_that_a_terminal_obeys_and_reads_back_the_same() {
        let text = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}é日";
        for pretty in [false, true] {
            let bytes = to_json(&serde_json::json!({ "t": [text, {}], "e": [] }), pretty);
            let json = String::from_utf8(bytes).unwrap();
            assert!(!json.contains(|c: char| (c.is_control() && c != '\n') || is_unsafe(c)), "{json}");
            let back: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(back["t"][0], text);
        }
    }
}
