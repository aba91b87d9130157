//! What bytes have in common with a base, found while they come.

use super::index::{self, Index, WINDOW, window};

/// Shorter matches than that cost more than they save, once what is inserted has been compressed.
const SHORTEST: usize = 32;
/// How far a match is followed back into what others cover already.
const FARTHEST_BACK: usize = 4096;

/// Bytes that both sides have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) len: usize,
}

impl Copied {
    /// Where it ends in the bytes, and where in the base.
    pub(super) const fn ends(&self) -> (usize, usize) {
        (self.to + self.len, self.from + self.len)
    }
}

/// What has been found, in the order of the bytes, without overlaps there.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    base: &'a [u8],
    index: &'a Index,
    copies: Vec<Copied>,
    /// Where the next window of the bytes is to be looked up.
    at: usize,
}

impl<'a> Finder<'a> {
    pub(super) const fn new(base: &'a [u8], index: &'a Index) -> Self {
        Self { base, index, copies: Vec::new(), at: 0 }
    }

    /// Looks at what has come so far.
    pub(super) fn advance(&mut self, so_far: &[u8]) {
        // A match that the end cuts off must be long enough to be one whatever comes.
        self.find(so_far, SHORTEST);
    }

    /// What all of the bytes have in common with the base.
    pub(super) fn finish(mut self, bytes: &[u8]) -> Vec<Copied> {
        self.find(bytes, WINDOW);
        self.copies
    }

    /// Looks up the windows behind which there are so many bytes, their own included.
    fn find(&mut self, bytes: &[u8], needed: usize) {
        self.go_on(bytes);
        while let Some(window) = window(bytes, self.at).filter(|_| self.at + needed <= bytes.len()) {
            // What follows a change of equal length stands as far behind the copy before on both sides.
            let (done, behind) = self.ends();
            let beside = behind + (self.at - done);
            let from = match index::window(self.base, beside) {
                Some(found) if found == window => Some(beside),
                _ => self.index.find(self.base, window),
            };
            let copied = from.map(|from| grown(self.base, bytes, Copied { from, to: self.at, len: WINDOW }));
            let Some(copied) = copied.filter(|copied| copied.len >= SHORTEST) else {
                self.at += step(self.at - done);
                continue;
            };
            (self.at, _) = copied.ends();
            push(&mut self.copies, copied);
        }
    }

    /// Follows the last copy into what has come since.
    fn go_on(&mut self, bytes: &[u8]) {
        let (done, behind) = self.ends();
        if let Some(last) = self.copies.last_mut().filter(|_| self.at == done) {
            let more = common_prefix(
                self.base.get(behind..).unwrap_or_default(),
                bytes.get(done..).unwrap_or_default(),
            );
            last.len += more;
            self.at += more;
        }
    }

    /// Where the last copy ends in the bytes, and where in the base.
    fn ends(&self) -> (usize, usize) {
        self.copies.last().map_or((0, 0), Copied::ends)
    }
}

/// How far to go on where nothing has been found for so long. The numbers are odd, so that the windows come to lie on
/// the beginnings of stretches in whatever is long enough.
const fn step(missed: usize) -> usize {
    match missed / 64 {
        0 => 1,
        1 => 3,
        2 => 5,
        _ => 7,
    }
}

/// A match, followed in both directions.
fn grown(base: &[u8], bytes: &[u8], seed: Copied) -> Copied {
    let ahead = common_prefix(
        base.get(seed.from + seed.len..).unwrap_or_default(),
        bytes.get(seed.to + seed.len..).unwrap_or_default(),
    );
    let (base, bytes) = (base.get(..seed.from), bytes.get(..seed.to));
    let back = base.unwrap_or_default().iter().rev().zip(bytes.unwrap_or_default().iter().rev());
    let back = back.take(FARTHEST_BACK).take_while(|(one, other)| one == other).count();
    Copied { from: seed.from - back, to: seed.to - back, len: back + seed.len + ahead }
}

/// Adds a copy that may reach back into those before it. It is the longer for that, and so the better one.
fn push(copies: &mut Vec<Copied>, mut copied: Copied) {
    while copies.last().is_some_and(|last| last.to >= copied.to) {
        copies.pop();
    }
    if let Some(last) = copies.last_mut() {
        let overlap = (last.to + last.len).saturating_sub(copied.to);
        if last.len - overlap >= SHORTEST {
            last.len -= overlap;
        } else {
            copied =
                Copied { from: copied.from + overlap, to: copied.to + overlap, len: copied.len - overlap };
        }
    }
    copies.push(copied);
}

/// How many bytes two begin with alike.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let (ones, _) = one.as_chunks::<64>();
    let (others, _) = other.as_chunks::<64>();
    let whole = ones.iter().zip(others).take_while(|(one, other)| one == other).count() * 64;
    let rest = one.iter().skip(whole).zip(other.iter().skip(whole));
    whole + rest.take_while(|(one, other)| one == other).count()
}
