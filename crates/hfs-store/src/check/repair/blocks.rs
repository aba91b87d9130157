//! Moves the texts of messages from blocks back to their rows, where the other repairs work on them.

use std::collections::BTreeMap;

use hfs_core::{MessageId, Part, Timestamp};
use rusqlite::{Connection, params};

use crate::check::repair::message_history::{LOST, neighbours_time};
use crate::check::repair::{RepairLog, row_numbers};
use crate::check::{RepairKind, message_place};
use crate::codec::block::{Block, Texts};
use crate::codec::rows::branch_of;
use crate::codec::{body, checksum};
use crate::error::Result;
use crate::sqlite::{blocks, texts};

pub(super) fn unpack(conn: &Connection, now: Timestamp, log: &mut RepairLog) -> Result<()> {
    let mut reasons = BTreeMap::new();
    for no in row_numbers(conn, "SELECT no FROM block ORDER BY no")? {
        match texts::load(conn, no) {
            Err(error) if error.is_corruption() => {
                reasons.insert(no, error.to_string());
            }
            block => unpack_block(conn, no, &block?, now, log)?,
        }
    }
    conn.execute("DELETE FROM block", [])?;
    replace_lost_texts(conn, &reasons, log)
}

fn unpack_block(
    conn: &Connection,
    no: i64,
    block: &Block,
    now: Timestamp,
    log: &mut RepairLog,
) -> Result<()> {
    for (index, message) in (0..block.len()).zip(no..) {
        if branch_of(message) != branch_of(no) {
            break;
        }
        match blocks::restore_texts(conn, message, index, block) {
            Ok(true) => {}
            Ok(false) => recover_message(conn, message, block.texts(index)?, now, log)?,
            // Its row is found by `replace_lost_texts`.
            Err(error) if error.is_corruption() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Creates the row of a message of which only the texts are left. Does nothing if there is such a row, which has texts of its own.
fn recover_message(
    conn: &Connection,
    no: i64,
    Texts { body, extra }: Texts<'_>,
    now: Timestamp,
    log: &mut RepairLog,
) -> Result<()> {
    let at = neighbours_time(conn, no)?.unwrap_or_else(|| now.as_micros());
    // Its role is system (2), and its status interrupted (2), like those of a placeholder.
    let inserted = conn
        .prepare_cached(
            "INSERT OR IGNORE INTO message (no, id, role, status, created_at, sum, body, extra)
                VALUES (?1, ?2, 2, 2, ?3, 0, ?4, ?5)",
        )?
        .execute(params![no, MessageId::generate().as_uuid().as_bytes(), at, body, extra])?;
    if inserted > 0 {
        checksum::update_message(conn, no)?;
        let detail = "its row is lost; its text is there, but not who wrote it, and when";
        log.add(RepairKind::Recovered, message_place(no), detail);
    }
    Ok(())
}

/// Replaces the texts of messages whose block is missing or cannot be read.
fn replace_lost_texts(conn: &Connection, reasons: &BTreeMap<i64, String>, log: &mut RepairLog) -> Result<()> {
    let mut lost: BTreeMap<i64, u64> = BTreeMap::new();
    let body = body::encode(&[Part::text(LOST)])?;
    for no in row_numbers(conn, "SELECT no FROM message WHERE block_index IS NOT NULL ORDER BY no")? {
        let block: i64 = conn
            .prepare_cached("SELECT no - block_index FROM message WHERE no = ?1")?
            .query_row([no], |row| row.get(0))?;
        *lost.entry(block).or_default() += 1;
        conn.prepare_cached("UPDATE message SET body = ?2, extra = NULL, block_index = NULL WHERE no = ?1")?
            .execute(params![no, body])?;
        checksum::update_message(conn, no)?;
    }
    for (block, messages) in lost {
        let reason = reasons.get(&block).map_or("it is missing", String::as_str);
        let detail = format!("the texts of {messages} messages are lost ({reason})");
        log.add(RepairKind::Lost, format!("block number {block}"), detail);
    }
    Ok(())
}
