//! `repair`: corrects what `verify` finds.
//!
//! 1. If pages are damaged, [`salvage`] copies every readable row into a new database, and then replaces the pages of
//!    the old one in one transaction. A copy of the damaged database is kept.
//! 2. Rows that cannot be decoded are deleted.
//! 3. [`message_history`] fills the gaps in each branch's history with a placeholder for each lost message, so that the
//!    other messages keep their seqs.
//! 4. Derived data is recomputed: counters, list positions, current branches, the text index.
//!
//! Steps 2 to 4 are one transaction. It is repeated until `verify` finds no problem, at most [`MAX_ROUNDS`] times. The
//! report lists everything that was changed or lost.

mod message_history;
mod salvage;

use hfs_core::{Event, OperationKind, Problem, RunSnapshot, SessionId, StoreResult};
use rusqlite::{Connection, OptionalExtension, params};

use crate::check::verify::{count_messages, find_problems};
use crate::check::{Finding, ProblemKind, RepairKind, message_place};
use crate::codec::{checksum, compressed_json, rows};
use crate::db::{Database, schema};
use crate::error::{Error, Result};
use crate::state_store::{self, KeyframeCache, hash_of};

/// Maximum number of repairs of the rows. A correction can uncover another problem.
const MAX_ROUNDS: usize = 3;

/// Repairs the database. `update_text_index` indexes all messages that are not indexed yet.
pub(crate) fn repair(
    db: &Database,
    update_text_index: &dyn Fn() -> StoreResult<()>,
) -> StoreResult<Vec<Problem>> {
    let found = find_problems(db)?.problems;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut log = RepairLog::default();
    if found.iter().any(|problem| needs_salvage(problem.kind)) {
        log.append(salvage::salvage(db)?);
    }
    let mut problems = found.clone();
    for _ in 0..MAX_ROUNDS {
        let rebuild_text_index = problems.iter().any(|problem| needs_text_index(problem.kind));
        log.append(db.with_writer("repair the store", |conn| repair_rows(conn, rebuild_text_index))?);
        update_text_index()?;
        problems = find_problems(db)?.problems;
        if problems.is_empty() {
            break;
        }
    }
    for Finding { place, detail, .. } in problems {
        log.add(RepairKind::Left, place, format!("{detail} (it could not be repaired)"));
    }
    if log.0.is_empty() {
        // The problems were corrected without a log entry. For example, indexing has finalized an abandoned reply. The
        // problems themselves are reported then, so that the report is not empty.
        return Ok(found.into_iter().map(Into::into).collect());
    }
    Ok(log.0)
}

/// Whether rows may be unreadable because of damaged pages.
const fn needs_salvage(kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::Page | ProblemKind::Unreadable => true,
        ProblemKind::Index
        | ProblemKind::Content
        | ProblemKind::Reference
        | ProblemKind::Count
        | ProblemKind::Order
        | ProblemKind::Gap
        | ProblemKind::Reply
        | ProblemKind::Hash
        | ProblemKind::More => false,
    }
}

/// Whether the text index may be damaged, or is empty after a salvage.
const fn needs_text_index(kind: ProblemKind) -> bool {
    needs_salvage(kind) || matches!(kind, ProblemKind::Index)
}

/// Repairs the rows in one transaction. The text index is also rebuilt if messages have changed.
fn repair_rows(conn: &Connection, rebuild_text_index: bool) -> Result<RepairLog> {
    // The constraints may be violated until the end of the transaction.
    conn.pragma_update(None, "foreign_keys", false)?;
    let mut log = RepairLog::default();
    let done = conn.execute_batch("BEGIN IMMEDIATE").map_err(Error::from).and_then(|()| {
        delete_orphaned_rows(conn, &mut log)?;
        delete_unreadable_rows(conn, &mut log)?;
        let before = log.0.len();
        message_history::repair(conn, &mut log)?;
        let messages_changed = log.0.len() > before;
        update_derived_data(conn, &mut log)?;
        if rebuild_text_index || messages_changed {
            reset_text_index(conn, &mut log)?;
        }
        Ok(conn.execute_batch("COMMIT")?)
    });
    if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    conn.pragma_update(None, "foreign_keys", true)?;
    done.map(|()| log)
}

/// The report of a repair.
#[derive(Debug, Default)]
struct RepairLog(Vec<Problem>);

impl RepairLog {
    fn add(&mut self, kind: RepairKind, place: impl Into<String>, detail: impl Into<String>) {
        let kind = kind.as_str().to_owned();
        self.0.push(Problem { kind, place: place.into(), detail: detail.into() });
    }

