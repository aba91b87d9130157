//! Counters of sessions (the table `activity`), so that a list reads no messages. `verify` compares them with the rows.

use uuid::Uuid;

use crate::db::Tx;
use crate::db::value::values;
use crate::error::Result;

/// Sets the time of a session's last change, if `at` is later.
pub(crate) fn touch(tx: &Tx, session: Uuid, at: i64) -> Result<()> {
    let sql = "UPDATE activity SET updated_at = $2 WHERE session = $1 AND updated_at < $2";
    tx.execute(sql, &values![session, at]).map(drop)
}

/// Counts messages that were added to a session. `at` is the time of the newest of them, and `words` the number of their
/// words in the text index.
pub(crate) fn add_messages(tx: &Tx, session: Uuid, at: i64, count: usize, words: i64) -> Result<()> {
    let sql = "UPDATE activity SET updated_at = greatest(updated_at, $2), messages = messages + $3,
        words = words + $4 WHERE session = $1";
    tx.execute(sql, &values![session, at, count, words]).map(drop)
}

/// Adds to the number of words of a session, without a change of its time.
pub(crate) fn add_words(tx: &Tx, session: Uuid, words: i64) -> Result<()> {
    if words == 0 {
        return Ok(());
    }
    tx.execute("UPDATE activity SET words = words + $2 WHERE session = $1", &values![session, words])
        .map(drop)
}

/// Adds to the number of a session's checkpoints.
pub(crate) fn add_checkpoints(tx: &Tx, session: Uuid, difference: i64) -> Result<()> {
    if difference == 0 {
        return Ok(());
    }
    let sql = "UPDATE activity SET checkpoints = checkpoints + $2 WHERE session = $1";
    tx.execute(sql, &values![session, difference]).map(drop)
}

/// Adds to the number of branches that are not undone.
pub(crate) fn add_branches(tx: &Tx, session: Uuid, difference: i64) -> Result<()> {
    let sql = "UPDATE activity SET branches = branches + $2 WHERE session = $1";
    tx.execute(sql, &values![session, difference]).map(drop)
}

/// Moves a session to the list of sessions with this state.
pub(crate) fn move_to_list(tx: &Tx, session: Uuid, state: i64) -> Result<()> {
    tx.execute("UPDATE activity SET state = $2 WHERE session = $1", &values![session, state]).map(drop)
}
