//! Copies of whole stores.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;

use hfs_core::{
    CheckpointStore as _, Continuation, CopyStore as _, MessageStore as _, OperationKind,
    OperationStore as _, PageRequest, ReplyDelta, SessionFilter, SessionStore as _, Store, SystemClock,
};
use hfs_engine::{CopyReport, Difference, copy_store};
use hfs_store::{MemoryStore, SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, at, fill};

fn memory() -> MemoryStore {
    MemoryStore::new(Arc::new(SystemClock))
}

fn copy(from: &dyn Store, to: &dyn Store) -> CopyReport {
    copy_store(from.snapshot().unwrap().as_ref(), to, &mut |_, _| {}).unwrap()
}

#[test]
fn a_copy_is_equal_in_everything_and_can_be_continued_like_the_original() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteStore::open(directory.path().join(name), SqliteOptions::default()).unwrap();
    let (first, between, last) = (open("first.db"), memory(), open("last.db"));
    let make = Drafts::new(1);
    let sessions = fill(&first, &make);
    for (from, to) in [(&first as &dyn Store, &between as &dyn Store), (&between, &last)] {
        let report = copy(from, to);
        assert!(report.is_complete(), "{report:?}");
        assert_eq!((report.copied, report.already_there), (4, 0));
        let verification = to.verify().unwrap();
        assert!(verification.is_ok(), "{:?}", verification.problems);
    }
    let list = |store: &dyn Store, trashed| {
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        store.list_sessions(&filter, &PageRequest::first(9)).unwrap().items
    };
    for trashed in [false, true] {
        assert_eq!(list(&first, trashed), list(&last, trashed));
    }
    assert_eq!(last.list_purged_sources().unwrap(), first.list_purged_sources().unwrap());
    assert!(last.was_purged("codex", "purged").unwrap());
    assert!(!last.was_continued_purged(Continuation::Session(sessions[0])).unwrap());

    // Undo, redo and numbers of checkpoints continue as in the original.
    for store in [&first, &last] {
        let operations = store.list_operations(Some(sessions[0]), &PageRequest::first(9)).unwrap().items;
        let rename = operations.iter().find(|operation| operation.kind == OperationKind::RenameBranch);
        store.reverse(rename.unwrap().id, OperationKind::Undo, Drafts::new(2).now()).unwrap();
        let main = store.list_checkpoints(sessions[0]).unwrap()[0].branch;
        let new = Drafts::new(3).checkpoint(at(main, 1), testkit::builders::growing_state(1));
        assert_eq!(store.create_checkpoint(&new, 9).unwrap().number, 7);
    }
}

#[test]
fn a_second_copy_adds_what_is_new_and_reports_what_has_changed() {
    let (from, to, make) = (memory(), memory(), Drafts::new(1));
    let sessions = fill(&from, &make);
    assert!(copy(&from, &to).is_complete());
    let new = from.create_session(&make.session("new")).unwrap();
    to.rename_session(sessions[2], "renamed", false, make.now()).unwrap();
    let branch = from.get_session(sessions[1]).unwrap().session.current_branch;
    to.append(at(branch, 2), &[make.user("later")]).unwrap();
    let report = copy(&from, &to);
    assert_eq!((report.copied, report.already_there), (1, 2));
    let mut differing: Vec<_> =
        report.differing.iter().map(|session| (session.id, session.difference)).collect();
    differing.sort();
    assert_eq!(differing, [(sessions[1], Difference::Attributes), (sessions[2], Difference::Attributes)]);
    assert_eq!(to.get_session(sessions[2]).unwrap().session.name, "renamed");
    assert_eq!(to.get_session(new.id).unwrap().session.name, "new");
}

#[test]
fn a_reply_that_is_being_written_is_copied_as_an_interrupted_one() {
    let (from, to, make) = (memory(), memory(), Drafts::new(1));
    let session = from.create_session(&make.session("s")).unwrap();
    let reply = from.begin_reply(at(session.current_branch, 0), &make.assistant("")).unwrap();
    from.extend_reply(reply, &[ReplyDelta::text("half")]).unwrap();
    assert!(copy(&from, &to).is_complete());
    let message = to.get_message(reply.message).unwrap();
    assert_eq!(message.content.text(), "half");
    assert_eq!(message.content.status, hfs_core::MessageStatus::Interrupted);
}
