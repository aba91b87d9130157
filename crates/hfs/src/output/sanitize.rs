//! Makes foreign text safe to print: text of messages, names and files must not control the terminal.
//!
//! Escape sequences are removed as a whole. Other control characters and bidirectional controls are removed, too, so
//! that text cannot move the cursor, ring the bell, change the window title or disguise what follows it.

/// `text` on one line, for names, paths and table cells.
pub fn line(text: &str) -> String {
    block(text).replace(char::is_whitespace, " ").trim().to_owned()
}

/// `text` with its line breaks and tabs, for messages.
pub fn block(text: &str) -> String {
    Sanitizer::default().push(text)
}

/// Sanitizes text that arrives in chunks. An escape sequence may span chunks.
#[derive(Debug, Default)]
pub struct Sanitizer {
    state: ParserState,
}

/// States of a parser for ECMA-48 control sequences.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ParserState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence (CSI): parameters, then one final letter.
    ControlSequence,
    /// In a control string (a title, a hyperlink), which ends with BEL or ST.
    ControlString,
    /// After ESC in a control string. The string ends here: a backslash completes ST, and any other character starts a
    /// new sequence.
    ControlStringEscape,
}

impl Sanitizer {
    /// Returns the printable characters of the next chunk.
    pub fn push(&mut self, chunk: &str) -> String {
        chunk.chars().filter(|c| self.is_printable(*c)).collect()
    }

    /// Advances the parser by `c`. A line break ends every sequence, so an unterminated one hides only its own line.
    fn is_printable(&mut self, c: char) -> bool {
        use ParserState::{ControlSequence, ControlString, ControlStringEscape, Escape, Text};
        let (state, is_printable) = match (self.state, c) {
            (_, '\n') => (Text, true),
            (Escape | ControlStringEscape, '[') | (Text, '\u{9b}') => (ControlSequence, false),
            (Escape | ControlStringEscape, ']' | 'P' | 'X' | '^' | '_')
            | (Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (ControlString, false),
            (ControlString, '\u{1b}') => (ControlStringEscape, false),
            (_, '\u{1b}') | (Escape, ' '..='/') => (Escape, false),
            (ControlString, '\u{7}' | '\u{18}' | '\u{1a}' | '\u{9c}') => (Text, false),
            (ControlString, _) => (ControlString, false),
            (ControlSequence, ' '..='?') => (ControlSequence, false),
            (ControlSequence, '@'..='~') | (Escape | ControlStringEscape, '!'..='~') => (Text, false),
            _ => (Text, is_harmless(c)),
        };
        self.state = state;
        is_printable
    }
}

fn is_harmless(c: char) -> bool {
    let is_bidi_control = matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c == '\t' || !(c.is_control() || is_bidi_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_and_control_characters_are_removed() {
        let hostile = "a\x1b[31mred\x1b[0m \x1b]0;title\x07b\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x07\x08\x7f\u{9b}2Jc\u{202e}d\x1bPq\x1b\\e";
        assert_eq!(block(hostile), "ared blink cde");
        assert_eq!(line("name\r\n\x1b[2Jwith\tbreaks\0\n"), "name with breaks");
        assert_eq!(block("one\r\n\ttwo\rthree"), "one\n\ttwothree");
    }

    #[test]
    fn a_sequence_that_spans_chunks_is_removed() {
        let mut sanitizer = Sanitizer::default();
        let chunks = ["a\x1b", "[3", "1mb", "\x1b]0;ti", "tle\x07c"];
        assert_eq!(chunks.map(|chunk| sanitizer.push(chunk)).concat(), "abc");
    }

    #[test]
    fn an_unterminated_sequence_hides_at_most_its_own_line() {
        assert_eq!(block("a\x1b[31\x1bé\x1b(Bz"), "aéz");
        assert_eq!(block("a\x1b]0;never ended\nthe rest"), "a\nthe rest");
    }
}
