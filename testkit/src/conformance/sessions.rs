//! Sessions: creation, names, lists and references.

use hfs_core::{
    Cursor, ErrorKind, MAIN_BRANCH, OperationKind, Origin, PageRequest, Project, SessionDraft, SessionFilter,
    SessionId, SessionRef, Store, StoreError,
};
use serde_json::json;
use uuid::Uuid;

use super::Fixture;
use super::fixture::{expect_error, expect_kind};
use crate::builders::at;

fn full_draft(fixture: &Fixture<'_>) -> SessionDraft {
    SessionDraft {
        automatic_name: true,
        project: Some(Project {
            directory: "/home/user/wörk".into(),
            repository: Some("https://example.org/r.git".into()),
        }),
        origin: Some(Origin {
            format: "claude-code".into(),
            id: "abc".into(),
            path: Some("/tmp/x y.jsonl".into()),
        }),
        extra: json!({"z": [1, {"y": null}], "a": "ü"}).as_object().cloned().unwrap().into(),
        ..fixture.drafts.session("Grüße \u{1f980}\nsecond line")
    }
}

pub fn a_new_session_has_an_empty_main_branch(fixture: &Fixture<'_>) {
    let draft = full_draft(fixture);
    let session = fixture.store.create_session(&draft).unwrap();
    assert_eq!(session.id, draft.id);
    assert_eq!(session.name, draft.name);
    assert!(session.automatic_name);
    assert_eq!(session.project, draft.project);
    assert_eq!(session.origin, draft.origin);
    assert_eq!(session.extra, draft.extra);
    assert_eq!(session.current_branch, draft.main_branch);
    assert_eq!((session.created_at, session.updated_at), (draft.created_at, draft.created_at));
    assert_eq!(session.trashed_at, None);

    let branches = fixture.store.list_branches(draft.id).unwrap();
    assert_eq!(branches.len(), 1);
    assert_eq!(branches[0].name, MAIN_BRANCH);
    assert_eq!((branches[0].parent, branches[0].forked_at, branches[0].head), (None, 0, 0));
    assert_eq!((branches[0].created_at, branches[0].undone), (draft.created_at, false));
    assert_eq!(fixture.history(draft.main_branch), []);
}

pub fn a_session_is_the_same_in_every_process(fixture: &Fixture<'_>) {
    let session = fixture.store.create_session(&full_draft(fixture)).unwrap();
    let summary = fixture.other_process().get_session(session.id).unwrap();
    assert_eq!(summary.session, session);
    assert_eq!(
        summary.session.extra.as_map().keys().collect::<Vec<_>>(),
        ["z", "a"],
        "passthrough fields keep their order"
    );
}

pub fn session_and_branch_ids_are_unique(fixture: &Fixture<'_>) {
    let draft = fixture.drafts.session("first");
    fixture.store.create_session(&draft).unwrap();
    expect_kind(fixture.store.create_session(&draft), ErrorKind::Conflict);
    let same_branch = SessionDraft { main_branch: draft.main_branch, ..fixture.drafts.session("second") };
    expect_kind(fixture.store.create_session(&same_branch), ErrorKind::Conflict);
    expect_kind(fixture.store.get_session(same_branch.id), ErrorKind::NotFound);
    assert_eq!(fixture.store.get_session(draft.id).unwrap().session.name, "first");
}

pub fn unknown_ids_are_not_found(fixture: &Fixture<'_>) {
    let (id, now) = (fixture.drafts.ids.session(), fixture.drafts.now());
    let project = Project { directory: "/".into(), repository: None };
    expect_kind(fixture.store.get_session(id), ErrorKind::NotFound);
    expect_kind(fixture.store.rename_session(id, "x", false, now), ErrorKind::NotFound);
    expect_kind(fixture.store.trash_session(id, now), ErrorKind::NotFound);
    expect_kind(fixture.store.restore_session(id, now), ErrorKind::NotFound);
    expect_kind(fixture.store.purge_session(id), ErrorKind::NotFound);
    expect_kind(fixture.store.set_project(id, &project), ErrorKind::NotFound);
    expect_kind(fixture.store.list_branches(id), ErrorKind::NotFound);
    expect_kind(fixture.store.list_runs(id), ErrorKind::NotFound);
    expect_kind(fixture.store.list_checkpoints(id), ErrorKind::NotFound);
    expect_kind(fixture.store.recover_abandoned_replies(Some(id), now), ErrorKind::NotFound);
    expect_kind(fixture.store.list_operations(Some(id), &PageRequest::first(1)), ErrorKind::NotFound);
}

