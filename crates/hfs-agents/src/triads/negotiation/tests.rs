//! The negotiation against tables and against any sequence of decisions.

use std::collections::BTreeSet;

use hfs_core::{Event, RunId, RunSnapshot, Section as ToldSection, SectionStatus, Timestamp};
use proptest::prelude::*;

use super::*;

impl Negotiation {
    /// The state as a run's snapshot tells it. Sections that nothing was said about yet are not in it.
    fn told(&self) -> hfs_core::Negotiation {
        let told = |section: &Section| ToldSection {
            name: section.name.clone(),
            status: match (&section.ownership, section.contests.is_empty()) {
                (Some(_), _) => SectionStatus::Resolved,
                (None, true) => SectionStatus::Claimed,
                (None, false) => SectionStatus::Contested,
            },
            owners: section.ownership.as_ref().map(Ownership::owners).unwrap_or_default(),
            claimants: section.claimants.clone(),
            contests: section.contests.clone(),
            arbiter: section.arbiter.clone(),
        };
        let said = |section: &&Section| !section.claimants.is_empty() || section.ownership.is_some();
        hfs_core::Negotiation {
            temperature: self.temperature,
            round: self.round,
            sections: self.sections.iter().filter(said).map(told).collect(),
        }
    }
}

const SECTIONS: [&str; 4] = ["answer", "risks", "steps", "sources"];
const TRIADS: [&str; 4] = ["a", "b", "c", "d"];

fn negotiation(pressure: Pressure) -> Negotiation {
    Negotiation::new(pressure, SECTIONS.map(str::to_owned))
}

fn events(payloads: Vec<EventPayload>) -> Vec<Event> {
    let run = RunId::generate();
    (1..)
        .zip(payloads)
        .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
        .collect()
}

/// `a` and `b` (and more) want the answer; decides one round.
fn after_one_round(stances: &[(&str, Stance)]) -> (Negotiation, Vec<EventPayload>) {
    let mut state = negotiation(Pressure::default());
    for (triad, _) in stances {
        state.claim("answer", triad);
    }
    let (round, _) = state.next_round().unwrap();
    assert_eq!((round.number, round.temperature), (1, 1.0));
    let stances = stances
        .iter()
        .map(|(triad, stance)| (("answer".to_owned(), (*triad).to_owned()), stance.clone()))
        .collect();
    let events = state.end_round(&stances);
    (state, events)
}

#[test]
fn decisions_of_a_round_settle_a_section_or_leave_it_contested() {
    use Stance::{Concede, Hold, Revise};
    let part = |text: &str| Revise(text.to_owned());
    let owned = |lead: &str, parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|(triad, part)| ((*triad).to_owned(), (*part).to_owned())).collect();
        Some(Ownership { lead: lead.to_owned(), parts, within: None })
    };
    for (stances, expected) in [
        (vec![("a", Hold), ("b", Concede)], owned("a", &[])),
        (vec![("a", Concede), ("b", Hold)], owned("b", &[])),
        (vec![("a", Concede), ("b", Concede)], owned("a", &[])),
        (vec![("a", Concede), ("b", part("x"))], owned("b", &[])),
        (vec![("a", Hold), ("b", part("x"))], owned("a", &[("b", "x")])),
        (vec![("a", part("y")), ("b", Hold)], owned("b", &[("a", "y")])),
        (vec![("a", part("y")), ("b", part("x")), ("c", Concede)], owned("a", &[("b", "x")])),
        (vec![("a", Hold), ("b", Hold)], None),
        (vec![("a", Hold), ("b", Hold), ("c", part("x"))], None),
    ] {
        let (state, _) = after_one_round(&stances);
        let ownership = state.ownerships().find(|(name, _)| *name == "answer").map(|(_, o)| o.clone());
        assert_eq!(ownership, expected, "{stances:?}");
    }
}

