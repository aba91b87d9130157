//! Text for a model: bounded, and without secrets.

use std::borrow::Cow;
use std::cmp::Reverse;

use hfs_core::SearchHit;
use hfs_secrets::Secret;

/// Maximum size of a tool's answer, in bytes. Below 4 KB with the structure around it, which is about 1,000 tokens.
pub const MAX_ANSWER_BYTES: usize = 3_900;
/// Part of an answer that is kept free for the lines at its end.
const FOOTER_BYTES: usize = 400;

/// Masks the secrets in texts.
#[derive(Debug, Clone, Copy)]
pub struct Masker {
    is_enabled: bool,
}

impl Masker {
    pub const fn new(is_enabled: bool) -> Self {
        Self { is_enabled }
    }

    /// Masks a whole text, and removes control characters.
    pub fn text<'t>(self, text: &'t str) -> Cow<'t, str> {
        if !self.is_enabled {
            return without_controls(Cow::Borrowed(text));
        }
        without_controls(hfs_secrets::mask(text))
    }

    /// Masks an excerpt of a text, which may begin or end inside of a secret: the whole text is searched. Marks of matches
    /// are removed, and white space becomes single spaces.
    pub fn excerpt(self, whole: &str, excerpt: &str) -> String {
        let excerpt = excerpt.replace([SearchHit::MARK_START, SearchHit::MARK_END], "");
        one_line(&if self.is_enabled { mask_excerpt(whole, &excerpt) } else { excerpt })
    }
}

/// Masks the secrets of the whole text in a part of it.
fn mask_excerpt(whole: &str, excerpt: &str) -> String {
    let inner = excerpt.strip_prefix('…').unwrap_or(excerpt);
    let inner = inner.strip_suffix('…').unwrap_or(inner);
    let secrets = hfs_secrets::find(whole);
    // The excerpt may occur several times; a part that is secret in one place is masked.
    let places = whole.match_indices(inner).filter(|_| !inner.is_empty());
    let mut found: Vec<Secret> = places
        .flat_map(|(start, _)| {
            let end = start + inner.len();
            let inside = secrets.iter().filter(move |secret| secret.start < end && start < secret.end);
            inside.map(move |secret| Secret {
                start: secret.start.max(start) - start,
                end: secret.end.min(end) - start,
                label: secret.label,
            })
        })
        .collect();
    found.extend(hfs_secrets::find(inner));
    excerpt.replacen(inner, &hfs_secrets::replace(inner, &joined(found)), 1)
}

/// Sorts the secrets, and joins those that overlap.
fn joined(mut secrets: Vec<Secret>) -> Vec<Secret> {
    secrets.sort_by_key(|secret| (secret.start, Reverse(secret.end)));
    let mut joined: Vec<Secret> = Vec::with_capacity(secrets.len());
    for secret in secrets {
        match joined.last_mut() {
            Some(last) if secret.start < last.end => last.end = last.end.max(secret.end),
            _ => joined.push(secret),
        }
    }
    joined
}

/// A text on one line.
pub fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A client may print an answer on a terminal, which text from outside must not control.
fn without_controls(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_control) { text.replace(is_control, "").into() } else { text }
}

/// The beginning of a text on one line, with at most `max` characters.
pub fn shorten(text: &str, max: usize) -> String {
    let line = one_line(text);
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    }
}

/// Builds an answer of bounded size.
#[derive(Debug)]
pub struct Answer {
    text: String,
    limit: usize,
}

impl Answer {
    /// An empty answer of at most `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { text: String::new(), limit }
    }

    /// Bytes that [`push`](Self::push) can still add.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(FOOTER_BYTES + self.text.len() + 1)
    }

    /// Adds a block of lines, unless it is too large.
    pub fn push(&mut self, block: &str) -> bool {
        let fits = block.len() <= self.room();
        if fits {
            self.push_line(block);
        }
        fits
    }

    /// Adds a line at the end, such as how to continue.
    pub fn push_footer(&mut self, line: &str) {
        let room = self.limit.saturating_sub(self.text.len() + 1);
        self.push_line(line.get(..line.floor_char_boundary(room)).unwrap_or_default());
    }

    fn push_line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// The text, with the number of secrets that are masked in it.
    pub fn finish(mut self) -> String {
        match hfs_secrets::count_marks(&self.text) {
            0 => {}
            1 => self.push_footer("(1 secret is masked)"),
            count => self.push_footer(&format!("({count} secrets are masked)")),
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        ["ghp", "_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat()
    }

    #[test]
    fn a_secret_that_an_excerpt_cuts_is_masked() {
        let whole = format!("use {} for the release", token());
        for (from, to) in [(0, 20), (10, 40), (12, whole.len()), (0, whole.len())] {
            let masker = Masker::new(true);
            let masked = masker.excerpt(&whole, &format!("…{}…", whole.get(from..to).unwrap()));
            assert!(masked.contains("[redacted: GitHub token]"), "{masked}");
            assert!(!masked.contains("T2mN4"), "{masked}");
        }
    }

    #[test]
    fn marks_of_matches_do_not_hide_a_secret() {
        let whole = format!("token {}", token());
        let marked = whole.replace("ghp", &format!("{}ghp{}", SearchHit::MARK_START, SearchHit::MARK_END));
        assert_eq!(Masker::new(true).excerpt(&whole, &marked), "token [redacted: GitHub token]");
        assert_eq!(Masker::new(false).excerpt(&whole, &marked), whole);
    }

    #[test]
    fn secrets_that_overlap_are_masked_to_the_end_of_the_last() {
        let secret = |start, end| Secret { start, end, label: "token" };
        let joined = joined(vec![secret(20, 25), secret(5, 15), secret(0, 10), secret(0, 4), secret(15, 16)]);
        assert_eq!(joined, [secret(0, 15), secret(15, 16), secret(20, 25)]);
    }

    #[test]
    fn an_answer_keeps_room_for_its_last_lines() {
        let mut answer = Answer::new(1000);
        assert!(answer.push(&"x".repeat(500)));
        assert!(!answer.push(&"x".repeat(200)));
        answer.push_footer(&Masker::new(true).text(&token()));
        answer.push_footer(&"é".repeat(1000));
        let text = answer.finish();
        assert!(text.len() <= 1000, "{}", text.len());
    }

    #[test]
    fn an_answer_counts_the_masked_secrets() {
        let mut answer = Answer::new(1000);
        answer.push(&Masker::new(true).text(&format!("{} and {}", token(), token())));
        assert!(answer.finish().ends_with("\n(2 secrets are masked)\n"));
    }

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(Masker::new(true).text("a\x1b[2J\tb\r\nc"), "a[2J\tb\nc");
        assert_eq!(shorten(" one\n two  three", 9), "one two t…");
    }
}
