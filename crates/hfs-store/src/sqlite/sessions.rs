//! Creates, lists, finds and changes sessions.

use hfs_core::{
    BranchId, Continuation, Cursor, MAIN_BRANCH, OperationKind, Origin, Page, PageRequest, Project, Purged,
    Session, SessionDraft, SessionFilter, SessionId, SessionImport, SessionRef, SessionStore, SessionSummary,
    ShortId, StoreError, StoreResult, TIME_SEPARATOR, Timestamp,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::codec::{checksum, rows};
use crate::db::lookup::{self, HIDDEN, LISTED, TRASHED};
use crate::error::{Error, Result, conflict, invalid, not_found};
use crate::sqlite::operations::{self, Change};
use crate::sqlite::{SqliteStore, import, purge, session_stats};

/// Number of candidates that the error of an ambiguous reference lists.
const CANDIDATES: usize = 10;

/// Selects the columns of [`SessionRow`]. The caller appends the conditions.
//
// SQLite does not reorder the tables of a CROSS JOIN. So the rows come in the order of an index on the sessions,
// without a sort.
const SELECT_SUMMARY: &str = "SELECT session.no, session.id, session.name, session.automatic_name,
    session.directory, session.repository, session.created_at, session.origin_format, session.origin_id,
    session.origin_path, session.trashed_at, session.extra, session.place, activity.updated_at,
    activity.messages, activity.branches, activity.checkpoints, branch.id, branch.name
    FROM session CROSS JOIN activity ON activity.session = session.no
    CROSS JOIN branch ON branch.no = session.current_branch";

/// A session with its counters.
#[derive(Debug)]
struct SessionRow {
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
    updated_at: i64,
    messages: u64,
    branches: u64,
    checkpoints: u64,
    branch_id: [u8; 16],
    branch_name: String,
}

impl SessionRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
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
            updated_at: row.get(13)?,
            messages: row.get(14)?,
            branches: row.get(15)?,
            checkpoints: row.get(16)?,
            branch_id: row.get(17)?,
            branch_name: row.get(18)?,
        })
    }

    fn id(&self) -> SessionId {
        SessionId::from_uuid(rows::uuid(self.id))
    }

    fn into_domain(self) -> Result<SessionSummary> {
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

/// Inserts the rows of a session and its first branch, and returns their row numbers. The session is hidden until
/// [`session_stats::move_to_list`] adds it to the list of sessions or to the trash.
pub(crate) fn insert(conn: &Connection, draft: &SessionDraft, importer: Option<&str>) -> Result<(i64, i64)> {
    let at = draft.created_at.as_micros();
    let project = draft.project.as_ref();
    let origin = draft.origin.as_ref();
    // The two zeros are `current_branch` and `sum`, which are set below, after the branch is inserted.
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
        HIDDEN,
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
    .map_err(|error| unique_violation_as_conflict(error, "session", draft.id))?;
    let session = conn.last_insert_rowid();
    if let Some(origin) = origin {
        purge::forget_source(conn, &origin.format, &origin.id)?;
    }
    conn.prepare_cached(
        "INSERT INTO activity (session, updated_at, messages, branches, checkpoints, waiting)
            VALUES (?1, ?2, 0, 1, 0, 0)",
    )?
    .execute(params![session, at])?;
    let main =
        NewBranch { session, id: draft.main_branch, name: MAIN_BRANCH, parent: None, forked_at: 0, at };
    let branch = main.insert(conn, None)?;
    conn.prepare_cached("UPDATE session SET current_branch = ?2 WHERE no = ?1")?
        .execute(params![session, branch])?;
    checksum::update_session(conn, session)?;
    Ok((session, branch))
}

/// A branch's row before it is inserted.
pub(crate) struct NewBranch<'a> {
    pub(crate) session: i64,
    pub(crate) id: BranchId,
    pub(crate) name: &'a str,
    pub(crate) parent: Option<i64>,
    pub(crate) forked_at: u64,
    pub(crate) at: i64,
}

impl NewBranch<'_> {
    /// Inserts the row. The caller has checked that the session has no branch of this name.
    pub(crate) fn insert(&self, conn: &Connection, state: Option<i64>) -> Result<i64> {
        // No message is stored on the branch itself, so all messages up to the fork count as indexed.
        conn.prepare_cached(
            "INSERT INTO branch (id, session, name, parent, forked_at, created_at, retired, indexed_seq, state)
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
        .map_err(|error| unique_violation_as_conflict(error, "branch", self.id))?;
        Ok(conn.last_insert_rowid())
    }
}