pub fn a_rename_by_the_user_is_recorded(fixture: &Fixture<'_>) {
    let session = fixture.session("before");
    let now = fixture.drafts.now();
    fixture.store.rename_session(session.id, "after ü", false, now).unwrap();
    let renamed = fixture.store.get_session(session.id).unwrap().session;
    assert_eq!((renamed.name.as_str(), renamed.automatic_name, renamed.updated_at), ("after ü", false, now));
    let operation = fixture.last_operation(session.id);
    assert_eq!(operation.kind, OperationKind::Rename);
    assert_eq!(operation.before.unwrap().name, "before");
    assert_eq!(operation.after.name, "after ü");
    assert_eq!(operation.created_at, now);
}

pub fn an_automatic_name_replaces_an_automatic_one_without_a_record(fixture: &Fixture<'_>) {
    let draft = SessionDraft { automatic_name: true, ..fixture.drafts.session("New session") };
    let session = fixture.store.create_session(&draft).unwrap();
    fixture.store.rename_session(session.id, "Fix login", true, fixture.drafts.now()).unwrap();
    let renamed = fixture.store.get_session(session.id).unwrap().session;
    assert_eq!((renamed.name.as_str(), renamed.automatic_name), ("Fix login", true));
    assert_eq!(fixture.operations(session.id).len(), 1, "only `create` is recorded");

    fixture.store.rename_session(session.id, "Mine", false, fixture.drafts.now()).unwrap();
    let operation = fixture.last_operation(session.id);
    assert!(operation.before.unwrap().automatic_name);
    assert!(!operation.after.automatic_name);
}

pub fn an_automatic_name_never_replaces_a_users_name(fixture: &Fixture<'_>) {
    let session = fixture.session("Mine");
    fixture.store.rename_session(session.id, "Theirs", true, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.store.get_session(session.id).unwrap().session, session);
    assert_eq!(fixture.operations(session.id).len(), 1);
}

pub fn the_project_can_be_set_later(fixture: &Fixture<'_>) {
    let session = fixture.session("s");
    let project = Project { directory: "/w".into(), repository: Some("/w/.git".into()) };
    fixture.store.set_project(session.id, &project).unwrap();
    let after = fixture.store.get_session(session.id).unwrap().session;
    assert_eq!(after.project, Some(project));
    assert_eq!(after.updated_at, session.updated_at);
    assert_eq!(fixture.operations(session.id).len(), 1);
}

pub fn a_summary_counts_messages_branches_and_checkpoints(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let main = fixture.append_numbered(main, "main", 5);
    let (side, fork) = fixture.fork(at(main.branch, 2), "side");
    fixture.append_numbered(side, "side", 6);
    for seq in 1..=3 {
        fixture.checkpoint(at(main.branch, seq), crate::builders::growing_state(1), 10);
    }
    let summary = fixture.store.get_session(session).unwrap();
    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (9, 2, 3));
    assert_eq!(summary.branch, "side");

    fixture.undo(fork.id).unwrap();
    let summary = fixture.store.get_session(session).unwrap();
    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (9, 1, 3));
    assert_eq!(summary.branch, "main");
}

pub fn the_time_of_the_last_change_never_decreases(fixture: &Fixture<'_>) {
    let session = fixture.session("s");
    let early = fixture.drafts.user("early");
    let late = fixture.drafts.user("late");
    let updated = |store: &dyn Store| store.get_session(session.id).unwrap().session.updated_at;

    let here =
        fixture.store.append(at(session.current_branch, 0), std::slice::from_ref(&late)).unwrap().position;
    assert_eq!(updated(&*fixture.store), late.created_at);
    fixture.store.append(here, std::slice::from_ref(&early)).unwrap();
    assert_eq!(updated(&*fixture.store), late.created_at);
    fixture.store.rename_session(session.id, "x", false, early.created_at).unwrap();
    assert_eq!(updated(&*fixture.store), late.created_at);
    let now = fixture.drafts.now();
    fixture.store.trash_session(session.id, now).unwrap();
    assert_eq!(updated(&*fixture.other_process()), now);
}

