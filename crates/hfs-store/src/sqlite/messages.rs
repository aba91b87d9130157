//! Messages: appended, read.

use hfs_core::{MessageStore, ReplyDelta, ReplyHandle, SessionId, Timestamp, 
    Appended, BranchId, Message, MessageDraft, MessageId, MessageRange, Position, Source, StoreError,
    StoreResult, Usage,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::codec::body;
use crate::codec::checksum;
use crate::codec::rows::{self, MessageRow, STREAMING, message_no, seq_of};
use crate::db::locks::LivenessProbe;
use crate::db::lookup::{self, BranchKey};
use crate::error::{Error, Result, conflict, invalid, not_found};
use crate::sqlite::SqliteStore;
use crate::sqlite::replies;
use crate::sqlite::session_stats::{self, Standing};
use crate::sqlite::sessions::taken;

const LAST_SEQ: u64 = u32::MAX as u64;
/// For how many messages memory is set aside before they are read.
const READ_AHEAD: u64 = 1024;

pub(crate) fn append(store: &SqliteStore, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
    let action = "save the message";
    let rows = messages.iter().map(MessageRow::settled).collect::<Result<Vec<_>>>();
    let rows = rows.map_err(|error| error.into_store_error(action, &store.db.paths.database))?;
    let probe = store.db.liveness_probe();
    store.db.write(action, move |conn| {
        let last = add(conn, &probe, at, &rows)?;
        let position = Position { branch: at.branch, head: seq_of(last) };
        Ok(Appended { position, first: at.head + 1 })
    })
}

/// Adds rows behind `at`; returns the number of the last message there is then.
pub(crate) fn add(
    conn: &Connection,
    probe: &LivenessProbe,
    at: Position,
    messages: &[MessageRow],
) -> Result<i64> {
    let tip = Tip::of(conn, at.branch)?;
    if tip.retired {
        let branch = lookup::branch(conn, at.branch)?;
        return Err(conflict(format!("branch {:?} is retired", branch.name)));
    }
    if tip.head != at.head {
        let found = Position { branch: at.branch, head: tip.head };
        return Err(StoreError::HeadMismatch { expected: at, found }.into());
    }
    let mut no = message_no(tip.branch, tip.head)?;
    if tip.is_streaming {
        if lookup::is_being_written(conn, probe, no)? {
            return Err(StoreError::Locked { seq: tip.head }.into());
        }
        replies::settle(conn, no)?;
    }
    let mut rows = Insert::new(conn)?;
    for (seq, message) in (tip.head + 1..).zip(messages) {
        no = message_no(tip.branch, seq)?;
        rows.insert(no, message, message.sum(no))?;
    }
    if let Some(at) = messages.iter().map(|message| message.created_at).max() {
        session_stats::add(conn, tip.standing, at, messages.len())?;
    }
    Ok(no)
}

/// The end of a branch, and all else that an append must know, found at once.
struct Tip {
    branch: i64,
    retired: bool,
    head: u64,
    /// Whether the message there is marked as streaming.
    is_streaming: bool,
    standing: Standing,
}

impl Tip {
    fn of(conn: &Connection, branch: BranchId) -> Result<Self> {
        conn.prepare_cached(
            "SELECT branch.no, branch.retired, branch.forked_at, branch.session, activity.updated_at,
                activity.waiting,
                (SELECT (message.no & 0xffffffff) << 2 | message.status FROM message
                    WHERE message.no BETWEEN branch.no << 32 AND branch.no << 32 | 0xffffffff
                    ORDER BY message.no DESC LIMIT 1),
                session.no = (SELECT first.no FROM session AS first WHERE first.state = session.state
                    ORDER BY first.place DESC, first.id DESC LIMIT 1)
                FROM branch CROSS JOIN session ON session.no = branch.session
                CROSS JOIN activity ON activity.session = branch.session
                WHERE branch.id = ?1 AND session.state <> 2",
        )?
        .query_row([branch.as_uuid().as_bytes()], |row| {
            let newest: Option<i64> = row.get(6)?;
            Ok(Self {
                branch: row.get(0)?,
                retired: row.get(1)?,
                head: newest.map_or_else(|| row.get(2), |newest| Ok((newest >> 2).cast_unsigned()))?,
                is_streaming: newest.is_some_and(|newest| newest & 0b11 == STREAMING),
                standing: Standing {
                    session: row.get(3)?,
                    updated_at: row.get(4)?,
                    waiting: row.get(5)?,
                    is_first: row.get(7)?,
                },
            })
        })
        .optional()?
        .ok_or_else(|| not_found("branch", &branch))
    }
}

/// Makes rows of messages.
pub(crate) struct Insert<'c> {
    conn: &'c Connection,
    statement: CachedStatement<'c>,
}

