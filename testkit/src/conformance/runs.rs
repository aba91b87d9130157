//! Runs and their events.

use hfs_core::{ErrorKind, EventPayload, Run, RunSnapshot, Timestamp};

use super::Fixture;
use super::fixture::expect_kind;

pub fn a_run_is_stored_with_events_of_every_kind(fixture: &Fixture<'_>) {
    let run = fixture.drafts.run(fixture.main().branch);
    assert!(run.events.iter().any(|event| matches!(event.payload, EventPayload::Custom(_))));
    fixture.store.save_run(&run).unwrap();
    let stored = fixture.other_process().get_run(run.id).unwrap();
    assert_eq!(stored, run);
    assert_eq!(RunSnapshot::fold(&stored.events), run.snapshot);
}

pub fn saving_a_run_again_replaces_it(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let finished = fixture.drafts.run(main.branch);
    let events = finished.events[..2].to_vec();
    let begun = Run {
        ended_at: None,
        answers: None,
        snapshot: RunSnapshot::fold(&events),
        events,
        ..finished.clone()
    };
    fixture.store.save_run(&begun).unwrap();
    assert_eq!(fixture.store.get_run(begun.id).unwrap(), begun);
    fixture.store.save_run(&finished).unwrap();
    assert_eq!(fixture.store.get_run(begun.id).unwrap(), finished);
    assert_eq!(fixture.store.list_runs(fixture.session_of(main.branch)).unwrap(), [begun.id]);
}

pub fn runs_are_listed_in_the_order_of_their_start(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let (side, _) = fixture.fork(main, "side");
    let runs: Vec<Run> =
        [main, side, main, side].iter().map(|position| fixture.drafts.run(position.branch)).collect();
    for index in [2, 0, 3, 1] {
        fixture.store.save_run(&runs[index]).unwrap();
    }
    let same_time = Run { started_at: runs[3].started_at, ..fixture.drafts.run(main.branch) };
    fixture.store.save_run(&same_time).unwrap();
    let earliest = Run { started_at: Timestamp::UNIX_EPOCH, ..fixture.drafts.run(side.branch) };
    fixture.store.save_run(&earliest).unwrap();
    fixture.store.save_run(&fixture.drafts.run(fixture.main().branch)).unwrap();
    let mut expected = vec![earliest.id];
    expected.extend(runs.iter().map(|run| run.id));
    expected.push(same_time.id);
    assert_eq!(fixture.other_process().list_runs(session).unwrap(), expected);
}

pub fn a_run_needs_an_existing_branch(fixture: &Fixture<'_>) {
    let run = fixture.drafts.run(fixture.drafts.ids.branch());
    expect_kind(fixture.store.save_run(&run), ErrorKind::NotFound);
    expect_kind(fixture.store.get_run(run.id), ErrorKind::NotFound);
}
