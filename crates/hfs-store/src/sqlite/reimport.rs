//! Imports of sources that were imported before.

use hfs_core::{
    CompleteImport, ImportStore, ImportedSessionUpdate, ImportedSource, MessageDraft, MessageId,
    OperationKind, Project, SessionId, StoreResult, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::checksum;
use crate::codec::rows::{self, MessageRow, STREAMING, branch_of, seq_of};
use crate::db::locks::LivenessProbe;
use crate::db::lookup;
use crate::error::{Error, Result, conflict, invalid};
use crate::sqlite::messages::{message_by_no, replace_row};
use crate::sqlite::operations::{self, Change};
use crate::sqlite::texts::TextReader;
use crate::sqlite::{SqliteStore, branches, session_stats, text_index};

impl ImportStore for SqliteStore {
    fn update_imported_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let action = "update imported messages";
        let rows = messages.iter().map(MessageRow::finalized).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(self.db.store_error(action))?;
        self.db.write(action, move |conn| rows.iter().try_for_each(|row| update_message(conn, row)))
    }

    fn supplement_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let action = "supplement recorded messages";
        let rows = messages.iter().map(|message| Ok((message.clone(), MessageRow::finalized(message)?)));
        let rows = rows.collect::<Result<Vec<_>>>().map_err(self.db.store_error(action))?;
        let probe = self.db.liveness_probe();
        self.db.write(action, move |conn| {
            rows.iter().try_for_each(|(message, row)| supplement_message(conn, &probe, message, row))
        })
    }

    fn update_imported_session(
        &self,
        id: SessionId,
        update: &ImportedSessionUpdate,
        at: Timestamp,
    ) -> StoreResult<()> {
        let update = update.clone();
        self.db.write("update an imported session", move |conn| update_session(conn, id, &update, at))
    }

    fn find_imported_source(&self, path: &str) -> StoreResult<Option<ImportedSource>> {
        self.db.read("look up an imported source", |conn| find_source(conn, path))
    }

    fn find_resume_point(&self, path: &str) -> StoreResult<Option<Vec<u8>>> {
        self.db.read("look up where an import continues", |conn| {
            if find_source(conn, path)?.is_none() {
                return Ok(None);
            }
            let point = conn
                .prepare_cached("SELECT resume_point FROM import_source WHERE path = ?1")?
                .query_row([path], |row| row.get(0))?;
            Ok(point)
        })
    }

    fn save_imported_sources(&self, imports: &[CompleteImport]) -> StoreResult<()> {
        let imports = imports.to_vec();
        self.db.write("remember imported sources", move |conn| {
            imports.iter().try_for_each(|import| save_source(conn, import))
        })
    }

    fn sync(&self) -> StoreResult<()> {
        self.db.write("make an import durable", |conn| {
            // The log is synchronised when a transaction that has written something is committed.
            let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok(conn.pragma_update(None, "user_version", version)?)
        })
    }
}

