//! Whether the tables fit together.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Report;
use crate::codec::checksum;
use crate::codec::rows::{self, message_no, seq_of};
use crate::error::Result;

/// SQLite's own check of its pages and indexes, the text index's included.
pub(super) fn pages(conn: &Connection, report: &mut Report) -> Result<()> {
    let pages: u64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    report.count("pages", pages);
    let mut found = Vec::new();
    conn.pragma_query(None, "integrity_check", |row| {
        found.push(row.get::<_, String>(0)?);
        Ok(())
    })?;
    for line in found.into_iter().filter(|line| line != "ok") {
        // The text index stands on tables of its own, and can be built again.
        let kind = if line.contains("message_text") { "index" } else { "page" };
        report.problem(kind, "database", line);
    }
    Ok(())
}

pub(super) fn references(conn: &Connection, report: &mut Report) -> Result<()> {
    report.none(conn, "reference", "PRAGMA foreign_key_check", [], |row| {
        let (table, row_no, target): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let no = row_no.map_or_else(String::new, |no| format!(" number {no}"));
        Ok((format!("{table}{no}"), format!("refers to a row of {target} that is not there")))
    })?;
    report.none(
        conn,
        "reference",
        "SELECT no FROM message WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.no = message.no >> 32)",
        [],
        |row| Ok((message(row.get(0)?), "its branch is not there".into())),
    )?;
    report.none(
        conn,
        "reference",
        "SELECT message, attachment FROM attachment_use
            WHERE NOT EXISTS (SELECT 1 FROM message WHERE no = attachment_use.message)
            AND NOT EXISTS (SELECT 1 FROM session WHERE no = -attachment_use.message AND state = 2)",
        [],
        |row| Ok((message(row.get(0)?), "refers to an attachment but is not there".into())),
    )?;
    report.none(
        conn,
        "reference",
        "SELECT session.no, session.name FROM session
            WHERE NOT EXISTS (SELECT 1 FROM activity WHERE activity.session = session.no)",
        [],
        |row| Ok((session(row)?, "has no row of activity".into())),
    )
}

fn message(no: i64) -> String {
    format!("message {} of branch number {}", seq_of(no), rows::branch_of(no))
}