#[test]
fn who_says_nothing_holds() {
    let mut state = negotiation(Pressure::default());
    state.claim("answer", "a");
    state.claim("answer", "b");
    state.next_round().unwrap();
    let events = state.end_round(&BTreeMap::new());
    assert!(events.iter().all(|event| matches!(
        event,
        EventPayload::NegotiationDecided { decision: ClaimDecision::Hold, .. }
    )));
    assert_eq!(state.unresolved()[0], ("answer".to_owned(), vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_section_that_stays_contested_escalates_after_the_threshold() {
    let mut state = negotiation(Pressure::default());
    state.claim("answer", "a");
    state.claim("answer", "b");
    for _ in 0..2 {
        state.next_round().unwrap();
        state.end_round(&BTreeMap::new());
    }
    assert_eq!(state.next_round(), None);
}

#[test]
fn nothing_moves_once_it_is_frozen() {
    let pressure = Pressure { escalation_threshold: 100, ..Pressure::default() };
    let mut state = negotiation(pressure);
    state.claim("answer", "a");
    state.claim("answer", "b");
    let mut temperatures = Vec::new();
    while let Some((round, _)) = state.next_round() {
        temperatures.push(round.temperature);
        state.end_round(&BTreeMap::new());
    }
    assert_eq!(temperatures, [1.0, 0.85, 0.7, 0.55, 0.4, 0.25]);
}

#[test]
fn a_ruling_that_makes_no_sense_gives_the_section_to_the_first_claimant() {
    let shares = |names: &[&str]| {
        Ruling::Split(names.iter().map(|name| ((*name).to_owned(), format!("part of {name}"))).collect())
    };
    for (ruling, owners, decision) in [
        (Ruling::Assign("b".into()), vec!["b"], SectionDecision::Assign),
        (Ruling::Assign("stranger".into()), vec!["a"], SectionDecision::Assign),
        (shares(&["b", "a"]), vec!["b", "a"], SectionDecision::Split),
        (shares(&["b"]), vec!["a"], SectionDecision::Assign),
        (shares(&["b", "b"]), vec!["a"], SectionDecision::Assign),
        (shares(&["b", "stranger"]), vec!["a"], SectionDecision::Assign),
        (shares(&[]), vec!["a"], SectionDecision::Assign),
        (Ruling::Merge("risks".into()), vec!["c"], SectionDecision::Merge),
        (Ruling::Merge("answer".into()), vec!["a"], SectionDecision::Assign),
        (Ruling::Merge("steps".into()), vec!["a"], SectionDecision::Assign),
        (Ruling::Merge("nowhere".into()), vec!["a"], SectionDecision::Assign),
    ] {
        let mut state = negotiation(Pressure::default());
        for (section, triad) in
            [("answer", "a"), ("answer", "b"), ("risks", "c"), ("steps", "a"), ("steps", "b")]
        {
            state.claim(section, triad);
        }
        state.settle_uncontested(|_| "d".into());
        let events = state.rule("answer", ruling.clone(), "because");
        let Some(EventPayload::ArbiterDecided { decision: decided, owners: told, .. }) = events.first()
        else {
            panic!("{ruling:?}: {events:?}");
        };
        assert_eq!((told.as_slice(), *decided), (&owners.map_to_owned()[..], decision), "{ruling:?}");
    }
}

trait MapToOwned {
    fn map_to_owned(&self) -> Vec<String>;
}

impl MapToOwned for Vec<&str> {
    fn map_to_owned(&self) -> Vec<String> {
        self.iter().map(|name| (*name).to_owned()).collect()
    }
}

fn any_pressure() -> impl Strategy<Value = Pressure> {
    (0.0..2.0_f64, 0.0..0.5_f64, 0.0..0.5_f64, 1_u32..12, 1_u32..12).prop_map(
        |(initial_temperature, temperature_decay, freeze_threshold, rounds, escalation_threshold)| Pressure {
            initial_temperature,
            temperature_decay,
            freeze_threshold,
            max_negotiation_rounds: rounds,
            escalation_threshold,
            ..Pressure::default()
        },
    )
}

fn any_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "stranger"]).prop_map(str::to_owned)
}

