//! Lost connections, and errors of the server that a user can solve.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{
    AttachmentStore as _, BranchId, CheckpointStore as _, ErrorExt as _, ErrorKind, Maintenance as _,
    MessageRange, MessageStore as _, ReplyDelta, SessionStore as _, StoreError, SystemClock,
};
use hfs_postgres::{PostgresOptions, PostgresStore};
use testkit::builders::{Drafts, at, attachment, state_of};
use testkit::postgres::{Client, Fault, GUARDED_ROLE, PASSWORD, PostgresServer, Proxy};

fn texts(store: &PostgresStore, branch: BranchId) -> Vec<String> {
    let messages = store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap();
    messages.iter().map(|message| message.content.text()).collect()
}

#[test]
fn a_write_whose_commit_is_not_answered_is_stored_once() {
    let Some(server) = test_server::server() else { return };
    let proxy = Proxy::start(server.port());
    let schema = PostgresServer::new_schema();
    let url = PostgresServer::url_at(proxy.port());
    let store = test_server::open(&url, &schema, Arc::new(SystemClock));
    let make = Drafts::new(1);
    let mut main = at(store.create_session(&make.session("s")).unwrap().current_branch, 0);
    let mut expected = Vec::new();
    let rounds: [&[Fault]; 5] = [
        &[Fault::BeforeCommit],
        &[Fault::AfterCommit],
        &[Fault::AfterCommit, Fault::BeforeCommit],
        &[Fault::BeforeCommit, Fault::BeforeCommit, Fault::BeforeCommit],
        &[],
    ];
    for (round, faults) in rounds.into_iter().enumerate() {
        proxy.lose(faults);
        let text = format!("message {round}");
        main = store.append(main, &[make.user(&text)]).unwrap().position;
        assert_eq!(proxy.pending(), 0, "the connection was lost in round {round}");
        expected.push(text);
    }
    proxy.lose(&[Fault::AfterCommit]);
    let renamed = store.get_session(make_session_id(&store)).unwrap().session.id;
    store.rename_session(renamed, "renamed", false, make.now()).unwrap();
    assert_eq!(proxy.pending(), 0);
    assert_eq!(texts(&store, main.branch), expected);
    let summary = store.get_session(renamed).unwrap();
    assert_eq!((summary.messages, summary.session.name.as_str()), (expected.len() as u64, "renamed"));
    assert!(store.verify().unwrap().is_ok());
}

fn make_session_id(store: &PostgresStore) -> hfs_core::SessionId {
    store.resolve_session(&hfs_core::SessionRef::Recent(0), None, false).unwrap()
}

