//! Repairs the rows of a database that [`salvage`] has copied.
//!
//! 1. [`blocks`] moves the texts of messages back to their rows, and replaces those that are lost.
//! 2. [`message_history`] creates branches and sessions for rows whose branch or session is lost, and fills the gaps in
//!    each branch's history with a placeholder for each lost message, so that the other messages keep their seqs.
//! 3. Rows that cannot be decoded are deleted.
//! 4. Derived data is computed: counters, list positions, current branches.
//!
//! The report lists everything that was changed or lost.

mod blocks;
pub(crate) mod btree;
mod message_history;
pub(crate) mod pages;
pub(crate) mod salvage;

use hfs_core::{Event, OperationKind, Problem, RunSnapshot, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::check::verify::count_messages;
use crate::check::{RepairKind, message_place};
use crate::codec::{checksum, compressed_json, rows};
use crate::db::lookup;
use crate::error::{Error, Result};
use crate::state_store::{self, KeyframeCache, hash_of};

/// Repairs the rows in one transaction. The text index must be empty. `now` is the time of rows that are created when no
/// other time is known.
pub(crate) fn repair_rows(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    // The constraints may be violated until the end of the transaction.
    conn.pragma_update(None, "foreign_keys", false)?;
    let done = conn.execute_batch("BEGIN IMMEDIATE").map_err(Error::from).and_then(|()| {
        limit_numbers(conn)?;
        blocks::unpack(conn, now, log)?;
        message_history::recreate_owners(conn, now, log)?;
        delete_orphaned_rows(conn, log)?;
        delete_unreadable_rows(conn, log)?;
        message_history::repair(conn, now, log)?;
        update_derived_data(conn, now, log)?;
        // A branch's own messages start after `forked_at`, so this means that none of them is indexed.
        conn.execute("UPDATE branch SET indexed_seq = forked_at", [])?;
        Ok(conn.execute_batch("COMMIT")?)
    });
    if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    conn.pragma_update(None, "foreign_keys", true)?;
    done
}

/// Corrects numbers that are out of the range of their column.
fn limit_numbers(conn: &Connection) -> Result<()> {
    for (table, column) in [("branch", "forked_at"), ("checkpoint", "seq")] {
        conn.execute(
            &format!(
                "UPDATE {table} SET {column} = max(0, min({column}, 4294967295))
                    WHERE {column} NOT BETWEEN 0 AND 4294967295"
            ),
            [],
        )?;
    }
    Ok(())
}

/// The report of a repair.
#[derive(Debug, Default)]
pub(crate) struct RepairLog(pub(crate) Vec<Problem>);

impl RepairLog {
    pub(crate) fn add(&mut self, kind: RepairKind, place: impl Into<String>, detail: impl Into<String>) {
        let kind = kind.as_str().to_owned();
        self.0.push(Problem { kind, place: place.into(), detail: detail.into() });
    }

    /// Runs a statement that corrects or deletes rows, and logs the number of rows.
    fn execute(&mut self, conn: &Connection, sql: &str, what: &str, detail: &str) -> Result<()> {
        let rows = conn.execute(sql, [])?;
        if rows > 0 {
            self.add(RepairKind::Mended, format!("{rows} of {what}"), detail);
        }
        Ok(())
    }
}

/// Returns the row numbers that a query selects.
fn row_numbers(conn: &Connection, sql: &str) -> Result<Vec<i64>> {
    Ok(conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Deletes rows whose session or branch is missing. Moves runs and checkpoints to the session of their branch.
fn delete_orphaned_rows(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    for table in ["run", "checkpoint"] {
        log.execute(
            conn,
            &format!("DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM branch WHERE no = {table}.branch)"),
            &format!("{table}s"),
            "removed: their branch is missing",
        )?;
        log.execute(
            conn,
            &format!(
                "UPDATE {table} SET session = (SELECT session FROM branch WHERE no = {table}.branch)
                    WHERE session <> (SELECT session FROM branch WHERE no = {table}.branch)"
            ),
            &format!("{table}s"),
            "moved to the session of their branch",
        )?;
    }
    // A source without this row is read again.
    conn.execute(
        "DELETE FROM import_source_session
            WHERE NOT EXISTS (SELECT 1 FROM import_source WHERE no = import_source_session.source)",
        [],
    )?;
    log.execute(
        conn,
        "DELETE FROM activity WHERE NOT EXISTS (SELECT 1 FROM session WHERE no = activity.session)",
        "rows of activity",
        "removed: their session is missing",
    )
}

fn delete_unreadable_rows(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    delete_unreadable_states(conn, log)?;
    delete_unreadable_attachments(conn, log)?;
    delete_unreadable_runs(conn, log)?;
    delete_unreadable_operations(conn, log)
}

fn delete_unreadable_states(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    log.execute(
        conn,
        "UPDATE branch SET state = NULL WHERE state IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM state WHERE no = branch.state)",
        "branches",
        "have no state any more: it is missing",
    )?;
    log.execute(
        conn,
        "DELETE FROM checkpoint WHERE NOT EXISTS (SELECT 1 FROM state WHERE no = checkpoint.state)",
        "checkpoints",
        "removed: their state is missing",
    )?;
    let keyframes = KeyframeCache::default();
    for no in row_numbers(conn, "SELECT no FROM state ORDER BY no")? {
        match state_store::load(conn, no, &keyframes) {
            Err(error) if error.is_corruption() => {
                let checkpoints = conn.execute("DELETE FROM checkpoint WHERE state = ?1", [no])?;
                let branches = conn.execute("UPDATE branch SET state = NULL WHERE state = ?1", [no])?;
                let deltas: i64 =
                    conn.query_row("SELECT count(*) FROM state WHERE base = ?1", [no], |row| row.get(0))?;
                conn.execute("DELETE FROM state WHERE no = ?1", [no])?;
                let detail = format!(
                    "removed with {checkpoints} checkpoints; {branches} branches have no state any more, and \
                     {deltas} states that were stored as deltas to it are also lost ({error})"
                );
                log.add(RepairKind::Removed, format!("state number {no}"), detail);
            }
            loaded => drop(loaded?),
        }
    }
    // A second loop, because the first one may have deleted the last delta that refers to a keyframe after it had
    // already checked the keyframe. A keyframe that deltas still refer to stays, although no checkpoint uses it.
    for no in row_numbers(conn, "SELECT no FROM state")? {
        state_store::drop_unused(conn, no)?;
    }
    Ok(())
}

fn delete_unreadable_attachments(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    let mut unreadable = Vec::new();
    let mut statement = conn.prepare("SELECT no, hash, bytes FROM attachment")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let hash: Vec<u8> = row.get(1)?;
        let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        if *hash != *hash_of(bytes).as_bytes() {
            unreadable.push(row.get::<_, i64>(0)?);
        }
    }
    for no in unreadable {
        conn.execute("DELETE FROM attachment_use WHERE attachment = ?1", [no])?;
        conn.execute("DELETE FROM attachment WHERE no = ?1", [no])?;
        log.add(RepairKind::Removed, format!("attachment number {no}"), "its bytes do not match its hash");
    }
    Ok(())
}

fn delete_unreadable_runs(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    let mut unreadable = Vec::new();
    let mut statement = conn.prepare("SELECT no, started_at, ended_at, snapshot, events FROM run")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let decoded = rows::time(row.get(1)?)
            .and(row.get::<_, Option<i64>>(2)?.map(rows::time).transpose())
            .and(compressed_json::decompress::<RunSnapshot>(&row.get::<_, Vec<u8>>(3)?))
            .and(compressed_json::decompress::<Vec<Event>>(&row.get::<_, Vec<u8>>(4)?));
        if let Err(error) = decoded {
            unreadable.push((row.get::<_, i64>(0)?, error));
        }
    }
    for (no, error) in unreadable {
        conn.execute("DELETE FROM run WHERE no = ?1", [no])?;
        log.add(RepairKind::Removed, format!("run number {no}"), error.to_string());
    }
    Ok(())
}

fn delete_unreadable_operations(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    let mut unreadable = Vec::new();
    let mut statement = conn.prepare("SELECT no, kind, created_at, before, after FROM operation")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(1)?;
        let is_known = OperationKind::ALL.iter().any(|known| known.as_str() == kind);
        let before =
            row.get::<_, Option<String>>(3)?.map(|json| rows::attributes_from_json(&json)).transpose();
        let after = rows::attributes_from_json(&row.get::<_, String>(4)?);
        let decoded = rows::time(row.get(2)?).and(before).and(after);
        if !is_known || decoded.is_err() {
            unreadable.push(row.get::<_, i64>(0)?);
        }
    }
    for no in unreadable {
        conn.execute("DELETE FROM operation WHERE no = ?1", [no])?;
        log.add(RepairKind::Removed, format!("operation number {no}"), "it cannot be read");
    }
    Ok(())
}

