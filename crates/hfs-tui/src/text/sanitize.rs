//! Sanitizes untrusted text before it reaches the terminal.
//!
//! Messages, file names and the output of plugins and models can contain control characters (and with them escape
//! sequences that the terminal would execute), bidirectional overrides that reorder the text, and invisible
//! characters. All of these are replaced by visible ones. Only text on the screen is sanitized; text that is copied,
//! saved or sent is not.

use std::borrow::Cow;

/// The flags of England, Scotland and Wales: a black flag, and tag characters that are invisible anywhere else.
const TAG_FLAGS: [&str; 3] = [
    "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
    "\u{1F3F4}\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}",
    "\u{1F3F4}\u{E0067}\u{E0062}\u{E0077}\u{E006C}\u{E0073}\u{E007F}",
];
/// Replacement of a tab.
const TAB: &str = "    ";

/// Returns `text` with everything unsafe replaced by visible characters; line breaks are kept.
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // No other sequence of tags is kept: it could hide a whole sentence behind a flag.
        if let Some(flag) = TAG_FLAGS.iter().find(|flag| rest.starts_with(**flag)) {
            safe.push_str(flag);
            rest = rest.strip_prefix(flag).unwrap_or_default();
            continue;
        }
        rest = rest.strip_prefix(c).unwrap_or_default();
        match c {
            '\n' => safe.push('\n'),
            '\t' => safe.push_str(TAB),
            '\r' if rest.starts_with('\n') => {}
            c if is_unsafe(c) => push_visible(&mut safe, c),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Like [`sanitize`], on one line: outer white space is removed, and each other run of it becomes one space.
#[must_use]
pub fn sanitize_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(512));
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&sanitize(word));
    }
    line
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || is_reordering(c) || is_hidden(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Invisible characters that no script needs. They make different texts look equal, or hide whole sentences. The
/// zero-width joiners are kept because some scripts and emoji need them.
const fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}') || is_tag(c)
}

const fn is_tag(c: char) -> bool {
    matches!(c, '\u{E0000}'..='\u{E007F}')
}

/// Bidirectional controls, which reorder the characters after them.
const fn is_reordering(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_visible(to: &mut String, c: char) {
    let code = u32::from(c);
    let symbol = match code {
        0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    match symbol {
        Some(symbol) => to.push(symbol),
        None => to.push_str(&format!("<U+{code:04X}>")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(sanitize("a\x1b[31mred\x1b]52;c;AAAA\x07"), "a␛[31mred␛]52;c;AAAA␇");
        assert_eq!(sanitize("\u{9b}31m"), "<U+009B>31m");
        assert_eq!(sanitize("user\u{202e}drowssap"), "user<U+202E>drowssap");
        assert_eq!(sanitize("pay\u{200b}pal\u{e0041}"), "pay<U+200B>pal<U+E0041>");
    }

    #[test]
    fn ordinary_text_is_not_changed() {
        let wales = "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}";
        assert_eq!(sanitize(wales), wales);
        assert_eq!(
            sanitize("a\t🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}\t"),
            format!("a    {wales}    ")
        );
        for text in ["日本語 👩‍👩‍👧 e\u{301} שלום", "two\nlines", ""] {
            assert!(matches!(sanitize(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(sanitize("a\r\nb\tc\rd"), "a\nb    c␍d");
        assert_eq!(sanitize_line("  a\n\tb \x1b[0m"), "a b ␛[0m");
    }

    #[test]
    fn tags_after_a_flag_are_visible_unless_they_are_the_flag_of_a_country() {
        assert_eq!(sanitize("🏴\u{e0068}\u{e0069}\u{e007f}"), "🏴<U+E0068><U+E0069><U+E007F>");
        let wales = "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}";
        assert_eq!(sanitize(&format!("{wales}\u{e0041}")), format!("{wales}<U+E0041>"));
        let unterminated = "🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}";
        assert!(sanitize(unterminated).contains("<U+E0067>"));
    }

    proptest! {
        #[test]
        fn no_control_character_remains(text in "\\PC*|[\\x00-\\x1f\\x7f-\\x9fa]*") {
            let safe = sanitize(&text);
            prop_assert!(!safe.chars().any(|c| c.is_control() && c != '\n'));
            let line = sanitize_line(&text);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