impl<'c> Insert<'c> {
    pub(crate) fn new(conn: &'c Connection) -> Result<Self> {
        let statement = conn.prepare_cached(
            "INSERT INTO message (no, id, role, status, created_at, agent, model, prompt_tokens,
                completion_tokens, source_format, source_id, body, extra, sum)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        Ok(Self { conn, statement })
    }

    /// Makes the row of a message whose sum is known, and those of its references to attachments.
    pub(crate) fn insert(&mut self, no: i64, message: &MessageRow, sum: i64) -> Result<()> {
        let id = || MessageId::from_uuid(rows::uuid(message.id));
        for hash in &message.attachments {
            refer(self.conn, no, id(), *hash)?;
        }
        let done = self.statement.execute(params![
            no,
            message.id,
            message.role,
            message.status,
            message.created_at,
            message.agent,
            message.model,
            message.prompt_tokens,
            message.completion_tokens,
            message.source_format,
            message.source_id,
            message.body,
            message.extra,
            sum,
        ]);
        done.map(drop).map_err(|error| taken(error, "message", id()))
    }
}

/// Replaces everything about a message but its id and place.
pub(crate) fn replace(conn: &Connection, no: i64, id: MessageId, message: &MessageRow) -> Result<()> {
    for hash in &message.attachments {
        refer(conn, no, id, *hash)?;
    }
    conn.prepare_cached(
        "UPDATE message SET role = ?2, status = ?3, created_at = ?4, agent = ?5, model = ?6,
            prompt_tokens = ?7, completion_tokens = ?8, source_format = ?9, source_id = ?10, body = ?11,
            extra = ?12 WHERE no = ?1",
    )?
    .execute(params![
        no,
        message.role,
        message.status,
        message.created_at,
        message.agent,
        message.model,
        message.prompt_tokens,
        message.completion_tokens,
        message.source_format,
        message.source_id,
        message.body,
        message.extra,
    ])?;
    checksum::message(conn, no)
}

fn refer(conn: &Connection, no: i64, id: MessageId, hash: hfs_core::ContentHash) -> Result<()> {
    let attachment: Option<i64> = conn
        .prepare_cached("SELECT no FROM attachment WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(attachment) = attachment else {
        return Err(invalid(format!("message {id} refers to the attachment {hash}, which is not stored")));
    };
    conn.prepare_cached("INSERT OR IGNORE INTO attachment_use (message, attachment) VALUES (?1, ?2)")?
        .execute(params![no, attachment])?;
    Ok(())
}

/// Selects what [`message_of`] reads; conditions follow.
pub(crate) const MESSAGE: &str = "SELECT no, id, role, status, created_at, agent, model, prompt_tokens,
    completion_tokens, source_format, source_id, body, extra FROM message";

/// The message in a row of [`MESSAGE`], held by `branch`.
pub(crate) fn message_of(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: BranchId,
    row: &Row<'_>,
) -> Result<Message> {
    let no: i64 = row.get(0)?;
    decode(conn, probe, branch, row).map_err(|error| match error {
        Error::Corrupt(why) => Error::Corrupt(format!("message {} of branch {branch}: {why}", seq_of(no))),
        other => other,
    })
}