/// The ids on all pages of a list, and the number of pages.
fn pages(store: &dyn Store, filter: &SessionFilter, limit: u32) -> (Vec<SessionId>, usize) {
    let mut page = PageRequest::first(limit);
    let mut listed = Vec::new();
    for count in 1.. {
        let found = store.list_sessions(filter, &page).unwrap();
        assert!(found.items.len() <= limit as usize);
        listed.extend(found.items.iter().map(|summary| summary.session.id));
        match found.next {
            Some(next) => page.after = Some(next),
            None => return (listed, count),
        }
        assert!(count < 1000, "the pages never end");
    }
    unreachable!("the loop returns")
}

pub fn sessions_are_listed_newest_first_without_gaps_between_pages(fixture: &Fixture<'_>) {
    let mut expected: Vec<SessionId> = (0..25).map(|n| fixture.session(&format!("session {n}")).id).collect();
    expected.reverse();
    for (limit, count) in [(1, 25), (4, 7), (5, 5), (24, 2), (25, 1), (100, 1)] {
        assert_eq!(pages(&*fixture.store, &SessionFilter::default(), limit), (expected.clone(), count));
    }
}

pub fn sessions_with_equal_times_are_each_listed_once(fixture: &Fixture<'_>) {
    let now = fixture.drafts.now();
    let mut expected: Vec<SessionId> = (0..10)
        .map(|_| {
            let draft = SessionDraft { created_at: now, ..fixture.drafts.session("same") };
            fixture.store.create_session(&draft).unwrap().id
        })
        .collect();
    expected.sort();
    expected.reverse();
    assert_eq!(pages(&*fixture.store, &SessionFilter::default(), 3), (expected, 4));
}

pub fn a_changed_session_moves_to_the_front_of_the_list(fixture: &Fixture<'_>) {
    let sessions: Vec<_> = (0..4).map(|n| fixture.session(&format!("{n}"))).collect();
    let order = || pages(&*fixture.store, &SessionFilter::default(), 2).0;
    fixture.append_text(at(sessions[1].current_branch, 0), "hello");
    assert_eq!(order(), [1, 3, 2, 0].map(|n: usize| sessions[n].id));
    fixture.store.rename_session(sessions[0].id, "renamed", false, fixture.drafts.now()).unwrap();
    assert_eq!(order(), [0, 1, 3, 2].map(|n: usize| sessions[n].id));
    fixture.append_text(at(sessions[1].current_branch, 1), "again");
    fixture.append_text(at(sessions[1].current_branch, 2), "and again");
    assert_eq!(order(), [1, 0, 3, 2].map(|n: usize| sessions[n].id));
}

pub fn a_page_cursor_stays_valid_while_sessions_change(fixture: &Fixture<'_>) {
    let sessions: Vec<_> = (0..9).map(|n| fixture.session(&format!("{n}"))).collect();
    let filter = SessionFilter::default();
    let first = fixture.store.list_sessions(&filter, &PageRequest::first(3)).unwrap();
    assert_eq!(first.items.last().unwrap().session.id, sessions[6].id);

    // The last row of the page is deleted, the row after it is trashed, one moves to the front, a new one is added.
    fixture.store.purge_session(sessions[6].id).unwrap();
    fixture.store.trash_session(sessions[5].id, fixture.drafts.now()).unwrap();
    fixture.append_text(at(sessions[3].current_branch, 0), "to the front");
    fixture.session("new");

    let page = PageRequest { limit: 100, after: first.next };
    let rest = fixture.store.list_sessions(&filter, &page).unwrap();
    let rest: Vec<SessionId> = rest.items.iter().map(|summary| summary.session.id).collect();
    assert_eq!(rest, [4, 2, 1, 0].map(|n: usize| sessions[n].id));
}

