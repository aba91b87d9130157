//! Checks of each table's rows: whether they can be decoded, match their checksums, and agree with other tables.

use std::collections::BTreeSet;

use hfs_core::{ContentHash, Event, OperationKind, Part, RunSnapshot, SessionId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::check::verify::Report;
use crate::check::{ProblemKind, message_place};
use crate::codec::block::Block;
use crate::codec::rows::{self, STREAMING, branch_of, message_no, seq_of};
use crate::codec::{body, checksum, compressed_json};
use crate::db::locks::LivenessProbe;
use crate::db::lookup;
use crate::error::{Error, Result};
use crate::sqlite::messages::{UnreadableDeltas, append_stored_deltas};
use crate::state_store::{self, KeyframeCache, hash_of};

/// The place of a session in reports. The first two columns of the row are its number and its name.
pub(super) fn session_place(row: &Row<'_>) -> rusqlite::Result<String> {
    Ok(format!("session number {} ({:?})", row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
}

pub(super) fn sessions(conn: &Connection, report: &mut Report) -> Result<()> {
    report.expect_no_rows(
        conn,
        ProblemKind::Content,
        &format!("SELECT no, name FROM session WHERE NOT {}", checksum::session_matches()),
        [],
        |row| Ok((session_place(row)?, "it does not match its checksum".into())),
    )?;
    let sql = "SELECT session.no, session.name, session.id, session.short, session.current_branch,
        session.state, session.trashed_at IS NOT NULL, session.extra, activity.branches, activity.checkpoints,
        activity.messages,
        (SELECT count(*) FROM branch WHERE session = session.no AND NOT retired),
        (SELECT count(*) FROM checkpoint WHERE session = session.no),
        session.created_at, session.importer IS NOT NULL
        FROM session JOIN activity ON activity.session = session.no";
    report.check_rows(conn, "sessions", sql, |conn, row, report| {
        let place = session_place(row)?;
        rows::extra_from_json(row.get_ref(7)?.as_str_or_null().map_err(rusqlite::Error::from)?)?;
        rows::time(row.get(13)?)?;
        let id = SessionId::from_uuid(rows::uuid(row.get(2)?));
        if id.short().as_str() != row.get::<_, String>(3)? {
            report.problem(ProblemKind::Content, &place, "its short id does not match its id");
        }
        let (state, is_trashed): (i64, bool) = (row.get(5)?, row.get(6)?);
        if state == lookup::HIDDEN && row.get(14)? {
            // Either an import will write the counters when the session is complete, or a purge has deleted rows.
            return Ok(());
        }
        if !matches!(state, lookup::LISTED | lookup::TRASHED) {
            report.problem(ProblemKind::Content, &place, "it is hidden, but neither imported nor purged");
        }
        if (state == lookup::TRASHED) != is_trashed {
            report.problem(ProblemKind::Content, &place, "its state and the time of its deletion disagree");
        }
        let no: i64 = row.get(0)?;
        let is_current_undone: Option<bool> = conn
            .prepare_cached("SELECT retired FROM branch WHERE no = ?1 AND session = ?2")?
            .query_row(params![row.get::<_, i64>(4)?, no], |row| row.get(0))
            .optional()?;
        if is_current_undone != Some(false) {
            report.problem(ProblemKind::Reference, &place, "its current branch is missing or undone");
        }
        let messages = count_messages(conn, no)?;
        let counts: [(&str, i64, i64); 3] = [
            ("branches", row.get(8)?, row.get(11)?),
            ("checkpoints", row.get(9)?, row.get(12)?),
            ("messages", row.get(10)?, messages),
        ];
        for (what, counter, found) in counts {
            if counter != found {
                let detail = format!("its counter of {what} is {counter}, but there are {found}");
                report.problem(ProblemKind::Count, &place, detail);
            }
        }
        Ok(())
    })
}

/// Returns the number of messages in the branches of a session.
pub(crate) fn count_messages(conn: &Connection, session: i64) -> Result<i64> {
    let branches = conn
        .prepare_cached("SELECT no FROM branch WHERE session = ?1")?
        .query_map([session], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let mut count = 0;
    for branch in branches {
        let range = params![message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?];
        count += conn
            .prepare_cached("SELECT count(*) FROM message WHERE no BETWEEN ?1 AND ?2")?
            .query_row(range, |row| row.get::<_, i64>(0))?;
    }
    Ok(count)
}

/// Checks the position of each session in its list (see sqlite/session_stats.rs), and that sessions whose messages are
/// not all in the text index are marked.
pub(super) fn list_positions(conn: &Connection, report: &mut Report) -> Result<()> {
    report.expect_no_rows(
        conn,
        ProblemKind::Order,
        "SELECT session.no, session.name FROM session JOIN activity ON activity.session = session.no
            WHERE session.state <> 2 AND session.place <> activity.updated_at
            AND (session.place > activity.updated_at OR EXISTS (
                SELECT 1 FROM session AS other WHERE other.state = session.state
                AND (other.place, other.id) > (session.place, session.id)))",
        [],
        |row| Ok((session_place(row)?, "its list position is not the time of its last change".into())),
    )?;
    report.expect_no_rows(
        conn,
        ProblemKind::Order,
        "SELECT session.no, session.name FROM session JOIN activity ON activity.session = session.no
            WHERE activity.waiting = 0 AND session.state <> 2 AND EXISTS (
                SELECT 1 FROM branch WHERE branch.session = session.no AND EXISTS (
                    SELECT 1 FROM message WHERE message.status <> 1
                    AND message.no BETWEEN (branch.no << 32 | branch.indexed_seq) + 1
                    AND (branch.no << 32 | 0xffffffff)))",
        [],
        |row| Ok((session_place(row)?, "some of its messages would never be indexed".into())),
    )
}

pub(super) fn branches(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql =
        "SELECT branch.no, branch.name, branch.session, branch.forked_at, branch.indexed_seq, parent.no,
        parent.session, parent.forked_at, branch.parent, branch.created_at FROM branch
        LEFT JOIN branch AS parent ON parent.no = branch.parent";
    report.check_rows(conn, "branches", sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        let place = format!("branch number {no} ({:?})", row.get::<_, String>(1)?);
        rows::time(row.get(9)?)?;
        let (forked_at, indexed): (u64, u64) = (row.get(3)?, row.get(4)?);
        let newest = lookup::newest_own(conn, no)?.map(|(no, _)| seq_of(no));
        let head = newest.unwrap_or(forked_at);
        if indexed < forked_at || indexed > head.max(forked_at) {
            let detail =
                format!("it is indexed up to message {indexed}, which is not in {forked_at} to {head}");
            report.problem(ProblemKind::Count, &place, detail);
        }
        if newest.is_some_and(|newest| newest <= forked_at) {
            report.problem(ProblemKind::Reference, &place, "it has messages before its fork");
        }
        let parent: Option<i64> = row.get(5)?;
        match (row.get::<_, Option<i64>>(8)?, parent) {
            (None, _) if forked_at > 0 => {
                report.problem(ProblemKind::Reference, &place, "it is a fork, but has no parent");
            }
            (Some(_), Some(parent)) => {
                let head = lookup::head(conn, parent, row.get(7)?)?;
                if forked_at > head {
                    let detail = format!("it forks at message {forked_at}, but its parent ends at {head}");
                    report.problem(ProblemKind::Reference, &place, detail);
                }
                // A parent is created before its forks. Readers follow parents, so they may not lead in a circle.
                if parent >= no {
                    report.problem(ProblemKind::Reference, &place, "its parent is not older than itself");
                }
                if row.get::<_, Option<i64>>(6)? != row.get(2)? {
                    report.problem(ProblemKind::Reference, &place, "its parent belongs to another session");
                }
            }
            // A missing parent is reported by `PRAGMA foreign_key_check`.
            (None, _) | (Some(_), None) => {}
        }
        Ok(())
    })
}

pub(super) fn messages(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = format!(
        "SELECT no, role, status, created_at, body, extra, {}, block_index FROM whole_message ORDER BY no",
        checksum::message_matches()
    );
    // The branch of the previous row, and the seq that must follow.
    let mut expected: Option<(i64, u64)> = None;
    report.check_rows(conn, "messages", &sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        let (branch, seq) = (branch_of(no), seq_of(no));
        let next = match expected {
            Some((current, next)) if current == branch => Some(next),
            _ => first_seq(conn, branch)?,
        };
        expected = Some((branch, seq + 1));
        let place = message_place(no);
        if let Some(next) = next.filter(|next| *next != seq) {
            report.problem(ProblemKind::Gap, &place, format!("message {next} is missing before it"));
        }
        message(conn, row, &place, report)
    })
}

/// Checks that each text in a block belongs to a message, so that no text outlives its message. The messages themselves are
/// compared with their checksums.
pub(super) fn blocks(conn: &Connection, report: &mut Report) -> Result<()> {
    report.check_rows(conn, "blocks", "SELECT no, size, data FROM block", |conn, row, report| {
        let no: i64 = row.get(0)?;
        let block =
            Block::decode(row.get_ref(2)?.as_blob().map_err(|error| Error::Corrupt(error.to_string()))?)?;
        let place = format!("block number {no}");
        if row.get::<_, usize>(1)? != block.size() {
            let detail = format!("it has {} bytes of text, not as many as it states", block.size());
            report.problem(ProblemKind::Content, &place, detail);
        }
        let messages: usize = conn
            .prepare_cached(
                "SELECT count(*) FROM message WHERE no >= ?1 AND no < ?1 + ?2 AND block_index = no - ?1",
            )?
            .query_row(params![no, block.len()], |row| row.get(0))?;
        if messages != block.len() {
            let detail = format!("it has the texts of {} messages, but {messages} refer to it", block.len());
            report.problem(ProblemKind::Reference, &place, detail);
        }
        Ok(())
    })
}

fn first_seq(conn: &Connection, branch: i64) -> Result<Option<u64>> {
    let forked_at: Option<u64> = conn
        .prepare_cached("SELECT forked_at FROM branch WHERE no = ?1")?
        .query_row([branch], |row| row.get(0))
        .optional()?;
    Ok(forked_at.map(|forked_at| forked_at + 1))
}

fn message(conn: &Connection, row: &Row<'_>, place: &str, report: &mut Report) -> Result<()> {
    let no: i64 = row.get(0)?;
    if let (ValueRef::Null, Some(index)) = (row.get_ref(4)?, row.get::<_, Option<i64>>(7)?) {
        let block = no.saturating_sub(index);
        return Err(Error::Corrupt(format!("its texts cannot be read from block number {block}")));
    }
    if !row.get::<_, bool>(6)? {
        report.problem(ProblemKind::Content, place, "it does not match its checksum");
    }
    rows::role(row.get(1)?)?;
    rows::status(row.get(2)?)?;
    rows::time(row.get(3)?)?;
    rows::extra_from_json(row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?)?;
    let body = row.get_ref(4)?.as_str().map_err(|error| Error::Corrupt(error.to_string()))?;
    let mut parts = body::decode(body)?;
    if row.get::<_, i64>(2)? == STREAMING {
        if !conn.prepare_cached("SELECT 1 FROM reply WHERE message = ?1")?.exists([no])? {
            report.problem(ProblemKind::Reply, place, "it is marked as streaming, but has no writer");
        }
        append_stored_deltas(conn, no, &mut parts, UnreadableDeltas::Fail)?;
    }
    let referenced: BTreeSet<ContentHash> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Attachment { hash, .. } => *hash,
            _ => None,
        })
        .collect();
    let used = conn
        .prepare_cached(
            "SELECT attachment.hash FROM attachment_use JOIN attachment
                ON attachment.no = attachment_use.attachment WHERE attachment_use.message = ?1",
        )?
        .query_map([no], |row| row.get(0).map(ContentHash::from_bytes))?
        .collect::<rusqlite::Result<BTreeSet<_>>>()?;
    for hash in referenced.difference(&used) {
        report.problem(ProblemKind::Reference, place, format!("its attachment {hash} is missing"));
    }
    for hash in used.difference(&referenced) {
        let detail = format!("it is recorded as using attachment {hash}, but does not refer to it");
        report.problem(ProblemKind::Reference, place, detail);
    }
    Ok(())
}

