//! A store with many equal sessions.

use hfs_core::{CheckpointStore as _, MessageStore as _, RunStore as _, SessionStore as _};
use hfs_postgres::PostgresStore;
use testkit::builders::{Drafts, at, state_of};
use testkit::postgres::Client;

/// Number of messages of each session.
pub const MESSAGES: usize = 50;

/// Tables that grow with the number of sessions.
pub const TABLES: [&str; 8] =
    ["session", "activity", "branch", "message", "message_text", "checkpoint", "operation", "run"];

/// Copies the only session of the schema, with new ids.
pub fn multiply(admin: &Client, schema: &str, sessions: u32) {
    let copies = |table: &str, ids: &str| {
        format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE
                SELECT (jsonb_populate_record(original, jsonb_build_object({ids}))).*
                FROM {table} AS original, copies;"
        )
    };
    let new = "'id', gen_random_uuid(), 'session', copies.id";
    let numbered =
        |table: &str| format!("{new}, 'no', nextval(pg_get_serial_sequence('{schema}.{table}', 'no'))");
    let sql = format!(
        "BEGIN; SET LOCAL search_path = {schema};
        CREATE TEMP TABLE copies ON COMMIT DROP AS
            SELECT gen_random_uuid() AS id, number FROM generate_series(1, {sessions}) AS number;
        {}{}{}{}{}{}{}{} COMMIT;",
        copies(
            "session",
            "'id', copies.id, 'short', 'kkkk' || copies.number, 'name', 'copy ' || copies.number"
        ),
        copies("activity", "'session', copies.id, 'updated_at', original.updated_at - copies.number"),
        copies("branch", new),
        copies("message", new),
        copies("message_text", "'session', copies.id"),
        copies("checkpoint", &numbered("checkpoint")),
        copies("operation", &numbered("operation")),
        copies("run", new),
    );
    admin.execute(&sql);
    for table in TABLES {
        admin.execute(&format!("VACUUM (ANALYZE) {schema}.{table}"));
    }
}

/// The session that is copied.
pub fn original(store: &PostgresStore, make: &Drafts) {
    let session = store.create_session(&make.session("original")).unwrap();
    let mut here = at(session.current_branch, 0);
    for number in 0..MESSAGES / 2 {
        let pair = [make.user(&format!("question {number} common")), make.assistant("answer common")];
        here = store.append(here, &pair).unwrap().position;
    }
    for entries in [&["a"][..], &["b"], &["c"]] {
        store.create_checkpoint(&make.checkpoint(here, state_of(entries)), 10).unwrap();
    }
    store.save_run(&make.run(here.branch)).unwrap();
}
