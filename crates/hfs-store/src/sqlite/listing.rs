//! Lists of sessions, and what a person means by a name.

use hfs_core::{
    Cursor, Page, PageRequest, SessionFilter, SessionId, SessionRef, SessionSummary, ShortId, StoreError,
    StoreResult,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use crate::db::lookup::{LISTED, TRASHED};
use crate::error::{Result, invalid, not_found};
use crate::sqlite::SqliteStore;
use crate::sqlite::sessions::{SUMMARY, SessionRow};

/// How many candidates an ambiguous reference lists.
const CANDIDATES: usize = 10;

const fn state_of(trashed: bool) -> i64 {
    if trashed { TRASHED } else { LISTED }
}

pub(crate) fn list(
    store: &SqliteStore,
    filter: &SessionFilter,
    page: &PageRequest,
) -> StoreResult<Page<SessionSummary>> {
    store.db.read("list sessions", |conn| {
        let mut sql = format!("{SUMMARY} WHERE session.state = ?");
        let mut values = vec![Value::from(state_of(filter.trashed))];
        if let Some(project) = &filter.project {
            sql.push_str(" AND session.project = ?");
            values.push(project.clone().into());
        }
        if let Some((format, id)) = &filter.origin {
            sql.push_str(" AND session.origin_format = ? AND session.origin_id = ?");
            values.extend([format.clone().into(), id.clone().into()]);
        }
        if let Some(cursor) = &page.after {
            let (place, id) = read_cursor(cursor)?;
            sql.push_str(" AND (session.place, session.id) < (?, ?)");
            values.extend([place.into(), id.as_uuid().as_bytes().to_vec().into()]);
        }
        sql.push_str(" ORDER BY session.place DESC, session.id DESC LIMIT ?");
        values.push((i64::from(page.limit) + 1).into());
        let mut found = conn
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), SessionRow::read)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(write_cursor);
        let items = found.into_iter().map(SessionRow::into_domain).collect::<Result<_>>()?;
        Ok(Page { items, next })
    })
}

fn write_cursor(row: &SessionRow) -> Cursor {
    Cursor(format!("session/{}/{}", row.place, row.id()))
}

fn read_cursor(cursor: &Cursor) -> Result<(i64, SessionId)> {
    let parts = cursor.0.strip_prefix("session/").and_then(|rest| rest.split_once('/'));
    parts
        .and_then(|(place, id)| Some((place.parse().ok()?, id.parse().ok()?)))
        .ok_or_else(|| invalid(format!("{:?} is no place in a list of sessions", cursor.0)))
}

pub(crate) fn resolve(
    store: &SqliteStore,
    reference: &SessionRef,
    project: Option<&str>,
    trashed: bool,
) -> StoreResult<SessionId> {
    store.db.read("find a session", |conn| match reference {
        SessionRef::Recent(back) => recent(conn, *back, project, state_of(trashed)),
        SessionRef::Named(text) => named(conn, text, state_of(trashed)),
    })
}

fn recent(conn: &Connection, back: u32, project: Option<&str>, state: i64) -> Result<SessionId> {
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
        .map(|id| SessionId::from_uuid(crate::codec::rows::uuid(id)))
        .ok_or_else(|| not_found("session", &if back == 0 { "@".to_owned() } else { format!("@-{back}") }))
}

fn named(conn: &Connection, text: &str, state: i64) -> Result<SessionId> {
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
    if found.is_empty() && ShortId::is_prefix_shaped(&typed) {
        // `{` is what follows `z`.
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

/// The newest sessions that fit a condition, at most as many as an ambiguous reference lists.
fn candidates<const N: usize>(
    conn: &Connection,
    condition: &str,
    state: i64,
    values: [Value; N],
) -> Result<Vec<(SessionId, String)>> {
    // The `+` keeps the order from choosing the index: few rows fit, and they are to be found first.
    let sql = format!(
        "SELECT id, name FROM session WHERE +state = ?1 AND {condition}
            ORDER BY +place DESC, +id DESC LIMIT {CANDIDATES}"
    );
    let values = std::iter::once(Value::from(state)).chain(values);
    let found = conn
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| {
            Ok((SessionId::from_uuid(crate::codec::rows::uuid(row.get(0)?)), row.get(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found)
}

/// The first and the last id whose text begins with `typed`, if that can be the beginning of one.
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
    fn the_beginning_of_an_id_is_a_range_of_ids() {
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
