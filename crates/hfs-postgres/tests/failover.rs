//! The primary is killed, and its standby is promoted, while stores are written to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hfs_core::{
    BranchId, Maintenance as _, MessageRange, MessageStore as _, ReplyDelta, SessionStore as _, SystemClock,
};
use testkit::builders::{Drafts, at};
use testkit::postgres::{PostgresServer, ROLE};

/// Number of failovers, unless `HFS_FAILOVERS` has another one.
const FAILOVERS: u32 = 4;

/// Sends messages with streamed replies until `ended`. Returns the texts that were acknowledged.
fn write(url: &str, schema: &str, writer: u64, ended: &AtomicBool) -> (BranchId, Vec<String>) {
    let store = common::open(url, schema, Arc::new(SystemClock));
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
    }
    (here.branch, texts)
}

#[test]
fn nothing_acknowledged_is_lost_when_a_standby_is_promoted_and_writers_continue() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(mut primary) = PostgresServer::start_with(cache, &[]) else { return };
    let failovers = std::env::var("HFS_FAILOVERS").ok().and_then(|number| number.parse().ok());
    let mut standby = primary.start_standby(None);
    let admin = common::Admin::connect(&primary);
    // From now on, a commit is acknowledged when the standby has it. Standbys inherit the setting.
    admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'");
    admin.execute("SELECT pg_reload_conf()");
    drop(admin);
    let url = format!("postgres://{ROLE}@127.0.0.1:{},127.0.0.1:{}/postgres", primary.port(), standby.port());
    let schema = PostgresServer::new_schema();
    drop(common::open(&url, &schema, Arc::new(SystemClock)));
    let ended = AtomicBool::new(false);
    let results = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (url, schema, ended) = (&url, &schema, &ended);
                scope.spawn(move || write(url, schema, writer, ended))
            })
            .collect();
        for _ in 0..failovers.unwrap_or(FAILOVERS) {
            thread::sleep(Duration::from_millis(fastrand::u64(300..1500)));
            let port = primary.port();
            // Dropping a server kills it without a checkpoint.
            drop(std::mem::replace(&mut primary, standby));
            primary.promote();
            standby = primary.start_standby(Some(port));
        }
        thread::sleep(Duration::from_millis(500));
        ended.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let store = common::open(&url, &schema, Arc::new(SystemClock));
    for (branch, texts) in results {
        let messages = store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap();
        let stored: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
        assert!(texts.len() > 4, "{}", texts.len());
        assert_eq!(stored, texts);
    }
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:?}", verification.problems);
}