pub(super) fn replies(conn: &Connection, report: &mut Report, probe: &LivenessProbe) -> Result<()> {
    let sql = "SELECT reply.message, reply.writer, message.status,
        (SELECT max(no) FROM message AS other WHERE other.no BETWEEN reply.message AND
            (reply.message | 0xffffffff)) FROM reply LEFT JOIN message ON message.no = reply.message";
    report.check_rows(conn, "replies in progress", sql, |_, row, report| {
        let no: i64 = row.get(0)?;
        let place = message_place(no);
        match row.get::<_, Option<i64>>(2)? {
            Some(STREAMING) => {}
            Some(_) => report.problem(ProblemKind::Reply, &place, "it has a writer, but is finished"),
            None => report.problem(ProblemKind::Reply, &place, "it has a writer, but is missing"),
        }
        let writer: String = row.get(1)?;
        let newest: Option<i64> = row.get(3)?;
        if probe.is_alive(&writer) && newest.is_some_and(|newest| newest != no) {
            report.problem(ProblemKind::Reply, &place, "messages follow it while it is being written");
        }
        Ok(())
    })?;
    report.expect_no_rows(
        conn,
        ProblemKind::Reply,
        "SELECT DISTINCT message FROM reply_piece
            WHERE NOT EXISTS (SELECT 1 FROM reply WHERE reply.message = reply_piece.message)",
        [],
        |row| Ok((message_place(row.get(0)?), "it has stored deltas, but no writer".into())),
    )
}

