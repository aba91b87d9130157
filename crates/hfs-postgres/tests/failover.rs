//! The primary is killed, and its standby is promoted, while stores are written to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchId, Maintenance as _, MessageRange, MessageStore as _, ReplyDelta, SessionStore as _, SystemClock,
};
use testkit::builders::{Drafts, at};
use testkit::postgres::{Client, PostgresServer, ROLE};

/// Number of failovers, unless `HFS_FAILOVERS` has another one.
const FAILOVERS: u32 = 4;

/// Maximum time until every writer continues after a failover.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends messages with streamed replies until `ended`, and counts the exchanges. Returns the texts that were acknowledged.
fn write(
    url: &str,
    schema: &str,
    writer: u64,
    exchanges: &AtomicUsize,
    ended: &AtomicBool,
) -> (BranchId, Vec<String>) {
    let store = test_server::open(url, schema, Arc::new(SystemClock));
    let make = Drafts::new(10 + writer);
    let mut here = at(store.create_session(&make.session("s")).unwrap().current_branch, 0);
    let mut texts = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let (question, answer) = (format!("question {}", texts.len()), format!("answer {}", texts.len()));
        let begun = store.append_and_begin_reply(here, &[make.user(&question)], &make.assistant(""));
        let (_, reply) = begun.unwrap();
        store.extend_reply(reply, &[ReplyDelta::text("part")]).unwrap();
        store.finish_reply(reply, &make.assistant(&answer)).unwrap();
        here.head += 2;
        texts.extend([question, answer]);
        exchanges.fetch_add(1, Ordering::Relaxed);
    }
    (here.branch, texts)
}

#[test]
fn nothing_acknowledged_is_lost_when_a_standby_is_promoted_and_writers_continue() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(mut primary) = PostgresServer::start(cache, &[]) else { return };
    let failovers = std::env::var("HFS_FAILOVERS").ok().and_then(|number| number.parse().ok());
    let admin = Client::connect(&primary.url());
    // A commit is acknowledged when the standby has it. Each standby copies the setting, so it holds after its promotion, too.
    admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'");
    let mut standby = primary.start_standby(None);
    admin.execute("SELECT pg_reload_conf()");
    drop(admin);
    let url = format!("postgres://{ROLE}@127.0.0.1:{},127.0.0.1:{}/postgres", primary.port(), standby.port());
    let schema = PostgresServer::new_schema();
    drop(test_server::open(&url, &schema, Arc::new(SystemClock)));
    let (ended, exchanges) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 3]);
    let counts = || exchanges.each_ref().map(|count| count.load(Ordering::Relaxed));
    let mut stuck = None;
    let results = thread::scope(|scope| {
        let writers: Vec<_> = (0..)
            .zip(&exchanges)
            .map(|(writer, count)| {
                let (url, schema, ended) = (&url, &schema, &ended);
                scope.spawn(move || write(url, schema, writer, count, ended))
            })
            .collect();
        for _ in 0..failovers.unwrap_or(FAILOVERS) {
            thread::sleep(Duration::from_millis(fastrand::u64(300..1500)));
            let port = primary.port();
            // Dropping a server kills it without a checkpoint.
            drop(std::mem::replace(&mut primary, standby));
            primary.promote();
            standby = primary.start_standby(Some(port));
            let (before, started) = (counts(), Instant::now());
            let is_stuck = |counts: [usize; 3]| counts.iter().zip(before).any(|(now, before)| *now == before);
            while is_stuck(counts()) && started.elapsed() < CONTINUE_TIMEOUT {
                thread::sleep(Duration::from_millis(20));
            }
            if is_stuck(counts()) {
                stuck = Some(counts());
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(stuck, None, "a writer has not continued after a failover");
    let store = test_server::open(&url, &schema, Arc::new(SystemClock));
    for (branch, texts) in results {
        let messages = store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap();
        let stored: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
        assert!(texts.len() > 4, "{}", texts.len());
        assert_eq!(stored, texts);
    }
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:?}", verification.problems);
}
