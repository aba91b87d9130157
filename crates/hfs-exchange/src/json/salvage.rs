//! What can be saved of a line that is not exactly one record.

use super::scan::scan;

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment<'a> {
    /// A whole object.
    Record(&'a str),
    /// Something else: a value that is no object, or text that is no value.
    Bad(&'a str),
}

/// Each byte of a line is looked at so many times at most; a line built to need more is given up as damaged.
const PATIENCE: usize = 32;

/// Takes the line apart: values one after another; where none can be read, on to the next `{"` from which an
/// object can. Runs of NUL, which a crash leaves behind, count as white space.
pub(crate) fn salvage(line: &str) -> Vec<Fragment<'_>> {
    let mut fragments = Vec::new();
    let mut budget = line.len().saturating_mul(PATIENCE);
    let mut at = 0;
    loop {
        let rest = line.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\0']).len();
        if at >= line.len() {
            return fragments;
        }
        match scan(line, at) {
            Ok(found) => {
                let piece = line.get(at..found.end).unwrap_or_default();
                fragments.push(if found.object { Fragment::Record(piece) } else { Fragment::Bad(piece) });
                at = found.end;
            }
            Err(reached) => {
                budget = budget.saturating_sub(reached.saturating_sub(at));
                let next = next_object(line, at, &mut budget).unwrap_or(line.len());
                fragments.push(Fragment::Bad(line.get(at..next).unwrap_or_default()));
                at = next;
            }
        }
    }
}

/// Where the next object that can be read begins, after `at`.
fn next_object(line: &str, at: usize, budget: &mut usize) -> Option<usize> {
    let mut from = at;
    loop {
        // `{"` is ASCII, so the search may begin inside a character.
        let rest = line.as_bytes().get(from + 1..)?;
        from += 1 + memchr::memmem::find(rest, b"{\"")?;
        match scan(line, from) {
            Ok(_) => return Some(from),
            Err(reached) => {
                *budget = budget.checked_sub(reached.saturating_sub(from) + 1)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, expected: &[Fragment<'_>]) {
        assert_eq!(salvage(line), expected, "{line}");
    }

    #[test]
    fn everything_whole_is_saved() {
        use Fragment::{Bad, Record};
        check(
            r#"{"a":1}{"b":2} {"c":3}"#,
            &[Record(r#"{"a":1}"#), Record(r#"{"b":2}"#), Record(r#"{"c":3}"#)],
        );
        check(r#"{"a":{"b":{"c":1}} "#, &[Bad(r#"{"a":"#), Record(r#"{"b":{"c":1}}"#)]);
        check(r#"{"a":"cut{"b":2}"#, &[Bad(r#"{"a":"cut"#), Record(r#"{"b":2}"#)]);
        check(r#"{"a":"cut"#, &[Bad(r#"{"a":"cut"#)]);
        check("[1,2]", &[Bad("[1,2]")]);
        check("\0\0\0{\"a\":1}\0", &[Record(r#"{"a":1}"#)]);
        check("nö {\"ä\":1} x", &[Bad("nö "), Record("{\"ä\":1}"), Bad("x")]);
    }

    #[test]
    fn a_line_made_to_take_forever_does_not() {
        let line = r#"{"a":"#.repeat(200_000);
        assert_eq!(salvage(&line).len(), 1);
    }

    proptest! {
        #[test]
        fn no_line_hurts_and_every_record_of_it_is_whole(line in "([{}\":,\\\\a1é\0 ]|\\{\"a\":1\\}){0,40}") {
            for fragment in salvage(&line) {
                if let Fragment::Record(text) = fragment {
                    prop_assert!(crate::json::parse(text).unwrap().value.is_object());
                }
            }
        }
    }
}
