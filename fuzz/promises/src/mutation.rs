//! Damaging good input in the ways that files are damaged.

/// What means something to the readers, so that damage reaches further than their first check.
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

/// The longest input that is made.
const LONGEST: usize = 64 << 10;

/// An input made of the seeds by damaging them as `choices` says. The same choices make the same input, and
/// without any it is the first seed as it is.
#[must_use]
pub fn mutated(seeds: &[Vec<u8>], choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices(choices);
    let mut bytes = choices.pick(seeds).cloned().unwrap_or_default();
    while !choices.0.is_empty() {
        damage(&mut bytes, seeds, &mut choices);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], choices: &mut Choices<'_>) {
    let kind = choices.byte() % 7;
    let at = choices.place(bytes.len());
    match kind {
        // A bit turns.
        0 => {
            let bit = 1 << (choices.byte() % 8);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
        }
        // A stretch is lost.
        1 => {
            let end = at + choices.length(bytes.len() - at);
            bytes.drain(at..end);
        }
        // The rest is lost.
        2 => bytes.truncate(at),
        // A stretch is there twice.
        3 => {
            let length = choices.length(bytes.len() - at);
            let stretch: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            bytes.splice(at..at, stretch);
        }
        // A word stands where none belongs.
        4 => {
            let token = choices.pick(TOKENS).copied().unwrap_or_default();
            bytes.splice(at..at, token.iter().copied());
        }
        // Any byte stands there.
        5 => {
            let byte = choices.byte();
            bytes.insert(at, byte);
        }
        // The end of another file follows.
        _ => {
            let other = choices.pick(seeds).map_or(&[][..], Vec::as_slice);
            let from = choices.place(other.len());
            bytes.truncate(at);
            bytes.extend(other.iter().skip(from));
        }
    }
}

/// Decisions read off a string of bytes; when it runs out, all are the first.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A place from 0 to `length`, both included.
    fn place(&mut self, length: usize) -> usize {
        let drawn = usize::from(self.byte()) << 8 | usize::from(self.byte());
        drawn % (length + 1)
    }

    /// A length from 0 to `most`, mostly short.
    fn length(&mut self, most: usize) -> usize {
        let drawn = usize::from(self.byte());
        (drawn * drawn / 16).min(most)
    }

    fn pick<'t, T>(&mut self, among: &'t [T]) -> Option<&'t T> {
        let drawn = usize::from(self.byte());
        among.get(drawn.checked_rem(among.len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> Vec<Vec<u8>> {
        vec![b"first seed".to_vec(), b"second".to_vec()]
    }

    #[test]
    fn without_choices_the_first_seed_stays_whole() {
        assert_eq!(mutated(&seeds(), &[]), b"first seed");
        assert_eq!(mutated(&seeds(), &[1]), b"second");
        assert_eq!(mutated(&[], &[0, 4, 0, 0, 6]), b"null");
    }

    #[test]
    fn every_kind_of_damage_does_something() {
        for (choices, expected) in [
            (&[0, 0, 0, 0, 0][..], &b"girst seed"[..]),
            (&[0, 1, 0, 1, 8], b"f seed"),
            (&[0, 2, 0, 5], b"first"),
            (&[0, 3, 0, 0, 8], b"firsfirst seed"),
            (&[0, 4, 0, 5, 6], b"firstnull seed"),
            (&[0, 5, 0, 1, b'x'], b"fxirst seed"),
            (&[0, 6, 0, 2, 1, 0, 3], b"fiond"),
        ] {
            assert_eq!(mutated(&seeds(), choices), expected, "{choices:?}");
        }
    }

    #[test]
    fn growth_ends_somewhere() {
        let choices: Vec<u8> = [3, 0, 0, 255].repeat(1000);
        let input = mutated(&[vec![b'x'; 60 << 10]], &choices);
        assert!(input.len() <= LONGEST);
    }
}
