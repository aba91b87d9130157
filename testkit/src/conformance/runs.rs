//! Runs are kept with all their events.

use hfs_core::{ErrorKind, EventPayload, Run, RunSnapshot};

use super::Scene;
use super::scene::expect_kind;

pub fn a_run_is_kept_with_events_of_every_kind(scene: &Scene<'_>) {
    let run = scene.make.run(scene.main().branch);
    assert!(run.events.iter().any(|event| matches!(event.payload, EventPayload::Custom(_))));
    scene.store.save_run(&run).unwrap();
    let stored = scene.another().get_run(run.id).unwrap();
    assert_eq!(stored, run);
    assert_eq!(RunSnapshot::fold(&stored.events), run.snapshot);
}

pub fn a_run_replaces_what_was_stored_of_it(scene: &Scene<'_>) {
    let main = scene.main();
    let finished = scene.make.run(main.branch);
    let events = finished.events[..2].to_vec();
    let begun = Run {
        ended_at: None,
        answers: None,
        snapshot: RunSnapshot::fold(&events),
        events,
        ..finished.clone()
    };
    scene.store.save_run(&begun).unwrap();
    assert_eq!(scene.store.get_run(begun.id).unwrap(), begun);
    scene.store.save_run(&finished).unwrap();
    assert_eq!(scene.store.get_run(begun.id).unwrap(), finished);
    assert_eq!(scene.store.list_runs(scene.session_of(main.branch)).unwrap(), [begun.id]);
}

pub fn runs_are_listed_by_their_beginning(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let (side, _) = scene.fork(main, "side");
    let runs: Vec<Run> =
        [main, side, main, side].iter().map(|position| scene.make.run(position.branch)).collect();
    for index in [2, 0, 3, 1] {
        scene.store.save_run(&runs[index]).unwrap();
    }
    let same_time = Run { started_at: runs[3].started_at, ..scene.make.run(main.branch) };
    scene.store.save_run(&same_time).unwrap();
    let earliest = Run { started_at: hfs_core::Timestamp::UNIX_EPOCH, ..scene.make.run(side.branch) };
    scene.store.save_run(&earliest).unwrap();
    scene.store.save_run(&scene.make.run(scene.main().branch)).unwrap();
    let mut expected = vec![earliest.id];
    expected.extend(runs.iter().map(|run| run.id));
    expected.push(same_time.id);
    assert_eq!(scene.another().list_runs(session).unwrap(), expected);
}

pub fn a_run_needs_its_branch(scene: &Scene<'_>) {
    let run = scene.make.run(scene.make.ids.branch());
    expect_kind(scene.store.save_run(&run), ErrorKind::NotFound);
    expect_kind(scene.store.get_run(run.id), ErrorKind::NotFound);
}