/// Converts a violated unique key to a conflict about `id`.
pub(crate) fn unique_violation_as_conflict(
    error: rusqlite::Error,
    what: &str,
    id: impl std::fmt::Display,
) -> Error {
    let error = Error::from(error);
    if error.is_unique_violation() { conflict(format!("{what} {id} already exists")) } else { error }
}

pub(crate) fn summary(conn: &Connection, no: i64) -> Result<SessionSummary> {
    conn.prepare_cached(&format!("{SELECT_SUMMARY} WHERE session.no = ?1"))?
        .query_row([no], SessionRow::read)?
        .into_domain()
}

impl SessionStore for SqliteStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        let draft = draft.clone();
        self.db.write("create a session", move |conn| {
            let (session, _) = insert(conn, &draft, None)?;
            session_stats::move_to_list(conn, session, LISTED)?;
            operations::record(conn, Change::new(session, OperationKind::Create, draft.created_at))?;
            Ok(summary(conn, session)?.session)
        })
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        self.db.read("read a session", |conn| {
            conn.prepare_cached(&format!("{SELECT_SUMMARY} WHERE session.id = ?1 AND session.state <> 2"))?
                .query_row([id.as_uuid().as_bytes()], SessionRow::read)
                .optional()?
                .ok_or_else(|| not_found("session", &id))?
                .into_domain()
        })
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        self.db.read("find a session", |conn| match reference {
            SessionRef::Recent(back) => find_recent(conn, *back, project, state_of(trashed)),
            SessionRef::Named(text) => find_by_text(conn, text, state_of(trashed)),
        })
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        self.db.read("list sessions", |conn| {
            let (condition, mut values) = filter_condition(filter);
            let mut sql = format!("{SELECT_SUMMARY} WHERE {condition}");
            if let Some(cursor) = &page.after {
                let (place, id) = read_cursor(cursor)?;
                sql.push_str(" AND (session.place, session.id) < (?, ?)");
                values.extend([place.into(), id.as_uuid().as_bytes().to_vec().into()]);
            }
            sql.push_str(" ORDER BY session.place DESC, session.id DESC LIMIT ?");
            values.push((i64::from(page.limit) + 1).into());
            let mut statement = conn.prepare_cached(&sql)?;
            let mut found = statement.query(params_from_iter(values))?;
            let (mut items, mut unreadable) = (Vec::new(), 0);
            let mut last = None;
            while let Some(row) = found.next()? {
                if items.len() as u64 + unreadable == u64::from(page.limit) {
                    return Ok(Page { items, next: last, unreadable });
                }
                last = row_cursor(row).ok().or(last);
                match SessionRow::read(row).map_err(Error::from).and_then(SessionRow::into_domain) {
                    Err(error) if error.is_corruption() => {
                        tracing::warn!(%error, "a damaged session is not listed");
                        unreadable += 1;
                    }
                    summary => items.push(summary?),
                }
            }
            Ok(Page { items, next: None, unreadable })
        })
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        let name = name.to_owned();
        self.db.write("rename a session", move |conn| {
            let session = lookup::session_no(conn, id)?;
            let before = operations::session_attributes(conn, session)?;
            if automatic && !before.automatic_name {
                return Ok(());
            }
            conn.prepare_cached("UPDATE session SET name = ?2, automatic_name = ?3 WHERE no = ?1")?
                .execute(params![session, name, automatic])?;
            checksum::update_session(conn, session)?;
            if automatic {
                return Ok(());
            }
            let detail = format!("{:?} -> {name:?}", before.name);
            let change = Change::new(session, OperationKind::Rename, at);
            operations::record(conn, Change { before: Some(before), detail, ..change })?;
            Ok(())
        })
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.db.write("move a session to the trash", move |conn| {
            let session = lookup::session_no(conn, id)?;
            let before = operations::session_attributes(conn, session)?;
            if before.trashed {
                return Err(conflict(format!("session {:?} is already in the trash", before.name)));
            }
            operations::set_trashed(conn, session, Some(at))?;
            let change = Change::new(session, OperationKind::Delete, at);
            operations::record(conn, Change { before: Some(before), ..change })?;
            Ok(())
        })
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.db.write("restore a session from the trash", move |conn| {
            let session = lookup::session_no(conn, id)?;
            let before = operations::session_attributes(conn, session)?;
            if !before.trashed {
                return Err(conflict(format!("session {:?} is not in the trash", before.name)));
            }
            operations::set_trashed(conn, session, None)?;
            let change = Change::new(session, OperationKind::Restore, at);
            operations::record(conn, Change { before: Some(before), ..change })?;
            Ok(())
        })
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<Purged> {
        purge::purge_session(self, id)
    }

    fn was_purged(&self, origin_format: &str, origin_id: &str) -> StoreResult<bool> {
        self.db.read("look for a purged session", |conn| purge::was_purged(conn, origin_format, origin_id))
    }

    fn was_continued_purged(&self, continues: Continuation) -> StoreResult<bool> {
        let id = continues.id_bytes();
        self.db.read("look for a purged session", |conn| purge::was_id_purged(conn, &id))
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<Purged> {
        purge::purge_trash(self, before)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        Ok(Box::new(import::begin(self, draft)?))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        let project = project.clone();
        self.db.write("set a session's project", move |conn| {
            let session = lookup::session_no(conn, id)?;
            conn.prepare_cached(
                "UPDATE session SET project = ?2, directory = ?3, repository = ?4 WHERE no = ?1",
            )?
            .execute(params![session, project.key(), project.directory, project.repository])?;
            checksum::update_session(conn, session)
        })
    }
}

