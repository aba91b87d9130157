//! Sessions, their branches, and the log of operations on them.

use std::cmp::Reverse;

use hfs_core::{
    Branch, BranchDraft, BranchId, BranchStore, CheckpointId, Continuation, Cursor, MAIN_BRANCH, Operation,
    OperationId, OperationKind, OperationStore, Page, PageRequest, Project, Purged, Session,
    SessionAttributes, SessionDraft, SessionFilter, SessionId, SessionImport, SessionRef, SessionStore,
    SessionSummary, StoreError, StoreResult, Timestamp,
};

use super::import::MemoryImport;
use super::{
    BranchRename, BranchRow, Data, MemoryStore, NewOperation, OperationRow, SessionRow, attachments_of,
    conflict, hash_of, hash_of_source, invalid, not_found,
};

/// Number of candidates that the error for an ambiguous reference lists.
const MAX_CANDIDATES: usize = 10;

impl SessionStore for MemoryStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        let mut data = self.lock();
        data.check_new(draft)?;
        data.insert_session(draft);
        data.record(NewOperation::new(draft.id, OperationKind::Create, draft.created_at, None))?;
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
                let written = || if *back == 0 { "@".to_owned() } else { format!("@-{back}") };
                found.map(|row| row.session.id).ok_or_else(|| not_found("session", &written()))
            }
            SessionRef::Named(text) => data.resolve_named(text, &filter),
        }
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        let data = self.lock();
        let after = page.after.as_ref().map(parse_session_cursor).transpose()?;
        let mut rows = data
            .newest_first(filter)
            .filter(|row| after.is_none_or(|after| (row.session.updated_at, row.session.id) < after));
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let items: Vec<SessionSummary> = rows.by_ref().take(limit).map(|row| data.summary(row)).collect();
        let next = rows.next().and(items.last()).map(|last| session_cursor(&last.session));
        Ok(Page { items, next, unreadable: 0 })
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        let was_automatic = row.session.automatic_name;
        if automatic && !was_automatic {
            return Ok(());
        }
        let before = row.attributes();
        name.clone_into(&mut row.session.name);
        row.session.automatic_name = automatic;
        if automatic {
            return Ok(());
        }
        let detail = format!("{:?} -> {name:?}", before.name);
        data.record(NewOperation {
            detail,
            ..NewOperation::new(id, OperationKind::Rename, at, Some(before))
        })?;
        Ok(())
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        if row.session.trashed_at.is_some() {
            return Err(conflict(format!("session {:?} is already in the trash", row.session.name)));
        }
        let before = row.attributes();
        row.session.trashed_at = Some(at);
        data.record(NewOperation::new(id, OperationKind::Delete, at, Some(before)))?;
        Ok(())
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let row = data.session_mut(id)?;
        if row.session.trashed_at.is_none() {
            return Err(conflict(format!("session {:?} is not in the trash", row.session.name)));
        }
        let before = row.attributes();
        row.session.trashed_at = None;
        data.record(NewOperation::new(id, OperationKind::Restore, at, Some(before)))?;
        Ok(())
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<Purged> {
        let mut data = self.lock();
        data.session(id)?;
        data.purge(id, self.clock.now());
        Ok(Purged { sessions: 1, text_remains: false })
    }

    fn was_purged(&self, origin_format: &str, origin_id: &str) -> StoreResult<bool> {
        Ok(self.lock().purged.contains_key(&hash_of_source(origin_format, origin_id)))
    }

    fn was_continued_purged(&self, continues: Continuation) -> StoreResult<bool> {
        Ok(self.lock().purged.contains_key(&hash_of(&continues.id_bytes())))
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<Purged> {
        let now = self.clock.now();
        let mut data = self.lock();
        let rows = data.sessions.values().map(|row| &row.session);
        let old: Vec<SessionId> = rows
            .filter(|session| session.trashed_at.is_some_and(|at| at < before))
            .map(|session| session.id)
            .collect();
        for id in &old {
            data.purge(*id, now);
        }
        Ok(Purged { sessions: old.len() as u64, text_remains: false })
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        self.lock().check_new(draft)?;
        Ok(Box::new(MemoryImport::new(self, draft)))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        self.lock().session_mut(id)?.session.project = Some(project.clone());
        Ok(())
    }
}

