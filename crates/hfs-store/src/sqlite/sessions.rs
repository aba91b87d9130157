//! Sessions: made, found, changed.

use hfs_core::{Page, PageRequest, SessionFilter, SessionImport, SessionRef, SessionStore, 
    BranchId, MAIN_BRANCH, OperationKind, Origin, Project, Session, SessionDraft, SessionId, SessionSummary,
    StoreResult, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::checksum;
use crate::codec::rows;
use crate::db::lookup::{self, ARRIVING, LISTED};
use crate::error::{Error, Result, conflict, not_found};
use crate::sqlite::SqliteStore;
use crate::sqlite::operations::{self, Change};
use crate::sqlite::session_stats;

/// What the columns of [`SessionRow`] are selected from; conditions follow. A cross join keeps its order, so that
/// the index on the sessions decides the order of the rows.
pub(crate) const SUMMARY: &str = "SELECT session.no, session.id, session.name, session.automatic_name,
    session.directory, session.repository, session.created_at, session.origin_format, session.origin_id,
    session.origin_path, session.trashed_at, session.extra, session.place, activity.updated_at,
    activity.messages, activity.branches, activity.checkpoints, branch.id, branch.name
    FROM session CROSS JOIN activity ON activity.session = session.no
    CROSS JOIN branch ON branch.no = session.current_branch";

/// A session with its counts, as the tables have it.
#[derive(Debug)]
pub(crate) struct SessionRow {
    id: [u8; 16],
    name: String,
    automatic_name: bool,
    directory: Option<String>,
    repository: Option<String>,
    created_at: i64,
    origin_format: Option<String>,
    origin_id: Option<String>,
    origin_path: Option<String>,
    trashed_at: Option<i64>,
    extra: Option<String>,
    pub(crate) place: i64,
    updated_at: i64,
    messages: u64,
    branches: u64,
    checkpoints: u64,
    branch_id: [u8; 16],
    branch_name: String,
}

impl SessionRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(1)?,
            name: row.get(2)?,
            automatic_name: row.get(3)?,
            directory: row.get(4)?,
            repository: row.get(5)?,
            created_at: row.get(6)?,
            origin_format: row.get(7)?,
            origin_id: row.get(8)?,
            origin_path: row.get(9)?,
            trashed_at: row.get(10)?,
            extra: row.get(11)?,
            place: row.get(12)?,
            updated_at: row.get(13)?,
            messages: row.get(14)?,
            branches: row.get(15)?,
            checkpoints: row.get(16)?,
            branch_id: row.get(17)?,
            branch_name: row.get(18)?,
        })
    }

    pub(crate) fn id(&self) -> SessionId {
        SessionId::from_uuid(rows::uuid(self.id))
    }

    pub(crate) fn into_domain(self) -> Result<SessionSummary> {
        let id = self.id();
        let repository = self.repository;
        let session = Session {
            id,
            name: self.name,
            automatic_name: self.automatic_name,
            project: self.directory.map(|directory| Project { directory, repository }),
            created_at: rows::time(self.created_at)?,
            updated_at: rows::time(self.updated_at)?,
            current_branch: BranchId::from_uuid(rows::uuid(self.branch_id)),
            origin: self.origin_format.zip(self.origin_id).map(|(format, id)| Origin {
                format,
                id,
                path: self.origin_path,
            }),
            trashed_at: self.trashed_at.map(rows::time).transpose()?,
            extra: rows::extra_from_json(self.extra.as_deref())?,
        };
        Ok(SessionSummary {
            session,
            messages: self.messages,
            branches: self.branches,
            checkpoints: self.checkpoints,
            branch: self.branch_name,
        })
    }
}

/// Makes the rows of a session and its first branch, seen by nobody yet. Returns their numbers.
pub(crate) fn insert(conn: &Connection, draft: &SessionDraft, importer: Option<&str>) -> Result<(i64, i64)> {
    let at = draft.created_at.as_micros();
    let project = draft.project.as_ref();
    let origin = draft.origin.as_ref();
    conn.prepare_cached(
        "INSERT INTO session (id, short, name, automatic_name, state, place, project, directory, repository,
            created_at, current_branch, origin_format, origin_id, origin_path, importer, sum, extra)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?6, 0, ?10, ?11, ?12, ?13, 0, ?14)",
    )?
    .execute(params![
        draft.id.as_uuid().as_bytes(),
        draft.id.short().as_str(),
        draft.name,
        draft.automatic_name,
        ARRIVING,
        at,
        project.map(Project::key),
        project.map(|project| &project.directory),
        project.and_then(|project| project.repository.as_ref()),
        origin.map(|origin| &origin.format),
        origin.map(|origin| &origin.id),
        origin.and_then(|origin| origin.path.as_ref()),
        importer,
        rows::extra_to_json(&draft.extra)?,
    ])
    .map_err(|error| taken(error, "session", draft.id))?;
    let session = conn.last_insert_rowid();
    conn.prepare_cached("INSERT INTO activity VALUES (?1, ?2, 0, 1, 0, 0)")?.execute(params![session, at])?;
    let main =
        NewBranch { session, id: draft.main_branch, name: MAIN_BRANCH, parent: None, forked_at: 0, at };
    let branch = main.insert(conn, None)?;
    conn.prepare_cached("UPDATE session SET current_branch = ?2 WHERE no = ?1")?
        .execute(params![session, branch])?;
    checksum::session(conn, session)?;
    Ok((session, branch))
}