fn update_message(conn: &Connection, row: &MessageRow) -> Result<()> {
    let id = MessageId::from_uuid(rows::uuid(row.id));
    let no = lookup::message_by_id(conn, id)?;
    let (status, is_imported): (i64, bool) = conn
        .prepare_cached("SELECT status, source_format IS NOT NULL FROM message WHERE no = ?1")?
        .query_row([no], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !is_imported || status == STREAMING {
        return Err(invalid(format!("message {id} was not imported")));
    }
    replace_message(conn, no, id, row)
}

fn supplement_message(
    conn: &Connection,
    probe: &LivenessProbe,
    message: &MessageDraft,
    row: &MessageRow,
) -> Result<()> {
    let no = lookup::message_by_id(conn, message.id)?;
    let status: i64 =
        conn.prepare_cached("SELECT status FROM message WHERE no = ?1")?.query_row([no], |row| row.get(0))?;
    let branch = lookup::branch_by_no(conn, branch_of(no))?;
    let stored = message_by_no(conn, probe, &mut TextReader::new(conn), branch.id, no)?.content;
    if status == STREAMING || !stored.is_supplemented_by(message) {
        return Err(invalid(format!("message {} would be changed", message.id)));
    }
    replace_message(conn, no, message.id, row)
}

/// Replaces the row of a message, and its text in the index.
fn replace_message(conn: &Connection, no: i64, id: MessageId, row: &MessageRow) -> Result<()> {
    let indexed: u64 = conn
        .prepare_cached("SELECT indexed_seq FROM branch WHERE no = ?1")?
        .query_row([branch_of(no)], |row| row.get(0))?;
    // The index has to be changed together with the row: FTS5 reads the old text from the row to remove it.
    let is_indexed = seq_of(no) <= indexed;
    if is_indexed {
        text_index::remove(conn, no, no)?;
    }
    conn.prepare_cached("DELETE FROM attachment_use WHERE message = ?1")?.execute([no])?;
    replace_row(conn, no, id, row)?;
    if is_indexed {
        text_index::restore(conn, no)?;
    }
    Ok(())
}

fn update_session(
    conn: &Connection,
    id: SessionId,
    update: &ImportedSessionUpdate,
    at: Timestamp,
) -> Result<()> {
    let session = lookup::session_no(conn, id)?;
    let before = operations::session_attributes(conn, session)?;
    if (&before.name, before.current_branch) != (&update.expected.name, update.expected.current_branch) {
        return Err(conflict(format!("session {:?} was renamed or switched meanwhile", before.name)));
    }
    if let Some((name, automatic)) = &update.name {
        conn.prepare_cached("UPDATE session SET name = ?2, automatic_name = ?3 WHERE no = ?1")?
            .execute(params![session, name, automatic])?;
    }
    if let Some(branch) = update.current_branch {
        let branch = lookup::branch(conn, branch)?;
        if branch.undone || branch.session != session {
            return Err(conflict(format!("branch {:?} cannot become current", branch.name)));
        }
        branches::make_current(conn, session, branch.no)?;
    }
    if let Some(project) = &update.project {
        conn.prepare_cached(
            "UPDATE session SET project = ?2, directory = ?3, repository = ?4 WHERE no = ?1",
        )?
        .execute(params![session, Project::key(project), project.directory, project.repository])?;
    }
    if let Some(origin) = &update.origin {
        conn.prepare_cached(
            "UPDATE session SET origin_format = ?2, origin_id = ?3, origin_path = ?4 WHERE no = ?1",
        )?
        .execute(params![session, origin.format, origin.id, origin.path])?;
    }
    if let Some(created_at) = update.created_at {
        conn.prepare_cached("UPDATE session SET created_at = ?2 WHERE no = ?1")?
            .execute(params![session, created_at.as_micros()])?;
    }
    if let Some(extra) = &update.extra {
        conn.prepare_cached("UPDATE session SET extra = ?2 WHERE no = ?1")?
            .execute(params![session, rows::extra_to_json(extra)?])?;
    }
    checksum::update_session(conn, session)?;
    session_stats::touch(conn, session, update.updated_at.as_micros())?;
    operations::record_quietly(
        conn,
        Change { before: Some(before), ..Change::new(session, OperationKind::Import, at) },
    )?;
    Ok(())
}

fn find_source(conn: &Connection, path: &str) -> Result<Option<ImportedSource>> {
    let found: Option<(i64, Vec<u8>)> = conn
        .prepare_cached("SELECT no, fingerprint FROM import_source WHERE path = ?1")?
        .query_row([path], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((no, fingerprint)) = found else { return Ok(None) };
    let Ok(fingerprint) = fingerprint.try_into() else { return Ok(None) };
    let sessions = conn
        .prepare_cached(
            "SELECT import_source_session.session, session.state IS 0 FROM import_source_session
                LEFT JOIN session ON session.id = import_source_session.session WHERE source = ?1",
        )?
        .query_map([no], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<([u8; 16], bool)>>>()?;
    if sessions.iter().any(|(_, is_listed)| !is_listed) {
        return Ok(None);
    }
    let sessions = sessions.into_iter().map(|(id, _)| SessionId::from_uuid(rows::uuid(id))).collect();
    Ok(Some(ImportedSource { fingerprint, sessions }))
}

fn save_source(conn: &Connection, import: &CompleteImport) -> Result<()> {
    let CompleteImport { path, source, resume_point } = import;
    let no: i64 = conn
        .prepare_cached(
            "INSERT INTO import_source (path, fingerprint, resume_point) VALUES (?1, ?2, ?3)
                ON CONFLICT (path) DO UPDATE SET fingerprint = excluded.fingerprint, resume_point = excluded.resume_point
                RETURNING no",
        )?
        .query_row(params![path, source.fingerprint, resume_point], |row| row.get(0))?;
    conn.prepare_cached("DELETE FROM import_source_session WHERE source = ?1")?.execute([no])?;
    let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO import_source_session VALUES (?1, ?2)")?;
    for session in &source.sessions {
        insert.execute(params![no, session.as_uuid().as_bytes()]).map_err(Error::from)?;
    }
    Ok(())
}
