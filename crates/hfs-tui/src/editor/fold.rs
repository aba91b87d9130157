//! Long texts in the input, each of which is shown as a short label.
//!
//! In the field's text, a fold is one character of a private use area, so that the cursor, deletions and undo treat it as
//! one character.

/// The character of the first fold; the next ones follow it.
const FIRST: u32 = 0x10_0000;
const LAST: u32 = 0x10_FFFD;
/// A pasted text with more lines or bytes than this is folded.
const PASTED_LINES: usize = 20;
const PASTED_BYTES: usize = 2_000;
/// Any longer text is folded, because the input is laid out at each key.
const MAX_BYTES: usize = 16 << 10;

/// Folded texts, in the order of their characters.
#[derive(Debug, Clone, Default)]
pub struct Folds(Vec<String>);

/// Whether the field cannot hold a text as it is: it is too long, or has a character that could be mistaken for a fold.
pub fn must_be_folded(text: &str) -> bool {
    text.len() > MAX_BYTES || text.chars().any(|c| index_of(c).is_some())
}

/// Whether a pasted text is folded.
pub fn is_long_paste(text: &str) -> bool {
    must_be_folded(text) || text.len() > PASTED_BYTES || text.lines().count() > PASTED_LINES
}

fn index_of(c: char) -> Option<usize> {
    matches!(u32::from(c), FIRST..=LAST).then(|| usize::try_from(u32::from(c) - FIRST).unwrap_or(usize::MAX))
}

/// Returns the label of a grapheme that begins with a fold, such as `[long text 1]`.
pub fn label(grapheme: &str) -> Option<String> {
    let index = index_of(grapheme.chars().next()?)?;
    Some(format!("[long text {}]", index + 1))
}

impl Folds {
    /// Adds a text and returns its character. `None` if there are too many.
    pub fn add(&mut self, text: String) -> Option<char> {
        let c =
            char::from_u32(FIRST + u32::try_from(self.0.len()).ok()?).filter(|c| u32::from(*c) <= LAST)?;
        self.0.push(text);
        Some(c)
    }

    /// Returns the text of a fold.
    pub fn get(&self, c: char) -> Option<&str> {
        self.0.get(index_of(c)?).map(String::as_str)
    }

    /// Returns the folds that occur in a text, in their order.
    pub fn in_text<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        text.chars().filter_map(move |c| Some((label(c.encode_utf8(&mut [0; 4]))?, self.get(c)?)))
    }

    /// Returns a text with its folds replaced by their texts.
    pub fn unfolded(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let mut unfolded = String::with_capacity(text.len());
        for c in text.chars() {
            match self.get(c) {
                Some(folded) => unfolded.push_str(folded),
                None => unfolded.push(c),
            }
        }
        unfolded
    }
}