#[test]
fn writers_continue_while_their_connections_are_terminated_and_nothing_is_lost_or_doubled() {
    let Some(server) = test_server::server() else { return };
    let (database, schema) = (server.new_database(), PostgresServer::new_schema());
    let url = database.url();
    let admin = Client::connect(&database.url());
    let (ended, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // On a busy machine, the migration of a new schema takes longer than the time between two rounds.
    drop(test_server::open(&url, &schema, Arc::new(SystemClock)));
    let branches: Vec<(BranchId, usize)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let (url, schema, finished) = (&url, &schema, &finished);
                scope.spawn(move || {
                    let store = test_server::open(url, schema, Arc::new(SystemClock));
                    let make = Drafts::new(10 + writer);
                    let session = store.create_session(&make.session(&format!("{writer}"))).unwrap();
                    let mut main = at(session.current_branch, 0);
                    let started = Instant::now();
                    let mut count = 0;
                    while started.elapsed() < Duration::from_secs(6) || count <= 5 {
                        let (user, reply) = (make.user(&format!("question {count}")), make.assistant(""));
                        let (_, handle) = store.append_and_begin_reply(main, &[user], &reply).unwrap();
                        store.extend_reply(handle, &[ReplyDelta::text("a")]).unwrap();
                        store.extend_reply(handle, &[ReplyDelta::text("b")]).unwrap();
                        store.finish_reply(handle, &make.assistant(&format!("answer {count}"))).unwrap();
                        main.head += 2;
                        count += 1;
                        finished.fetch_add(1, Ordering::Relaxed);
                    }
                    (main.branch, count)
                })
            })
            .collect();
        let (is_ended, finished) = (Arc::clone(&ended), Arc::clone(&finished));
        let killer = scope.spawn(move || {
            let (mut kills, mut last, mut kills_since) = (0, 0, 0);
            while !is_ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(fastrand::u64(1..100)));
                // A busy machine would finish no write between two rounds, so they wait for one now and then.
                let now = finished.load(Ordering::Relaxed);
                kills_since = if now == last { kills_since + 1 } else { 0 };
                last = now;
                if kills_since > 20 {
                    continue;
                }
                if kills % 10 == 0 {
                    admin.terminate_stores();
                } else {
                    let _ = admin.terminate_one();
                }
                kills += 1;
            }
            kills
        });
        let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Also if a writer has panicked, because the scope waits for the killer.
        ended.store(true, Ordering::Relaxed);
        let kills = killer.join().unwrap();
        println!("{kills} rounds of terminated connections");
        results.into_iter().map(Result::unwrap).collect()
    });
    let store = test_server::open(&url, &schema, Arc::new(SystemClock));
    for (branch, count) in branches {
        let expected: Vec<String> =
            (0..count).flat_map(|n| [format!("question {n}"), format!("answer {n}")]).collect();
        assert!(count > 5, "{count}");
        assert_eq!(texts(&store, branch), expected);
    }
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn an_idle_connection_that_was_closed_costs_nothing() {
    let Some(server) = test_server::server() else { return };
    let database = server.new_database();
    let store = test_server::open(&database.url(), &PostgresServer::new_schema(), Arc::new(SystemClock));
    let make = Drafts::new(1);
    let main = at(store.create_session(&make.session("s")).unwrap().current_branch, 0);
    Client::connect(&database.url()).terminate_stores();
    store.append(main, &[make.user("after")]).unwrap();
    assert_eq!(texts(&store, main.branch), ["after"]);
}

#[test]
fn a_reply_is_interrupted_when_the_presence_of_its_writer_has_expired() {
    let Some(server) = test_server::server() else { return };
    let schema = PostgresServer::new_schema();
    let [store, other] = [0, 1].map(|_| test_server::open(&server.url(), &schema, Arc::new(SystemClock)));
    let make = Drafts::new(1);
    let main = at(store.create_session(&make.session("s")).unwrap().current_branch, 0);
    let reply = store.begin_reply(main, &make.assistant("")).unwrap();
    store.extend_reply(reply, &[ReplyDelta::text("half")]).unwrap();
    let rejected = other.append(at(main.branch, 1), &[make.user("too early")]);
    assert!(matches!(rejected, Err(StoreError::Locked { seq: 1 })), "{rejected:?}");
    // As if the writer had been killed two minutes ago.
    let sql = format!("UPDATE {schema}.presence SET renewed_at = now() - interval '2 minutes'");
    Client::connect(&server.url()).execute(&sql);
    other.append(at(main.branch, 1), &[make.user("next")]).unwrap();
    assert_eq!(texts(&other, main.branch), ["half", "next"]);
    assert!(matches!(
        store.extend_reply(reply, &[ReplyDelta::text("late")]),
        Err(StoreError::Conflict { .. })
    ));
}

