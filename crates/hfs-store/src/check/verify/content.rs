//! Whether the rows can be read, and hold what was stored.

use std::collections::BTreeSet;

use hfs_core::{ContentHash, OperationKind, Part};
use rusqlite::{Connection, OptionalExtension, Row};

use super::Report;
use crate::codec::body;
use crate::codec::checksum;
use crate::codec::rows::{self, STREAMING, branch_of, seq_of};
use crate::db::locks::LivenessProbe;
use crate::error::{Error, Result};
use crate::sqlite::runs;
use crate::state_store::{self, hash_of};

pub(super) fn messages(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = format!(
        "SELECT no, role, status, created_at, body, extra, {} FROM message ORDER BY no",
        checksum::message_holds()
    );
    // The branch that the walk is in, and the seq that is to come next.
    let mut expected: Option<(i64, u64)> = None;
    report.each(conn, "messages", &sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        let (branch, seq) = (branch_of(no), seq_of(no));
        let next = match expected {
            Some((current, next)) if current == branch => Some(next),
            _ => first_seq(conn, branch)?,
        };
        expected = Some((branch, seq + 1));
        let place = format!("message {seq} of branch number {branch}");
        if next.is_some_and(|next| next != seq) {
            let detail = format!("message {} should come before it", next.unwrap_or(0));
            report.problem("gap", &place, detail);
        }
        message(conn, row, &place, report)
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
    if !row.get::<_, bool>(6)? {
        report.problem("content", place, "it is not what was stored");
    }
    rows::role(row.get(1)?)?;
    rows::status(row.get(2)?)?;
    rows::time(row.get(3)?)?;
    rows::extra_from_json(row.get_ref(5)?.as_str_or_null().map_err(rusqlite::Error::from)?)?;
    let body = row.get_ref(4)?.as_str().map_err(|error| Error::Corrupt(error.to_string()))?;
    let parts = body::read(body)?;
    if row.get::<_, i64>(2)? == STREAMING
        && !conn.prepare_cached("SELECT 1 FROM reply WHERE message = ?1")?.exists([no])?
    {
        report.problem("reply", place, "it is marked as streaming, but nobody has ever been writing it");
    }
    let referred: BTreeSet<ContentHash> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Attachment { hash, .. } => *hash,
            _ => None,
        })
        .collect();
    let held = conn
        .prepare_cached(
            "SELECT attachment.hash FROM attachment_use JOIN attachment
                ON attachment.no = attachment_use.attachment WHERE attachment_use.message = ?1",
        )?
        .query_map([no], |row| row.get(0).map(ContentHash::from_bytes))?
        .collect::<rusqlite::Result<BTreeSet<_>>>()?;
    for hash in referred.difference(&held) {
        report.problem("reference", place, format!("its attachment {hash} is not there"));
    }
    for hash in held.difference(&referred) {
        report.problem("reference", place, format!("it holds on to attachment {hash} without need"));
    }
    Ok(())
}

pub(super) fn replies(conn: &Connection, report: &mut Report, probe: &LivenessProbe) -> Result<()> {
    let sql = "SELECT reply.message, reply.writer, message.status,
        (SELECT max(no) FROM message AS other WHERE other.no BETWEEN reply.message AND
            (reply.message | 0xffffffff)) FROM reply LEFT JOIN message ON message.no = reply.message";
    report.each(conn, "replies in progress", sql, |_, row, report| {
        let no: i64 = row.get(0)?;
        let place = format!("message {} of branch number {}", seq_of(no), branch_of(no));
        match row.get::<_, Option<i64>>(2)? {
            Some(STREAMING) => {}
            Some(_) => report.problem("reply", &place, "it is being written though it is finished"),
            None => report.problem("reply", &place, "it is being written but is not there"),
        }
        let writer: String = row.get(1)?;
        if probe.is_alive(&writer) && row.get::<_, Option<i64>>(3)?.is_some_and(|newest| newest != no) {
            report.problem("reply", &place, "others come behind it while it is being written");
        }
        Ok(())
    })?;
    report.none(
        conn,
        "reply",
        "SELECT DISTINCT message FROM reply_piece
            WHERE NOT EXISTS (SELECT 1 FROM reply WHERE reply.message = reply_piece.message)",
        [],
        |row| {
            let no: i64 = row.get(0)?;
            let place = format!("message {} of branch number {}", seq_of(no), branch_of(no));
            Ok((place, "pieces of it were left behind".into()))
        },
    )
}

pub(super) fn attachments(conn: &Connection, report: &mut Report) -> Result<()> {
    report.each(conn, "attachments", "SELECT no, hash, bytes FROM attachment", |_, row, _| {
        let hash = ContentHash::from_bytes(row.get(1)?);
        let bytes = row.get_ref(2)?.as_blob().map_err(|error| Error::Corrupt(error.to_string()))?;
        if hash_of(bytes) == hash {
            return Ok(());
        }
        Err(Error::Corrupt(format!("{hash} is not what was stored")))
    })
}

pub(super) fn runs(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT run.no, run.started_at, run.ended_at, run.snapshot, run.events,
        run.session = branch.session FROM run LEFT JOIN branch ON branch.no = run.branch";
    report.each(conn, "runs", sql, |_, row, report| {
        rows::time(row.get(1)?)?;
        row.get::<_, Option<i64>>(2)?.map(rows::time).transpose()?;
        let blob = |column: usize| -> Result<&[u8]> {
            row.get_ref(column)?.as_blob().map_err(|error| Error::Corrupt(error.to_string()))
        };
        runs::unpack::<hfs_core::RunSnapshot>(blob(3)?)?;
        runs::unpack::<Vec<hfs_core::Event>>(blob(4)?)?;
        if row.get::<_, Option<bool>>(5)? == Some(false) {
            let place = format!("run number {}", row.get::<_, i64>(0)?);
            report.problem("reference", place, "its branch is of another session");
        }
        Ok(())
    })
}

pub(super) fn states(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql =
        "SELECT state.no, base.base, EXISTS (SELECT 1 FROM checkpoint WHERE checkpoint.state = state.no)
        OR EXISTS (SELECT 1 FROM branch WHERE branch.state = state.no)
        OR EXISTS (SELECT 1 FROM state AS follower WHERE follower.base = state.no)
        FROM state LEFT JOIN state AS base ON base.no = state.base";
    let keyframes = state_store::KeyframeCache::default();
    report.each(conn, "states", sql, |conn, row, report| {
        let no: i64 = row.get(0)?;
        if row.get::<_, Option<i64>>(1)?.is_some() {
            report.problem("reference", format!("state number {no}"), "its keyframe is a difference itself");
        }
        if !row.get::<_, bool>(2)? {
            report.problem("reference", format!("state number {no}"), "nothing refers to it");
        }
        state_store::load(conn, no, &keyframes).map(drop)
    })
}

pub(super) fn operations(conn: &Connection, report: &mut Report) -> Result<()> {
    let sql = "SELECT no, kind, created_at, before, after FROM operation";
    report.each(conn, "operations", sql, |_, row, _| {
        let kind: String = row.get(1)?;
        if !OperationKind::ALL.iter().any(|known| known.as_str() == kind) {
            return Err(Error::Corrupt(format!("{kind:?} is not a kind of operation")));
        }
        rows::time(row.get(2)?)?;
        row.get::<_, Option<String>>(3)?.map(|json| rows::shape_from_json(&json)).transpose()?;
        rows::shape_from_json(&row.get::<_, String>(4)?)?;
        Ok(())
    })
}