pub fn sessions_can_be_filtered_by_project_origin_and_trash(fixture: &Fixture<'_>) {
    let make = |name: &str, project: Option<Project>, origin: Option<&str>| {
        let origin = origin.map(|id| Origin { format: "codex".into(), id: id.into(), path: None });
        let draft = SessionDraft { project, origin, ..fixture.drafts.session(name) };
        fixture.store.create_session(&draft).unwrap().id
    };
    let directory = |path: &str| Project { directory: path.into(), repository: None };
    let repository = |path: &str| Project { directory: path.into(), repository: Some("git:x".into()) };
    let plain = make("plain", Some(directory("/a")), None);
    let here = make("here", Some(repository("/a")), Some("1"));
    let there = make("there", Some(repository("/b")), Some("2"));
    let nowhere = make("nowhere", None, Some("1x"));

    let listed = |filter: SessionFilter| {
        let listed = pages(&*fixture.store, &filter, 1).0;
        assert_eq!(listed, pages(&*fixture.other_process(), &filter, 100).0);
        listed
    };
    let of = |key: &str| SessionFilter { project: Some(key.into()), ..SessionFilter::default() };
    let from =
        |id: &str| SessionFilter { origin: Some(("codex".into(), id.into())), ..SessionFilter::default() };
    assert_eq!(listed(SessionFilter::default()), [nowhere, there, here, plain]);
    assert_eq!(listed(of("git:x")), [there, here]);
    assert_eq!(listed(of("/a")), [plain]);
    assert_eq!(listed(of("/b")), []);
    assert_eq!(listed(from("1")), [here]);
    assert_eq!(listed(SessionFilter { origin: Some(("other".into(), "1".into())), ..of("git:x") }), []);
    assert_eq!(listed(SessionFilter { project: Some("git:x".into()), ..from("2") }), [there]);
    let within =
        |text: &str| SessionFilter { project_contains: Some(text.into()), ..SessionFilter::default() };
    assert_eq!(listed(within("/A")), [here, plain]);
    assert_eq!(listed(within("GIT")), [there, here]);
    assert_eq!(listed(within("%")), []);
    let by = |tool: &str| SessionFilter { tool: Some(tool.into()), ..SessionFilter::default() };
    assert_eq!(listed(by("codex")), [nowhere, there, here]);
    assert_eq!(listed(by(SessionFilter::HFS)), [plain]);
    let exported = SessionDraft {
        origin: Some(Origin { format: SessionFilter::HFS.into(), id: "3".into(), path: None }),
        ..fixture.drafts.session("an export of hfs")
    };
    let exported = fixture.store.create_session(&exported).unwrap().id;
    assert_eq!(listed(by(SessionFilter::HFS)), [exported, plain]);
    fixture.store.purge_session(exported).unwrap();
    assert_eq!(listed(by("other")), []);
    assert_eq!(listed(SessionFilter { tool: Some("codex".into()), ..within("/b") }), [there]);

    fixture.store.trash_session(here, fixture.drafts.now()).unwrap();
    fixture.store.trash_session(plain, fixture.drafts.now()).unwrap();
    assert_eq!(listed(of("git:x")), [there]);
    assert_eq!(listed(from("1")), []);
    assert_eq!(listed(SessionFilter { trashed: true, ..SessionFilter::default() }), [plain, here]);
    assert_eq!(listed(SessionFilter { trashed: true, ..of("git:x") }), [here]);
    assert_eq!(listed(SessionFilter { trashed: true, ..from("1") }), [here]);
}

pub fn a_cursor_of_another_list_is_invalid(fixture: &Fixture<'_>) {
    let session = fixture.session("one");
    fixture.session("two");
    fixture.store.rename_session(session.id, "x", false, fixture.drafts.now()).unwrap();
    let filter = SessionFilter::default();
    let sessions = fixture.store.list_sessions(&filter, &PageRequest::first(1)).unwrap().next;
    let operations = fixture.store.list_operations(None, &PageRequest::first(1)).unwrap().next;
    assert!(sessions.is_some() && operations.is_some());
    let page = |after: Option<Cursor>| PageRequest { limit: 1, after };
    expect_kind(fixture.store.list_sessions(&filter, &page(operations)), ErrorKind::Invalid);
    expect_kind(fixture.store.list_operations(None, &page(sessions)), ErrorKind::Invalid);
    for text in ["", "x", "0", "/", "session/1", "é", "' OR 1=1 --", "99999999999999999999999999"] {
        let after = Some(Cursor(text.into()));
        expect_kind(fixture.store.list_sessions(&filter, &page(after.clone())), ErrorKind::Invalid);
        expect_kind(fixture.store.list_operations(None, &page(after)), ErrorKind::Invalid);
    }
}

