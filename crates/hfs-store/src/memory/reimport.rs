//! Imports of sources that were imported before.

use hfs_core::{
    CompleteImport, ImportStore, ImportedSessionUpdate, ImportedSource, MessageDraft, MessageStatus,
    OperationKind, SessionId, StoreResult, Timestamp,
};

use super::{MemoryStore, MessageRow, NewOperation, conflict, invalid, not_found};

impl ImportStore for MemoryStore {
    fn update_imported_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let mut data = self.lock();
        for message in messages {
            let row = data.message_mut(message.id).ok_or_else(|| not_found("message", &message.id))?;
            if row.content.source.is_none() || row.content.status == MessageStatus::Streaming {
                return Err(invalid(format!("message {} was not imported", message.id)));
            }
            data.check_attachments(message)?;
        }
        for message in messages {
            if let Some(row) = data.message_mut(message.id) {
                *row = MessageRow::finished(message.clone());
            }
        }
        Ok(())
    }

    fn supplement_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        let mut data = self.lock();
        for message in messages {
            let row = data.message_mut(message.id).ok_or_else(|| not_found("message", &message.id))?;
            if row.content.status == MessageStatus::Streaming || !row.content.is_supplemented_by(message) {
                return Err(invalid(format!("message {} would be changed", message.id)));
            }
        }
        for message in messages {
            if let Some(row) = data.message_mut(message.id) {
                *row = MessageRow::finished(message.clone());
            }
        }
        Ok(())
    }

    fn update_imported_session(
        &self,
        id: SessionId,
        update: &ImportedSessionUpdate,
        at: Timestamp,
    ) -> StoreResult<()> {
        let mut data = self.lock();
        let before = data.session(id)?.attributes();
        if (&before.name, before.current_branch) != (&update.expected.name, update.expected.current_branch) {
            return Err(conflict(format!("session {:?} was renamed or switched meanwhile", before.name)));
        }
        if let Some(branch) = update.current_branch {
            let branch = &data.branch(branch)?.branch;
            if branch.undone || branch.session != id {
                return Err(conflict(format!("branch {:?} cannot become current", branch.name)));
            }
        }
        let row = data.session_mut(id)?;
        let update = update.clone();
        if let Some((name, automatic)) = update.name {
            row.session.name = name;
            row.session.automatic_name = automatic;
        }
        row.session.current_branch = update.current_branch.unwrap_or(row.session.current_branch);
        row.session.project = update.project.or(row.session.project.take());
        row.session.origin = update.origin.or(row.session.origin.take());
        row.session.created_at = update.created_at.unwrap_or(row.session.created_at);
        if let Some(extra) = update.extra {
            row.session.extra = extra;
        }
        row.touch(update.updated_at);
        data.record_quietly(NewOperation::new(id, OperationKind::Import, at, Some(before)))?;
        Ok(())
    }

    fn find_imported_source(&self, path: &str) -> StoreResult<Option<ImportedSource>> {
        let data = self.lock();
        let is_listed =
            |id: &SessionId| data.sessions.get(id).is_some_and(|row| row.session.trashed_at.is_none());
        let found = data.imported_sources.get(path).map(|import| &import.source);
        Ok(found.filter(|source| source.sessions.iter().all(is_listed)).cloned())
    }

    fn find_resume_point(&self, path: &str) -> StoreResult<Option<Vec<u8>>> {
        if self.find_imported_source(path)?.is_none() {
            return Ok(None);
        }
        Ok(self.lock().imported_sources.get(path).and_then(|import| import.resume_point.clone()))
    }

    fn save_imported_sources(&self, imports: &[CompleteImport]) -> StoreResult<()> {
        let imports = imports.iter().map(|import| (import.path.clone(), import.clone()));
        self.lock().imported_sources.extend(imports);
        Ok(())
    }

    fn sync(&self) -> StoreResult<()> {
        Ok(())
    }
}
