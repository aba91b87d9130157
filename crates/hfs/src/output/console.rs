//! Standard output and standard error: colors, notes, warnings, errors and questions.
//!
//! Results go to standard output; everything else goes to standard error, so that scripts can use pipes. Foreign text
//! must be sanitized (see `sanitize`) before it is passed to `print`, `note`, `warn` or `print_stderr`.

use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use hfs_core::ErrorKind;
use serde::Serialize;

use super::error::{CliError, ErrorDocument};
use super::json::write_json;
use super::sanitize;
use crate::config::ColorMode;

/// Text styles. All are plain when colors are off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    /// Table headings.
    pub heading: Style,
    /// Secondary text.
    pub dim: Style,
    /// Names and search matches.
    pub strong: Style,
    /// Message roles, and the lines of the session graph.
    pub role: Style,
    /// Success, additions.
    pub good: Style,
    pub warning: Style,
    /// Errors, removals.
    pub error: Style,
}

impl Palette {
    const fn colored() -> Self {
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

    fn new(choice: ColorChoice) -> Self {
        if choice == ColorChoice::Never { Self::default() } else { Self::colored() }
    }
}

/// The global options that control output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputOptions {
    /// Print one JSON document instead of text.
    pub json: bool,
    /// Print no notes, no warnings and no progress bars.
    pub quiet: bool,
    /// Print more detail.
    pub verbose: bool,
}

/// Size in bytes of the buffer for documents.
const OUTPUT_BUFFER: usize = 64 * 1024;

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    pub options: OutputOptions,
    /// Styles for standard output.
    pub palette: Palette,
    error_palette: Palette,
    output_is_terminal: bool,
    error_is_terminal: bool,
}

impl Console {
    pub fn new(options: OutputOptions, color: ColorMode) -> Self {
        let (output, error) = match color {
            ColorMode::Always => (ColorChoice::Always, ColorChoice::Always),
            ColorMode::Never => (ColorChoice::Never, ColorChoice::Never),
            ColorMode::Auto => {
                (anstream::AutoStream::choice(&io::stdout()), anstream::AutoStream::choice(&io::stderr()))
            }
        };
        Self {
            options,
            palette: Palette::new(output),
            error_palette: Palette::new(error),
            output_is_terminal: io::stdout().is_terminal(),
            error_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether the user can be asked a question: all three standard streams are terminals, and `--json` is not set.
    pub fn is_interactive(&self) -> bool {
        self.output_is_terminal && self.error_is_terminal && io::stdin().is_terminal() && !self.options.json
    }

    pub const fn output_is_terminal(&self) -> bool {
        self.output_is_terminal
    }

    pub const fn error_is_terminal(&self) -> bool {
        self.error_is_terminal
    }

    /// The terminal's width in columns; `None` if standard output is not a terminal.
    pub fn width(&self) -> Option<usize> {
        let (width, _) = self.output_is_terminal.then(terminal_size::terminal_size)??;
        Some(usize::from(width.0))
    }

    /// Writes sanitized text to standard output.
    ///
    /// # Errors
    /// `ClosedPipe` if the reader has closed standard output.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        write_stdout(text.as_bytes())
    }

    /// Writes a JSON document to standard output: indented on a terminal, otherwise on one line.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub fn print_json(&self, document: &impl Serialize) -> Result<(), CliError> {
        // The document may be larger than the memory should become, so it is written while it is serialized.
        let mut output = BufWriter::with_capacity(OUTPUT_BUFFER, io::stdout().lock());
        let written = write_json(document, self.output_is_terminal, &mut output).map_err(io::Error::from);
        written.and_then(|()| output.write_all(b"\n")).and_then(|()| output.flush()).map_err(output_error)
    }

    /// Warns that damaged rows are left out. `what` names one of them.
    pub fn warn_of_damage(&self, count: u64, what: &str) {
        if count > 0 {
            let (plural, verb) = if count == 1 { ("", "is") } else { ("s", "are") };
            self.warn(&format!(
                "{count} damaged {what}{plural} {verb} left out; `hfs store repair` recovers what is readable"
            ));
        }
    }