fn with_id(fixture: &Fixture<'_>, id: &str, name: &str) -> SessionId {
    let id = SessionId::from_uuid(Uuid::parse_str(id).unwrap());
    fixture.store.create_session(&SessionDraft { id, ..fixture.drafts.session(name) }).unwrap().id
}

fn find(fixture: &Fixture<'_>, text: &str) -> Result<SessionId, StoreError> {
    fixture.store.resolve_session(&SessionRef::new(text), None, false)
}

pub fn a_session_is_found_by_its_id_a_prefix_of_it_or_its_name(fixture: &Fixture<'_>) {
    let one = with_id(fixture, "0192f0c1-7e1a-7cc0-9b1e-0123456789af", "Fix login");
    let other = with_id(fixture, "0192f0c1-7e1b-7cc0-9b1e-ff23456789af", "Docs");
    assert_eq!(find(fixture, "0192f0c1-7e1a-7cc0-9b1e-0123456789af").unwrap(), one);
    assert_eq!(find(fixture, "0192F0C1-7E1A-7CC0-9B1E-0123456789AF").unwrap(), one);
    assert_eq!(find(fixture, "0192f0c1-7e1b").unwrap(), other);
    assert_eq!(find(fixture, one.short().as_str()).unwrap(), one);
    // Short ids write the hexadecimal digits 0 to f of the tail as the letters z to k.
    assert_eq!(find(fixture, "z").unwrap(), one);
    assert_eq!(find(fixture, "K").unwrap(), other);
    assert_eq!(find(fixture, "Fix login").unwrap(), one);
    expect_kind(find(fixture, "fix login"), ErrorKind::NotFound);
    expect_kind(find(fixture, "Fix"), ErrorKind::NotFound);
    expect_kind(find(fixture, &format!("{}z", one.short())), ErrorKind::NotFound);
}

pub fn a_name_takes_precedence_over_an_id_prefix(fixture: &Fixture<'_>) {
    let one = with_id(fixture, "0192f0c1-7e1a-7cc0-9b1e-0123456789af", "first");
    let called_z = with_id(fixture, "0192f0c1-7e1b-7cc0-9b1e-ff23456789af", "z");
    assert_eq!(find(fixture, "z").unwrap(), called_z);
    assert_eq!(find(fixture, "zy").unwrap(), one);
    let called_like_an_id = with_id(fixture, "0192f0c1-7e1c-7cc0-9b1e-ee23456789af", &one.to_string());
    assert_eq!(find(fixture, &one.to_string()).unwrap(), one);
    fixture.store.purge_session(one).unwrap();
    assert_eq!(find(fixture, &one.to_string()).unwrap(), called_like_an_id);
}

pub fn a_session_is_found_by_the_title_that_lists_show(fixture: &Fixture<'_>) {
    let named = |name: &str, automatic_name| {
        let draft = SessionDraft { automatic_name, ..fixture.drafts.session(name) };
        fixture.store.create_session(&draft).unwrap().id
    };
    let automatic = named("Fix 100% of _it - 2026-02-01_14-30", true);
    named("Fix 100% of _it - 2026 - 2026-02-01_14-30", true);
    named("Written - 2026-02-01_14-30", false);
    named("Fix 100% of _it - 20260-02-01_14-30", true);
    assert_eq!(find(fixture, "Fix 100% of _it").unwrap(), automatic);
    expect_kind(find(fixture, "Written"), ErrorKind::NotFound);
    expect_kind(find(fixture, "Fix 100% of"), ErrorKind::NotFound);
    let exact = named("Fix 100% of _it", false);
    assert_eq!(find(fixture, "Fix 100% of _it").unwrap(), exact, "a name takes precedence");
    named("Twice - 2026-02-01_14-30", true);
    named("Twice - 2026-02-02_14-30", true);
    expect_kind(find(fixture, "Twice"), ErrorKind::Conflict);
}

