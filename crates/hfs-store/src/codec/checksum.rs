//! Sums over rows, so that a bit that changed on the disk is found.
//!
//! SQLite checks the structure of its pages, not what is in them. Checkpoint states, runs and attachments have
//! checksums of their own; messages and sessions have these.

use std::hash::Hasher as _;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use twox_hash::XxHash3_64;

use crate::error::Result;

/// What the sum of a message is over: all the rest of its row.
const MESSAGE: &str = "no, id, role, status, created_at, agent, model, prompt_tokens, completion_tokens,
    source_format, source_id, body, extra";
/// What the sum of a session is over: what lasts of its row, neither its place in the lists nor who imports it.
const SESSION: &str = "id, name, automatic_name, project, directory, repository, created_at, current_branch,
    origin_format, origin_id, origin_path, trashed_at, extra";

/// SQL that says whether the row of a message is what was stored.
pub(crate) fn message_holds() -> String {
    format!("hfs_holds(sum, {MESSAGE})")
}

/// SQL that says whether the row of a session is what was stored.
pub(crate) fn session_holds() -> String {
    format!("hfs_holds(sum, {SESSION})")
}

/// Seals a session's row, after every change to it.
pub(crate) fn session(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached(&format!("UPDATE session SET sum = hfs_sum({SESSION}) WHERE no = ?1"))?
        .execute([no])?;
    Ok(())
}

/// Seals a message's row. (New ones are sealed as they are made.)
pub(crate) fn message(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached(&format!("UPDATE message SET sum = hfs_sum({MESSAGE}) WHERE no = ?1"))?
        .execute([no])?;
    Ok(())
}

/// `hfs_sum(...)`: the sum over all arguments. `hfs_holds(sum, ...)`: whether that is the sum over all others, or was
/// it before version 4.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("hfs_sum", -1, flags, |context| Ok(sum_from(context, 0)))?;
    conn.create_scalar_function("hfs_holds", -1, flags, |context| {
        // What is no number any more is no sum.
        let ValueRef::Integer(sum) = context.get_raw(0) else { return Ok(false) };
        Ok(sum == sum_from(context, 1) || sum == early_sum_from(context, 1))
    })
}

/// The sum over the arguments from this one on.
fn sum_from(context: &Context<'_>, first: usize) -> i64 {
    let mut sum = Sum::default();
    (first..context.len()).for_each(|index| sum.add(context.get_raw(index)));
    sum.value()
}

/// The same, as versions before 4 made it: of the same bytes, by a slower hash.
fn early_sum_from(context: &Context<'_>, first: usize) -> i64 {
    let mut hash = blake3::Hasher::new();
    for index in first..context.len() {
        each_piece(context.get_raw(index), |piece| {
            hash.update(piece);
        });
    }
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Eight bytes of a hash over some values, told apart by kind and length.
#[derive(Default)]
pub(crate) struct Sum(XxHash3_64);

impl Sum {
    /// Takes the next value in.
    pub(crate) fn add(&mut self, value: ValueRef<'_>) {
        each_piece(value, |piece| self.0.write(piece));
    }

    /// The sum over what was taken in.
    pub(crate) fn value(&self) -> i64 {
        self.0.finish().cast_signed()
    }
}

/// The bytes that stand for a value.
fn each_piece(value: ValueRef<'_>, mut piece: impl FnMut(&[u8])) {
    let number;
    let (kind, bytes): (u8, &[u8]) = match value {
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
    piece(&[kind, a, b, c, d, e, f, g, h]);
    piece(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_tells_kinds_and_borders_apart() {
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        let sum = |arguments: &str| -> i64 {
            conn.query_row(&format!("SELECT hfs_sum({arguments})"), [], |row| row.get(0)).unwrap()
        };
        let all =
            ["", "NULL", "''", "x''", "0", "0.0", "'0'", "'ab', 'c'", "'a', 'bc'", "'abc'", "NULL, NULL"];
        let sums: std::collections::BTreeSet<i64> = all.iter().map(|arguments| sum(arguments)).collect();
        assert_eq!(sums.len(), all.len());
        assert_eq!(sum("1, 'a'"), sum("1, 'a'"));
    }

    #[test]
    fn rows_that_earlier_versions_sealed_hold_as_long_as_nothing_changes() {
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        let holds = |arguments: &str| -> bool {
            conn.query_row(&format!("SELECT hfs_holds({arguments})"), [], |row| row.get(0)).unwrap()
        };
        // What version 3 made of these values.
        assert!(holds("5631475200309069434, 7, 'text', NULL, x'00ff'"));
        assert!(!holds("5631475200309069434, 7, 'texT', NULL, x'00ff'"));
        assert!(holds("hfs_sum(7, 'text', NULL, x'00ff'), 7, 'text', NULL, x'00ff'"));
        assert!(!holds("hfs_sum(7, 'text', NULL, x'00ff'), 7, 'text', NULL, x'00fe'"));
        assert!(!holds("NULL, 7") && !holds("'text', 7"));
    }
}