/// A branch's row to be.
pub(crate) struct NewBranch<'a> {
    pub(crate) session: i64,
    pub(crate) id: BranchId,
    pub(crate) name: &'a str,
    pub(crate) parent: Option<i64>,
    pub(crate) forked_at: u64,
    pub(crate) at: i64,
}

impl NewBranch<'_> {
    /// Makes the row. Its name is known to be free.
    pub(crate) fn insert(&self, conn: &Connection, state: Option<i64>) -> Result<i64> {
        conn.prepare_cached(
            "INSERT INTO branch (id, session, name, parent, forked_at, created_at, retired, indexed, state)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?5, ?7)",
        )?
        .execute(params![
            self.id.as_uuid().as_bytes(),
            self.session,
            self.name,
            self.parent,
            self.forked_at,
            self.at,
            state
        ])
        .map_err(|error| taken(error, "branch", self.id))?;
        Ok(conn.last_insert_rowid())
    }
}

/// A taken key is a conflict over the id.
pub(crate) fn taken(error: rusqlite::Error, what: &str, id: impl std::fmt::Display) -> Error {
    let error = Error::from(error);
    if error.is_unique_violation() { conflict(format!("{what} {id} exists already")) } else { error }
}

pub(crate) fn summary(conn: &Connection, no: i64) -> Result<SessionSummary> {
    conn.prepare_cached(&format!("{SUMMARY} WHERE session.no = ?1"))?
        .query_row([no], SessionRow::read)?
        .into_domain()
}

pub(crate) fn create(store: &SqliteStore, draft: &SessionDraft) -> StoreResult<Session> {
    let draft = draft.clone();
    store.db.write("create a session", move |conn| {
        let (session, _) = insert(conn, &draft, None)?;
        session_stats::move_to(conn, session, LISTED)?;
        operations::record(conn, Change::new(session, OperationKind::Create, draft.created_at))?;
        Ok(summary(conn, session)?.session)
    })
}

pub(crate) fn get(store: &SqliteStore, id: SessionId) -> StoreResult<SessionSummary> {
    store.db.read("read a session", |conn| {
        conn.prepare_cached(&format!("{SUMMARY} WHERE session.id = ?1 AND session.state <> 2"))?
            .query_row([id.as_uuid().as_bytes()], SessionRow::read)
            .optional()?
            .ok_or_else(|| not_found("session", &id))?
            .into_domain()
    })
}

pub(crate) fn rename(
    store: &SqliteStore,
    id: SessionId,
    name: &str,
    automatic: bool,
    at: Timestamp,
) -> StoreResult<()> {
    let name = name.to_owned();
    store.db.write("rename a session", move |conn| {
        let session = lookup::session_no(conn, id)?;
        let before = operations::shape(conn, session)?;
        if automatic && !before.automatic_name {
            return Ok(());
        }
        conn.prepare_cached("UPDATE session SET name = ?2, automatic_name = ?3 WHERE no = ?1")?
            .execute(params![session, name, automatic])?;
        checksum::session(conn, session)?;
        if automatic {
            return Ok(());
        }
        let detail = format!("{:?} -> {name:?}", before.name);
        let change = Change::new(session, OperationKind::Rename, at);
        operations::record(conn, Change { before: Some(before), detail, ..change })?;
        Ok(())
    })
}

pub(crate) fn trash(store: &SqliteStore, id: SessionId, at: Timestamp) -> StoreResult<()> {
    store.db.write("put a session into the trash", move |conn| {
        let session = lookup::session_no(conn, id)?;
        let before = operations::shape(conn, session)?;
        if before.trashed {
            return Err(conflict(format!("session {:?} is in the trash already", before.name)));
        }
        operations::set_trashed(conn, session, Some(at))?;
        let change = Change::new(session, OperationKind::Delete, at);
        operations::record(conn, Change { before: Some(before), ..change })?;
        Ok(())
    })
}

pub(crate) fn restore(store: &SqliteStore, id: SessionId, at: Timestamp) -> StoreResult<()> {
    store.db.write("take a session out of the trash", move |conn| {
        let session = lookup::session_no(conn, id)?;
        let before = operations::shape(conn, session)?;
        if !before.trashed {
            return Err(conflict(format!("session {:?} is not in the trash", before.name)));
        }
        operations::set_trashed(conn, session, None)?;
        let change = Change::new(session, OperationKind::Restore, at);
        operations::record(conn, Change { before: Some(before), ..change })?;
        Ok(())
    })
}

pub(crate) fn set_project(store: &SqliteStore, id: SessionId, project: &Project) -> StoreResult<()> {
    let project = project.clone();
    store.db.write("set a session's project", move |conn| {
        let session = lookup::session_no(conn, id)?;
        conn.prepare_cached(
            "UPDATE session SET project = ?2, directory = ?3, repository = ?4 WHERE no = ?1",
        )?
        .execute(params![session, project.key(), project.directory, project.repository])?;
        checksum::session(conn, session)
    })
}

impl SessionStore for SqliteStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        super::sessions::create(self, draft)
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        super::sessions::get(self, id)
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        super::listing::resolve(self, reference, project, trashed)
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        super::listing::list(self, filter, page)
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        super::sessions::rename(self, id, name, automatic, at)
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        super::sessions::trash(self, id, at)
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        super::sessions::restore(self, id, at)
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<()> {
        super::purge::session(self, id)
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<u64> {
        super::purge::trash(self, before)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        Ok(Box::new(super::import::begin(self, draft)?))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        super::sessions::set_project(self, id, project)
    }
}
