//! Row checksums, which detect bits that have changed on the disk.
//!
//! SQLite checks the structure of its pages, but not the values in them. Messages and sessions have a checksum in the
//! column `sum`. Checkpoint states and attachments have a content hash instead, and the zstd frame of a run has a checksum of its own.

use std::hash::Hasher as _;
use std::ops::Range;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use twox_hash::XxHash3_64;

use crate::error::Result;

/// The columns that a message's checksum covers: all except `sum`.
const MESSAGE_COLUMNS: &str =
    "no, id, role, status, created_at, agent, model, prompt_tokens, completion_tokens,
    source_format, source_id, body, extra, cache_read_tokens, cache_write_tokens";
/// How many of them, at the end, schema version 9 has added.
const ADDED_MESSAGE_COLUMNS: usize = 2;
/// The columns that a session's checksum covers. `place`, `state` and `importer` are left out, because they are updated
/// without the checksum. `short` is derived from `id`.
const SESSION_COLUMNS: &str =
    "id, name, automatic_name, project, directory, repository, created_at, current_branch,
    origin_format, origin_id, origin_path, trashed_at, extra";

/// An SQL expression: whether a message's row has the right checksum.
pub(crate) fn message_matches() -> String {
    format!("hfs_message_checksum_matches(sum, {MESSAGE_COLUMNS})")
}

/// An SQL expression: whether a session's row has the right checksum.
pub(crate) fn session_matches() -> String {
    format!("hfs_checksum_matches(sum, {SESSION_COLUMNS})")
}

/// Writes the checksum of a session's row. Must be called after every change of the row.
pub(crate) fn update_session(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached(&format!("UPDATE session SET sum = hfs_checksum({SESSION_COLUMNS}) WHERE no = ?1"))?
        .execute([no])?;
    Ok(())
}

/// Writes the checksum of a message's row. Must be called after every change of the row, but not after an insert, which
/// takes the checksum from [`MessageRow::checksum`](super::rows::MessageRow::checksum).
pub(crate) fn update_message(conn: &Connection, no: i64) -> Result<()> {
    let sql = format!("UPDATE message SET sum = hfs_message_checksum({MESSAGE_COLUMNS}) WHERE no = ?1");
    conn.prepare_cached(&sql)?.execute([no])?;
    Ok(())
}

/// Registers SQL functions. `hfs_checksum(...)` returns the checksum over its arguments, and `hfs_message_checksum(...)` that over
/// the columns of a message. `hfs_checksum_matches(sum, ...)` and `hfs_message_checksum_matches(sum, ...)` return whether
/// `sum` is the checksum over the other arguments.
pub(crate) fn register_functions(conn: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    for (names, added) in [
        (["hfs_checksum", "hfs_checksum_matches"], 0),
        (["hfs_message_checksum", "hfs_message_checksum_matches"], ADDED_MESSAGE_COLUMNS),
    ] {
        let [checksum, matches] = names;
        conn.create_scalar_function(checksum, -1, flags, move |context| {
            Ok(checksum_of_arguments(context, 0..hashed_arguments(context, added)))
        })?;
        conn.create_scalar_function(matches, -1, flags, move |context| {
            let ValueRef::Integer(stored) = context.get_raw(0) else { return Ok(false) };
            let columns = 1..hashed_arguments(context, added);
            Ok(stored == checksum_of_arguments(context, columns.clone())
                || stored == checksum_before_version_4(context, columns))
        })?;
    }
    Ok(())
}

/// The number of arguments that are hashed. The last `added` ones are columns of a later version: if all are NULL, as in the rows of
/// earlier versions, they are not hashed.
fn hashed_arguments(context: &Context<'_>, added: usize) -> usize {
    let all = context.len();
    let before = all.saturating_sub(added);
    let is_older = (before..all).all(|index| context.get_raw(index) == ValueRef::Null);
    if is_older { before } else { all }
}

fn checksum_of_arguments(context: &Context<'_>, columns: Range<usize>) -> i64 {
    let mut checksum = RowChecksum::default();
    columns.for_each(|index| checksum.add(context.get_raw(index)));
    checksum.finish()
}

