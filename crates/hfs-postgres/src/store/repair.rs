//! Repairs what [`super::verify`] finds: removes rows that cannot be read, and computes derived data again.
//!
//! A message that cannot be read is replaced by a placeholder, so that the others keep their seqs. Damaged pages are not
//! repaired: a query that meets one fails, and a backup of the server, or its standby, has the rows.

use hfs_core::{ContentHash, Event, Part, Problem, RunSnapshot, StoreResult};
use hfs_store::codec::{body, compressed_json, rows};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::value::{Columns as _, values};
use crate::db::{Flush, IS_OWN, Pace, Tx};
use crate::error::{Error, Result};
use crate::store::lookup::Place;
use crate::store::{attachments, maintenance, messages, session_stats, states, text_index, verify};

const ACTION: &str = "repair the store";

/// Text in place of a lost one.
const LOST: &str = "(This message was damaged, and could not be recovered.)";

/// Statements that remove rows which nothing can use, or correct references. Each says what it does to how many rows of what.
const CORRECTIONS: &[(&str, &str, &str)] = &[
    (
        "operations",
        "removed: their session is missing",
        "DELETE FROM operation WHERE NOT EXISTS (SELECT 1 FROM session WHERE session.id = operation.session)",
    ),
    (
        "runs",
        "removed: their branch is missing",
        "DELETE FROM run WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = run.session
            AND branch.no = run.branch)",
    ),
    (
        "checkpoints",
        "removed: their branch or message is missing",
        "DELETE FROM checkpoint WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = checkpoint.session
            AND branch.no = checkpoint.branch AND checkpoint.seq <= greatest(branch.forked_at, (SELECT max(seq)
                FROM message WHERE message.session = branch.session AND message.branch = branch.no)))",
    ),
    (
        "messages",
        "removed: their branch is missing",
        "DELETE FROM message WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = message.session
            AND branch.no = message.branch)",
    ),
    (
        "unfinished replies",
        "removed: they belong to no message that is streaming",
        "DELETE FROM reply WHERE NOT EXISTS (SELECT 1 FROM message WHERE message.session = reply.session
            AND message.branch = reply.branch AND message.seq = reply.seq AND message.status = 1)",
    ),
    (
        "references to attachments",
        "removed: their message is missing",
        "DELETE FROM attachment_use WHERE branch >= 0 AND NOT EXISTS (SELECT 1 FROM message
            WHERE message.session = attachment_use.session AND message.branch = attachment_use.branch
            AND message.seq = attachment_use.seq)",
    ),
    (
        "sessions",
        "have another current branch: it was missing or undone",
        "UPDATE session SET current_branch = other.no FROM (SELECT DISTINCT ON (session) session, no FROM branch
                WHERE NOT undone ORDER BY session, no DESC) AS other
            WHERE other.session = session.id AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = session.id
                AND branch.no = session.current_branch AND NOT branch.undone)",
    ),
];

impl PostgresStore {
    /// Repairs the rows of the sessions of this role, and rebuilds all indexes if it owns them.
    pub(crate) fn repair_rows(&self) -> StoreResult<Vec<Problem>> {
        let schema = &self.db.options().schema;
        let tables = self.db.read(ACTION, |tx| {
            let owns = maintenance::check_owns_tables(tx, schema).is_ok();
            if owns { maintenance::tables(tx, schema) } else { Ok(Vec::new()) }
        })?;
        for table in tables {
            // Each in a transaction of its own, since writers wait meanwhile.
            self.db.outside_transaction(ACTION, |tx| tx.batch(&format!("REINDEX TABLE {schema}.{table}")))?;
        }
        self.db.write_with(Pace::Long, Flush::Durable, ACTION, |tx| {
            // No session may change until the counters are right.
            tx.batch("LOCK TABLE activity IN SHARE ROW EXCLUSIVE MODE")?;
            let mut log = Vec::new();
            for (what, detail, sql) in CORRECTIONS {
                let count = tx.execute(sql, &[])?;
                if count > 0 {
                    log.push(problem(format!("{count} {what}"), *detail));
                }
            }
            remove_unreadable_states(tx, &mut log)?;
            remove_unreadable_attachments(tx, &mut log)?;
            remove_unreadable_rows(tx, &mut log)?;
            replace_unreadable_messages(tx, &mut log)?;
            rebuild_text_index(tx, &mut log)?;
            log.extend(verify::recount(tx)?);
            Ok(log)
        })
    }
}

fn problem(place: String, detail: impl Into<String>) -> Problem {
    Problem { kind: "repair".into(), place, detail: detail.into() }
}

