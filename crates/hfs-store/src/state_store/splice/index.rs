//! What a base has, and where.

/// How many bytes are compared to find a match.
pub(super) const WINDOW: usize = 16;
/// How many places beside each other are tried where one is taken: with one, every sixth window would be lost.
const PLACES: usize = 4;
/// From how many bytes of the base one window is remembered.
const STRIDE: usize = 32;

pub(super) fn window(bytes: &[u8], at: usize) -> Option<&[u8; WINDOW]> {
    bytes.get(at..)?.first_chunk()
}

/// Where to find what a base has.
#[derive(Debug)]
pub struct Index {
    /// At the place of a window's hash, the number of its stretch, from one on, in the lower `bits`, and more of the
    /// hash in the others: so hardly any window that the base does not have is looked for there.
    places: Vec<u32>,
    bits: u32,
}

impl Index {
    /// Looks at a base. (Of one that is longer than eight gigabytes, only at those.)
    #[must_use]
    pub fn of(base: &[u8]) -> Self {
        let stretches = base.len() / STRIDE;
        let bits = (stretches.max(8) * 2).next_power_of_two().trailing_zeros().min(29);
        let mut index = Self { places: vec![0; 1 << bits], bits };
        let (stretches, _) = base.as_chunks::<STRIDE>();
        for (number, stretch) in (1..index.mask()).zip(stretches) {
            let Some(window) = stretch.first_chunk() else { continue };
            let (place, tag) = index.place(window);
            let mask = index.mask();
            for place in index.beside(place) {
                match index.places.get_mut(place) {
                    Some(free @ 0) => {
                        *free = number | tag;
                        break;
                    }
                    // The first stays: what stands often is as good from anywhere.
                    Some(taken) if *taken & !mask == tag => break,
                    _ => {}
                }
            }
        }
        index
    }

    /// The places that an entry may be at.
    fn beside(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let last = self.places.len() - 1;
        (0..PLACES).map(move |step| (place + step) & last)
    }

    /// What of an entry is the number of a stretch.
    const fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// Where a window's entry is, and what it has above the number.
    #[allow(clippy::cast_possible_truncation, reason = "what is left is what is wanted")]
    const fn place(&self, window: &[u8; WINDOW]) -> (usize, u32) {
        let number = u128::from_le_bytes(*window);
        let (low, high) = (number as u64, (number >> 64) as u64);
        let mixed = (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed >> (u64::BITS - self.bits)) as usize, ((mixed >> 8) as u32) & !self.mask())
    }

    pub(super) fn find(&self, base: &[u8], wanted: &[u8; WINDOW]) -> Option<usize> {
        let (place, tag) = self.place(wanted);
        let entries =
            self.beside(place).map_while(|place| self.places.get(place)).take_while(|entry| **entry != 0);
        let mut alike = entries.filter(|entry| *entry & !self.mask() == tag);
        alike.find_map(|entry| {
            let stretch = (entry & self.mask()).checked_sub(1)?;
            let from = usize::try_from(stretch).ok()? * STRIDE;
            (window(base, from)? == wanted).then_some(from)
        })
    }
}
