//! Checks the store: references, counters, hashes, and whether every stored value can be read.
//!
//! Damage of pages is the server's to find, with `data_checksums` and `pg_amcheck`.

use hfs_core::{ContentHash, Event, Part, Problem, RunSnapshot, Verification};
use hfs_store::codec::{compressed_json, rows};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result};
use crate::store::lookup::{HIDDEN, Place};
use crate::store::{messages, states};

/// Number of rows that are read at a time.
const BATCH: usize = 200;

/// A check in SQL. Its query returns the place of each problem as text.
struct Check {
    kind: &'static str,
    detail: &'static str,
    sql: &'static str,
}

const CHECKS: &[Check] = &[
    Check {
        kind: "reference",
        detail: "its current branch is missing or undone",
        sql: "SELECT 'session ' || session.id FROM session JOIN activity ON activity.session = session.id
            LEFT JOIN branch ON branch.session = session.id AND branch.no = session.current_branch
            WHERE activity.state <> 2 AND branch.undone IS NOT FALSE",
    },
    Check {
        kind: "reference",
        detail: "its counters are missing",
        sql: "SELECT 'session ' || session.id FROM session
            LEFT JOIN activity ON activity.session = session.id WHERE activity.session IS NULL",
    },
    Check {
        kind: "reference",
        detail: "its session is missing",
        sql: "SELECT DISTINCT kind || ' of session ' || session FROM (
                SELECT 'activity' AS kind, session FROM activity UNION ALL SELECT 'branch', session FROM branch
                UNION ALL SELECT 'message', session FROM message UNION ALL SELECT 'run', session FROM run
                UNION ALL SELECT 'checkpoint', session FROM checkpoint
                UNION ALL SELECT 'operation', session FROM operation
                UNION ALL SELECT 'index entry', session FROM message_text
                UNION ALL SELECT 'reply', session FROM reply
                UNION ALL SELECT 'attachment reference', session FROM attachment_use) AS row
            WHERE NOT EXISTS (SELECT 1 FROM session WHERE session.id = row.session)",
    },
    Check {
        kind: "reference",
        detail: "it forks at a message that does not exist",
        sql: "SELECT 'branch ' || branch.id FROM branch
            LEFT JOIN branch AS parent ON parent.session = branch.session AND parent.no = branch.parent
            WHERE CASE WHEN branch.parent IS NULL THEN branch.forked_at <> 0
                ELSE parent.no IS NULL OR parent.no >= branch.no OR branch.forked_at > greatest(parent.forked_at,
                    (SELECT max(seq) FROM message
                        WHERE message.session = parent.session AND message.branch = parent.no)) END",
    },
    Check {
        kind: "reference",
        detail: "its messages are not numbered without gaps, beginning after its fork",
        sql: "SELECT 'branch ' || branch.id FROM branch
            JOIN (SELECT session, branch, min(seq) AS first, max(seq) AS last, count(*) AS count
                FROM message GROUP BY session, branch) AS own
                ON own.session = branch.session AND own.branch = branch.no
            WHERE own.first <> branch.forked_at + 1 OR own.last - own.first + 1 <> own.count",
    },
    Check {
        kind: "reference",
        detail: "its branch is missing",
        sql: "SELECT kind || ' of session ' || session || ', branch number ' || branch FROM (
                SELECT DISTINCT 'message' AS kind, session, branch FROM message
                UNION ALL SELECT DISTINCT 'run', session, branch FROM run
                UNION ALL SELECT DISTINCT 'checkpoint', session, branch FROM checkpoint) AS row
            WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.session = row.session AND branch.no = row.branch)",
    },
    Check {
        kind: "reference",
        detail: "it is streaming without a writer, or not the newest of its branch",
        sql: "SELECT 'message ' || message.id FROM message WHERE message.status = 1 AND (
                NOT EXISTS (SELECT 1 FROM reply WHERE reply.session = message.session
                    AND reply.branch = message.branch AND reply.seq = message.seq)
                OR EXISTS (SELECT 1 FROM message AS later WHERE later.session = message.session
                    AND later.branch = message.branch AND later.seq > message.seq))",
    },
    Check {
        kind: "reference",
        detail: "it has no message that is streaming",
        sql: "SELECT 'reply ' || reply.seq || ' of session ' || reply.session FROM reply
            LEFT JOIN message USING (session, branch, seq) WHERE message.status IS DISTINCT FROM 1",
    },
    Check {
        kind: "reference",
        detail: "its message does not exist",
        sql: "SELECT 'checkpoint ' || checkpoint.id FROM checkpoint
            JOIN branch ON branch.session = checkpoint.session AND branch.no = checkpoint.branch
            WHERE checkpoint.seq > greatest(branch.forked_at, (SELECT max(seq) FROM message
                WHERE message.session = branch.session AND message.branch = branch.no))",
    },
    Check {
        kind: "reference",
        detail: "nothing refers to it",
        sql: "SELECT 'state ' || encode(state.hash, 'hex') FROM state
            WHERE NOT EXISTS (SELECT 1 FROM checkpoint
                    WHERE checkpoint.state = state.hash AND checkpoint.owner = state.owner)
                AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.state = state.hash AND branch.owner = state.owner)",
    },
    Check {
        kind: "reference",
        detail: "its message is missing",
        sql: "SELECT 'attachment reference of session ' || session || ', message ' || seq FROM attachment_use
            WHERE branch >= 0 AND NOT EXISTS (SELECT 1 FROM message WHERE message.session = attachment_use.session
                AND message.branch = attachment_use.branch AND message.seq = attachment_use.seq)",
    },
    Check {
        kind: "text index",
        detail: "it is not in the text index, or in it while it is streaming",
        sql: "SELECT 'message ' || message.id FROM message LEFT JOIN message_text USING (session, branch, seq)
            WHERE (message.status = 1) <> (message_text.words IS NULL)",
    },
    Check {
        kind: "text index",
        detail: "the text index has a message that does not exist",
        sql: "SELECT 'session ' || message_text.session || ', message ' || message_text.seq FROM message_text
            LEFT JOIN message USING (session, branch, seq) WHERE message.id IS NULL",
    },
];