pub(super) fn attachments(conn: &Connection, report: &mut Report) -> Result<()> {
    report.check_rows(conn, "attachments", "SELECT no, hash, bytes FROM attachment", |_, row, _| {
        let hash = ContentHash::from_bytes(row.get(1)?);
        let bytes = row.get_ref(2)?.as_blob().map_err(|error| Error::Corrupt(error.to_string()))?;
        if hash_of(bytes) == hash {
            return Ok(());
        }
        Err(Error::Corrupt(format!("attachment {hash} does not match its hash")))
    })
}

pub(super) fn runs(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT run.no, run.started_at, run.ended_at, run.snapshot, run.events,
        run.session = branch.session FROM run LEFT JOIN branch ON branch.no = run.branch";
    report.check_rows(conn, "runs", sql, |_, row, report| {
        rows::time(row.get(1)?)?;
        row.get::<_, Option<i64>>(2)?.map(rows::time).transpose()?;
        let blob = |column: usize| -> Result<&[u8]> {
            row.get_ref(column)?.as_blob().map_err(|error| Error::Corrupt(error.to_string()))
        };
        compressed_json::decompress::<RunSnapshot>(blob(3)?)?;
        compressed_json::decompress::<Vec<Event>>(blob(4)?)?;
        if row.get::<_, Option<bool>>(5)? == Some(false) {
            let place = format!("run number {}", row.get::<_, i64>(0)?);
            report.problem(ProblemKind::Reference, place, "its branch belongs to another session");
        }
        Ok(())
    })
}