/// The checksum that schema versions before 4 stored: BLAKE3 over the same bytes. XXH3 has replaced it, because BLAKE3
/// took a fourteenth of the time of an import.
fn checksum_before_version_4(context: &Context<'_>, columns: Range<usize>) -> i64 {
    let mut hash = blake3::Hasher::new();
    for index in columns {
        with_hashed_bytes(context.get_raw(index), |bytes| {
            hash.update(bytes);
        });
    }
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A hash over the values of a row. The type and length of each value are hashed too, so that different rows never have
/// the same hashed bytes.
#[derive(Default)]
pub(crate) struct RowChecksum(XxHash3_64);

impl RowChecksum {
    pub(crate) fn add(&mut self, value: ValueRef<'_>) {
        with_hashed_bytes(value, |bytes| self.0.write(bytes));
    }

    /// Adds columns of a later version, unless all are NULL.
    pub(crate) fn add_later_columns<const N: usize>(&mut self, values: [ValueRef<'_>; N]) {
        if values.iter().any(|value| *value != ValueRef::Null) {
            values.into_iter().for_each(|value| self.add(value));
        }
    }

    pub(crate) fn finish(&self) -> i64 {
        self.0.finish().cast_signed()
    }
}

/// Calls `hash` with the hashed bytes of a value: first its type and length, then its contents.
fn with_hashed_bytes(value: ValueRef<'_>, mut hash: impl FnMut(&[u8])) {
    let number;
    let (value_type, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(value) => {
            number = value.to_le_bytes();
            (1, &number)
        }
        ValueRef::Real(value) => {
            number = value.to_le_bytes();
            (2, &number)
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    let [a, b, c, d, e, f, g, h] = (bytes.len() as u64).to_le_bytes();
    hash(&[value_type, a, b, c, d, e, f, g, h]);
    hash(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_different_types_or_lengths_have_different_checksums() {
        let conn = Connection::open_in_memory().unwrap();
        register_functions(&conn).unwrap();
        let checksum = |arguments: &str| -> i64 {
            conn.query_row(&format!("SELECT hfs_checksum({arguments})"), [], |row| row.get(0)).unwrap()
        };
        let all =
            ["", "NULL", "''", "x''", "0", "0.0", "'0'", "'ab', 'c'", "'a', 'bc'", "'abc'", "NULL, NULL"];
        let different: std::collections::BTreeSet<i64> =
            all.iter().map(|arguments| checksum(arguments)).collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(checksum("1, 'a'"), checksum("1, 'a'"));
    }

    #[test]
    fn checksums_of_earlier_versions_match_until_a_value_changes() {
        let conn = Connection::open_in_memory().unwrap();
        register_functions(&conn).unwrap();
        let matches = |arguments: &str| -> bool {
            conn.query_row(&format!("SELECT hfs_checksum_matches({arguments})"), [], |row| row.get(0))
                .unwrap()
        };
        // The checksum that version 3 stored for these values.
        assert!(matches("5631475200309069434, 7, 'text', NULL, x'00ff'"));
        assert!(!matches("5631475200309069434, 7, 'texT', NULL, x'00ff'"));
        assert!(matches("hfs_checksum(7, 'text', NULL, x'00ff'), 7, 'text', NULL, x'00ff'"));
        assert!(!matches("hfs_checksum(7, 'text', NULL, x'00ff'), 7, 'text', NULL, x'00fe'"));
        assert!(!matches("NULL, 7") && !matches("'text', 7"));
    }

    #[test]
    fn checksums_before_columns_were_added_match_until_the_columns_have_values() {
        let conn = Connection::open_in_memory().unwrap();
        register_functions(&conn).unwrap();
        let matches = |sum: &str, arguments: &str| -> bool {
            let sql = format!("SELECT hfs_message_checksum_matches({sum}, {arguments})");
            conn.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert!(matches("hfs_checksum(7, 'text')", "7, 'text', NULL, NULL"));
        assert!(matches("hfs_message_checksum(7, 'text', NULL, 3)", "7, 'text', NULL, 3"));
        for other in ["7, 'text', NULL, NULL", "7, 'text', 3, NULL", "7, 'text', 3, 3", "7, NULL, NULL, 3"] {
            assert!(!matches("hfs_message_checksum(7, 'text', NULL, 3)", other), "{other}");
        }
        assert!(!matches("hfs_checksum(7, 'text')", "7, 'text', NULL, 0"));
    }
}
