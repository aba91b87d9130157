//! Stores behind pgbouncer in transaction mode, whose connections to the server are terminated at random.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchId, BranchStore as _, CheckpointStore as _, Maintenance as _, MessageRange, MessageStore as _,
    ReplyDelta, SearchIndex as _, SearchQuery, SessionId, SessionStore as _, SystemClock,
};
use hfs_postgres::PostgresStore;
use testkit::builders::{Drafts, at, growing_state};
use testkit::postgres::{Client, PgBouncer, PostgresServer, ROLE};

/// Number of connections that are terminated.
const KILLS: u32 = 500;

/// What a writer was told that is stored.
struct Acknowledged {
    branch: BranchId,
    texts: Vec<String>,
    checkpoints: usize,
    imported: Vec<SessionId>,
}

/// Sends messages with streamed replies, saves checkpoints and imports sessions until `ended`.
fn write(store: &PostgresStore, writer: u64, ended: &AtomicBool) -> Acknowledged {
    let make = Drafts::new(10 + writer);
    let session = store.create_session(&make.session(&format!("{writer}"))).unwrap();
    let mut here = at(session.current_branch, 0);
    let mut acknowledged =
        Acknowledged { branch: here.branch, texts: Vec::new(), checkpoints: 0, imported: Vec::new() };
    let mut round = 0;
    while !ended.load(Ordering::Relaxed) {
        let question = format!("question {round}");
        let (_, handle) =
            store.append_and_begin_reply(here, &[make.user(&question)], &make.assistant("")).unwrap();
        for part in ["a", "b", "c"] {
            store.extend_reply(handle, &[ReplyDelta::text(part)]).unwrap();
        }
        let answer = format!("answer {round}");
        store.finish_reply(handle, &make.assistant(&answer)).unwrap();
        here.head += 2;
        acknowledged.texts.extend([question, answer]);
        if round % 3 == 0 {
            store.create_checkpoint(&make.checkpoint(here, growing_state(round)), 1000).unwrap();
            acknowledged.checkpoints += 1;
        }
        if round % 5 == 0 {
            let draft = make.session("imported");
            let mut import = store.import_session(&draft).unwrap();
            for number in 0..20 {
                import.message(0, &make.user(&format!("imported {number}"))).unwrap();
            }
            import.finish("imported", 0, make.now(), make.now()).unwrap();
            acknowledged.imported.push(draft.id);
        }
        round += 1;
    }
    acknowledged
}

#[test]
fn nothing_is_lost_or_doubled_behind_pgbouncer_while_connections_are_terminated() {
    let Some(server) = test_server::server() else { return };
    let Some(bouncer) = PgBouncer::start(server) else { return };
    let (database, schema) = (server.new_database(), PostgresServer::new_schema());
    let url = database.url_at(ROLE, bouncer.port());
    let open = || test_server::open(&url, &schema, Arc::new(SystemClock));
    drop(open());
    let admin = Client::connect(&database.url());
    let ended = AtomicBool::new(false);
    let results: Vec<Acknowledged> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (open, ended) = (&open, &ended);
                scope.spawn(move || write(&open(), writer, ended))
            })
            .collect();
        let started = Instant::now();
        let mut kills = 0;
        while kills < KILLS && started.elapsed() < Duration::from_secs(120) {
            thread::sleep(Duration::from_millis(fastrand::u64(1..40)));
            kills += admin.terminate_one();
        }
        // Also if a writer has panicked, because the scope waits for the others.
        ended.store(true, Ordering::Relaxed);
        assert_eq!(kills, KILLS);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let store = open();
    let mut rounds = 0;
    for written in &results {
        let messages = store.read_messages(written.branch, MessageRange::From(1, u32::MAX)).unwrap();
        let texts: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
        assert_eq!(texts, written.texts);
        let session = store.get_branch(written.branch).unwrap().session;
        assert_eq!(store.list_checkpoints(session).unwrap().len(), written.checkpoints);
        for id in &written.imported {
            assert_eq!(store.get_session(*id).unwrap().messages, 20);
        }
        rounds += texts.len() / 2;
    }
    println!("{rounds} exchanges while {KILLS} connections were terminated");
    assert!(rounds > 20, "{rounds}");
    let imported: usize = results.iter().map(|written| written.imported.len()).sum();
    assert_eq!(store.info().unwrap().sessions, (results.len() + imported) as u64);
    let query = SearchQuery { text: "answer".into(), limit: 1, ..SearchQuery::default() };
    assert_eq!(store.search(&query).unwrap().total, rounds as u64);
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:?}", verification.problems);
}