impl BranchStore for MemoryStore {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        let data = self.lock();
        let row = data.session(session)?;
        Ok(data.branches_of(row).map(|branch| branch.branch.clone()).collect())
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        self.lock().branch(id).map(|row| row.branch.clone())
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        let mut data = self.lock();
        let parent = data.check_fork(draft)?;
        let state = match (kind, checkpoint) {
            (OperationKind::Rewind, Some(id)) => {
                let checkpoint = data.checkpoint(id)?;
                if checkpoint.session != parent.session {
                    return Err(invalid(format!("checkpoint {id} belongs to another session")));
                }
                Some(checkpoint.state_hash)
            }
            (OperationKind::Rewind, None) => None,
            (OperationKind::Fork | OperationKind::Import, None) => {
                data.state_before(parent.id, draft.forked_at)
            }
            (OperationKind::Fork | OperationKind::Import, Some(_)) => {
                return Err(invalid(format!("the operation {kind} does not take a checkpoint")));
            }
            (_, _) => return Err(invalid(format!("{kind} does not create a branch"))),
        };
        let branch = Branch {
            id: draft.id,
            session: parent.session,
            name: draft.name.clone(),
            parent: Some(parent.id),
            forked_at: draft.forked_at,
            head: draft.forked_at,
            created_at: at,
            undone: false,
        };
        data.branches.insert(draft.id, BranchRow { branch, messages: Vec::new(), state });
        let row = data.session_mut(parent.session)?;
        let before = row.attributes();
        row.branches.push(draft.id);
        if kind != OperationKind::Import {
            row.session.current_branch = draft.id;
        }
        let operation = NewOperation {
            branch: Some(draft.id),
            checkpoint,
            detail: format!("{} at {} -> {}", parent.name, draft.forked_at, draft.name),
            ..NewOperation::new(parent.session, kind, at, Some(before))
        };
        if kind == OperationKind::Import { data.record_quietly(operation) } else { data.record(operation) }
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let target = data.branch(branch)?.branch.clone();
        let before = data.session(target.session)?.attributes();
        let from = data.branch(before.current_branch)?.branch.name.clone();
        data.branch_mut(branch)?.branch.undone = false;
        data.session_mut(target.session)?.session.current_branch = branch;
        data.record(NewOperation {
            branch: target.undone.then_some(branch),
            detail: format!("{from} -> {}", target.name),
            ..NewOperation::new(target.session, OperationKind::Switch, at, Some(before))
        })
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let old = data.branch(branch)?.branch.clone();
        if old.name != name {
            data.check_name_is_free(old.session, name)?;
        }
        let before = data.session(old.session)?.attributes();
        name.clone_into(&mut data.branch_mut(branch)?.branch.name);
        data.record(NewOperation {
            branch: Some(branch),
            detail: format!("{} -> {name}", old.name),
            renamed: Some(BranchRename { from: old.name, to: name.to_owned() }),
            ..NewOperation::new(old.session, OperationKind::RenameBranch, at, Some(before))
        })
    }
}

impl OperationStore for MemoryStore {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        let data = self.lock();
        if let Some(session) = session {
            data.session(session)?;
        }
        let after = page.after.as_ref().map(parse_operation_cursor).transpose()?;
        let mut rows = data
            .operations
            .iter()
            .rev()
            .filter(|row| session.is_none_or(|session| row.operation.session == session))
            .filter(|row| after.is_none_or(|after| row.number < after));
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let listed: Vec<&OperationRow> = rows.by_ref().take(limit).collect();
        let next = rows.next().and(listed.last());
        let next = next.map(|last| Cursor(format!("operation/{}", last.number)));
        let items = listed.iter().map(|row| row.operation.clone()).collect();
        Ok(Page { items, next, unreadable: 0 })
    }

    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let reversal = data.check_reversal(target, kind)?;
        let Reversal { session, goal, shown, renamed, detail } = reversal;
        if let Some((branch, undone)) = shown {
            data.branch_mut(branch)?.branch.undone = undone;
        }
        let mut branch = shown.map(|(branch, _)| branch);
        if let Some((renamed_branch, renamed)) = &renamed {
            renamed.to.clone_into(&mut data.branch_mut(*renamed_branch)?.branch.name);
            branch = Some(*renamed_branch);
        }
        let row = data.session_mut(session)?;
        let before = row.attributes();
        if before.trashed != goal.trashed {
            row.session.trashed_at = goal.trashed.then_some(at);
        }
        row.session.name = goal.name;
        row.session.automatic_name = goal.automatic_name;
        row.session.current_branch = goal.current_branch;
        data.record(NewOperation {
            branch,
            target: Some(target),
            detail,
            renamed: renamed.map(|(_, renamed)| renamed),
            ..NewOperation::new(session, kind, at, Some(before))
        })
    }
}

