//! A store knows what it holds and whether that is well.

use super::Scene;
use crate::builders::{at, growing_state};

pub fn an_empty_store_is_well(scene: &Scene<'_>) {
    let info = scene.store.info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints, info.checkpoint_bytes), (0, 0, 0, 0));
    assert!(!info.url.is_empty() && !info.backend.is_empty() && info.schema_version > 0);
    let verification = scene.store.verify().unwrap();
    assert!(verification.is_ok() && !verification.checked.is_empty());
    assert_eq!(scene.store.repair().unwrap(), []);
    scene.store.vacuum().unwrap();
}

pub fn facts_count_everything_that_is_there(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 5);
    let trashed = scene.talk(scene.main(), "t", 2);
    scene.checkpoint(main, growing_state(1), 10);
    scene.checkpoint(at(main.branch, 2), growing_state(2), 10);
    scene.store.trash_session(scene.session_of(trashed.branch), scene.make.now()).unwrap();
    let info = scene.another().info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints), (2, 7, 2));
    assert!(info.checkpoint_bytes > 0 && info.bytes >= info.checkpoint_bytes);
    let checked = scene.store.verify().unwrap().checked;
    let of = |what: &str| checked.iter().find(|(name, _)| name == what).map(|(_, count)| *count);
    assert_eq!((of("sessions"), of("messages"), of("checkpoints")), (Some(2), Some(7), Some(2)));
}

pub fn repairing_and_vacuuming_a_well_store_changes_nothing(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 5);
    let session = scene.session_of(main.branch);
    let checkpoint = scene.checkpoint(main, growing_state(1), 10);
    let (side, _) = scene.fork(main, "side");
    scene.say(side, "aside");
    let reply = scene.store.begin_reply(main, &scene.make.assistant("")).unwrap();
    let before = scene.visible(session);
    let another = scene.another();
    assert_eq!(another.repair().unwrap(), []);
    another.vacuum().unwrap();
    assert_eq!(scene.visible(session), before);
    assert_eq!(scene.store.load_state(checkpoint.id).unwrap(), growing_state(1));
    scene.store.finish_reply(reply, &scene.make.assistant("undisturbed")).unwrap();
    assert_eq!(scene.texts(main.branch).last().unwrap(), "undisturbed");
}
