//! Events as JSON, one a line.

use hfs_core::{Event, RunSnapshot};
use serde_json::Value;

/// What can be read as an event says the same after being written and read again, and whatever order events
/// come in, they fold into a state that can itself be written and read.
///
/// # Panics
/// When that is not so.
pub fn events(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    // By way of a value, in which no field is there twice: of two that contradict each other, one is lost.
    let values = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let events: Vec<Event> = values.filter_map(|value| serde_json::from_value(value).ok()).collect();
    for event in &events {
        assert_eq!(&again(event), event);
    }
    let snapshot = RunSnapshot::fold(&events);
    assert_eq!(again(&snapshot), snapshot);
    // The state is a function of the events alone.
    assert_eq!(RunSnapshot::fold(&events), snapshot);
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_string(value).unwrap_or_else(|error| panic!("cannot be written: {error}"));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("cannot be read again: {error}\n{json}"))
}
