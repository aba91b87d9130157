use hfs_core::{
    Branch, Cursor, MAIN_BRANCH, OperationKind, Page, PageRequest, Project, Session, SessionDraft,
    SessionFilter, SessionId, SessionImport, SessionRef, SessionStore, SessionSummary, StoreError,
    StoreResult, Timestamp,
};

use super::data::{BranchRow, Change, Data, SessionRow, attachments_of};
use super::import::Import;
use super::{MemoryStore, conflict, invalid, not_found};

/// How many candidates an ambiguous reference lists.
const CANDIDATES: usize = 10;

impl SessionStore for MemoryStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        let mut data = self.lock();
        data.check_new(draft)?;
        data.insert_session(draft);
        data.record(Change::new(draft.id, OperationKind::Create, draft.created_at, None))?;
        Ok(data.session(draft.id)?.session.clone())
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        let data = self.lock();
        data.session(id).map(|row| data.summary(row))
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        let data = self.lock();
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        match reference {
            SessionRef::Recent(back) => {
                let filter = SessionFilter { project: project.map(str::to_owned), ..filter };
                let found = usize::try_from(*back).ok().and_then(|back| data.newest_first(&filter).nth(back));
                let named = || if *back == 0 { "@".to_owned() } else { format!("@-{back}") };
                found.map(|row| row.session.id).ok_or_else(|| not_found("session", &named()))
            }
            SessionRef::Named(text) => data.resolve_named(text, &filter),
        }
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        let data = self.lock();
        let after = page.after.as_ref().map(read_cursor).transpose()?;
        let mut rows = data
            .newest_first(filter)
            .filter(|row| after.is_none_or(|after| (row.session.updated_at, row.session.id) < after));
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let items: Vec<SessionSummary> = rows.by_ref().take(limit).map(|row| data.summary(row)).collect();
        let next = rows.next().and(items.last()).map(|last| write_cursor(&last.session));
        Ok(Page { items, next })
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        let was_automatic = row.session.automatic_name;
        if automatic && !was_automatic {
            return Ok(());
        }
        let before = row.shape();
        name.clone_into(&mut row.session.name);
        row.session.automatic_name = automatic;
        if automatic {
            return Ok(());
        }
        let detail = format!("{:?} -> {name:?}", before.name);
        data.record(Change { detail, ..Change::new(id, OperationKind::Rename, at, Some(before)) })?;
        Ok(())
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        if row.session.trashed_at.is_some() {
            return Err(conflict(format!("session {:?} is in the trash already", row.session.name)));
        }
        let before = row.shape();
        row.session.trashed_at = Some(at);
        data.record(Change::new(id, OperationKind::Delete, at, Some(before)))?;
        Ok(())
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        if row.session.trashed_at.is_none() {
            return Err(conflict(format!("session {:?} is not in the trash", row.session.name)));
        }
        let before = row.shape();
        row.session.trashed_at = None;
        data.record(Change::new(id, OperationKind::Restore, at, Some(before)))?;
        Ok(())
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<()> {
        let mut data = self.lock();
        data.session(id)?;
        data.purge(id);
        Ok(())
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<u64> {
        let mut data = self.lock();
        let rows = data.sessions.values().map(|row| &row.session);
        let old: Vec<SessionId> = rows
            .filter(|session| session.trashed_at.is_some_and(|at| at < before))
            .map(|session| session.id)
            .collect();
        for id in &old {
            data.purge(*id);
        }
        Ok(old.len() as u64)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        self.lock().check_new(draft)?;
        Ok(Box::new(Import::new(self, draft)))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        self.lock().session_mut(id)?.session.project = Some(project.clone());
        Ok(())
    }
}

impl Data {
    pub(super) fn check_new(&self, draft: &SessionDraft) -> StoreResult<()> {
        if self.sessions.contains_key(&draft.id) {
            return Err(conflict(format!("session {} exists already", draft.id)));
        }
        if self.branches.contains_key(&draft.main_branch) {
            return Err(conflict(format!("branch {} exists already", draft.main_branch)));
        }
        Ok(())
    }

