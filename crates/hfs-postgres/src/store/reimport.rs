//! Imports of sources that were imported before.

use hfs_core::{
    CompleteImport, ContentHash, ImportStore, ImportedSessionUpdate, ImportedSource, MessageDraft, MessageId,
    OperationKind, SessionId, StoreResult, Timestamp,
};
use hfs_store::codec::rows::{self, MessageRow, STREAMING};
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Result, conflict, invalid, not_found};
use crate::store::lookup::{self, LISTED, Place};
use crate::store::messages::{message_at, replace_row};
use crate::store::operations::{self, Change};
use crate::store::states::hash_of;
use crate::store::{branches, session_stats, sessions};

impl ImportStore for PostgresStore {
    fn update_imported_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let action = "update imported messages";
        let rows =
            messages.iter().map(|message| Ok(MessageRow::finalized(message)?)).collect::<Result<Vec<_>>>();
        let rows = rows.map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| rows.iter().try_for_each(|row| update_message(tx, row)))
    }

    fn supplement_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let action = "supplement recorded messages";
        let rows = messages.iter().map(|message| Ok((message, MessageRow::finalized(message)?)));
        let rows = rows.collect::<Result<Vec<_>>>().map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            rows.iter().try_for_each(|(message, row)| supplement_message(tx, message, row))
        })
    }

    fn update_imported_session(
        &self,
        id: SessionId,
        update: &ImportedSessionUpdate,
        at: Timestamp,
    ) -> StoreResult<()> {
        self.db.write("update an imported session", |tx| update_session(tx, id, update, at))
    }

    fn find_imported_source(&self, path: &str) -> StoreResult<Option<ImportedSource>> {
        self.db.read("look up an imported source", |tx| Ok(find_source(tx, path)?.map(|(source, _)| source)))
    }

    fn find_resume_point(&self, path: &str) -> StoreResult<Option<Vec<u8>>> {
        self.db.read("look up where an import continues", |tx| {
            Ok(find_source(tx, path)?.and_then(|(_, point)| point))
        })
    }

    fn save_imported_sources(&self, imports: &[CompleteImport]) -> StoreResult<()> {
        self.db.write("remember imported sources", |tx| {
            imports.iter().try_for_each(|import| save_source(tx, import))
        })
    }

    fn sync(&self) -> StoreResult<()> {
        // The commit of this write is durable, and with it all earlier ones. Its id is what it writes.
        self.db.write("make an import durable", |tx| tx.rows("SELECT 1", &[]).map(drop))
    }
}

/// Locks the session of a message for a write.
fn lock_message(tx: &Tx, id: MessageId) -> Result<Place> {
    let place = lookup::message(tx, id)?;
    lookup::lock_session(tx, SessionId::from_uuid(place.session))?;
    // The session may have been purged before the lock.
    lookup::message(tx, id)
}

fn supplement_message(tx: &Tx, message: &MessageDraft, row: &MessageRow) -> Result<()> {
    let place = lock_message(tx, message.id)?;
    let sql = "SELECT status FROM message WHERE session = $1 AND branch = $2 AND seq = $3";
    let status = tx.one(sql, &place.values())?.int(0)?;
    let branch = lookup::branch_by_no(tx, place.session, place.branch)?;
    let stored = message_at(tx, branch.id, place)?.ok_or_else(|| not_found("message", &message.id))?;
    if status == STREAMING || !stored.content.is_supplemented_by(message) {
        return Err(invalid(format!("message {} would be changed", message.id)));
    }
    replace_row(tx, place, message.id, row)
}

fn update_message(tx: &Tx, row: &MessageRow) -> Result<()> {
    let id = MessageId::from_uuid(Uuid::from_bytes(row.id));
    let place = lock_message(tx, id)?;
    let stored = tx.one(
        "SELECT status, source_format IS NOT NULL FROM message WHERE session = $1 AND branch = $2 AND seq = $3",
        &place.values(),
    )?;
    if !stored.flag(1)? || stored.int(0)? == STREAMING {
        return Err(invalid(format!("message {id} was not imported")));
    }
    replace_row(tx, place, id, row)
}

