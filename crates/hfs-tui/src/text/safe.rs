//! The one place where text from outside becomes text for the screen.
//!
//! Whatever a message, a file name, a plugin or a model sends is shown, never obeyed: what could steer a
//! terminal (control characters, and with them every escape sequence) or reorder what is read (bidirectional
//! overrides) is replaced by something visible. What is copied, saved or sent is never this form.

use std::borrow::Cow;

const BLACK_FLAG: char = '\u{1F3F4}';
/// How many columns a tabulator is shown as.
const TAB: &str = "    ";

/// `text` with line breaks kept and everything that could steer the terminal made visible.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && needs_care(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    let mut in_flag = false;
    while let Some(c) = rest.next() {
        // The flags of England, Scotland and Wales are spelt in letters that are invisible elsewhere.
        in_flag = c == BLACK_FLAG || (in_flag && is_tag(c));
        match c {
            c if in_flag => safe.push(c),
            '\n' => safe.push('\n'),
            '\t' => safe.push_str(TAB),
            '\r' if rest.peek() == Some(&'\n') => {}
            c if needs_care(c) => push_visible(&mut safe, c),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// As [`shown`], on one line: runs of white space and line breaks become one space.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(512));
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&shown(word));
    }
    line
}

fn needs_care(c: char) -> bool {
    c.is_control() || is_reordering(c) || is_hidden(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Characters that nobody sees and no script needs: they make equal what is not, or hide whole sentences. The
/// joiners stay, which some scripts and emoji are written with.
const fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}') || is_tag(c)
}

const fn is_tag(c: char) -> bool {
    matches!(c, '\u{E0000}'..='\u{E007F}')
}

/// Characters that make later ones appear elsewhere than they are.
const fn is_reordering(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_visible(to: &mut String, c: char) {
    let code = u32::from(c);
    let picture = match code {
        0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    match picture {
        Some(picture) => to.push(picture),
        None => to.push_str(&format!("<U+{code:04X}>")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        assert_eq!(shown("a\x1b[31mred\x1b]52;c;AAAA\x07"), "a␛[31mred␛]52;c;AAAA␇");
        assert_eq!(shown("\u{9b}31m"), "<U+009B>31m");
        assert_eq!(shown("user\u{202e}drowssap"), "user<U+202E>drowssap");
        assert_eq!(shown("pay\u{200b}pal\u{e0041}"), "pay<U+200B>pal<U+E0041>");
    }

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        let wales = "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}";
        assert_eq!(shown(wales), wales);
        for text in ["日本語 👩‍👩‍👧 e\u{301} שלום", "two\nlines", ""] {
            assert!(matches!(shown(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(shown("a\r\nb\tc\rd"), "a\nb    c␍d");
        assert_eq!(one_line("  a\n\tb \x1b[0m"), "a b ␛[0m");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_survives(text in "\\PC*|[\\x00-\\x1f\\x7f-\\x9fa]*") {
            let safe = shown(&text);
            prop_assert!(!safe.chars().any(|c| c.is_control() && c != '\n'));
            let line = one_line(&text);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