impl Data {
    pub(super) fn check_new(&self, draft: &SessionDraft) -> StoreResult<()> {
        if self.sessions.contains_key(&draft.id) {
            return Err(conflict(format!("session {} already exists", draft.id)));
        }
        if self.branches.contains_key(&draft.main_branch) {
            return Err(conflict(format!("branch {} already exists", draft.main_branch)));
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
        if let Some(origin) = &session.origin {
            self.purged.remove(&hash_of_source(&origin.format, &origin.id));
        }
        self.sessions.insert(draft.id, SessionRow { session, branches: vec![main.id], last_checkpoint: 0 });
        self.branches.insert(main.id, BranchRow { branch: main, messages: Vec::new(), state: None });
    }

    fn newest_first(&self, filter: &SessionFilter) -> impl Iterator<Item = &SessionRow> {
        let mut rows: Vec<&SessionRow> =
            self.sessions.values().filter(|row| matches(filter, &row.session)).collect();
        rows.sort_by_key(|row| Reverse((row.session.updated_at, row.session.id)));
        rows.into_iter()
    }

    fn resolve_named(&self, text: &str, filter: &SessionFilter) -> StoreResult<SessionId> {
        let typed = text.to_ascii_lowercase();
        if let Some(row) = typed.parse().ok().and_then(|id| self.sessions.get(&id))
            && matches(filter, &row.session)
        {
            return Ok(row.session.id);
        }
        // A name takes precedence over a prefix of an id.
        let mut found: Vec<&Session> = self
            .newest_first(filter)
            .map(|row| &row.session)
            .filter(|session| !text.is_empty() && session.name == text)
            .collect();
        if found.is_empty() && !text.is_empty() {
            let titled = self.newest_first(filter).map(|row| &row.session);
            found = titled.filter(|session| session.automatic_name && session.title() == text).collect();
        }
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
                    .take(MAX_CANDIDATES)
                    .map(|session| format!("{} {}", session.id.short(), session.name))
                    .collect(),
            }),
        }
    }

    /// Removes the session with everything that belongs to it.
    fn purge(&mut self, id: SessionId, at: Timestamp) {
        let Some(row) = self.sessions.remove(&id) else { return };
        if let Some(origin) = row.session.origin {
            self.purged.insert(hash_of_source(&origin.format, &origin.id), at);
        }
        let branches = row.branches.iter().map(|branch| Continuation::Branch(*branch));
        for purged in branches.chain([Continuation::Session(id)]) {
            self.purged.insert(hash_of(&purged.id_bytes()), at);
        }
        let mut orphans = Vec::new();
        for branch in row.branches.iter().filter_map(|branch| self.branches.remove(branch)) {
            for message in &branch.messages {
                self.positions.remove(&message.content.id);
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
        self.operations.retain(|row| row.operation.session != id);
        self.drop_unused_states();
    }

    /// Returns the parent of a new branch, or an error if the branch cannot be created.
    fn check_fork(&self, draft: &BranchDraft) -> StoreResult<Branch> {
        let parent = self.branch(draft.parent)?.branch.clone();
        if draft.forked_at > parent.head {
            return Err(invalid(format!(
                "branch {:?} ends at message {}, before message {}",
                parent.name, parent.head, draft.forked_at
            )));
        }
        if self.branches.contains_key(&draft.id) {
            return Err(conflict(format!("branch {} already exists", draft.id)));
        }
        self.check_name_is_free(parent.session, &draft.name)?;
        if self.message_at(parent.id, draft.forked_at).is_some_and(|(_, message)| message.is_live()) {
            return Err(StoreError::Locked { seq: draft.forked_at });
        }
        Ok(parent)
    }

    /// Returns the changes of an undo or redo, or an error if it is not possible.
    fn check_reversal(&self, target: OperationId, kind: OperationKind) -> StoreResult<Reversal> {
        let is_undo = match kind {
            OperationKind::Undo => true,
            OperationKind::Redo => false,
            OperationKind::Create
            | OperationKind::Rename
            | OperationKind::RenameBranch
            | OperationKind::Fork
            | OperationKind::Rewind
            | OperationKind::Switch
            | OperationKind::Import
            | OperationKind::Delete
            | OperationKind::Restore
            | OperationKind::Prune => return Err(invalid(format!("{kind} does not reverse an operation"))),
        };
        let row = self.operations.iter().find(|row| row.operation.id == target);
        let row = row.ok_or_else(|| not_found("operation", &target))?;
        let operation = &row.operation;
        let Some(before) = operation.before.as_ref().filter(|_| operation.kind.is_reversible()) else {
            return Err(StoreError::Unsupported { message: format!("{} cannot be undone", operation.kind) });
        };
        // The session must have the attributes that the operation (or its undo) has set.
        let (current, goal) = if is_undo { (&operation.after, before) } else { (before, &operation.after) };

        let last = self.operations.iter().rev().find(|row| row.operation.target == Some(target));
        let is_undone = last.is_some_and(|last| last.operation.kind == OperationKind::Undo);
        if is_undo && is_undone {
            return Err(conflict(format!("{} {target} is already undone", operation.kind)));
        }
        if !is_undo && !is_undone {
            return Err(conflict(format!("{} {target} is not undone", operation.kind)));
        }
        if self.session(operation.session)?.attributes() != *current {
            return Err(conflict(format!("the session has changed since its {}", operation.kind)));
        }

        let shows_branch =
            matches!(operation.kind, OperationKind::Fork | OperationKind::Rewind | OperationKind::Switch);
        let shown = operation.branch.filter(|_| shows_branch).map(|branch| (branch, is_undo));
        if let Some((branch, undone)) = shown {
            let branch = &self.branch(branch)?.branch;
            if branch.undone == undone {
                return Err(conflict(format!("branch {:?} is no longer undone", branch.name)));
            }
        }
        let is_restored = shown.is_some_and(|(branch, undone)| !undone && branch == goal.current_branch);
        if self.branch(goal.current_branch)?.branch.undone && !is_restored {
            return Err(conflict("the branch that would become current is undone"));
        }
        let renamed = operation.branch.zip(row.renamed.clone()).map(|(branch, BranchRename { from, to })| {
            (branch, if is_undo { BranchRename { from: to, to: from } } else { BranchRename { from, to } })
        });
        if let Some((branch, renamed)) = &renamed {
            if self.branch(*branch)?.branch.name != renamed.from {
                return Err(conflict(format!("branch {:?} has been renamed since", renamed.from)));
            }
            if renamed.from != renamed.to {
                self.check_name_is_free(operation.session, &renamed.to)?;
            }
        }
        let detail = format!("{} {}", operation.kind, operation.detail).trim_end().to_owned();
        Ok(Reversal { session: operation.session, goal: goal.clone(), shown, renamed, detail })
    }
}

/// The changes of an undo or redo.
struct Reversal {
    session: SessionId,
    /// Attributes of the session after the reversal.
    goal: SessionAttributes,
    /// The branch that a fork or rewind created or that a switch made visible, and whether it is undone afterwards.
    shown: Option<(BranchId, bool)>,
    renamed: Option<(BranchId, BranchRename)>,
    detail: String,
}

pub(super) fn matches(filter: &SessionFilter, session: &Session) -> bool {
    filter.trashed == session.trashed_at.is_some()
        && filter
            .project
            .as_deref()
            .is_none_or(|key| session.project.as_ref().is_some_and(|project| project.key() == key))
        && filter.project_contains.as_ref().is_none_or(|text| {
            let contains = |place: &str| place.to_ascii_lowercase().contains(&text.to_ascii_lowercase());
            session.project.as_ref().is_some_and(|project| {
                contains(&project.directory) || project.repository.as_deref().is_some_and(contains)
            })
        })
        && filter.tool.as_deref().is_none_or(|tool| session.tool() == tool)
        && filter.origin.as_ref().is_none_or(|(format, id)| {
            session.origin.as_ref().is_some_and(|origin| origin.format == *format && origin.id == *id)
        })
}

fn session_cursor(session: &Session) -> Cursor {
    Cursor(format!("session/{}/{}", session.updated_at.as_micros(), session.id))
}

fn parse_session_cursor(cursor: &Cursor) -> StoreResult<(Timestamp, SessionId)> {
    let parts = cursor.0.strip_prefix("session/").and_then(|rest| rest.split_once('/'));
    parts
        .and_then(|(micros, id)| Some((Timestamp::from_micros(micros.parse().ok()?)?, id.parse().ok()?)))
        .ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of sessions", cursor.0)))
}

fn parse_operation_cursor(cursor: &Cursor) -> StoreResult<u64> {
    let number = cursor.0.strip_prefix("operation/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of operations", cursor.0)))
}