fn update_session(tx: &Tx, id: SessionId, update: &ImportedSessionUpdate, at: Timestamp) -> Result<()> {
    let session = lookup::lock_session(tx, id)?;
    let before = operations::session_attributes(tx, session)?;
    if (&before.name, before.current_branch) != (&update.expected.name, update.expected.current_branch) {
        return Err(conflict(format!("session {:?} was renamed or switched meanwhile", before.name)));
    }
    if let Some((name, automatic)) = &update.name {
        let sql = "UPDATE session SET name = $2, automatic_name = $3 WHERE id = $1";
        tx.execute(sql, &values![session, name, *automatic])?;
    }
    if let Some(branch) = update.current_branch {
        let branch = lookup::branch(tx, branch)?;
        if branch.undone || branch.session != session {
            return Err(conflict(format!("branch {:?} cannot become current", branch.name)));
        }
        branches::make_current(tx, session, branch.no)?;
    }
    if let Some(project) = &update.project {
        sessions::set_project(tx, session, project)?;
    }
    if let Some(origin) = &update.origin {
        let sql = "UPDATE session SET origin_format = $2, origin_id = $3, origin_path = $4 WHERE id = $1";
        tx.execute(sql, &values![session, &origin.format, &origin.id, &origin.path])?;
    }
    if let Some(created_at) = update.created_at {
        tx.execute("UPDATE session SET created_at = $2 WHERE id = $1", &values![session, created_at])?;
    }
    if let Some(extra) = &update.extra {
        let extra = rows::extra_to_json(extra)?;
        tx.execute("UPDATE session SET extra = $2 WHERE id = $1", &values![session, &extra])?;
    }
    session_stats::touch(tx, session, update.updated_at.as_micros())?;
    operations::record_quietly(
        tx,
        Change { before: Some(before), ..Change::new(session, OperationKind::Import, at) },
    )?;
    Ok(())
}

/// Paths can be longer than an entry of an index.
fn hash_of_path(path: &str) -> ContentHash {
    hash_of(path.as_bytes())
}

/// The source with its resume point.
fn find_source(tx: &Tx, path: &str) -> Result<Option<(ImportedSource, Option<Vec<u8>>)>> {
    let hash = hash_of_path(path);
    let sql = "SELECT fingerprint, resume_point FROM import_source
        WHERE hash = $1 AND owner = current_user::text";
    let Some(row) = tx.row(sql, &values![&hash])? else { return Ok(None) };
    let Ok(fingerprint) = row.bytes(0)?.try_into() else { return Ok(None) };
    let resume_point = row.opt_bytes(1)?.map(<[u8]>::to_vec);
    let rows = tx.rows(
        "SELECT import_source_session.session, coalesce(activity.state = $2, false) FROM import_source_session
            LEFT JOIN activity ON activity.session = import_source_session.session WHERE source = $1",
        &values![&hash, LISTED],
    )?;
    let mut sessions = Vec::with_capacity(rows.len());
    for row in rows {
        if !row.flag(1)? {
            return Ok(None);
        }
        sessions.push(SessionId::from_uuid(row.id(0)?));
    }
    Ok(Some((ImportedSource { fingerprint, sessions }, resume_point)))
}

fn save_source(tx: &Tx, import: &CompleteImport) -> Result<()> {
    let CompleteImport { path, source, resume_point } = import;
    let hash = hash_of_path(path);
    tx.execute(
        "INSERT INTO import_source (hash, fingerprint, resume_point) VALUES ($1, $2, $3)
            ON CONFLICT (hash, owner) DO UPDATE SET fingerprint = excluded.fingerprint, resume_point = excluded.resume_point",
        &values![&hash, source.fingerprint.as_slice(), resume_point.as_deref()],
    )?;
    tx.execute("DELETE FROM import_source_session WHERE source = $1", &values![&hash])?;
    let sessions = source.sessions.iter().map(|id| *id.as_uuid()).collect();
    tx.execute(
        "INSERT INTO import_source_session (source, session) SELECT $1, unnest($2) ON CONFLICT DO NOTHING",
        &[(&hash).into(), Value::Ids(sessions)],
    )
    .map(drop)
}
