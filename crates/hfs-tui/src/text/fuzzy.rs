//! Finding a name by some of its letters.

/// How well `query` fits `text`: all its letters must occur in order, in any case. Higher is better; letters
/// in a row and at the beginnings of words count more, and shorter texts are preferred. `None` when it does
/// not fit. An empty query fits everything equally.
#[must_use]
pub fn fuzzy_score(query: &str, text: &str) -> Option<u32> {
    let mut wanted = query.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).peekable();
    if wanted.peek().is_none() {
        return Some(0);
    }
    let (mut score, mut run, mut boundary, mut length) = (0_u32, 0_u32, true, 0_u32);
    for original in text.chars() {
        length += 1;
        for c in original.to_lowercase() {
            if wanted.peek() == Some(&c) {
                wanted.next();
                run += 1;
                score += 10 + 6 * run.min(8) + if boundary { 12 } else { 0 };
            } else {
                run = 0;
            }
        }
        boundary = !original.is_alphanumeric();
    }
    if wanted.peek().is_some() {
        return None;
    }
    Some((score * 4).saturating_sub(length.min(64)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_must_come_in_order() {
        assert!(fuzzy_score("flb", "Fix login bug").is_some());
        assert!(fuzzy_score("blf", "Fix login bug").is_none());
        assert!(fuzzy_score("zz", "Fix login bug").is_none());
    }

    #[test]
    fn words_in_a_row_beat_scattered_letters() {
        let together = fuzzy_score("login", "Fix login bug").unwrap();
        let scattered = fuzzy_score("login", "Long night of indexing nodes").unwrap();
        assert!(together > scattered);
        assert!(fuzzy_score("fix", "fix").unwrap() > fuzzy_score("fix", "a fixture of fixings").unwrap());
    }
}