/// Recomputes the data that is derived from other rows, except the text index.
fn update_derived_data(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    interrupt_replies_without_writer(conn, log)?;
    conn.execute("UPDATE branch SET retired = 1 WHERE retired NOT IN (0, 1)", [])?;
    for session in row_numbers(conn, "SELECT no FROM session ORDER BY no")? {
        update_session(conn, session, now, log)?;
        update_activity(conn, session)?;
    }
    conn.execute(
        "UPDATE checkpoint SET pinned = pinned <> 0,
            automatic = (NOT pinned AND label IS NULL AND trigger <> 'manual')",
        [],
    )?;
    renumber_checkpoints(conn)?;
    for table in ["branch", "checkpoint"] {
        replace_invalid_times(conn, table)?;
    }
    // Makes all list positions exact. The stored position of the first session of a list may be out of date (see
    // `session_stats`). Hidden sessions (state 2) are in no list.
    conn.execute(
        "UPDATE session SET place = (SELECT updated_at FROM activity WHERE session = no) WHERE state <> 2",
        [],
    )?;
    Ok(())
}

fn interrupt_replies_without_writer(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    conn.execute(
        "DELETE FROM reply WHERE NOT EXISTS (SELECT 1 FROM message WHERE no = reply.message AND status = 1)",
        [],
    )?;
    conn.execute(
        "DELETE FROM reply_piece WHERE NOT EXISTS (SELECT 1 FROM reply WHERE reply.message = reply_piece.message)",
        [],
    )?;
    // Status 1 is streaming, 2 interrupted.
    let abandoned = row_numbers(
        conn,
        "SELECT no FROM message WHERE status = 1 AND NOT EXISTS (SELECT 1 FROM reply WHERE message = no)",
    )?;
    for no in abandoned {
        conn.execute("UPDATE message SET status = 2 WHERE no = ?1", [no])?;
        checksum::update_message(conn, no)?;
        log.add(RepairKind::Mended, message_place(no), "marked as interrupted: it has no writer");
    }
    Ok(())
}