fn session(row: &Row<'_>) -> rusqlite::Result<String> {
    Ok(format!("session number {} ({:?})", row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
}

pub(super) fn sessions(conn: &Connection, report: &mut Report) -> Result<()> {
    // One that is arriving is counted when it is whole.
    let sql = "SELECT session.no, session.name, session.id, session.short, session.current_branch,
        session.state, session.trashed_at IS NOT NULL, session.extra, activity.branches, activity.checkpoints,
        activity.messages,
        (SELECT count(*) FROM branch WHERE session = session.no AND NOT retired),
        (SELECT count(*) FROM checkpoint WHERE session = session.no),
        session.created_at
        FROM session JOIN activity ON activity.session = session.no";
    report.none(
        conn,
        "content",
        &format!("SELECT no, name FROM session WHERE NOT {}", checksum::session_holds()),
        [],
        |row| Ok((session(row)?, "it is not what was stored".into())),
    )?;
    report.each(conn, "sessions", sql, |conn, row, report| {
        let place = session(row)?;
        rows::extra_from_json(row.get_ref(7)?.as_str_or_null().map_err(rusqlite::Error::from)?)?;
        rows::time(row.get(13)?)?;
        let id = hfs_core::SessionId::from_uuid(rows::uuid(row.get(2)?));
        if id.short().as_str() != row.get::<_, String>(3)? {
            report.problem("content", &place, "its short form is not that of its id");
        }
        let (state, trashed): (i64, bool) = (row.get(5)?, row.get(6)?);
        if state == crate::db::lookup::ARRIVING {
            return Ok(());
        }
        if (state == crate::db::lookup::TRASHED) != trashed {
            report.problem("content", &place, "it is half in the trash");
        }
        let no: i64 = row.get(0)?;
        let current: Option<bool> = conn
            .prepare_cached("SELECT retired FROM branch WHERE no = ?1 AND session = ?2")?
            .query_row(params![row.get::<_, i64>(4)?, no], |row| row.get(0))
            .optional()?;
        if current != Some(false) {
            report.problem("reference", &place, "its current branch is not there");
        }
        let messages = count_messages(conn, no)?;
        let counts: [(&str, i64, i64); 3] = [
            ("branches", row.get(8)?, row.get(11)?),
            ("checkpoints", row.get(9)?, row.get(12)?),
            ("messages", row.get(10)?, messages),
        ];
        for (what, told, found) in counts {
            if told != found {
                report.problem("count", &place, format!("it counts {told} {what} and has {found}"));
            }
        }
        Ok(())
    })
}

/// How many messages the branches of a session hold.
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

/// Whether the lists are in order: only the first of each may lag behind.
pub(super) fn places(conn: &Connection, report: &mut Report) -> Result<()> {
    report.none(
        conn,
        "order",
        "SELECT session.no, session.name FROM session JOIN activity ON activity.session = session.no
            WHERE session.state <> 2 AND session.place <> activity.updated_at
            AND (session.place > activity.updated_at OR EXISTS (
                SELECT 1 FROM session AS other WHERE other.state = session.state
                AND (other.place, other.id) > (session.place, session.id)))",
        [],
        |row| Ok((session(row)?, "its place in the list is not that of its last change".into())),
    )?;
    report.none(
        conn,
        "order",
        "SELECT session.no, session.name FROM session JOIN activity ON activity.session = session.no
            WHERE activity.waiting = 0 AND session.state <> 2 AND EXISTS (
                SELECT 1 FROM branch WHERE branch.session = session.no AND EXISTS (
                    SELECT 1 FROM message WHERE message.status <> 1
                    AND message.no BETWEEN (branch.no << 32 | branch.indexed) + 1
                    AND (branch.no << 32 | 0xffffffff)))",
        [],
        |row| Ok((session(row)?, "messages of it would never be indexed".into())),
    )
}

pub(super) fn branches(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT branch.no, branch.name, branch.session, branch.forked_at, branch.indexed, parent.no,
        parent.session, parent.forked_at, branch.parent, branch.created_at FROM branch
        LEFT JOIN branch AS parent ON parent.no = branch.parent";
    report.each(conn, "branches", sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        let place = format!("branch number {no} ({:?})", row.get::<_, String>(1)?);
        rows::time(row.get(9)?)?;
        let (forked_at, indexed): (u64, u64) = (row.get(3)?, row.get(4)?);
        let newest = crate::db::lookup::newest_own(conn, no)?.map(|(no, _)| seq_of(no));
        let head = newest.unwrap_or(forked_at);
        if indexed < forked_at || indexed > head.max(forked_at) {
            report.problem(
                "count",
                &place,
                format!("it is indexed up to {indexed}, of {forked_at} to {head}"),
            );
        }
        if newest.is_some_and(|newest| newest <= forked_at) {
            report.problem("reference", &place, "it holds messages of its parent's share");
        }
        let parent: Option<i64> = row.get(5)?;
        match (row.get::<_, Option<i64>>(8)?, parent) {
            (None, _) if forked_at > 0 => report.problem("reference", &place, "it forks from nothing"),
            (Some(_), Some(parent)) => {
                let head = crate::db::lookup::head(conn, parent, row.get(7)?)?;
                if forked_at > head {
                    let detail = format!("it forks at {forked_at}, and its parent ends at {head}");
                    report.problem("reference", &place, detail);
                }
                if row.get::<_, Option<i64>>(6)? != row.get(2)? {
                    report.problem("reference", &place, "its parent is of another session");
                }
            }
            _ => {}
        }
        Ok(())
    })
}

/// Whether the text index holds exactly what it should. (Its inner structure is checked with the pages.)
pub(super) fn text_index(conn: &Connection, report: &mut Report) -> Result<()> {
    let expected = "SELECT message.no FROM message JOIN branch ON branch.no = message.no >> 32
        WHERE message.no & 0xffffffff <= branch.indexed";
    let held = "SELECT id FROM message_text_docsize";
    report.none(conn, "index", &format!("{expected} EXCEPT {held}"), [], |row| {
        Ok((message(row.get(0)?), "it is missing in the text index".into()))
    })?;
    report.none(conn, "index", &format!("{held} EXCEPT {expected}"), [], |row| {
        Ok((message(row.get(0)?), "the text index holds it without cause".into()))
    })
}

pub(super) fn checkpoints(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT checkpoint.no, checkpoint.seq, checkpoint.session, branch.session, branch.no,
        branch.forked_at, checkpoint.created_at, checkpoint.automatic,
        (NOT checkpoint.pinned AND checkpoint.label IS NULL AND checkpoint.trigger <> 'manual')
        FROM checkpoint LEFT JOIN branch ON branch.no = checkpoint.branch";
    report.each(conn, "checkpoints", sql, |conn, row, report| {
        let place = format!("checkpoint number {}", row.get::<_, i64>(0)?);
        rows::time(row.get(6)?)?;
        let Some(branch) = row.get::<_, Option<i64>>(4)? else { return Ok(()) };
        if row.get::<_, i64>(2)? != row.get::<_, i64>(3)? {
            report.problem("reference", &place, "its branch is of another session");
        }
        let head = crate::db::lookup::head(conn, branch, row.get(5)?)?;
        let seq: u64 = row.get(1)?;
        if seq > head {
            report.problem(
                "reference",
                &place,
                format!("it marks message {seq}, and its branch ends at {head}"),
            );
        }
        if row.get::<_, bool>(7)? != row.get::<_, bool>(8)? {
            report.problem("content", &place, "retention mistakes what kind it is");
        }
        Ok(())
    })
}