pub fn an_ambiguous_reference_lists_the_candidates(fixture: &Fixture<'_>) {
    let one = fixture.session("same name");
    let other = fixture.session("same name");
    fixture.session("another");
    let StoreError::Ambiguous { what, reference, candidates } = expect_error(find(fixture, "same name"))
    else {
        panic!("expected candidates");
    };
    assert_eq!((what, reference.as_str()), ("session", "same name"));
    assert_eq!(candidates, [other.id, one.id].map(|id| format!("{} same name", id.short())));

    for _ in 0..12 {
        fixture.session("more");
    }
    // All ids start with the same digits, which encode the time.
    let StoreError::Ambiguous { candidates, .. } = expect_error(find(fixture, "019")) else {
        panic!("expected candidates");
    };
    assert_eq!(candidates.len(), 10);
    assert!(candidates.iter().all(|candidate| candidate.ends_with(" more")), "the newest are listed");
}

pub fn a_reference_by_age_counts_from_the_newest_session(fixture: &Fixture<'_>) {
    let project = |key: &str| Some(Project { directory: key.into(), repository: None });
    let mut ids = Vec::new();
    for (name, key) in [("a", "/p"), ("b", "/q"), ("c", "/p"), ("d", "/q")] {
        let draft = SessionDraft { project: project(key), ..fixture.drafts.session(name) };
        ids.push(fixture.store.create_session(&draft).unwrap());
    }
    let recent = |back: u32, key: Option<&str>| {
        fixture
            .store
            .resolve_session(&SessionRef::Recent(back), key, false)
            .map(|id| ids.iter().position(|session| session.id == id).expect("one of ours"))
    };
    assert_eq!(recent(0, None).unwrap(), 3);
    assert_eq!(recent(2, None).unwrap(), 1);
    assert_eq!(recent(0, Some("/p")).unwrap(), 2);
    assert_eq!(recent(1, Some("/p")).unwrap(), 0);
    expect_kind(recent(2, Some("/p")), ErrorKind::NotFound);
    expect_kind(recent(4, None), ErrorKind::NotFound);
    expect_kind(recent(u32::MAX, None), ErrorKind::NotFound);

    fixture.append_text(at(ids[0].current_branch, 0), "hello");
    assert_eq!(recent(0, None).unwrap(), 0);
    fixture.store.trash_session(ids[0].id, fixture.drafts.now()).unwrap();
    assert_eq!(recent(0, None).unwrap(), 3);
    // The project limits references by age, but not references by name.
    let named = fixture.store.resolve_session(&SessionRef::new("b"), Some("/p"), false).unwrap();
    assert_eq!(named, ids[1].id);
}

pub fn a_trashed_session_is_found_only_in_the_trash(fixture: &Fixture<'_>) {
    let trashed = fixture.session("twice");
    let listed = fixture.session("twice");
    fixture.store.trash_session(trashed.id, fixture.drafts.now()).unwrap();
    let find = |text: &str, trash: bool| fixture.store.resolve_session(&SessionRef::new(text), None, trash);
    assert_eq!(find("twice", false).unwrap(), listed.id);
    assert_eq!(find("twice", true).unwrap(), trashed.id);
    assert_eq!(find("@", true).unwrap(), trashed.id);
    for text in [trashed.id.to_string(), trashed.id.short().to_string()] {
        assert_eq!(find(&text, true).unwrap(), trashed.id);
        expect_kind(find(&text, false), ErrorKind::NotFound);
    }
    expect_kind(find(&listed.id.to_string(), true), ErrorKind::NotFound);
}

pub fn references_have_no_wildcards(fixture: &Fixture<'_>) {
    for name in ["one", "", "50% off_", "%", "don't", "a\u{0}b", "[abc]*", "@home", "new\nline"] {
        fixture.session(name);
    }
    expect_kind(find(fixture, ""), ErrorKind::NotFound);
    for text in ["_", "*", "__", "o%", "' OR '1'='1", "zzz%", "\\", "a\u{0}", "019_", "019*", "🦀"] {
        expect_kind(find(fixture, text), ErrorKind::NotFound);
    }
    for name in ["50% off_", "%", "don't", "a\u{0}b", "[abc]*", "@home", "new\nline"] {
        let id = find(fixture, name).unwrap();
        assert_eq!(fixture.store.get_session(id).unwrap().session.name, name);
    }
}
