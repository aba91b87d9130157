//! Numbers, durations and times as text.

use hfs_core::Timestamp;
pub use hfs_core::plural;

/// Formats a number of bytes in binary units.
pub fn format_bytes(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", tenths(KIB)),
        MIB..GIB => format!("{} MiB", tenths(MIB)),
        _ => format!("{} GiB", tenths(GIB)),
    }
}

/// Formats a number of tokens: `9999`, `10k`, `1.2M`.
pub fn format_tokens(tokens: u64) -> String {
    match tokens {
        0..=9_999 => tokens.to_string(),
        10_000..=999_999 => format!("{}k", tokens / 1_000),
        _ => format!("{}.{}M", tokens / 1_000_000, tokens % 1_000_000 / 100_000),
    }
}

/// Formats a duration in milliseconds: `900 ms`, `1.5 s`, `2 min 3 s`.
pub fn format_duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

/// Returns the date of a time.
#[must_use]
pub fn calendar_date(at: Timestamp, zone: &jiff::tz::TimeZone) -> jiff::civil::Date {
    at.to_jiff().to_zoned(zone.clone()).date()
}

/// Formats a date and a time: `2026-02-16 18:47`.
#[must_use]
pub fn calendar_time(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.to_jiff().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Formats a time: `18:47`.
#[must_use]
pub fn clock_time(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.to_jiff().to_zoned(zone.clone()).strftime("%H:%M").to_string()
}