    fn append(&mut self, more: Self) {
        self.0.extend(more.0);
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
    log.execute(
        conn,
        "DELETE FROM operation WHERE NOT EXISTS (SELECT 1 FROM session WHERE no = operation.session)",
        "operations",
        "removed: their session is missing",
    )?;
    // Keep the activity of a missing session that still has branches: `message_history` creates a session for these
    // branches, and that session may get the same number.
    log.execute(
        conn,
        "DELETE FROM activity WHERE NOT EXISTS (SELECT 1 FROM session WHERE no = activity.session)
            AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = activity.session)",
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
fn update_derived_data(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    interrupt_replies_without_writer(conn, log)?;
    conn.execute("UPDATE branch SET retired = 1 WHERE retired NOT IN (0, 1)", [])?;
    reset_invalid_times(conn, "branch")?;
    for session in row_numbers(conn, "SELECT no FROM session ORDER BY no")? {
        update_session(conn, session, log)?;
        update_activity(conn, session)?;
    }
    conn.execute(
        "UPDATE checkpoint SET pinned = pinned <> 0,
            automatic = (NOT pinned AND label IS NULL AND trigger <> 'manual')",
        [],
    )?;
    reset_invalid_times(conn, "checkpoint")?;
    // Makes all list positions exact. The stored position of the first session of a list may be out of date (see
    // `session_stats`).
    // Hidden sessions (state 2) are in no list.
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

/// Sets invalid creation times to the epoch.
fn reset_invalid_times(conn: &Connection, table: &str) -> Result<()> {
    let times: Vec<(i64, i64)> = conn
        .prepare(&format!("SELECT no, created_at FROM {table}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (no, at) in times {
        if rows::time(at).is_err() {
            conn.execute(&format!("UPDATE {table} SET created_at = 0 WHERE no = ?1"), [no])?;
        }
    }
    Ok(())
}

fn update_session(conn: &Connection, no: i64, log: &mut RepairLog) -> Result<()> {
    let place = format!("session number {no}");
    let is_intact: bool = conn
        .prepare_cached(&format!("SELECT {} FROM session WHERE no = ?1", checksum::session_matches()))?
        .query_row([no], |row| row.get(0))?;
    if !is_intact {
        let detail = "it does not match its checksum: its readable fields are kept";
        log.add(RepairKind::Damaged, &place, detail);
    }
    let (id, created_at, trashed_at, extra, state): (Vec<u8>, i64, Option<i64>, Option<String>, i64) = conn
        .prepare_cached("SELECT id, created_at, trashed_at, extra, state FROM session WHERE no = ?1")?
        .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    let id = <[u8; 16]>::try_from(id)
        .map_or_else(|_| SessionId::generate(), |bytes| SessionId::from_uuid(rows::uuid(bytes)));
    let trashed_at = trashed_at.filter(|at| rows::time(*at).is_ok());
    // The codes of `db::lookup`: 2 is hidden, 1 trashed, 0 listed.
    let state = match (state, trashed_at) {
        (2, _) => 2,
        (_, Some(_)) => 1,
        (_, None) => 0,
    };
    conn.prepare_cached(
        "UPDATE session SET id = ?2, short = ?3, created_at = ?4, trashed_at = ?5, extra = ?6, state = ?7,
            automatic_name = automatic_name <> 0 WHERE no = ?1",
    )?
    .execute(params![
        no,
        id.as_uuid().as_bytes(),
        id.short().as_str(),
        rows::time(created_at).map_or(0, |_| created_at),
        trashed_at,
        extra.filter(|json| rows::extra_from_json(Some(json)).is_ok()),
        state,
    ])?;
    update_current_branch(conn, no, log)?;
    checksum::update_session(conn, no)
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
        "INSERT OR REPLACE INTO activity (session, updated_at, messages, branches, checkpoints, waiting)
            SELECT no, ?2, ?3, (SELECT count(*) FROM branch WHERE session = ?1 AND NOT retired),
                (SELECT count(*) FROM checkpoint WHERE session = ?1), state <> 2 FROM session WHERE no = ?1",
    )?
    .execute(params![session, updated_at, count_messages(conn, session)?])?;
    Ok(())
}

/// Empties the text index. The next update indexes all messages.
fn reset_text_index(conn: &Connection, log: &mut RepairLog) -> Result<()> {
    conn.execute_batch(&format!("DROP TABLE message_text; {}", schema::TEXT_INDEX))?;
    conn.execute("UPDATE branch SET indexed = forked_at", [])?;
    log.add(RepairKind::Rebuilt, "text index", "it is rebuilt from the messages");
    Ok(())
}