    /// Writes a note for the user to standard error.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            let dim = self.error_palette.dim;
            write_stderr(&format!("{dim}{text}{dim:#}\n"));
        }
    }

    /// Writes a warning to standard error.
    pub fn warn(&self, text: &str) {
        if !self.options.quiet {
            let style = self.error_palette.warning;
            write_stderr(&format!("{style}warning:{style:#} {text}\n"));
        }
    }

    /// Writes sanitized text to standard error, regardless of the options.
    pub fn print_stderr(&self, text: &str) {
        write_stderr(text);
    }

    /// Asks a yes/no question on standard error and reads the answer from standard input. The default is no. Text that was
    /// typed before the question is not an answer: it is kept for the app, if the app starts.
    ///
    /// # Errors
    /// If standard input cannot be read.
    pub fn ask(&self, question: &str) -> Result<bool, CliError> {
        // Limits the memory if standard input has no line breaks.
        const MAX_ANSWER_BYTES: u64 = 1000;
        const ATTEMPTS: usize = 3;
        if hfs_tui::keep_typed_ahead() {
            write_stderr("\n");
        }
        for _ in 0..ATTEMPTS {
            write_stderr(&format!("{question} [y/N] "));
            let mut answer = String::new();
            io::stdin()
                .lock()
                .take(MAX_ANSWER_BYTES)
                .read_line(&mut answer)
                .map_err(|error| CliError::io("read standard input", error))?;
            match answer.trim().to_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "n" | "no" | "" => return Ok(false),
                _ => write_stderr("Type y or n.\n"),
            }
        }
        Ok(false)
    }

    /// Warns about an operation that cannot be undone and, on a terminal, asks whether to continue. Without a terminal
    /// the operation continues, because a script cannot answer. With `--quiet` or `--json` it continues without a
    /// warning.
    ///
    /// # Errors
    /// `Denied` if the user does not agree.
    pub fn confirm_irreversible(&self, text: &str) -> Result<(), CliError> {
        if self.options.quiet || self.options.json {
            return Ok(());
        }
        self.warn(&format!("this cannot be undone: {text}"));
        if !(self.error_is_terminal && io::stdin().is_terminal()) || self.ask("continue?").unwrap_or(false) {
            return Ok(());
        }
        Err(CliError::new(ErrorKind::Denied, "not confirmed; nothing was changed"))
    }

    /// Writes an error to standard error, as JSON with `--json`.
    pub fn print_error(&self, error: &ErrorDocument) {
        if self.options.json {
            let mut bytes = Vec::new();
            // Writing to memory cannot fail.
            let _ = write_json(&serde_json::json!({ "error": error }), self.error_is_terminal, &mut bytes);
            write_stderr(&(String::from_utf8_lossy(&bytes) + "\n"));
        } else {
            write_stderr(&self.render_error(error));
        }
    }

    fn render_error(&self, error: &ErrorDocument) -> String {
        let Palette { error: style, dim, strong, .. } = self.error_palette;
        let mut text = format!("{style}error:{style:#} {}\n", indent_continuation(&error.message));
        for cause in &error.causes {
            text += &format!("  {dim}because:{dim:#} {}\n", indent_continuation(cause));
        }
        if let Some(hint) = &error.hint {
            text += &format!("{strong}hint:{strong:#} {}\n", indent_continuation(hint));
        }
        text
    }
}

fn indent_continuation(text: &str) -> String {
    sanitize::block(text).trim_end().replace('\n', "\n  ")
}

fn write_stdout(bytes: &[u8]) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(output_error)
}

fn output_error(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::ClosedPipe,
        _ => CliError::io("write to standard output", error),
    }
}

fn write_stderr(text: &str) {
    let mut error = io::stderr().lock();
    // There is no other place to report that standard error is closed.
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}
