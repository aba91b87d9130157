//! A deterministic clock and deterministic ids.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hfs_core::{BranchId, CheckpointId, Clock, MessageId, OperationId, RunId, SessionId, Timestamp};
use uuid::Uuid;

/// 2026-02-01T14:30:00Z in microseconds.
const START: i64 = 1_769_956_200_000_000;

/// A clock that moves only when a test advances it (`fixed`), or that also advances with each reading (`ticking`).
#[derive(Debug)]
pub struct TestClock {
    micros: AtomicI64,
    step: i64,
}

impl TestClock {
    /// A clock that stays at 2026-02-01T14:30:00Z until it is advanced.
    #[must_use]
    pub const fn fixed() -> Self {
        Self { micros: AtomicI64::new(START), step: 0 }
    }

    /// A clock that starts at 2026-02-01T14:30:00Z and advances by one second after each reading.
    #[must_use]
    pub const fn ticking() -> Self {
        Self { micros: AtomicI64::new(START), step: 1_000_000 }
    }

    /// Moves the clock by `millis` milliseconds, backwards if negative.
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

/// Generates version 7 UUIDs that depend only on the seed. Like real ids they are ordered by time.
#[derive(Debug)]
pub struct TestIds {
    seed: u64,
    count: AtomicU64,
}

impl TestIds {
    /// Creates a generator. Different seeds yield different ids.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, count: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn uuid(&self) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let millis = u64::try_from(START / 1000).unwrap_or_default() + count;
        let tail = mix(self.seed ^ mix(count)).to_be_bytes();
        let middle = mix(!self.seed ^ count).to_be_bytes();
        let mut random = [0; 10];
        random.iter_mut().zip(middle.iter().take(2).chain(&tail)).for_each(|(to, from)| *to = *from);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// The next session id.
    pub fn session(&self) -> SessionId {
        SessionId::from_uuid(self.uuid())
    }

    /// The next branch id.
    pub fn branch(&self) -> BranchId {
        BranchId::from_uuid(self.uuid())
    }

    /// The next message id.
    pub fn message(&self) -> MessageId {
        MessageId::from_uuid(self.uuid())
    }

    /// The next run id.
    pub fn run(&self) -> RunId {
        RunId::from_uuid(self.uuid())
    }

    /// The next checkpoint id.
    pub fn checkpoint(&self) -> CheckpointId {
        CheckpointId::from_uuid(self.uuid())
    }

    /// The next operation id.
    pub fn operation(&self) -> OperationId {
        OperationId::from_uuid(self.uuid())
    }
}

/// The finalizer of splitmix64.
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
    fn ids_are_unique_ordered_and_determined_by_the_seed() {
        let (one, same, other) = (TestIds::new(1), TestIds::new(1), TestIds::new(2));
        let ids: Vec<SessionId> = (0..100).map(|_| one.session()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| *id == same.session()));
        assert!(!ids.contains(&other.session()));
        assert_eq!(ids[0].as_uuid().get_version_num(), 7);
    }

    #[test]
    fn a_fixed_clock_moves_when_advanced_and_a_ticking_one_with_each_reading() {
        let fixed = TestClock::fixed();
        assert_eq!(fixed.now(), fixed.now());
        assert_eq!(fixed.now().to_string(), "2026-02-01T14:30:00Z");
        fixed.advance(1500);
        assert_eq!(fixed.now().to_string(), "2026-02-01T14:30:01.5Z");
        let ticking = TestClock::ticking();
        assert_eq!(ticking.now().millis_since(ticking.now()), 0);
        assert_eq!(ticking.now().to_string(), "2026-02-01T14:30:02Z");
    }
}