/// Why a stored value cannot be read; `None` if it can.
fn damage<T>(read: Result<T>) -> Result<Option<String>> {
    match read {
        Ok(_) => Ok(None),
        Err(error @ (Error::Corrupt(_) | Error::Rejected(_))) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

fn remove_unreadable_states(tx: &Tx, log: &mut Vec<Problem>) -> Result<()> {
    for row in tx.rows("SELECT hash, owner FROM state", &[])? {
        let (hash, owner) = (row.hash(0)?, row.text(1)?);
        let stored =
            tx.one("SELECT size, data FROM state WHERE hash = $1 AND owner = $2", &values![&hash, &owner])?;
        let read = stored.count(0).and_then(|size| states::decode(size, stored.bytes(1)?, hash));
        let Some(why) = damage(read)? else { continue };
        let key = values![&hash, &owner];
        let checkpoints = tx.execute("DELETE FROM checkpoint WHERE state = $1 AND owner = $2", &key)?;
        let branches = tx.execute("UPDATE branch SET state = NULL WHERE state = $1 AND owner = $2", &key)?;
        tx.execute("DELETE FROM state WHERE hash = $1 AND owner = $2", &key)?;
        let detail = format!(
            "removed with {checkpoints} checkpoints; {branches} branches have no state any more ({why})"
        );
        log.push(problem(format!("state {hash}"), detail));
    }
    let unused = tx.execute(
        "DELETE FROM state WHERE NOT EXISTS (SELECT 1 FROM checkpoint
                WHERE checkpoint.state = state.hash AND checkpoint.owner = state.owner)
            AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.state = state.hash AND branch.owner = state.owner)",
        &[],
    )?;
    if unused > 0 {
        log.push(problem(format!("{unused} states"), "removed: nothing refers to them"));
    }
    Ok(())
}

/// Removes attachments whose bytes are damaged. The messages that have them keep their names and types.
fn remove_unreadable_attachments(tx: &Tx, log: &mut Vec<Problem>) -> Result<()> {
    for row in tx.rows("SELECT hash, owner FROM attachment", &[])? {
        let (hash, owner) = (row.hash(0)?, row.text(1)?);
        let key = values![&hash, &owner];
        let stored = tx.one("SELECT bytes FROM attachment WHERE hash = $1 AND owner = $2", &key)?;
        if states::hash_of(stored.bytes(0)?) == hash {
            continue;
        }
        let users = tx.rows(
            "DELETE FROM attachment_use WHERE hash = $1 AND owner = $2 RETURNING session, branch, seq",
            &key,
        )?;
        tx.execute("DELETE FROM attachment WHERE hash = $1 AND owner = $2", &key)?;
        for user in &users {
            let place = Place::from_row(user)?;
            let sql = "SELECT body FROM message WHERE session = $1 AND branch = $2 AND seq = $3";
            let Some(stored) = tx.row(sql, &place.values())? else { continue };
            let Ok(mut parts) = messages::decode_body(stored.bytes(0)?) else { continue };
            forget_attachment(&mut parts, hash);
            set_body(tx, place, &parts)?;
        }
        let detail = format!("removed from {} messages: its bytes do not match its hash", users.len());
        log.push(problem(format!("attachment {hash}"), detail));
    }
    Ok(())
}

fn set_body(tx: &Tx, place: Place, parts: &[Part]) -> Result<()> {
    let body = body::encode(parts)?;
    let [session, branch, seq] = place.values();
    let sql = "UPDATE message SET body = $4 WHERE session = $1 AND branch = $2 AND seq = $3";
    tx.execute(sql, &[session, branch, seq, body.as_bytes().into()]).map(drop)
}

/// Removes runs and operations that cannot be decoded.
fn remove_unreadable_rows(tx: &Tx, log: &mut Vec<Problem>) -> Result<()> {
    let run = |row: &Row| -> Result<()> {
        row.time(1)?;
        row.opt_int(2)?.map(rows::time).transpose()?;
        compressed_json::decompress::<RunSnapshot>(row.bytes(3)?)?;
        compressed_json::decompress::<Vec<Event>>(row.bytes(4)?)?;
        Ok(())
    };
    for row in tx.rows("SELECT id FROM run", &[])? {
        let id: Uuid = row.id(0)?;
        let sql = "SELECT id, started_at, ended_at, snapshot, events FROM run WHERE id = $1";
        if let Some(why) = damage(run(&tx.one(sql, &values![id])?))? {
            tx.execute("DELETE FROM run WHERE id = $1", &values![id])?;
            log.push(problem(format!("run {id}"), format!("removed: {why}")));
        }
    }
    for row in tx.rows("SELECT id, before, after FROM operation", &[])? {
        let read = || -> Result<()> {
            row.opt_text(1)?.as_deref().map(rows::attributes_from_json).transpose()?;
            rows::attributes_from_json(&row.text(2)?)?;
            Ok(())
        };
        if let Some(why) = damage(read())? {
            let id: Uuid = row.id(0)?;
            tx.execute("DELETE FROM operation WHERE id = $1", &values![id])?;
            log.push(problem(format!("operation {id}"), format!("removed: {why}")));
        }
    }
    Ok(())
}