fn any_section() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["answer", "risks", "steps", "sources", "nowhere"]).prop_map(str::to_owned)
}

fn any_stance() -> impl Strategy<Value = Stance> {
    prop_oneof![
        1 => Just(Stance::Concede),
        3 => Just(Stance::Hold),
        1 => Just(Stance::Revise("a part".to_owned()))
    ]
}

fn any_ruling() -> impl Strategy<Value = Ruling> {
    prop_oneof![
        any_name().prop_map(Ruling::Assign),
        prop::collection::vec((any_name(), Just("part".to_owned())), 0..4).prop_map(Ruling::Split),
        any_section().prop_map(Ruling::Merge),
    ]
}

proptest! {
    #[test]
    fn any_sequence_of_decisions_ends_within_the_bound_with_every_section_owned_and_told(
        pressure in any_pressure(),
        claims in prop::collection::vec((any_section(), any_name()), 0..24),
        stances in prop::collection::vec(any_stance(), 200),
        rulings in prop::collection::vec(any_ruling(), SECTIONS.len()),
    ) {
        let mut state = negotiation(pressure);
        let mut log = Vec::new();
        for (section, triad) in claims.iter().filter(|(_, triad)| TRIADS.contains(&triad.as_str())) {
            log.extend(state.claim(section, triad));
        }
        log.extend(state.settle_uncontested(|_| "d".to_owned()));
        let mut stances = stances.into_iter().cycle();
        let mut rounds = 0;
        let mut coldest = f64::INFINITY;
        while let Some((round, events)) = state.next_round() {
            rounds += 1;
            prop_assert!(rounds <= pressure.max_negotiation_rounds);
            prop_assert!(round.temperature <= coldest && round.temperature > pressure.freeze_threshold);
            coldest = round.temperature;
            log.extend(events);
            let decided = round.contests.iter().flat_map(|(section, claimants)| {
                claimants.iter().map(|claimant| (section.clone(), claimant.clone()))
            });
            let decided: Vec<_> = decided.collect();
            let decided = decided.into_iter().zip(stances.by_ref()).collect();
            log.extend(state.end_round(&decided));
            let folded = RunSnapshot::fold(&events_of(&log)).negotiation;
            prop_assert_eq!(sorted(folded), sorted(state.told()));
        }
        for ((section, _), ruling) in state.unresolved().into_iter().zip(rulings) {
            log.extend(state.rule(&section, ruling, "so be it"));
        }
        prop_assert!(state.unresolved().is_empty());
        let owned: Vec<&str> = state.ownerships().map(|(name, _)| name).collect();
        prop_assert_eq!(owned, SECTIONS.to_vec());
        for (section, ownership) in state.ownerships() {
            let owners = ownership.owners();
            prop_assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), owners.len(), "{}", section);
            prop_assert!(owners.iter().all(|owner| TRIADS.contains(&owner.as_str())));
            if let Some(within) = &ownership.within {
                let target = state.ownerships().find(|(name, _)| name == within).map(|(_, target)| target);
                prop_assert!(target.is_some_and(|target| target.within.is_none()));
            }
        }
        let folded = RunSnapshot::fold(&events_of(&log)).negotiation;
        prop_assert_eq!(sorted(folded), sorted(state.told()));
    }
}

fn events_of(log: &[EventPayload]) -> Vec<Event> {
    events(log.to_vec())
}

/// The fold lists sections in order of their first event, the state in the order of the reply.
fn sorted(mut negotiation: hfs_core::Negotiation) -> hfs_core::Negotiation {
    negotiation.sections.sort_by(|a, b| a.name.cmp(&b.name));
    negotiation
}