/// The condition on a session's row that a filter sets, and the values of its parameters.
pub(crate) fn filter_condition(filter: &SessionFilter) -> (String, Vec<Value>) {
    let mut condition = "session.state = ?".to_owned();
    let mut values = vec![Value::from(state_of(filter.trashed))];
    if let Some(project) = &filter.project {
        condition.push_str(" AND session.project = ?");
        values.push(project.clone().into());
    }
    if let Some(text) = &filter.project_contains {
        // `instr` instead of LIKE, in whose patterns % and _ have a meaning.
        condition.push_str(
            " AND (instr(lower(session.directory), ?) > 0 OR instr(lower(session.repository), ?) > 0)",
        );
        let text = text.to_ascii_lowercase();
        values.extend([text.clone().into(), text.into()]);
    }
    match filter.tool.as_deref() {
        None => {}
        // Also sessions that were imported from an export of hfs.
        Some(tool @ SessionFilter::HFS) => {
            condition.push_str(" AND ifnull(session.origin_format, ?) = ?");
            values.extend([tool.to_owned().into(), tool.to_owned().into()]);
        }
        Some(tool) => {
            // The plus keeps SQLite from using the index of origins, after which it would have to sort a list.
            condition.push_str(" AND +session.origin_format = ?");
            values.push(tool.to_owned().into());
        }
    }
    if let Some((format, id)) = &filter.origin {
        condition.push_str(" AND session.origin_format = ? AND session.origin_id = ?");
        values.extend([format.clone().into(), id.clone().into()]);
    }
    (condition, values)
}

const fn state_of(trashed: bool) -> i64 {
    if trashed { TRASHED } else { LISTED }
}

/// The cursor of the page that follows this row of [`SELECT_SUMMARY`].
fn row_cursor(row: &Row<'_>) -> rusqlite::Result<Cursor> {
    let (id, place): ([u8; 16], i64) = (row.get(1)?, row.get(12)?);
    Ok(Cursor(format!("session/{place}/{}", SessionId::from_uuid(rows::uuid(id)))))
}

fn read_cursor(cursor: &Cursor) -> Result<(i64, SessionId)> {
    let parts = cursor.0.strip_prefix("session/").and_then(|rest| rest.split_once('/'));
    parts
        .and_then(|(place, id)| Some((place.parse().ok()?, id.parse().ok()?)))
        .ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of sessions", cursor.0)))
}

fn find_recent(conn: &Connection, back: u32, project: Option<&str>, state: i64) -> Result<SessionId> {
    // Both statements use ?2, because they are executed with the same parameters.
    let sql = if project.is_some() {
        "SELECT id FROM session WHERE state = ?1 AND project = ?2
            ORDER BY place DESC, id DESC LIMIT 1 OFFSET ?3"
    } else {
        "SELECT id FROM session WHERE state = ?1 AND ?2 IS NULL
            ORDER BY place DESC, id DESC LIMIT 1 OFFSET ?3"
    };
    conn.prepare_cached(sql)?
        .query_row(params![state, project, back], |row| row.get(0))
        .optional()?
        .map(|id| SessionId::from_uuid(rows::uuid(id)))
        .ok_or_else(|| not_found("session", &if back == 0 { "@".to_owned() } else { format!("@-{back}") }))
}