/// Replaces the text of messages that cannot be decoded, and ends replies without a writer.
fn replace_unreadable_messages(tx: &Tx, log: &mut Vec<Problem>) -> Result<()> {
    verify::read_in_batches(tx, verify::SELECT_MESSAGES, "session, branch, seq", |row| {
        let (place, id) = (Place::from_row(row)?, row.id(3)?);
        let decoded = verify::decode_message(tx, row);
        if let Ok(parts) = &decoded {
            return restore_references(tx, row, parts, log);
        }
        let Some(why) = damage(decoded)? else { return Ok(()) };
        attachments::remove_other_references(tx, place, &[])?;
        tx.execute(
            "UPDATE message SET extra = NULL,
                role = CASE WHEN role BETWEEN 0 AND 3 THEN role ELSE 2 END,
                status = CASE WHEN status BETWEEN 0 AND 2 THEN status ELSE 2 END
                WHERE session = $1 AND branch = $2 AND seq = $3",
            &place.values(),
        )?;
        set_body(tx, place, &[Part::text(LOST)])?;
        log.push(problem(format!("message {id}"), format!("its content is lost: {why}")));
        Ok(())
    })?;
    let sql = format!(
        "SELECT message.session, message.branch, message.seq, message.id FROM message
            JOIN activity ON activity.session = message.session
            WHERE message.status = 1 AND {IS_OWN} AND NOT EXISTS (SELECT 1 FROM reply
                WHERE reply.session = message.session AND reply.branch = message.branch AND reply.seq = message.seq)"
    );
    for row in tx.rows(&sql, &[])? {
        let (place, id) = (Place::from_row(&row)?, row.id(3)?);
        messages::finalize_interrupted(tx, place)?;
        log.push(problem(format!("message {id}"), "interrupted: it was streaming without a writer"));
    }
    Ok(())
}

/// Adds the references of a message to its attachments that are missing. An attachment that is not stored keeps its name and type.
fn restore_references(tx: &Tx, row: &Row, parts: &[Part], log: &mut Vec<Problem>) -> Result<()> {
    let place = Place::from_row(row)?;
    let missing = verify::unreferenced_attachments(row, parts)?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut parts = parts.to_vec();
    let mut lost = 0;
    for hash in &missing {
        let [session, branch, seq] = place.values();
        let added = tx.execute(
            "INSERT INTO attachment_use (session, branch, seq, hash, owner)
                SELECT $1, $2, $3, hash, owner FROM attachment WHERE hash = $4 LIMIT 1",
            &[session, branch, seq, hash.into()],
        )?;
        if added == 0 {
            lost += 1;
            forget_attachment(&mut parts, *hash);
        }
    }
    if lost > 0 {
        set_body(tx, place, &parts)?;
    }
    let detail =
        format!("{} references to attachments were missing; {lost} attachments are lost", missing.len());
    log.push(problem(format!("message {}", row.id(3)?), detail));
    Ok(())
}

/// Leaves of an attachment what is known without its bytes.
fn forget_attachment(parts: &mut [Part], lost: ContentHash) {
    for part in parts {
        if let Part::Attachment { hash, .. } = part
            && *hash == Some(lost)
        {
            *hash = None;
        }
    }
}

/// Computes the entries of the text index again, and reports those that were wrong.
fn rebuild_text_index(tx: &Tx, log: &mut Vec<Problem>) -> Result<()> {
    let removed = tx.execute(
        "DELETE FROM message_text WHERE NOT EXISTS (SELECT 1 FROM message WHERE message.session = message_text.session
            AND message.branch = message_text.branch AND message.seq = message_text.seq AND message.status <> 1)",
        &[],
    )?;
    let mut corrected = removed;
    let select = "SELECT session, branch, seq, body, status FROM message";
    verify::read_in_batches(tx, select, "session, branch, seq", |row| {
        if row.int(4)? == rows::STREAMING {
            return Ok(());
        }
        let place = Place::from_row(row)?;
        if !text_index::is_current(tx, place, row.bytes(3)?)? {
            let words = text_index::replace(tx, place, row.bytes(3)?)?;
            session_stats::add_words(tx, place.session, words)?;
            corrected += 1;
        }
        Ok(())
    })?;
    if corrected > 0 {
        log.push(problem(
            format!("{corrected} entries of the text index"),
            "were wrong or missing, and are corrected",
        ));
    }
    Ok(())
}