pub(super) fn checkpoints(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT checkpoint.no, checkpoint.seq, checkpoint.session, branch.session, branch.no,
        branch.forked_at, checkpoint.created_at, checkpoint.automatic,
        (NOT checkpoint.pinned AND checkpoint.label IS NULL AND checkpoint.trigger <> 'manual'),
        checkpoint.number
        FROM checkpoint LEFT JOIN branch ON branch.no = checkpoint.branch";
    report.check_rows(conn, "checkpoints", sql, |conn, row, report| {
        let place = format!("checkpoint number {}", row.get::<_, i64>(0)?);
        rows::time(row.get(6)?)?;
        let Some(branch) = row.get::<_, Option<i64>>(4)? else { return Ok(()) };
        if row.get::<_, i64>(2)? != row.get::<_, i64>(3)? {
            report.problem(ProblemKind::Reference, &place, "its branch belongs to another session");
        }
        let head = lookup::head(conn, branch, row.get(5)?)?;
        let seq: u64 = row.get(1)?;
        if seq > head {
            let detail = format!("it is at message {seq}, but its branch ends at {head}");
            report.problem(ProblemKind::Reference, &place, detail);
        }
        if row.get::<_, bool>(7)? != row.get::<_, bool>(8)? {
            report.problem(ProblemKind::Content, &place, "its `automatic` flag is wrong");
        }
        if !(1..=i64::from(u32::MAX)).contains(&row.get::<_, i64>(9)?) {
            report.problem(ProblemKind::Content, &place, "its number in the session is not valid");
        }
        Ok(())
    })?;
    report.expect_no_rows(
        conn,
        ProblemKind::Content,
        "SELECT session, number FROM checkpoint GROUP BY session, number HAVING count(*) > 1",
        [],
        |row| {
            let place = format!("session number {}", row.get::<_, i64>(0)?);
            Ok((place, format!("several of its checkpoints have the number {}", row.get::<_, i64>(1)?)))
        },
    )
}

pub(super) fn states(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql =
        "SELECT state.no, base.base, EXISTS (SELECT 1 FROM checkpoint WHERE checkpoint.state = state.no)
        OR EXISTS (SELECT 1 FROM branch WHERE branch.state = state.no)
        OR EXISTS (SELECT 1 FROM state AS delta WHERE delta.base = state.no)
        FROM state LEFT JOIN state AS base ON base.no = state.base";
    let keyframes = KeyframeCache::default();
    report.check_rows(conn, "states", sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        let place = || format!("state number {no}");
        if row.get::<_, Option<i64>>(1)?.is_some() {
            report.problem(ProblemKind::Reference, place(), "its keyframe is a delta itself");
        }
        if !row.get::<_, bool>(2)? {
            report.problem(ProblemKind::Reference, place(), "nothing refers to it");
        }
        state_store::load(conn, no, &keyframes).map(drop)
    })
}

pub(super) fn operations(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT no, kind, created_at, before, after FROM operation";
    report.check_rows(conn, "operations", sql, |_, row, _| {
        let kind: String = row.get(1)?;
        if !OperationKind::ALL.iter().any(|known| known.as_str() == kind) {
            return Err(Error::Corrupt(format!("{kind:?} is not a valid kind of operation")));
        }
        rows::time(row.get(2)?)?;
        row.get::<_, Option<String>>(3)?.map(|json| rows::attributes_from_json(&json)).transpose()?;
        rows::attributes_from_json(&row.get::<_, String>(4)?)?;
        Ok(())
    })
}
