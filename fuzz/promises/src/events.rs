//! Events as JSON lines.

use hfs_core::{Event, RunSnapshot};
use serde_json::Value;

/// Checks that every event that can be read is unchanged after writing and reading it again, and that events in any order
/// fold into a snapshot for which the same holds.
///
/// # Panics
/// Panics if a check fails.
pub fn events(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    // Parse to `Value` first, which drops duplicate fields: an event with contradictory duplicates is not a valid input.
    let values = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let events: Vec<Event> = values.filter_map(|value| serde_json::from_value(value).ok()).collect();
    for event in &events {
        assert_eq!(&round_trip(event), event);
    }
    let snapshot = RunSnapshot::fold(&events);
    assert_eq!(round_trip(&snapshot), snapshot);
    // Folding is deterministic.
    assert_eq!(RunSnapshot::fold(&events), snapshot);
}

fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_string(value).unwrap_or_else(|error| panic!("cannot be written: {error}"));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("cannot be read again: {error}\n{json}"))
}
