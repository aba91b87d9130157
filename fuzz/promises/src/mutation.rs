//! Mutates valid inputs in the ways in which real files get damaged.

/// Tokens with a meaning for the readers, so that mutated inputs get past their first checks.
const TOKENS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\0\0\0\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\\ud83d",
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\"type\":",
    b"\"content\":",
    b"\"timestamp\":\"9999-99-99T99:99:99Z\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"\x28\xb5\x2f\xfd",
];

/// Limit for the length of an input.
const MAX_INPUT: usize = 64 << 10;

/// Mutates a seed as determined by `choices`. The same choices yield the same input; without any, the result is the first
/// seed.
#[must_use]
pub fn mutate(seeds: &[Vec<u8>], choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices(choices);
    let mut bytes = choices.pick(seeds).cloned().unwrap_or_default();
    while !choices.0.is_empty() {
        apply_mutation(&mut bytes, seeds, &mut choices);
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

fn apply_mutation(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], choices: &mut Choices<'_>) {
    let kind = choices.byte() % 7;
    let at = choices.position(bytes.len());
    match kind {
        // Flip a bit.
        0 => {
            let bit = 1 << (choices.byte() % 8);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
        }
        // Delete a range.
        1 => {
            let end = at + choices.length(bytes.len() - at);
            bytes.drain(at..end);
        }
        // Truncate.
        2 => bytes.truncate(at),
        // Duplicate a range.
        3 => {
            let length = choices.length(bytes.len() - at);
            let range: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            bytes.splice(at..at, range);
        }
        // Insert a token.
        4 => {
            let token = choices.pick(TOKENS).copied().unwrap_or_default();
            bytes.splice(at..at, token.iter().copied());
        }
        // Insert a byte.
        5 => {
            let byte = choices.byte();
            bytes.insert(at, byte);
        }
        // Replace the rest by the end of another seed.
        _ => {
            let other = choices.pick(seeds).map_or(&[][..], Vec::as_slice);
            let from = choices.position(other.len());
            bytes.truncate(at);
            bytes.extend(other.iter().skip(from));
        }
    }
}

/// Decisions, each determined by the next bytes. After the last byte, every decision is 0.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A position from 0 to `length` inclusive.
    fn position(&mut self, length: usize) -> usize {
        let drawn = usize::from(self.byte()) << 8 | usize::from(self.byte());
        drawn % (length + 1)
    }

    /// A length from 0 to `max` inclusive, usually short.
    fn length(&mut self, max: usize) -> usize {
        let drawn = usize::from(self.byte());
        (drawn * drawn / 16).min(max)
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> Option<&'t T> {
        let drawn = usize::from(self.byte());
        items.get(drawn.checked_rem(items.len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> Vec<Vec<u8>> {
        vec![b"first seed".to_vec(), b"second".to_vec()]
    }

    #[test]
    fn without_choices_the_first_seed_is_unchanged() {
        assert_eq!(mutate(&seeds(), &[]), b"first seed");
        assert_eq!(mutate(&seeds(), &[1]), b"second");
        assert_eq!(mutate(&[], &[0, 4, 0, 0, 6]), b"null");
    }

    #[test]
    fn every_kind_of_mutation_has_an_effect() {
        for (choices, expected) in [
            (&[0, 0, 0, 0, 0][..], &b"girst seed"[..]),
            (&[0, 1, 0, 1, 8], b"f seed"),
            (&[0, 2, 0, 5], b"first"),
            (&[0, 3, 0, 0, 8], b"firsfirst seed"),
            (&[0, 4, 0, 5, 6], b"firstnull seed"),
            (&[0, 5, 0, 1, b'x'], b"fxirst seed"),
            (&[0, 6, 0, 2, 1, 0, 3], b"fiond"),
        ] {
            assert_eq!(mutate(&seeds(), choices), expected, "{choices:?}");
        }
    }

    #[test]
    fn the_length_of_an_input_is_limited() {
        let choices: Vec<u8> = [3, 0, 0, 255].repeat(1000);
        let input = mutate(&[vec![b'x'; 60 << 10]], &choices);
        assert!(input.len() <= MAX_INPUT);
    }
}
