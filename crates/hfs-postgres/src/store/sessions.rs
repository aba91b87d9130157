//! Creates, lists, finds and changes sessions.

use hfs_core::{
    BranchId, Continuation, Cursor, MAIN_BRANCH, OperationKind, Origin, Page, PageRequest, Project, Purged,
    Session, SessionDraft, SessionFilter, SessionId, SessionImport, SessionRef, SessionStore, SessionSummary,
    ShortId, StoreError, StoreResult, TIME_SEPARATOR, Timestamp,
};
use hfs_store::codec::rows;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result, conflict, invalid, not_found};
use crate::store::lookup::{self, HIDDEN, LISTED, TRASHED};
use crate::store::operations::{self, Change};
use crate::store::{import, purge, session_stats};

/// Number of candidates that the error of an ambiguous reference lists.
const CANDIDATES: usize = 10;
/// Length of the indexed beginning of a name, in characters.
const INDEXED_NAME: usize = 200;
/// Number of the first branch of a session.
pub(crate) const MAIN_NO: i64 = 0;

/// Selects the columns of [`summary_from_row`]. The caller appends the conditions.
const SELECT_SUMMARY: &str = "SELECT session.id, activity.updated_at, session.name, session.automatic_name,
    session.directory, session.repository, session.created_at, session.origin_format, session.origin_id,
    session.origin_path, session.trashed_at, session.extra, activity.messages, activity.branches,
    activity.checkpoints, branch.id, branch.name
    FROM activity JOIN session ON session.id = activity.session
    JOIN branch ON branch.session = session.id AND branch.no = session.current_branch";

fn summary_from_row(row: &Row) -> Result<SessionSummary> {
    let directory = row.opt_text(4)?;
    let repository = row.opt_text(5)?;
    let (format, id, path) = (row.opt_text(7)?, row.opt_text(8)?, row.opt_text(9)?);
    let session = Session {
        id: SessionId::from_uuid(row.id(0)?),
        name: row.text(2)?,
        automatic_name: row.flag(3)?,
        project: directory.map(|directory| Project { directory, repository }),
        created_at: row.time(6)?,
        updated_at: row.time(1)?,
        current_branch: BranchId::from_uuid(row.id(15)?),
        origin: format.zip(id).map(|(format, id)| Origin { format, id, path }),
        trashed_at: row.opt_int(10)?.map(rows::time).transpose()?,
        extra: rows::extra_from_json(row.opt_text(11)?.as_deref())?,
    };
    Ok(SessionSummary {
        session,
        messages: row.count(12)?,
        branches: row.count(13)?,
        checkpoints: row.count(14)?,
        branch: row.text(16)?,
    })
}

/// Inserts the rows of a session and its first branch. The session is hidden until [`session_stats::move_to_list`] adds
/// it to the list of sessions or to the trash.
pub(crate) fn insert(tx: &Tx, draft: &SessionDraft, importer: Option<Uuid>) -> Result<Uuid> {
    let session = *draft.id.as_uuid();
    let (project, origin) = (draft.project.as_ref(), draft.origin.as_ref());
    let extra = rows::extra_to_json(&draft.extra)?;
    let short = draft.id.short();
    // First, because the policies of the other tables look up the session's owner here.
    tx.execute(
        "INSERT INTO activity (session, state, updated_at, messages, branches, checkpoints, words, last_checkpoint)
            VALUES ($1, $2, $3, 0, 1, 0, 0, 0)",
        &values![session, HIDDEN, draft.created_at],
    )
    .map_err(|error| unique_violation_as_conflict(error, "session", draft.id))?;
    tx.execute(
        "INSERT INTO session (id, short, name, automatic_name, project, directory, repository, created_at,
            current_branch, origin_format, origin_id, origin_path, importer, extra)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        &values![
            session,
            short.as_str(),
            &draft.name,
            draft.automatic_name,
            project.map(Project::key),
            project.map(|project| project.directory.as_str()),
            project.and_then(|project| project.repository.as_deref()),
            draft.created_at,
            MAIN_NO,
            origin.map(|origin| origin.format.as_str()),
            origin.map(|origin| origin.id.as_str()),
            origin.and_then(|origin| origin.path.as_deref()),
            importer,
            &extra,
        ],
    )
    .map_err(|error| unique_violation_as_conflict(error, "session", draft.id))?;
    if let Some(origin) = origin {
        purge::forget_source(tx, &origin.format, &origin.id)?;
    }
    let main = NewBranch {
        session,
        id: draft.main_branch,
        name: MAIN_BRANCH,
        parent: None,
        forked_at: 0,
        at: draft.created_at.as_micros(),
    };
    main.insert(tx, MAIN_NO, None)?;
    Ok(session)
}

