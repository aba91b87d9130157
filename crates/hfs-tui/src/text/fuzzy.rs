//! Fuzzy matching of names.

/// Returns how well `query` matches `text`, or `None` if it does not match. All letters of `query` must occur in `text`
/// in order, in any case. Consecutive letters and letters at word starts score higher, and shorter texts are preferred.
/// An empty query matches everything with the same score.
#[must_use]
pub fn fuzzy_score(query: &str, text: &str) -> Option<u32> {
    let mut expected = query.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).peekable();
    if expected.peek().is_none() {
        return Some(0);
    }
    let (mut score, mut consecutive, mut at_word_start, mut length) = (0_u32, 0_u32, true, 0_u32);
    for original in text.chars() {
        length += 1;
        for c in original.to_lowercase() {
            if expected.peek() == Some(&c) {
                expected.next();
                consecutive += 1;
                score += 10 + 6 * consecutive.min(8) + if at_word_start { 12 } else { 0 };
            } else {
                consecutive = 0;
            }
        }
        at_word_start = !original.is_alphanumeric();
    }
    if expected.peek().is_some() {
        return None;
    }
    Some((score * 4).saturating_sub(length.min(64)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_must_occur_in_order() {
        assert!(fuzzy_score("flb", "Fix login bug").is_some());
        assert!(fuzzy_score("blf", "Fix login bug").is_none());
        assert!(fuzzy_score("zz", "Fix login bug").is_none());
    }

    #[test]
    fn consecutive_letters_beat_scattered_letters() {
        let consecutive = fuzzy_score("login", "Fix login bug").unwrap();
        let scattered = fuzzy_score("login", "Long night of indexing nodes").unwrap();
        assert!(consecutive > scattered);
        assert!(fuzzy_score("fix", "fix").unwrap() > fuzzy_score("fix", "a fixture of fixings").unwrap());
    }
}