/// Finds a session by its id, its name, its title, or the start of its short id or id. Tries them in this order.
fn find_by_text(conn: &Connection, text: &str, state: i64) -> Result<SessionId> {
    let typed = text.to_ascii_lowercase();
    if text.is_empty() {
        return Err(not_found("session", text));
    }
    if let Ok(id) = typed.parse::<SessionId>() {
        let bytes = *id.as_uuid().as_bytes();
        let known = conn
            .prepare_cached("SELECT 1 FROM session WHERE id = ?1 AND state = ?2")?
            .exists(params![bytes, state])?;
        if known {
            return Ok(id);
        }
    }
    let mut found = candidates(conn, "name = ?2", state, [text.to_owned().into()])?;
    if found.is_empty() {
        found = candidates_by_title(conn, text, state)?;
    }
    if found.is_empty() && ShortId::is_prefix_shaped(&typed) {
        // `{` is the character after `z`.
        let end = format!("{typed}{{");
        found = candidates(conn, "short >= ?2 AND short < ?3", state, [typed.clone().into(), end.into()])?;
    } else if found.is_empty()
        && let Some((first, last)) = id_range(&typed)
    {
        found = candidates(conn, "id BETWEEN ?2 AND ?3", state, [first.into(), last.into()])?;
    }
    match found.as_slice() {
        [] => Err(not_found("session", text)),
        [(id, _)] => Ok(*id),
        several => Err(StoreError::Ambiguous {
            what: "session",
            reference: text.to_owned(),
            candidates: several.iter().map(|(id, name)| format!("{} {name}", id.short())).collect(),
        }
        .into()),
    }
}

/// The newest sessions with an automatic name whose title is `text` (see `Session::title`), at most [`CANDIDATES`].
fn candidates_by_title(conn: &Connection, text: &str, state: i64) -> Result<Vec<(SessionId, String)>> {
    let prefix = format!("{text}{TIME_SEPARATOR}");
    // `:` is the character after `9`. The range uses the index of names.
    let end = format!("{prefix}:");
    candidates(
        conn,
        "name >= ?2 AND name < ?3 AND automatic_name AND substr(name, length(?2) + 1) GLOB \
            '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]_[0-9][0-9]-[0-9][0-9]'",
        state,
        [prefix.into(), end.into()],
    )
}

/// The newest sessions that match a condition, at most [`CANDIDATES`].
fn candidates<const N: usize>(
    conn: &Connection,
    condition: &str,
    state: i64,
    values: [Value; N],
) -> Result<Vec<(SessionId, String)>> {
    // The unary `+` prevents SQLite from using the index for the order. The index for the condition is better, because
    // few rows match the condition.
    let sql = format!(
        "SELECT id, name FROM session WHERE +state = ?1 AND {condition}
            ORDER BY +place DESC, +id DESC LIMIT {CANDIDATES}"
    );
    let values = std::iter::once(Value::from(state)).chain(values);
    let found = conn
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| {
            Ok((SessionId::from_uuid(rows::uuid(row.get(0)?)), row.get(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// The first and the last id whose text starts with `typed`, or `None` if no id can start with it.
fn id_range(typed: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    const PATTERN: &str = "00000000-0000-0000-0000-000000000000";
    let fits = typed.len() <= PATTERN.len()
        && typed.chars().zip(PATTERN.chars()).all(|(c, pattern)| match pattern {
            '-' => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    if !fits {
        return None;
    }
    let filled = |digit: char| {
        let rest = PATTERN.get(typed.len()..)?.replace('0', &digit.to_string());
        let id = uuid::Uuid::try_parse(&format!("{typed}{rest}")).ok()?;
        Some(id.as_bytes().to_vec())
    };
    Some((filled('0')?, filled('f')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_an_id_is_a_range_of_ids() {
        let range = |typed: &str| {
            id_range(typed).map(|(first, last)| {
                let text = |bytes: Vec<u8>| uuid::Uuid::from_slice(&bytes).unwrap().to_string();
                (text(first), text(last))
            })
        };
        let (first, last) = range("0192f0c1-7e").unwrap();
        assert_eq!(first, "0192f0c1-7e00-0000-0000-000000000000");
        assert_eq!(last, "0192f0c1-7eff-ffff-ffff-ffffffffffff");
        let whole = "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f";
        assert_eq!(range(whole), Some((whole.to_owned(), whole.to_owned())));
        for text in ["0192f0c17e", "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f0", "xyz", "-", "1é"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
