//! A repair removes what cannot be read, keeps the rest, and says what it has changed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use hfs_core::{
    AttachmentStore as _, CheckpointStore as _, Maintenance as _, MessageRange, MessageStatus,
    MessageStore as _, OperationStore as _, PageRequest, ReplyDelta, RunStore as _, SearchIndex as _,
    SearchQuery, SessionStore as _, SystemClock,
};
use testkit::builders::{Drafts, at, attachment, state_of};
use testkit::postgres::{Client, PostgresServer};

#[test]
fn a_repair_removes_what_is_unreadable_and_keeps_everything_else() {
    let Some(server) = test_server::server() else { return };
    let schema = PostgresServer::new_schema();
    let store = test_server::open(&server.url(), &schema, Arc::new(SystemClock));
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("s")).unwrap();
    let (broken, whole) = (attachment(b"broken"), attachment(b"whole"));
    store.put_attachment(&broken).unwrap();
    store.put_attachment(&whole).unwrap();
    let drafts = [
        make.user("first zebra"),
        make.user("second zebra"),
        make.full_message(&broken),
        make.full_message(&whole),
        make.user("last zebra"),
    ];
    let here = store.append(at(session.current_branch, 0), &drafts).unwrap().position;
    let bad = store.create_checkpoint(&make.checkpoint(here, state_of(&["bad"])), 10).unwrap();
    let good = store.create_checkpoint(&make.checkpoint(here, state_of(&["good"])), 10).unwrap();
    store.save_run(&make.run(here.branch)).unwrap();
    store.rename_session(session.id, "renamed", false, make.now()).unwrap();
    let reply = store.begin_reply(here, &make.assistant("")).unwrap();
    store.extend_reply(reply, &[ReplyDelta::text("half")]).unwrap();
    assert!(store.verify().unwrap().is_ok());
    assert_eq!(store.repair().unwrap(), [], "a repair changes nothing that is right");

    Client::connect(&server.url()).execute(&format!(
        "SET search_path = {schema};
        UPDATE message SET body = '\\xff' WHERE seq = 2;
        UPDATE state SET data = '\\x00' WHERE hash = (SELECT state FROM checkpoint WHERE number = {});
        UPDATE attachment SET bytes = 'other' WHERE hash = '\\x{}';
        DELETE FROM attachment_use WHERE hash = '\\x{}';
        UPDATE run SET events = '\\x00';
        UPDATE operation SET after = '{{' WHERE kind = 'rename';
        DELETE FROM message_text WHERE seq = 1;
        UPDATE message_text SET terms = NULL WHERE seq = 5;
        INSERT INTO message_text SELECT session, branch, 77, 1, NULL FROM message_text LIMIT 1;
        UPDATE activity SET messages = 99;
        UPDATE session SET current_branch = 9;
        DELETE FROM reply;",
        bad.number, broken.hash, whole.hash
    ));
    let found = store.verify().unwrap().problems;
    assert!(found.len() >= 9, "{found:#?}");
    let repaired = store.repair().unwrap();
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:#?}\n{repaired:#?}", verification.problems);
    for expected in ["message", "state", "attachment", "run", "operation", "text index", "session"] {
        let is_named = repaired.iter().any(|problem| problem.place.contains(expected));
        assert!(is_named, "{expected}: {repaired:#?}");
    }
    assert_eq!(store.repair().unwrap(), [], "nothing is left to repair");

    let messages = store.read_messages(here.branch, MessageRange::From(1, u32::MAX)).unwrap();
    let texts: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
    assert_eq!((messages.len(), texts[0].as_str(), texts[4].as_str()), (6, "first zebra", "last zebra"));
    assert!(texts[1].contains("damaged"), "{texts:?}");
    assert_eq!((texts[5].as_str(), messages[5].content.status), ("half", MessageStatus::Interrupted));
    assert_eq!(store.get_attachment(whole.hash).unwrap(), b"whole");
    assert!(store.get_attachment(broken.hash).is_err());
    assert_eq!(store.load_state(good.id).unwrap(), state_of(&["good"]));
    assert!(store.load_state(bad.id).is_err());
    assert_eq!(store.list_runs(session.id).unwrap(), []);
    let query = SearchQuery { text: "zebra".into(), limit: 10, ..SearchQuery::default() };
    assert_eq!(store.search(&query).unwrap().total, 2);
    let operations = store.list_operations(Some(session.id), &PageRequest::first(10)).unwrap();
    assert_eq!(operations.unreadable, 0);
    store.append(at(here.branch, 6), &[make.user("continues")]).unwrap();
}
