//! A failure is reported as an error and loses no acknowledged data. The store works again after its cause is removed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print why they were skipped"
)]

mod damage;
mod files;

use std::fmt::Debug;
use std::path::Path;

use hfs_core::{
    ErrorExt, ErrorKind, Message, MessageRange, PageRequest, Position, Session, SessionFilter, Store,
    StoreResult,
};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, at};

fn open(path: &Path) -> SqliteStore {
    try_open(path).unwrap()
}

fn try_open(path: &Path) -> StoreResult<SqliteStore> {
    SqliteStore::open(path, SqliteOptions::default())
}

/// Creates a session with this number of messages.
fn create_session(store: &dyn Store, make: &Drafts, name: &str, messages: u64) -> Session {
    let session = store.create_session(&make.session(name)).unwrap();
    let drafts: Vec<_> =
        (1..=messages).map(|n| make.user(&format!("{name} says its line number {n}"))).collect();
    store.append(at(session.current_branch, 0), &drafts).unwrap();
    session
}

fn head(store: &dyn Store, session: &Session) -> Position {
    let branch = store.get_branch(session.current_branch).unwrap();
    at(branch.id, branch.head)
}

fn history(store: &dyn Store, session: &Session) -> Vec<Message> {
    store.read_messages(session.current_branch, MessageRange::From(1, u32::MAX)).unwrap()
}

fn all_sessions(store: &dyn Store) -> StoreResult<Vec<Session>> {
    let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(1000))?;
    Ok(page.items.into_iter().map(|summary| summary.session).collect())
}

#[track_caller]
fn assert_fails<T: Debug>(result: StoreResult<T>, kinds: &[ErrorKind]) {
    let error = result.unwrap_err();
    assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
}

#[track_caller]
fn assert_intact(store: &dyn Store) {
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:#?}", verification.problems);
}
