//! Foreign text made safe to show: what comes from messages, names and files is shown, never obeyed.
//!
//! Escape sequences go whole; other control characters and those that turn the direction of text go, too, so
//! that nothing can move the cursor, ring, retitle the window or disguise what follows.

/// `text` on one line, for names, paths and cells of tables.
pub fn line(text: &str) -> String {
    let shown = block(text).replace(char::is_whitespace, " ");
    shown.trim().to_owned()
}

/// `text` with its line breaks and tabs, for messages.
pub fn block(text: &str) -> String {
    Stream::default().next(text)
}

/// Text that arrives in pieces, which may be cut in the middle of an escape sequence.
#[derive(Debug, Default)]
pub struct Stream {
    inside: Inside,
}

/// What the next character belongs to, as ECMA-48 has it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    #[default]
    Text,
    /// Behind an escape character.
    Escape,
    /// In a control sequence: parameters, then one final letter.
    Control,
    /// In a control string (a title, a link), which ends with BEL or ST.
    String,
    /// Behind an escape character in a control string, where a backslash ends it.
    StringEscape,
}

impl Stream {
    /// The next piece, made safe.
    pub fn next(&mut self, piece: &str) -> String {
        piece.chars().filter(|c| self.shows(*c)).collect()
    }

    /// Whether `c` is to be shown. An escape sequence that nobody ends hides no more than its line.
    fn shows(&mut self, c: char) -> bool {
        use Inside::{Control, Escape, String, StringEscape, Text};
        let (inside, shown) = match (self.inside, c) {
            (_, '\n') => (Text, true),
            (Escape | StringEscape, '[') | (Text, '\u{9b}') => (Control, false),
            (Escape | StringEscape, ']' | 'P' | 'X' | '^' | '_')
            | (Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (String, false),
            (String, '\u{1b}') => (StringEscape, false),
            (_, '\u{1b}') | (Escape, ' '..='/') => (Escape, false),
            (String, '\u{7}' | '\u{18}' | '\u{1a}' | '\u{9c}') => (Text, false),
            (String, _) => (String, false),
            (Control, ' '..='?') => (Control, false),
            (Control, '@'..='~') | (Escape | StringEscape, '!'..='~') => (Text, false),
            _ => (Text, is_harmless(c)),
        };
        self.inside = inside;
        shown
    }
}

fn is_harmless(c: char) -> bool {
    let turns_direction = matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c == '\t' || !(c.is_control() || turns_direction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_gets_through() {
        let hostile = "a\x1b[31mred\x1b[0m \x1b]0;title\x07b\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x07\x08\x7f\u{9b}2Jc\u{202e}d\x1bPq\x1b\\e";
        assert_eq!(block(hostile), "ared blink cde");
        assert_eq!(line("name\r\n\x1b[2Jwith\tbreaks\0\n"), "name with breaks");
        assert_eq!(block("one\r\n\ttwo\rthree"), "one\n\ttwothree");
    }

    #[test]
    fn a_sequence_cut_in_two_is_still_removed() {
        let mut stream = Stream::default();
        let pieces = ["a\x1b", "[3", "1mb", "\x1b]0;ti", "tle\x07c"];
        assert_eq!(pieces.map(|piece| stream.next(piece)).concat(), "abc");
    }

    #[test]
    fn an_unfinished_sequence_hides_no_more_than_its_line() {
        assert_eq!(block("a\x1b[31\x1bé\x1b(Bz"), "aéz");
        assert_eq!(block("a\x1b]0;never ended\nthe rest"), "a\nthe rest");
    }
}
