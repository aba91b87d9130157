//! Attachments. Equal ones are stored once, by the hash of their bytes.

use hfs_core::{Attachment, AttachmentStore, ContentHash, StoreResult};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result, invalid, not_found};
use crate::sqlite::SqliteStore;
use crate::state_store::hash_of;

impl AttachmentStore for SqliteStore {
    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        let action = "save an attachment";
        check(attachment).map_err(self.db.store_error(action))?;
        let attachment = attachment.clone();
        let now = self.db.options.clock.now().as_micros();
        self.db.write(action, move |conn| insert(conn, &attachment, now))
    }

    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.db.read("read an attachment", |conn| {
            let bytes: Vec<u8> = conn
                .prepare_cached("SELECT bytes FROM attachment WHERE hash = ?1")?
                .query_row([hash.as_bytes()], |row| row.get(0))
                .optional()?
                .ok_or_else(|| not_found("attachment", &hash))?;
            if hash_of(&bytes) != hash {
                return Err(Error::Corrupt(format!("attachment {hash} does not match its hash")));
            }
            Ok(bytes)
        })
    }
}

/// Checks the attachment's hash.
pub(crate) fn check(attachment: &Attachment) -> Result<()> {
    let found = hash_of(&attachment.bytes);
    if found != attachment.hash {
        return Err(invalid(format!("the attachment's hash is {found}, not {}", attachment.hash)));
    }
    Ok(())
}

pub(crate) fn insert(conn: &Connection, attachment: &Attachment, now: i64) -> Result<()> {
    // An unused attachment gets a new time, because `vacuum` deletes unused attachments by their age. The time of one in use
    // does not matter, and an update would rewrite its bytes.
    conn.prepare_cached(
        "INSERT INTO attachment (hash, stored_at, bytes) VALUES (?1, ?2, ?3)
            ON CONFLICT (hash) DO UPDATE SET stored_at = excluded.stored_at
                WHERE NOT EXISTS (SELECT 1 FROM attachment_use WHERE attachment = attachment.no)",
    )?
    .execute(params![attachment.hash.as_bytes(), now, attachment.bytes])?;
    Ok(())
}

/// Keeps an attachment until the import of a session ends, because a later message may refer to it. Inserts a reference
/// from the negated number of the session. Message numbers are positive, so no message has this number.
pub(crate) fn hold_for_import(conn: &Connection, session: i64, hash: ContentHash) -> Result<()> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO attachment_use (message, attachment)
            SELECT -?1, no FROM attachment WHERE hash = ?2",
    )?
    .execute(params![session, hash.as_bytes()])?;
    Ok(())
}

/// Removes the references of [`hold_for_import`]. `vacuum` later deletes attachments that no message refers to.
pub(crate) fn release_import_holds(conn: &Connection, session: i64) -> Result<()> {
    conn.prepare_cached("DELETE FROM attachment_use WHERE message = -?1")?.execute([session])?;
    Ok(())
}

/// Removes the references from the messages with these numbers, and attachments without other references.
pub(crate) fn remove_references(conn: &Connection, first: i64, last: i64) -> Result<()> {
    let released = conn
        .prepare_cached("DELETE FROM attachment_use WHERE message BETWEEN ?1 AND ?2 RETURNING attachment")?
        .query_map([first, last], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    released.into_iter().try_for_each(|attachment| remove_unused(conn, attachment))
}

/// Removes the references of a message to attachments that it does not use any more, and attachments without other
/// references.
pub(crate) fn remove_other_references(conn: &Connection, message: i64, used: &[ContentHash]) -> Result<()> {
    let references = conn
        .prepare_cached(
            "SELECT attachment.no, attachment.hash FROM attachment_use
                JOIN attachment ON attachment.no = attachment_use.attachment WHERE attachment_use.message = ?1",
        )?
        .query_map([message], |row| Ok((row.get(0)?, ContentHash::from_bytes(row.get(1)?))))?
        .collect::<rusqlite::Result<Vec<(i64, ContentHash)>>>()?;
    for (attachment, _) in references.into_iter().filter(|(_, hash)| !used.contains(hash)) {
        conn.prepare_cached("DELETE FROM attachment_use WHERE message = ?1 AND attachment = ?2")?
            .execute([message, attachment])?;
        remove_unused(conn, attachment)?;
    }
    Ok(())
}

fn remove_unused(conn: &Connection, attachment: i64) -> Result<()> {
    conn.prepare_cached(
        "DELETE FROM attachment WHERE no = ?1
            AND NOT EXISTS (SELECT 1 FROM attachment_use WHERE attachment = ?1)",
    )?
    .execute([attachment])?;
    Ok(())
}