    pub(super) fn insert_session(&mut self, draft: &SessionDraft) {
        let session = Session {
            id: draft.id,
            name: draft.name.clone(),
            automatic_name: draft.automatic_name,
            project: draft.project.clone(),
            created_at: draft.created_at,
            updated_at: draft.created_at,
            current_branch: draft.main_branch,
            origin: draft.origin.clone(),
            trashed_at: None,
            extra: draft.extra.clone(),
        };
        let main = Branch {
            id: draft.main_branch,
            session: draft.id,
            name: MAIN_BRANCH.into(),
            parent: None,
            forked_at: 0,
            head: 0,
            created_at: draft.created_at,
            undone: false,
        };
        self.sessions.insert(draft.id, SessionRow { session, branches: vec![main.id] });
        self.branches.insert(main.id, BranchRow { branch: main, messages: Vec::new(), state: None });
    }

    fn newest_first(&self, filter: &SessionFilter) -> impl Iterator<Item = &SessionRow> {
        let mut rows: Vec<&SessionRow> =
            self.sessions.values().filter(|row| matches(filter, &row.session)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.session.updated_at, row.session.id)));
        rows.into_iter()
    }

    fn resolve_named(&self, text: &str, filter: &SessionFilter) -> StoreResult<SessionId> {
        let typed = text.to_ascii_lowercase();
        if let Some(row) = typed.parse().ok().and_then(|id| self.sessions.get(&id))
            && matches(filter, &row.session)
        {
            return Ok(row.session.id);
        }
        let mut found: Vec<&Session> = self
            .newest_first(filter)
            .map(|row| &row.session)
            .filter(|session| !text.is_empty() && session.name == text)
            .collect();
        if found.is_empty() && !typed.is_empty() {
            found = self
                .newest_first(filter)
                .map(|row| &row.session)
                .filter(|session| {
                    session.id.short().as_str().starts_with(&typed)
                        || session.id.to_string().starts_with(&typed)
                })
                .collect();
        }
        match found.as_slice() {
            [] => Err(not_found("session", &text)),
            [one] => Ok(one.id),
            several => Err(StoreError::Ambiguous {
                what: "session",
                reference: text.to_owned(),
                candidates: several
                    .iter()
                    .take(CANDIDATES)
                    .map(|session| format!("{} {}", session.id.short(), session.name))
                    .collect(),
            }),
        }
    }

    /// Removes the session with everything that belongs to it.
    fn purge(&mut self, id: SessionId) {
        let Some(row) = self.sessions.remove(&id) else { return };
        let mut orphans = Vec::new();
        for branch in row.branches.iter().filter_map(|branch| self.branches.remove(branch)) {
            for message in &branch.messages {
                self.places.remove(&message.content.id);
                orphans.extend(attachments_of(&message.content));
            }
        }
        let others = self.branches.values().flat_map(|branch| &branch.messages);
        let used: Vec<_> = others.flat_map(|message| attachments_of(&message.content)).collect();
        for hash in orphans.iter().filter(|hash| !used.contains(hash)) {
            self.attachments.remove(hash);
        }
        self.runs.retain(|_, run| !row.branches.contains(&run.branch));
        self.checkpoints.retain(|checkpoint| checkpoint.session != id);
        self.operations.retain(|record| record.operation.session != id);
        self.drop_unused_states();
    }
}

fn matches(filter: &SessionFilter, session: &Session) -> bool {
    filter.trashed == session.trashed_at.is_some()
        && filter
            .project
            .as_deref()
            .is_none_or(|key| session.project.as_ref().is_some_and(|project| project.key() == key))
        && filter.origin.as_ref().is_none_or(|(format, id)| {
            session.origin.as_ref().is_some_and(|origin| origin.format == *format && origin.id == *id)
        })
}

fn write_cursor(session: &Session) -> Cursor {
    Cursor(format!("session/{}/{}", session.updated_at.as_micros(), session.id))
}

fn read_cursor(cursor: &Cursor) -> StoreResult<(Timestamp, SessionId)> {
    let parts = cursor.0.strip_prefix("session/").and_then(|rest| rest.split_once('/'));
    parts
        .and_then(|(micros, id)| Some((Timestamp::from_micros(micros.parse().ok()?)?, id.parse().ok()?)))
        .ok_or_else(|| invalid(format!("{:?} is no place in a list of sessions", cursor.0)))
}