/// A branch's row before it is inserted.
pub(crate) struct NewBranch<'a> {
    pub(crate) session: Uuid,
    pub(crate) id: BranchId,
    pub(crate) name: &'a str,
    pub(crate) parent: Option<i64>,
    pub(crate) forked_at: u64,
    pub(crate) at: i64,
}

impl NewBranch<'_> {
    /// Inserts the row under the number `no`. The caller has checked that the session has no branch of this name.
    pub(crate) fn insert(&self, tx: &Tx, no: i64, state: Option<&[u8]>) -> Result<()> {
        tx.execute(
            "INSERT INTO branch (session, no, id, name, parent, forked_at, created_at, undone, state)
                VALUES ($1, $2, $3, $4, $5, $6, $7, false, $8)",
            &values![
                self.session,
                no,
                *self.id.as_uuid(),
                self.name,
                self.parent,
                self.forked_at,
                self.at,
                state
            ],
        )
        .map(drop)
        .map_err(|error| unique_violation_as_conflict(error, "branch", self.id))
    }
}

/// Converts a violated unique key to a conflict about `id`.
pub(crate) fn unique_violation_as_conflict(error: Error, what: &str, id: impl std::fmt::Display) -> Error {
    if error.has_code(&SqlState::UNIQUE_VIOLATION) {
        conflict(format!("{what} {id} already exists"))
    } else {
        error
    }
}

pub(crate) fn summary(tx: &Tx, session: Uuid) -> Result<SessionSummary> {
    summary_from_row(&tx.one(&format!("{SELECT_SUMMARY} WHERE activity.session = $1"), &values![session])?)
}