fn decode(conn: &Connection, probe: &LivenessProbe, branch: BranchId, row: &Row<'_>) -> Result<Message> {
    let no: i64 = row.get(0)?;
    let mut status = rows::status(row.get(3)?)?;
    let body = row.get_ref(11)?.as_str().map_err(rusqlite::Error::from)?;
    let mut parts = body::read(body)?;
    if status == hfs_core::MessageStatus::Streaming {
        (status, parts) = replies::arrived(conn, probe, no, parts)?;
    }
    let tokens: (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    let source: (Option<String>, Option<String>) = (row.get(9)?, row.get(10)?);
    let extra = row.get_ref(12)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    let extra = rows::extra_from_json(extra)?;
    let content = MessageDraft {
        id: MessageId::from_uuid(rows::uuid(row.get(1)?)),
        role: rows::role(row.get(2)?)?,
        status,
        parts,
        agent: row.get(5)?,
        model: row.get(6)?,
        usage: tokens.0.zip(tokens.1).map(|(prompt, completion)| Usage {
            prompt_tokens: prompt.cast_unsigned(),
            completion_tokens: completion.cast_unsigned(),
        }),
        created_at: rows::time(row.get(4)?)?,
        source: source.0.zip(source.1).map(|(format, id)| Source { format, id }),
        extra,
    };
    Ok(Message { branch, seq: seq_of(no), content })
}

pub(crate) fn read(store: &SqliteStore, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
    let probe = store.db.liveness_probe();
    store.db.read("read messages", |conn| {
        let branch = lookup::branch(conn, branch)?;
        match range {
            MessageRange::Newest(count) => read_back(conn, &probe, branch, LAST_SEQ, count),
            MessageRange::Before(seq, count) => {
                read_back(conn, &probe, branch, seq.saturating_sub(1).min(LAST_SEQ), count)
            }
            MessageRange::From(seq, count) => read_on(conn, &probe, branch, seq, count),
        }
    })
}

/// At most `count` messages up to `last`: the branch's own, then its parent's up to the fork, and so on.
fn read_back(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: BranchKey,
    last: u64,
    count: u32,
) -> Result<Vec<Message>> {
    let mut found = Vec::new();
    let mut wanted = count;
    let mut last = last;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| wanted > 0) {
        if last > branch.forked_at {
            let before = found.len();
            read_own(
                conn,
                probe,
                &branch,
                (branch.forked_at + 1, last),
                wanted,
                Order::NewestFirst,
                &mut found,
            )?;
            wanted -= u32::try_from(found.len() - before).unwrap_or(wanted);
        }
        last = last.min(branch.forked_at);
        next = branch.parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    found.reverse();
    Ok(found)
}

/// At most `count` messages from `first` on.
fn read_on(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: BranchKey,
    first: u64,
    count: u32,
) -> Result<Vec<Message>> {
    let mut stretches = Vec::new();
    let mut last = LAST_SEQ;
    let mut next = Some(branch);
    while let Some(branch) = next.filter(|_| first <= last) {
        let parent = branch.parent;
        let forked_at = branch.forked_at;
        stretches.push((branch, last));
        last = last.min(forked_at);
        next = parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    let mut found = Vec::new();
    for (branch, last) in stretches.iter().rev() {
        let wanted = count.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let from = first.max(branch.forked_at + 1);
        if wanted > 0 && from <= *last {
            read_own(conn, probe, branch, (from, *last), wanted, Order::OldestFirst, &mut found)?;
        }
    }
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// Adds a stretch of a branch's own messages.
fn read_own(
    conn: &Connection,
    probe: &LivenessProbe,
    branch: &BranchKey,
    (first, last): (u64, u64),
    count: u32,
    order: Order,
    found: &mut Vec<Message>,
) -> Result<()> {
    let direction = if order == Order::NewestFirst { "DESC" } else { "ASC" };
    let sql = format!("{MESSAGE} WHERE no BETWEEN ?1 AND ?2 ORDER BY no {direction} LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let range = params![message_no(branch.no, first)?, message_no(branch.no, last)?, count];
    let mut rows = statement.query(range)?;
    // There may be fewer: a range without an end is a promise of nothing.
    let expected = u64::from(count).min(last.saturating_sub(first) + 1).min(READ_AHEAD);
    found.reserve(usize::try_from(expected).unwrap_or(0));
    while let Some(row) = rows.next()? {
        found.push(message_of(conn, probe, branch.id, row)?);
    }
    Ok(())
}

pub(crate) fn get(store: &SqliteStore, id: MessageId) -> StoreResult<Message> {
    let probe = store.db.liveness_probe();
    store.db.read("read a message", |conn| {
        let no = lookup::message(conn, id)?;
        let branch = lookup::branch_by_no(conn, rows::branch_of(no))?;
        let mut statement = conn.prepare_cached(&format!("{MESSAGE} WHERE no = ?1"))?;
        let mut rows = statement.query([no])?;
        match rows.next()? {
            Some(row) => message_of(conn, &probe, branch.id, row),
            None => Err(Error::Corrupt(format!("message {id} is in an index only"))),
        }
    })
}

/// The number that the message at `seq` of a branch's history has, whichever ancestor holds it.
pub(crate) fn holder(conn: &Connection, branch: &BranchKey, seq: u64) -> Result<Option<i64>> {
    let mut holder = branch.clone();
    while seq <= holder.forked_at {
        match holder.parent {
            Some(parent) => holder = lookup::branch_by_no(conn, parent)?,
            None => return Ok(None),
        }
    }
    message_no(holder.no, seq).map(Some)
}

impl MessageStore for SqliteStore {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        let appended = super::messages::append(self, at, messages)?;
        super::text_index::after_append(self, messages.len());
        Ok(appended)
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        super::replies::begin(self, at, reply)
    }

    fn extend_reply(&self, reply: ReplyHandle, pieces: &[ReplyDelta]) -> StoreResult<()> {
        super::replies::extend(self, reply, pieces)
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        super::replies::finish(self, reply, message)?;
        super::text_index::after_append(self, 1);
        Ok(())
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        super::messages::read(self, branch, range)
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        super::messages::get(self, id)
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        super::replies::recover_abandoned_replies(self, session, at)
    }
}