#[test]
fn a_late_write_leaves_no_rows_of_a_session_that_is_purged() {
    let Some(server) = test_server::server() else { return };
    let schema = PostgresServer::new_schema();
    let store = test_server::open(&server.url(), &schema, Arc::new(SystemClock));
    let make = Drafts::new(1);
    for _ in 0..5 {
        let session = store.create_session(&make.session("s")).unwrap();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..3 {
                let (schema, ended) = (&schema, &ended);
                scope.spawn(move || {
                    // As another process would.
                    let store = test_server::open(&server.url(), schema, Arc::new(SystemClock));
                    let make = Drafts::new(100 + writer);
                    let mut here = at(session.current_branch, 0);
                    while !ended.load(Ordering::Relaxed) {
                        match store.append(here, &[make.user("late")]) {
                            Ok(appended) => here = appended.position,
                            Err(StoreError::HeadMismatch { found, .. }) => here = found,
                            Err(StoreError::NotFound { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(150));
            store.purge_session(session.id).unwrap();
            ended.store(true, Ordering::Relaxed);
        });
    }
    let client = Client::connect(&server.url());
    for table in
        ["session", "activity", "branch", "message", "message_text", "operation", "reply", "reply_piece"]
    {
        assert_eq!(client.query(&format!("SELECT count(*) FROM {schema}.{table}"))[0][0], "0", "{table}");
    }
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:?}", verification.problems);
}

#[test]
fn what_two_sessions_share_is_removed_when_both_are_purged_at_the_same_time() {
    let Some(server) = test_server::server() else { return };
    let store = test_server::open(&server.url(), &PostgresServer::new_schema(), Arc::new(SystemClock));
    let make = Drafts::new(1);
    let shared = attachment(b"picture");
    for _ in 0..20 {
        let sessions = [0, 1].map(|_| {
            let session = store.create_session(&make.session("s")).unwrap();
            store.put_attachment(&shared).unwrap();
            let here = at(session.current_branch, 0);
            let here = store.append(here, &[make.full_message(&shared)]).unwrap().position;
            store.create_checkpoint(&make.checkpoint(here, state_of(&["shared"])), 10).unwrap();
            session.id
        });
        thread::scope(|scope| {
            for session in sessions {
                let store = &store;
                scope.spawn(move || store.purge_session(session).unwrap());
            }
        });
        let left = store.get_attachment(shared.hash);
        assert!(matches!(left, Err(StoreError::NotFound { .. })), "{left:?}");
        let verification = store.verify().unwrap();
        assert!(verification.is_ok(), "{:?}", verification.problems);
    }
}

/// The error of opening a store, with its cause.
fn failure(url: &str) -> (ErrorKind, String) {
    let error = PostgresStore::open(url, &PostgresOptions::default()).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    (error.kind(), format!("{error}: {cause}"))
}

#[test]
fn errors_say_what_to_do_and_contain_no_password() {
    let Some(server) = test_server::server() else { return };
    let port = server.port();
    let admin = Client::connect(&server.url());
    admin.execute(&format!("DROP ROLE IF EXISTS {GUARDED_ROLE}"));
    admin.execute(&format!("CREATE ROLE {GUARDED_ROLE} LOGIN PASSWORD '{PASSWORD}'"));
    let cases = [
        (
            format!("postgres://{GUARDED_ROLE}:wrongword@127.0.0.1:{port}/postgres"),
            ErrorKind::Denied,
            "PGPASSWORD",
        ),
        (
            format!("postgres://{GUARDED_ROLE}:se%20same@127.0.0.1:{port}/postgres"),
            ErrorKind::Denied,
            "right",
        ),
        (PostgresServer::url_at(port).replace("/postgres", "/missing"), ErrorKind::Unavailable, "createdb"),
        (PostgresServer::url_at(1), ErrorKind::Unavailable, "check that it is running"),
        (format!("{}?sslmode=require", server.url()), ErrorKind::Unavailable, "TLS"),
    ];
    for (url, kind, hint) in cases {
        let started = Instant::now();
        let (found, text) = failure(&url);
        assert!(started.elapsed() < Duration::from_secs(10), "{text}");
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(hint), "{text}");
        assert!(!text.contains("wrongword") && !text.contains("same@"), "{text}");
    }
}

#[test]
fn a_newer_schema_is_rejected_and_not_changed() {
    let Some(server) = test_server::server() else { return };
    let schema = PostgresServer::new_schema();
    drop(test_server::open(&server.url(), &schema, Arc::new(SystemClock)));
    Client::connect(&server.url()).execute(&format!("UPDATE {schema}.schema_version SET version = 999"));
    let options = PostgresOptions { schema, ..PostgresOptions::default() };
    let rejected = PostgresStore::open(&server.url(), &options);
    assert!(matches!(rejected, Err(StoreError::Newer { found: 999, .. })), "{rejected:?}");
}