/// The counters of a session, as its rows give them.
const COUNTED: &str = "SELECT activity.session,
        (SELECT count(*) FROM message WHERE message.session = activity.session) AS messages,
        (SELECT count(*) FROM branch WHERE branch.session = activity.session AND NOT branch.undone) AS branches,
        (SELECT count(*) FROM checkpoint WHERE checkpoint.session = activity.session) AS checkpoints,
        (SELECT coalesce(sum(words), 0)::bigint FROM message_text WHERE message_text.session = activity.session) AS words,
        greatest(activity.last_checkpoint, (SELECT max(number) FROM checkpoint
            WHERE checkpoint.session = activity.session)) AS last_checkpoint
    FROM activity WHERE activity.state <> 2";

fn wrong_counters() -> String {
    format!(
        "SELECT 'session ' || activity.session FROM activity
            JOIN ({COUNTED}) AS counted ON counted.session = activity.session
            WHERE (activity.messages, activity.branches, activity.checkpoints, activity.words,
                activity.last_checkpoint)
            <> (counted.messages, counted.branches, counted.checkpoints, counted.words, counted.last_checkpoint)"
    )
}

/// Checks everything, in one state of the store.
pub(crate) fn verify(tx: &Tx) -> Result<Verification> {
    let mut verification = Verification::default();
    for (what, sql) in [
        ("sessions", "SELECT count(*) FROM activity WHERE activity.state <> $1"),
        ("branches", "SELECT count(*) FROM branch JOIN activity USING (session) WHERE activity.state <> $1"),
        ("messages", "SELECT count(*) FROM message JOIN activity USING (session) WHERE activity.state <> $1"),
        ("runs", "SELECT count(*) FROM run JOIN activity USING (session) WHERE activity.state <> $1"),
        (
            "checkpoints",
            "SELECT count(*) FROM checkpoint JOIN activity USING (session) WHERE activity.state <> $1",
        ),
        (
            "operations",
            "SELECT count(*) FROM operation JOIN activity USING (session) WHERE activity.state <> $1",
        ),
    ] {
        verification.checked.push((what.to_owned(), tx.one(sql, &values![HIDDEN])?.count(0)?));
    }
    for (what, sql) in
        [("states", "SELECT count(*) FROM state"), ("attachments", "SELECT count(*) FROM attachment")]
    {
        verification.checked.push((what.to_owned(), tx.one(sql, &[])?.count(0)?));
    }
    for Check { kind, detail, sql } in CHECKS {
        for row in tx.rows(sql, &[])? {
            verification.problems.push(problem(kind, row.text(0)?, detail));
        }
    }
    for row in tx.rows(&wrong_counters(), &[])? {
        verification.problems.push(problem("count", row.text(0)?, "one of its counters is wrong"));
    }
    read_states(tx, &mut verification.problems)?;
    read_attachments(tx, &mut verification.problems)?;
    read_messages(tx, &mut verification.problems)?;
    read_runs(tx, &mut verification.problems)?;
    read_operations(tx, &mut verification.problems)?;
    Ok(verification)
}