impl SessionStore for PostgresStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        self.db.write("create a session", |tx| {
            let session = insert(tx, draft, None)?;
            session_stats::move_to_list(tx, session, LISTED)?;
            operations::record(tx, Change::new(session, OperationKind::Create, draft.created_at))?;
            Ok(summary(tx, session)?.session)
        })
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        self.db.read("read a session", |tx| {
            let sql = format!("{SELECT_SUMMARY} WHERE activity.session = $1 AND activity.state <> 2");
            let row = tx.row(&sql, &values![*id.as_uuid()])?;
            summary_from_row(&row.ok_or_else(|| not_found("session", &id))?)
        })
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        self.db.read("find a session", |tx| match reference {
            SessionRef::Recent(back) => find_recent(tx, *back, project, state_of(trashed)),
            SessionRef::Named(text) => find_by_text(tx, text, state_of(trashed)),
        })
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        self.db.read("list sessions", |tx| {
            let mut condition = Condition::of(tx, filter);
            if let Some(cursor) = &page.after {
                let (updated_at, id) = read_cursor(cursor)?;
                let updated_at = condition.add(updated_at.into());
                let id = condition.add((*id.as_uuid()).into());
                condition.sql.push_str(&format!(" AND (activity.updated_at, activity.session) < ({updated_at}, {id})"));
            }
            let limit = condition.add((i64::from(page.limit) + 1).into());
            let sql = format!(
                "{SELECT_SUMMARY} WHERE {} ORDER BY activity.updated_at DESC, activity.session DESC LIMIT {limit}",
                condition.sql
            );
            let (mut items, mut unreadable) = (Vec::new(), 0);
            let mut last = None;
            for row in tx.rows(&sql, &condition.values)? {
                if items.len() as u64 + unreadable == u64::from(page.limit) {
                    return Ok(Page { items, next: last, unreadable });
                }
                last = row_cursor(&row).ok().or(last);
                match summary_from_row(&row) {
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
        self.db.write("rename a session", |tx| {
            let session = lookup::lock_session(tx, id)?;
            let before = operations::session_attributes(tx, session)?;
            if automatic && !before.automatic_name {
                return Ok(());
            }
            let sql = "UPDATE session SET name = $2, automatic_name = $3 WHERE id = $1";
            tx.execute(sql, &values![session, name, automatic])?;
            if automatic {
                return Ok(());
            }
            let detail = format!("{:?} -> {name:?}", before.name);
            let change = Change::new(session, OperationKind::Rename, at);
            operations::record(tx, Change { before: Some(before), detail, ..change })?;
            Ok(())
        })
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.db.write("move a session to the trash", |tx| {
            let session = lookup::lock_session(tx, id)?;
            let before = operations::session_attributes(tx, session)?;
            if before.trashed {
                return Err(conflict(format!("session {:?} is already in the trash", before.name)));
            }
            operations::set_trashed(tx, session, Some(at))?;
            let change = Change::new(session, OperationKind::Delete, at);
            operations::record(tx, Change { before: Some(before), ..change })?;
            Ok(())
        })
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.db.write("restore a session from the trash", |tx| {
            let session = lookup::lock_session(tx, id)?;
            let before = operations::session_attributes(tx, session)?;
            if !before.trashed {
                return Err(conflict(format!("session {:?} is not in the trash", before.name)));
            }
            operations::set_trashed(tx, session, None)?;
            let change = Change::new(session, OperationKind::Restore, at);
            operations::record(tx, Change { before: Some(before), ..change })?;
            Ok(())
        })
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<Purged> {
        purge::purge_session(self, id)
    }

    fn was_purged(&self, origin_format: &str, origin_id: &str) -> StoreResult<bool> {
        self.db.read("look for a purged session", |tx| purge::was_purged(tx, origin_format, origin_id))
    }

    fn was_continued_purged(&self, continues: Continuation) -> StoreResult<bool> {
        let id = continues.id_bytes();
        self.db.read("look for a purged session", |tx| purge::was_id_purged(tx, &id))
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<Purged> {
        purge::purge_trash(self, before)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        Ok(Box::new(import::begin(self, draft)?))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        self.db.write("set a session's project", |tx| {
            let session = lookup::lock_session(tx, id)?;
            set_project(tx, session, project)
        })
    }
}

pub(crate) fn set_project(tx: &Tx, session: Uuid, project: &Project) -> Result<()> {
    tx.execute(
        "UPDATE session SET project = $2, directory = $3, repository = $4 WHERE id = $1",
        &values![session, project.key(), &project.directory, &project.repository],
    )
    .map(drop)
}

/// A condition on the rows of `session` and `activity`, with the values of its parameters.
pub(crate) struct Condition<'a> {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value<'a>>,
}

impl<'a> Condition<'a> {
    /// The condition that a filter sets.
    pub(crate) fn of(tx: &Tx, filter: &'a SessionFilter) -> Self {
        let mut condition = Self { sql: tx.owner_condition().to_owned(), values: Vec::new() };
        let state = condition.add(state_of(filter.trashed).into());
        condition.sql.push_str(&format!(" AND activity.state = {state}"));
        if let Some(project) = &filter.project {
            let project = condition.add(project.into());
            condition.sql.push_str(&format!(" AND session.project = {project}"));
        }
        if let Some(text) = &filter.project_contains {
            // `strpos` instead of LIKE, in whose patterns % and _ have a meaning. Only letters of ASCII are folded, as in
            // the other stores.
            let text = condition.add(Value::Text(Some(text.to_ascii_lowercase().into())));
            let contains =
                |column: &str| format!("strpos(lower(session.{column} COLLATE \"C\"), {text}) > 0");
            let (directory, repository) = (contains("directory"), contains("repository"));
            condition.sql.push_str(&format!(" AND ({directory} OR {repository})"));
        }
        if let Some(tool) = filter.tool.as_deref() {
            let is_hfs = tool == SessionFilter::HFS;
            let tool = condition.add(tool.into());
            // Also sessions that were imported from an export of hfs.
            condition.sql.push_str(&if is_hfs {
                format!(" AND coalesce(session.origin_format, {tool}) = {tool}")
            } else {
                format!(" AND session.origin_format = {tool}")
            });
        }
        if let Some((format, id)) = &filter.origin {
            let (format, id) = (condition.add(format.into()), condition.add(id.into()));
            condition
                .sql
                .push_str(&format!(" AND session.origin_format = {format} AND session.origin_id = {id}"));
        }
        condition
    }

    /// Adds a parameter, and returns how SQL refers to it.
    pub(crate) fn add(&mut self, value: Value<'a>) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

const fn state_of(trashed: bool) -> i64 {
    if trashed { TRASHED } else { LISTED }
}

/// The cursor of the page that follows this row of [`SELECT_SUMMARY`].
fn row_cursor(row: &Row) -> Result<Cursor> {
    Ok(Cursor(format!("session/{}/{}", row.int(1)?, SessionId::from_uuid(row.id(0)?))))
}

fn read_cursor(cursor: &Cursor) -> Result<(i64, SessionId)> {
    let parts = cursor.0.strip_prefix("session/").and_then(|rest| rest.split_once('/'));
    parts
        .and_then(|(updated_at, id)| Some((updated_at.parse().ok()?, id.parse().ok()?)))
        .ok_or_else(|| invalid(format!("{:?} is not a valid cursor of a list of sessions", cursor.0)))
}

fn find_recent(tx: &Tx, back: u32, project: Option<&str>, state: i64) -> Result<SessionId> {
    let owner = tx.owner_condition();
    let row = if let Some(project) = project {
        let sql = format!(
            "SELECT session.id FROM session JOIN activity ON activity.session = session.id
                WHERE {owner} AND activity.state = $1 AND session.project = $2
                ORDER BY activity.updated_at DESC, session.id DESC LIMIT 1 OFFSET $3"
        );
        tx.row(&sql, &values![state, project, back])?
    } else {
        let sql = format!(
            "SELECT session FROM activity WHERE {owner} AND state = $1
                ORDER BY updated_at DESC, session DESC LIMIT 1 OFFSET $2"
        );
        tx.row(&sql, &values![state, back])?
    };
    let written = || if back == 0 { "@".to_owned() } else { format!("@-{back}") };
    Ok(SessionId::from_uuid(row.ok_or_else(|| not_found("session", &written()))?.id(0)?))
}

/// Finds a session by its id, its name, its title, or the start of its short id or id. Tries them in this order.
fn find_by_text(tx: &Tx, text: &str, state: i64) -> Result<SessionId> {
    let typed = text.to_ascii_lowercase();
    if text.is_empty() {
        return Err(not_found("session", text));
    }
    if let Ok(id) = typed.parse::<SessionId>() {
        let sql = "SELECT 1 FROM activity WHERE session = $1 AND state = $2";
        if tx.exists(sql, &values![*id.as_uuid(), state])? {
            return Ok(id);
        }
    }
    let mut found = candidates(tx, "session.name = $2", state, values![text])?;
    if found.is_empty() {
        found = candidates_by_title(tx, text, state)?;
    }
    if found.is_empty() && ShortId::is_prefix_shaped(&typed) {
        // `{` is the character after `z`.
        let end = format!("{typed}{{");
        let values = values![&typed, &end];
        found = candidates(tx, "session.short >= $2 AND session.short < $3", state, values)?;
    } else if found.is_empty()
        && let Some((first, last)) = id_range(&typed)
    {
        found = candidates(tx, "session.id BETWEEN $2 AND $3", state, values![first, last])?;
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
fn candidates_by_title(tx: &Tx, text: &str, state: i64) -> Result<Vec<(SessionId, String)>> {
    let prefix = format!("{text}{TIME_SEPARATOR}");
    // The last character of the separator is followed by a digit, and `:` is the character after `9`. The range uses the
    // index of the beginnings of names.
    let start: String = prefix.chars().take(INDEXED_NAME).collect();
    let end = if start.len() == prefix.len() { format!("{prefix}:") } else { format!("{start}\u{10ffff}") };
    let condition = format!(
        "left(session.name, {INDEXED_NAME}) >= $2 AND left(session.name, {INDEXED_NAME}) <= $3
            AND starts_with(session.name, $4) AND session.automatic_name
            AND substr(session.name, length($4) + 1) ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}_[0-9]{{2}}-[0-9]{{2}}$'"
    );
    candidates(tx, &condition, state, values![&start, &end, &prefix])
}

/// The newest sessions that match a condition, at most [`CANDIDATES`].
fn candidates<'a, const N: usize>(
    tx: &Tx,
    condition: &str,
    state: i64,
    values: [Value<'a>; N],
) -> Result<Vec<(SessionId, String)>> {
    let sql = format!(
        "SELECT session.id, session.name FROM session JOIN activity ON activity.session = session.id
            WHERE {} AND activity.state = $1 AND {condition}
            ORDER BY activity.updated_at DESC, session.id DESC LIMIT {CANDIDATES}",
        tx.owner_condition()
    );
    let values: Vec<Value<'a>> = std::iter::once(Value::from(state)).chain(values).collect();
    tx.rows(&sql, &values)?.iter().map(|row| Ok((SessionId::from_uuid(row.id(0)?), row.text(1)?))).collect()
}

/// The first and the last id whose text starts with `typed`, or `None` if no id can start with it.
fn id_range(typed: &str) -> Option<(Uuid, Uuid)> {
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
        Uuid::try_parse(&format!("{typed}{rest}")).ok()
    };
    Some((filled('0')?, filled('f')?))
}
