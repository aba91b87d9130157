//! Attachments. Equal ones of one owner are stored once, by the hash of their bytes.

use hfs_core::{Attachment, AttachmentStore, ContentHash, MessageId, StoreResult};
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result, invalid, not_found};
use crate::store::lookup::Place;
use crate::store::states::hash_of;

/// Number of the branch in the references of [`hold_for_import`].
const IMPORT_HOLD: i64 = -1;

impl AttachmentStore for PostgresStore {
    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        let action = "save an attachment";
        check(attachment).map_err(self.db.store_error(action))?;
        let now = self.db.options().clock.now().as_micros();
        self.db.write(action, |tx| insert(tx, attachment, now))
    }

    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.db.read("read an attachment", |tx| {
            // As in `states::json`.
            let sql = "SELECT bytes FROM attachment WHERE hash = $1 ORDER BY owner = current_user::text DESC LIMIT 1";
            let row = tx.row(sql, &values![&hash])?;
            let row = row.ok_or_else(|| not_found("attachment", &hash))?;
            let bytes = row.bytes(0)?;
            if hash_of(bytes) != hash {
                return Err(Error::Corrupt(format!("attachment {hash} does not match its hash")));
            }
            Ok(bytes.to_vec())
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

pub(crate) fn insert(tx: &Tx, attachment: &Attachment, now: i64) -> Result<()> {
    // An unused attachment gets a new time, because `vacuum` deletes unused attachments by their age. The update leaves
    // the bytes where they are, since they are stored outside of the row unless they are few.
    tx.execute(
        "INSERT INTO attachment (hash, stored_at, bytes) VALUES ($1, $2, $3)
            ON CONFLICT (hash, owner) DO UPDATE SET stored_at = excluded.stored_at
                WHERE NOT EXISTS (SELECT 1 FROM attachment_use
                    WHERE attachment_use.hash = attachment.hash AND attachment_use.owner = attachment.owner)",
        &values![&attachment.hash, now, attachment.bytes.as_slice()],
    )
    .map(drop)
}

/// Inserts the references of messages to attachments. `Invalid` if an attachment is not stored.
pub(crate) fn refer(tx: &Tx, references: &[(Place, MessageId, ContentHash)]) -> Result<()> {
    for (place, message, hash) in references {
        let sql = "SELECT 1 FROM attachment WHERE hash = $1 AND owner = current_user::text";
        if !tx.exists(sql, &values![hash])? {
            return Err(invalid(format!(
                "message {message} refers to the attachment {hash}, which is not stored"
            )));
        }
        let [session, branch, seq] = place.values();
        tx.execute(
            "INSERT INTO attachment_use (session, branch, seq, hash) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[session, branch, seq, hash.into()],
        )?;
    }
    Ok(())
}

/// Keeps an attachment until the import of a session ends, because a later message may refer to it.
pub(crate) fn hold_for_import(tx: &Tx, session: Uuid, hash: ContentHash) -> Result<()> {
    tx.execute(
        "INSERT INTO attachment_use (session, branch, seq, hash) VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING",
        &values![session, IMPORT_HOLD, &hash],
    )
    .map(drop)
}

/// Removes the references of [`hold_for_import`]. `vacuum` later deletes attachments that no message refers to.
pub(crate) fn release_import_holds(tx: &Tx, session: Uuid) -> Result<()> {
    let sql = "DELETE FROM attachment_use WHERE session = $1 AND branch = $2";
    tx.execute(sql, &values![session, IMPORT_HOLD]).map(drop)
}

/// Removes all references of a session, and the attachments without other references.
pub(crate) fn remove_references_of_session(tx: &Tx, session: Uuid) -> Result<()> {
    let rows = tx.rows("DELETE FROM attachment_use WHERE session = $1 RETURNING hash", &values![session])?;
    let released = rows.iter().map(|row| row.hash(0)).collect::<Result<Vec<_>>>()?;
    remove_unused(tx, &released)
}

/// Removes the references of a message to attachments that it does not use any more, and attachments without other
/// references.
pub(crate) fn remove_other_references(tx: &Tx, place: Place, used: &[ContentHash]) -> Result<()> {
    let used = used.iter().map(|hash| hash.as_bytes().as_slice().into()).collect();
    let [session, branch, seq] = place.values();
    let rows = tx.rows(
        "DELETE FROM attachment_use WHERE session = $1 AND branch = $2 AND seq = $3 AND hash <> ALL($4) RETURNING hash",
        &[session, branch, seq, Value::Blobs(used)],
    )?;
    let released = rows.iter().map(|row| row.hash(0)).collect::<Result<Vec<_>>>()?;
    remove_unused(tx, &released)
}

fn remove_unused(tx: &Tx, hashes: &[ContentHash]) -> Result<()> {
    if hashes.is_empty() {
        return Ok(());
    }
    let hashes = hashes.iter().map(|hash| hash.as_bytes().as_slice().into()).collect();
    let hashes = [Value::Blobs(hashes)];
    // As in `states::drop_unused`.
    tx.rows(
        "SELECT set_config('enable_seqscan', 'off', true) FROM attachment WHERE hash = ANY($1)
            ORDER BY hash, owner FOR NO KEY UPDATE",
        &hashes,
    )?;
    tx.execute(
        "DELETE FROM attachment WHERE hash = ANY($1)
            AND (SELECT 1 FROM attachment_use
                WHERE attachment_use.hash = attachment.hash AND attachment_use.owner = attachment.owner LIMIT 1)
                IS NULL",
        &hashes,
    )
    .map(drop)
}