fn problem(kind: &str, place: String, detail: &str) -> Problem {
    Problem { kind: kind.to_owned(), place, detail: detail.to_owned() }
}

/// Adds a problem if a value could not be read.
fn note<T>(
    problems: &mut Vec<Problem>,
    kind: &str,
    place: impl FnOnce() -> String,
    read: Result<T>,
) -> Result<()> {
    match read {
        Ok(_) => Ok(()),
        Err(error @ (Error::Corrupt(_) | Error::Rejected(_))) => {
            problems.push(problem(kind, place(), &error.to_string()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn read_states(tx: &Tx, problems: &mut Vec<Problem>) -> Result<()> {
    let hashes = tx.rows("SELECT hash FROM state", &[])?;
    for row in hashes {
        let hash = row.hash(0)?;
        note(problems, "hash", || format!("state {hash}"), states::load(tx, hash))?;
    }
    Ok(())
}

fn read_attachments(tx: &Tx, problems: &mut Vec<Problem>) -> Result<()> {
    let hashes = tx.rows("SELECT hash FROM attachment", &[])?;
    for row in hashes {
        let hash = row.hash(0)?;
        let stored = tx.row("SELECT bytes FROM attachment WHERE hash = $1", &values![&hash])?;
        if let Some(stored) = stored
            && states::hash_of(stored.bytes(0)?) != hash
        {
            problems.push(problem("hash", format!("attachment {hash}"), "the bytes do not match their hash"));
        }
    }
    Ok(())
}

/// Reads the rows of a table in the order of three columns, in batches. `select` selects these columns first.
pub(crate) fn read_in_batches(
    tx: &Tx,
    select: &str,
    order: &str,
    mut read: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let mut last: Option<Place> = None;
    loop {
        let after = last.map(|_| format!("WHERE ({order}) > ($2, $3, $4)")).unwrap_or_default();
        let sql = format!("{select} {after} ORDER BY {order} LIMIT $1");
        let mut values = vec![Value::from(BATCH)];
        values.extend(last.into_iter().flat_map(Place::values));
        let rows = tx.rows(&sql, &values)?;
        let Some(newest) = rows.last() else { return Ok(()) };
        last = Some(Place::from_row(newest)?);
        rows.iter().try_for_each(&mut read)?;
    }
}

/// Selects the columns of [`decode_message`].
pub(crate) const SELECT_MESSAGES: &str =
    "SELECT session, branch, seq, id, role, status, created_at, body, extra,
    ARRAY(SELECT encode(hash, 'hex') FROM attachment_use WHERE attachment_use.session = message.session
        AND attachment_use.branch = message.branch AND attachment_use.seq = message.seq)::text
    FROM message";

/// Decodes all of a message. Returns its parts.
pub(crate) fn decode_message(tx: &Tx, row: &Row) -> Result<Vec<Part>> {
    rows::role(row.int(4)?)?;
    rows::status(row.int(5)?)?;
    row.time(6)?;
    rows::extra_from_json(row.opt_text(8)?.as_deref())?;
    let mut parts = messages::decode_body(row.bytes(7)?)?;
    if row.int(5)? == rows::STREAMING {
        messages::append_stored_deltas(tx, Place::from_row(row)?, &mut parts)?;
    }
    Ok(parts)
}

/// The attachments of a message that no reference keeps.
pub(crate) fn unreferenced_attachments(row: &Row, parts: &[Part]) -> Result<Vec<ContentHash>> {
    let references = row.text(9)?;
    let hashes = parts.iter().filter_map(|part| match part {
        Part::Attachment { hash, .. } => *hash,
        _ => None,
    });
    Ok(hashes.filter(|hash| !references.contains(&hash.to_string())).collect())
}

fn read_messages(tx: &Tx, problems: &mut Vec<Problem>) -> Result<()> {
    read_in_batches(tx, SELECT_MESSAGES, "session, branch, seq", |row| {
        let read = || match unreferenced_attachments(row, &decode_message(tx, row)?)?.first() {
            Some(hash) => Err(Error::Corrupt(format!("its reference to the attachment {hash} is missing"))),
            None => Ok(()),
        };
        let id = row.id(3)?;
        note(problems, "content", || format!("message {id}"), read())
    })
}

fn read_runs(tx: &Tx, problems: &mut Vec<Problem>) -> Result<()> {
    for row in tx.rows("SELECT id FROM run", &[])? {
        let id = row.id(0)?;
        let read = || -> Result<()> {
            let sql = "SELECT started_at, ended_at, snapshot, events FROM run WHERE id = $1";
            let row = tx.one(sql, &values![id])?;
            row.time(0)?;
            row.opt_int(1)?.map(rows::time).transpose()?;
            compressed_json::decompress::<RunSnapshot>(row.bytes(2)?)?;
            compressed_json::decompress::<Vec<Event>>(row.bytes(3)?)?;
            Ok(())
        };
        note(problems, "content", || format!("run {id}"), read())?;
    }
    Ok(())
}

fn read_operations(tx: &Tx, problems: &mut Vec<Problem>) -> Result<()> {
    for row in tx.rows("SELECT id, before, after FROM operation", &[])? {
        let read = || -> Result<()> {
            row.opt_text(1)?.as_deref().map(rows::attributes_from_json).transpose()?;
            rows::attributes_from_json(&row.text(2)?)?;
            Ok(())
        };
        let id: Uuid = row.id(0)?;
        note(problems, "content", || format!("operation {id}"), read())?;
    }
    Ok(())
}

/// Corrects the counters that are wrong.
pub(crate) fn recount(tx: &Tx) -> Result<Vec<Problem>> {
    tx.batch("LOCK TABLE activity IN SHARE ROW EXCLUSIVE MODE")?;
    let wrong = tx.rows(&wrong_counters(), &[])?;
    let mut problems = Vec::with_capacity(wrong.len());
    for row in &wrong {
        problems.push(problem("count", row.text(0)?, "one of its counters was wrong, and is corrected"));
    }
    if !problems.is_empty() {
        tx.execute(
            &format!(
                "UPDATE activity SET messages = counted.messages, branches = counted.branches,
                    checkpoints = counted.checkpoints, words = counted.words,
                    last_checkpoint = counted.last_checkpoint
                    FROM ({COUNTED}) AS counted WHERE counted.session = activity.session"
            ),
            &[],
        )?;
    }
    Ok(problems)
}
