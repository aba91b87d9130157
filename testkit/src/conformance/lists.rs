//! Lists show the newest first, by pages that stay good.

use hfs_core::{
    Cursor, ErrorKind, Origin, PageRequest, Project, SessionDraft, SessionFilter, SessionId, Store,
};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::at;

/// All pages of a list, and how many there were.
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
    unreachable!("the loop above has no end of its own")
}

pub fn the_newest_come_first_and_pages_have_no_gaps(scene: &Scene<'_>) {
    let mut expected: Vec<SessionId> = (0..25).map(|n| scene.session(&format!("session {n}")).id).collect();
    expected.reverse();
    for (limit, count) in [(1, 25), (4, 7), (5, 5), (24, 2), (25, 1), (100, 1)] {
        assert_eq!(pages(&*scene.store, &SessionFilter::default(), limit), (expected.clone(), count));
    }
}

pub fn sessions_of_the_same_time_are_each_listed_once(scene: &Scene<'_>) {
    let now = scene.make.now();
    let mut expected: Vec<SessionId> = (0..10)
        .map(|_| {
            let draft = SessionDraft { created_at: now, ..scene.make.session("same") };
            scene.store.create_session(&draft).unwrap().id
        })
        .collect();
    expected.sort();
    expected.reverse();
    assert_eq!(pages(&*scene.store, &SessionFilter::default(), 3), (expected, 4));
}

pub fn what_is_spoken_in_comes_to_the_front(scene: &Scene<'_>) {
    let sessions: Vec<_> = (0..4).map(|n| scene.session(&format!("{n}"))).collect();
    let order = || pages(&*scene.store, &SessionFilter::default(), 2).0;
    scene.say(at(sessions[1].current_branch, 0), "hello");
    assert_eq!(order(), [1, 3, 2, 0].map(|n: usize| sessions[n].id));
    scene.store.rename_session(sessions[0].id, "renamed", false, scene.make.now()).unwrap();
    assert_eq!(order(), [0, 1, 3, 2].map(|n: usize| sessions[n].id));
    scene.say(at(sessions[1].current_branch, 1), "again");
    scene.say(at(sessions[1].current_branch, 2), "and again");
    assert_eq!(order(), [1, 0, 3, 2].map(|n: usize| sessions[n].id));
}

pub fn a_page_stays_good_when_sessions_come_and_go(scene: &Scene<'_>) {
    let sessions: Vec<_> = (0..9).map(|n| scene.session(&format!("{n}"))).collect();
    let filter = SessionFilter::default();
    let first = scene.store.list_sessions(&filter, &PageRequest::first(3)).unwrap();
    assert_eq!(first.items.last().unwrap().session.id, sessions[6].id);

    // The row that the page ended with goes, one behind it too, one moves to the front, a new one comes.
    scene.store.purge_session(sessions[6].id).unwrap();
    scene.store.trash_session(sessions[5].id, scene.make.now()).unwrap();
    scene.say(at(sessions[3].current_branch, 0), "to the front");
    scene.session("new");

    let page = PageRequest { limit: 100, after: first.next };
    let rest = scene.store.list_sessions(&filter, &page).unwrap();
    let rest: Vec<SessionId> = rest.items.iter().map(|summary| summary.session.id).collect();
    assert_eq!(rest, [4, 2, 1, 0].map(|n: usize| sessions[n].id));
}

pub fn a_list_shows_a_project_an_origin_or_the_trash(scene: &Scene<'_>) {
    let make = |name: &str, project: Option<Project>, origin: Option<&str>| {
        let origin = origin.map(|id| Origin { format: "codex".into(), id: id.into(), path: None });
        let draft = SessionDraft { project, origin, ..scene.make.session(name) };
        scene.store.create_session(&draft).unwrap().id
    };
    let directory = |path: &str| Project { directory: path.into(), repository: None };
    let repository = |path: &str| Project { directory: path.into(), repository: Some("git:x".into()) };
    let plain = make("plain", Some(directory("/a")), None);
    let here = make("here", Some(repository("/a")), Some("1"));
    let there = make("there", Some(repository("/b")), Some("2"));
    let nowhere = make("nowhere", None, Some("1x"));

    let listed = |filter: SessionFilter| {
        let listed = pages(&*scene.store, &filter, 1).0;
        assert_eq!(listed, pages(&*scene.another(), &filter, 100).0);
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

    scene.store.trash_session(here, scene.make.now()).unwrap();
    scene.store.trash_session(plain, scene.make.now()).unwrap();
    assert_eq!(listed(of("git:x")), [there]);
    assert_eq!(listed(from("1")), []);
    assert_eq!(listed(SessionFilter { trashed: true, ..SessionFilter::default() }), [plain, here]);
    assert_eq!(listed(SessionFilter { trashed: true, ..of("git:x") }), [here]);
    assert_eq!(listed(SessionFilter { trashed: true, ..from("1") }), [here]);
}

pub fn a_cursor_of_another_list_is_invalid(scene: &Scene<'_>) {
    let session = scene.session("one");
    scene.session("two");
    scene.store.rename_session(session.id, "x", false, scene.make.now()).unwrap();
    let filter = SessionFilter::default();
    let sessions = scene.store.list_sessions(&filter, &PageRequest::first(1)).unwrap().next;
    let operations = scene.store.list_operations(None, &PageRequest::first(1)).unwrap().next;
    assert!(sessions.is_some() && operations.is_some());
    let page = |after: Option<Cursor>| PageRequest { limit: 1, after };
    expect_kind(scene.store.list_sessions(&filter, &page(operations)), ErrorKind::Invalid);
    expect_kind(scene.store.list_operations(None, &page(sessions)), ErrorKind::Invalid);
    for text in ["", "x", "0", "/", "session/1", "é", "' OR 1=1 --", "99999999999999999999999999"] {
        let after = Some(Cursor(text.into()));
        expect_kind(scene.store.list_sessions(&filter, &page(after.clone())), ErrorKind::Invalid);
        expect_kind(scene.store.list_operations(None, &page(after)), ErrorKind::Invalid);
    }
}