/// Gives new numbers to checkpoints whose number is not valid or taken. Numbers above all others stay unused, since
/// removed checkpoints may have had them.
fn renumber_checkpoints(conn: &Connection) -> Result<()> {
    conn.execute(
        "UPDATE activity SET last_checkpoint = 0 WHERE last_checkpoint NOT BETWEEN 0 AND 4294967295",
        [],
    )?;
    let without_number = row_numbers(
        conn,
        "SELECT no FROM checkpoint WHERE number NOT BETWEEN 1 AND 4294967295 OR EXISTS (
            SELECT 1 FROM checkpoint AS other WHERE other.session = checkpoint.session
            AND other.number = checkpoint.number AND other.no < checkpoint.no) ORDER BY created_at, no",
    )?;
    for no in without_number {
        conn.execute(
            "UPDATE checkpoint SET number = 1 + max(
                (SELECT last_checkpoint FROM activity WHERE activity.session = checkpoint.session),
                (SELECT coalesce(max(number), 0) FROM checkpoint AS other WHERE other.session = checkpoint.session
                    AND other.number BETWEEN 1 AND 4294967295)) WHERE no = ?1",
            [no],
        )?;
    }
    Ok(())
}

/// Replaces invalid creation times by that of the session.
fn replace_invalid_times(conn: &Connection, table: &str) -> Result<()> {
    let times: Vec<(i64, i64)> = conn
        .prepare(&format!("SELECT no, created_at FROM {table}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (no, _) in times.into_iter().filter(|(_, at)| rows::time(*at).is_err()) {
        let sql = format!(
            "UPDATE {table} SET created_at = (SELECT created_at FROM session WHERE no = {table}.session)
                WHERE no = ?1"
        );
        conn.execute(&sql, [no])?;
    }
    Ok(())
}

fn update_session(conn: &Connection, no: i64, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let place = format!("session number {no}");
    let is_intact: bool = conn
        .prepare_cached(&format!("SELECT {} FROM session WHERE no = ?1", checksum::session_matches()))?
        .query_row([no], |row| row.get(0))?;
    if !is_intact {
        let detail = "it does not match its checksum: its readable fields are kept";
        log.add(RepairKind::Damaged, &place, detail);
    }
    let row = conn
        .prepare_cached(
            "SELECT id, created_at, trashed_at, extra, state, importer IS NOT NULL FROM session WHERE no = ?1",
        )?
        .query_row([no], |row| {
            Ok(SessionColumns {
                id: row.get(0)?,
                created_at: row.get(1)?,
                trashed_at: row.get(2)?,
                extra: row.get(3)?,
                state: row.get(4)?,
                has_importer: row.get(5)?,
            })
        })?;
    let id = <[u8; 16]>::try_from(row.id)
        .map_or_else(|_| SessionId::generate(), |bytes| SessionId::from_uuid(rows::uuid(bytes)));
    let trashed_at = row.trashed_at.filter(|at| rows::time(*at).is_ok());
    let state = match (row.state, trashed_at) {
        // A session is hidden only while it is imported or purged.
        (lookup::HIDDEN, _) if row.has_importer => lookup::HIDDEN,
        (_, Some(_)) => lookup::TRASHED,
        (_, None) => lookup::LISTED,
    };
    let created_at = match rows::time(row.created_at) {
        Ok(at) => at.as_micros(),
        Err(_) => message_history::earliest_message(conn, no)?.unwrap_or_else(|| now.as_micros()),
    };
    conn.prepare_cached(
        "UPDATE session SET id = ?2, short = ?3, created_at = ?4, trashed_at = ?5, extra = ?6, state = ?7,
            automatic_name = automatic_name <> 0 WHERE no = ?1",
    )?
    .execute(params![
        no,
        id.as_uuid().as_bytes(),
        id.short().as_str(),
        created_at,
        trashed_at,
        row.extra.filter(|json| rows::extra_from_json(Some(json)).is_ok()),
        state,
    ])?;
    update_current_branch(conn, no, log)?;
    checksum::update_session(conn, no)
}

struct SessionColumns {
    id: Vec<u8>,
    created_at: i64,
    trashed_at: Option<i64>,
    extra: Option<String>,
    state: i64,
    has_importer: bool,
}

/// Makes the newest branch current if the current branch is missing or undone.
fn update_current_branch(conn: &Connection, session: i64, log: &mut RepairLog) -> Result<()> {
    let is_valid = conn
        .prepare_cached(
            "SELECT 1 FROM session JOIN branch ON branch.no = session.current_branch
                WHERE session.no = ?1 AND branch.session = session.no AND NOT branch.retired",
        )?
        .exists([session])?;
    if is_valid {
        return Ok(());
    }
    let newest: Option<i64> = conn
        .prepare_cached("SELECT no FROM branch WHERE session = ?1 ORDER BY retired, no DESC LIMIT 1")?
        .query_row([session], |row| row.get(0))
        .optional()?;
    if let Some(branch) = newest {
        conn.execute("UPDATE branch SET retired = 0 WHERE no = ?1", [branch])?;
        conn.execute("UPDATE session SET current_branch = ?2 WHERE no = ?1", [session, branch])?;
        let detail = format!("its current branch is now number {branch}");
        log.add(RepairKind::Mended, format!("session number {session}"), detail);
    }
    Ok(())
}

/// Recomputes the session's counters. If the time of the last change is lost, it becomes the newest time of a message
/// or operation.
fn update_activity(conn: &Connection, session: i64) -> Result<()> {
    let stored: Option<i64> = conn
        .prepare_cached("SELECT updated_at FROM activity WHERE session = ?1")?
        .query_row([session], |row| row.get(0))
        .optional()?
        .filter(|at| rows::time(*at).is_ok());
    let updated_at = match stored {
        Some(at) => at,
        None => conn
            .prepare_cached(
                "SELECT max(at) FROM (
                    SELECT created_at AS at FROM session WHERE no = ?1
                    UNION ALL SELECT max(created_at) FROM operation WHERE session = ?1
                    UNION ALL SELECT max(message.created_at) FROM branch JOIN message
                        ON message.no BETWEEN branch.no << 32 AND (branch.no << 32 | 0xffffffff)
                        WHERE branch.session = ?1)",
            )?
            .query_row([session], |row| row.get(0))?,
    };
    // `waiting` marks sessions with messages to index. Here it is set for every session that is not hidden; the next
    // update of the text index clears it.
    conn.prepare_cached(
        "INSERT OR REPLACE INTO activity (session, updated_at, messages, branches, checkpoints, waiting,
            last_checkpoint)
            SELECT no, ?2, ?3, (SELECT count(*) FROM branch WHERE session = ?1 AND NOT retired),
                (SELECT count(*) FROM checkpoint WHERE session = ?1), state <> 2,
                coalesce((SELECT last_checkpoint FROM activity WHERE session = ?1), 0)
                FROM session WHERE no = ?1",
    )?
    .execute(params![session, updated_at, count_messages(conn, session)?])?;
    Ok(())
}
