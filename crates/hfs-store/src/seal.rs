//! Sums over rows, so that a bit that changed on the disk is found.
//!
//! SQLite checks the structure of its pages, not what is in them. Checkpoint states, runs and attachments have
//! checksums of their own; messages and sessions have these.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;

use crate::fault::Sql;

/// The sum over a message's row.
pub(crate) const MESSAGE: &str = "hfs_sum(no, id, role, status, created_at, agent, model, prompt_tokens,
    completion_tokens, source_format, source_id, body, extra)";
/// The sum over what lasts of a session's row: neither its place in the lists nor who imports it.
pub(crate) const SESSION: &str =
    "hfs_sum(id, name, automatic_name, project, directory, repository, created_at,
    current_branch, origin_format, origin_id, origin_path, trashed_at, extra)";

/// Seals a session's row, after every change to it.
pub(crate) fn session(conn: &Connection, no: i64) -> Sql<()> {
    conn.prepare_cached(&format!("UPDATE session SET sum = {SESSION} WHERE no = ?1"))?.execute([no])?;
    Ok(())
}

/// Seals a message's row. (New ones are sealed as they are made.)
pub(crate) fn message(conn: &Connection, no: i64) -> Sql<()> {
    conn.prepare_cached(&format!("UPDATE message SET sum = {MESSAGE} WHERE no = ?1"))?.execute([no])?;
    Ok(())
}

/// `hfs_sum(...)`: the sum over all arguments.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("hfs_sum", -1, flags, |context| {
        let mut sum = Sum::default();
        for index in 0..context.len() {
            sum.add(context.get_raw(index));
        }
        Ok(sum.value())
    })
}

/// Eight bytes of a hash over some values, told apart by kind and length.
#[derive(Default)]
pub(crate) struct Sum(Vec<u8>);

impl Sum {
    /// A sum over about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Takes the next value in.
    pub(crate) fn add(&mut self, value: ValueRef<'_>) {
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
        self.0.push(kind);
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The sum over what was taken in.
    pub(crate) fn value(&self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&self.0).as_bytes();
        i64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
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
}
