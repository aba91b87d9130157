//! A clock and ids that are the same in every run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hfs_core::{BranchId, CheckpointId, Clock, MessageId, OperationId, RunId, SessionId, Timestamp};
use uuid::Uuid;

/// 2026-02-01T14:30:00Z in microseconds.
const BEGINNING: i64 = 1_769_956_200_000_000;

/// A clock that moves only when it is told to, or by a fixed step with each look at it.
#[derive(Debug)]
pub struct TestClock {
    micros: AtomicI64,
    step: i64,
}

impl TestClock {
    /// A clock that stands at 2026-02-01T14:30:00Z.
    #[must_use]
    pub const fn standing() -> Self {
        Self { micros: AtomicI64::new(BEGINNING), step: 0 }
    }

    /// A clock that begins at 2026-02-01T14:30:00Z and goes on by one second after each look.
    #[must_use]
    pub const fn ticking() -> Self {
        Self { micros: AtomicI64::new(BEGINNING), step: 1_000_000 }
    }

    /// Moves it by so many milliseconds; back, when negative.
    pub fn advance(&self, millis: i64) {
        self.micros.fetch_add(millis.saturating_mul(1000), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let micros = self.micros.fetch_add(self.step, Ordering::SeqCst);
        Timestamp::from_micros(micros).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Ids that look like real ones (ordered by age, with a random-looking tail) and depend on the seed only.
#[derive(Debug)]
pub struct TestIds {
    seed: u64,
    count: AtomicU64,
}

impl TestIds {
    /// Ids of this seed. Two seeds give different ids.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, count: AtomicU64::new(0) }
    }

    /// The next one.
    pub fn uuid(&self) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let millis = u64::try_from(BEGINNING / 1000).unwrap_or_default() + count;
        let tail = mix(self.seed ^ mix(count)).to_be_bytes();
        let middle = mix(!self.seed ^ count).to_be_bytes();
        let mut random = [0; 10];
        random.iter_mut().zip(middle.iter().take(2).chain(&tail)).for_each(|(to, from)| *to = *from);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// The next one, for a session.
    pub fn session(&self) -> SessionId {
        SessionId::from_uuid(self.uuid())
    }

    /// The next one, for a branch.
    pub fn branch(&self) -> BranchId {
        BranchId::from_uuid(self.uuid())
    }

    /// The next one, for a message.
    pub fn message(&self) -> MessageId {
        MessageId::from_uuid(self.uuid())
    }

    /// The next one, for a run.
    pub fn run(&self) -> RunId {
        RunId::from_uuid(self.uuid())
    }

    /// The next one, for a checkpoint.
    pub fn checkpoint(&self) -> CheckpointId {
        CheckpointId::from_uuid(self.uuid())
    }

    /// The next one, for an operation.
    pub fn operation(&self) -> OperationId {
        OperationId::from_uuid(self.uuid())
    }
}

/// Scatters the bits of `x` (the finalizer of splitmix64).
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_new_each_time_ordered_and_the_same_in_every_run() {
        let (one, same, other) = (TestIds::new(1), TestIds::new(1), TestIds::new(2));
        let ids: Vec<SessionId> = (0..100).map(|_| one.session()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| *id == same.session()));
        assert!(!ids.contains(&other.session()));
        assert_eq!(ids[0].as_uuid().get_version_num(), 7);
    }

    #[test]
    fn a_standing_clock_moves_when_told_and_a_ticking_one_by_itself() {
        let standing = TestClock::standing();
        assert_eq!(standing.now(), standing.now());
        assert_eq!(standing.now().to_string(), "2026-02-01T14:30:00Z");
        standing.advance(1500);
        assert_eq!(standing.now().to_string(), "2026-02-01T14:30:01.5Z");
        let ticking = TestClock::ticking();
        assert_eq!(ticking.now().millis_since(ticking.now()), 0);
        assert_eq!(ticking.now().to_string(), "2026-02-01T14:30:02Z");
    }
}
