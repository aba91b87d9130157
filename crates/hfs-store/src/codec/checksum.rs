//! Row checksums, which detect bits that have changed on the disk.
//!
//! SQLite checks the structure of its pages, but not the values in them. Messages and sessions have a checksum in the
//! column `sum`. Checkpoint states and attachments have a content hash instead, and the zstd frame of a run has a checksum of its own.

use std::hash::Hasher as _;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use twox_hash::XxHash3_64;

use crate::error::Result;

/// The columns that a message's checksum covers: all except `sum`.
const MESSAGE_COLUMNS: &str =
    "no, id, role, status, created_at, agent, model, prompt_tokens, completion_tokens,
    source_format, source_id, body, extra";
/// The columns that a session's checksum covers. `place`, `state` and `importer` are left out, because they are updated
/// without the checksum. `short` is derived from `id`.
const SESSION_COLUMNS: &str =
    "id, name, automatic_name, project, directory, repository, created_at, current_branch,
    origin_format, origin_id, origin_path, trashed_at, extra";

/// An SQL expression: whether a message's row has the right checksum.
pub(crate) fn message_matches() -> String {
    format!("hfs_checksum_matches(sum, {MESSAGE_COLUMNS})")
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
    conn.prepare_cached(&format!("UPDATE message SET sum = hfs_checksum({MESSAGE_COLUMNS}) WHERE no = ?1"))?
        .execute([no])?;
    Ok(())
}

/// Registers two SQL functions. `hfs_checksum(...)` returns the checksum over its arguments.
/// `hfs_checksum_matches(sum, ...)` returns whether `sum` is the checksum over the other arguments.
pub(crate) fn register_functions(conn: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("hfs_checksum", -1, flags, |context| Ok(checksum_of_arguments(context, 0)))?;
    conn.create_scalar_function("hfs_checksum_matches", -1, flags, |context| {
        let ValueRef::Integer(stored) = context.get_raw(0) else { return Ok(false) };
        Ok(stored == checksum_of_arguments(context, 1) || stored == checksum_before_version_4(context, 1))
    })
}

fn checksum_of_arguments(context: &Context<'_>, first: usize) -> i64 {
    let mut checksum = RowChecksum::default();
    (first..context.len()).for_each(|index| checksum.add(context.get_raw(index)));
    checksum.finish()
}

/// The checksum that schema versions before 4 stored: BLAKE3 over the same bytes. XXH3 has replaced it, because BLAKE3
/// took a fourteenth of the time of an import.
fn checksum_before_version_4(context: &Context<'_>, first: usize) -> i64 {
    let mut hash = blake3::Hasher::new();
    for index in first..context.len() {
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
}
