//! What a person types finds what they mean, or says what it could mean.

use hfs_core::{ErrorKind, Project, SessionDraft, SessionId, SessionRef, StoreError};
use uuid::Uuid;

use super::Scene;
use super::scene::{expect_kind, refused};
use crate::builders::at;

fn with_id(scene: &Scene<'_>, id: &str, name: &str) -> SessionId {
    let id = SessionId::from_uuid(Uuid::parse_str(id).unwrap());
    scene.store.create_session(&SessionDraft { id, ..scene.make.session(name) }).unwrap().id
}

fn find(scene: &Scene<'_>, text: &str) -> Result<SessionId, StoreError> {
    scene.store.resolve_session(&SessionRef::new(text), None, false)
}

pub fn an_id_or_its_beginning_or_a_name_finds_a_session(scene: &Scene<'_>) {
    let one = with_id(scene, "0192f0c1-7e1a-7cc0-9b1e-0123456789af", "Fix login");
    let other = with_id(scene, "0192f0c1-7e1b-7cc0-9b1e-ff23456789af", "Docs");
    assert_eq!(find(scene, "0192f0c1-7e1a-7cc0-9b1e-0123456789af").unwrap(), one);
    assert_eq!(find(scene, "0192F0C1-7E1A-7CC0-9B1E-0123456789AF").unwrap(), one);
    assert_eq!(find(scene, "0192f0c1-7e1b").unwrap(), other);
    assert_eq!(find(scene, one.short().as_str()).unwrap(), one);
    assert_eq!(find(scene, "z").unwrap(), one);
    assert_eq!(find(scene, "K").unwrap(), other);
    assert_eq!(find(scene, "Fix login").unwrap(), one);
    expect_kind(find(scene, "fix login"), ErrorKind::NotFound);
    expect_kind(find(scene, "Fix"), ErrorKind::NotFound);
    expect_kind(find(scene, &format!("{}z", one.short())), ErrorKind::NotFound);
}

pub fn a_name_goes_before_the_beginning_of_an_id(scene: &Scene<'_>) {
    let one = with_id(scene, "0192f0c1-7e1a-7cc0-9b1e-0123456789af", "first");
    let called_z = with_id(scene, "0192f0c1-7e1b-7cc0-9b1e-ff23456789af", "z");
    assert_eq!(find(scene, "z").unwrap(), called_z);
    assert_eq!(find(scene, "zy").unwrap(), one);
    let called_like_an_id = with_id(scene, "0192f0c1-7e1c-7cc0-9b1e-ee23456789af", &one.to_string());
    assert_eq!(find(scene, &one.to_string()).unwrap(), one);
    scene.store.purge_session(one).unwrap();
    assert_eq!(find(scene, &one.to_string()).unwrap(), called_like_an_id);
}

pub fn an_ambiguous_reference_lists_what_it_could_mean(scene: &Scene<'_>) {
    let one = scene.session("same name");
    let other = scene.session("same name");
    scene.session("another");
    let StoreError::Ambiguous { what, reference, candidates } = refused(find(scene, "same name")) else {
        panic!("expected candidates");
    };
    assert_eq!((what, reference.as_str()), ("session", "same name"));
    assert_eq!(candidates, [other.id, one.id].map(|id| format!("{} same name", id.short())));

    for _ in 0..12 {
        scene.session("more");
    }
    // All ids begin with the same digits of their time.
    let StoreError::Ambiguous { candidates, .. } = refused(find(scene, "019")) else {
        panic!("expected candidates");
    };
    assert_eq!(candidates.len(), 10);
    assert!(candidates.iter().all(|candidate| candidate.ends_with(" more")), "the newest are listed");
}

pub fn a_reference_by_age_counts_from_the_newest(scene: &Scene<'_>) {
    let project = |key: &str| Some(Project { directory: key.into(), repository: None });
    let mut ids = Vec::new();
    for (name, key) in [("a", "/p"), ("b", "/q"), ("c", "/p"), ("d", "/q")] {
        let draft = SessionDraft { project: project(key), ..scene.make.session(name) };
        ids.push(scene.store.create_session(&draft).unwrap());
    }
    let recent = |back: u32, key: Option<&str>| {
        scene
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

    scene.say(at(ids[0].current_branch, 0), "hello");
    assert_eq!(recent(0, None).unwrap(), 0);
    scene.store.trash_session(ids[0].id, scene.make.now()).unwrap();
    assert_eq!(recent(0, None).unwrap(), 3);
    // The project limits what is newest, never what has a name.
    let named = scene.store.resolve_session(&SessionRef::new("b"), Some("/p"), false).unwrap();
    assert_eq!(named, ids[1].id);
}

pub fn what_is_in_the_trash_is_found_there_only(scene: &Scene<'_>) {
    let trashed = scene.session("twice");
    let listed = scene.session("twice");
    scene.store.trash_session(trashed.id, scene.make.now()).unwrap();
    let find = |text: &str, trash: bool| scene.store.resolve_session(&SessionRef::new(text), None, trash);
    assert_eq!(find("twice", false).unwrap(), listed.id);
    assert_eq!(find("twice", true).unwrap(), trashed.id);
    assert_eq!(find("@", true).unwrap(), trashed.id);
    for text in [trashed.id.to_string(), trashed.id.short().to_string()] {
        assert_eq!(find(&text, true).unwrap(), trashed.id);
        expect_kind(find(&text, false), ErrorKind::NotFound);
    }
    expect_kind(find(&listed.id.to_string(), true), ErrorKind::NotFound);
}

pub fn nothing_typed_has_a_hidden_meaning(scene: &Scene<'_>) {
    for name in ["one", "", "50% off_", "%", "don't", "a\u{0}b", "[abc]*", "@home", "new\nline"] {
        scene.session(name);
    }
    expect_kind(find(scene, ""), ErrorKind::NotFound);
    for text in ["_", "*", "__", "o%", "' OR '1'='1", "zzz%", "\\", "a\u{0}", "019_", "019*", "🦀"] {
        expect_kind(find(scene, text), ErrorKind::NotFound);
    }
    for name in ["50% off_", "%", "don't", "a\u{0}b", "[abc]*", "@home", "new\nline"] {
        let id = find(scene, name).unwrap();
        assert_eq!(scene.store.get_session(id).unwrap().session.name, name);
    }
}
