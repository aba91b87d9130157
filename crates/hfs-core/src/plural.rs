//! Counted nouns in messages.

use std::fmt::Display;

/// Formats a count with its noun: `1 message`, `2 messages`, `3 branches`, `4 entries`.
#[must_use]
pub fn plural<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        return format!("1 {noun}");
    }
    match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        Some(stem) => format!("{count} {stem}ies"),
        None if noun.ends_with("ch") => format!("{count} {noun}es"),
        None => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_the_form_of_its_noun() {
        assert_eq!(plural(1_u64, "message"), "1 message");
        assert_eq!(plural(0_usize, "message"), "0 messages");
        assert_eq!(plural(2_u32, "branch"), "2 branches");
        assert_eq!(plural(1_u32, "entry"), "1 entry");
        assert_eq!(plural(3_u32, "entry"), "3 entries");
        assert_eq!(plural(3_u32, "day"), "3 days");
    }
}
