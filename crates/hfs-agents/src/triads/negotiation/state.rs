//! The state of a negotiation: which triad writes which section. No I/O and no model calls.
//!
//! Triads claim sections. A section with several claimants is contested: in each round its claimants concede,
//! revise (want only a part) or hold. Sections that are still contested after the last round are decided by the
//! arbiter.
//!
//! Three invariants:
//! - **It ends.** [`next_round`](NegotiationState::next_round) starts at most `max_negotiation_rounds` rounds,
//!   at most `escalation_threshold` of them over any one section, and none at or below the freeze threshold.
//!   No answer of a model can add a round, so the number of calls is bounded by the configuration.
//! - **Every section has an owner in the end.** The lead of a section writes everything that is not another
//!   triad's part. Owners of a section are distinct, and a section can be merged only into one that is not
//!   itself merged. If a ruling breaks one of these rules, the first claimant owns the section.
//! - **Events are complete.** Each change returns the events that describe it, and folding them yields the same
//!   state. A replayed run thus shows the negotiation as it was.

use std::collections::BTreeMap;

use hfs_core::{ArbiterDecision, ClaimDecision, Contest, EventPayload, SectionDecision};

use crate::triads::config::Pressure;

/// A claimant's decision about a section in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stance {
    Concede,
    /// Claim only this part.
    Revise(String),
    Hold,
}

impl Stance {
    const fn decision(&self) -> ClaimDecision {
        match self {
            Self::Concede => ClaimDecision::Concede,
            Self::Revise(_) => ClaimDecision::Revise,
            Self::Hold => ClaimDecision::Hold,
        }
    }
}

/// The arbiter's decision about a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// One triad owns the section.
    Assign(String),
    /// Triads with their parts. The first one leads.
    Split(Vec<(String, String)>),
    /// The section becomes part of another one.
    Merge(String),
}

/// Which triads write a section. The lead writes everything that is not another triad's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub lead: String,
    /// Other triads, each with the part it writes.
    pub parts: Vec<(String, String)>,
    /// The section that contains this one.
    pub merged_into: Option<String>,
}

impl Ownership {
    const fn sole(lead: String) -> Self {
        Self { lead, parts: Vec::new(), merged_into: None }
    }

    /// All owners, the lead first.
    pub fn owners(&self) -> Vec<String> {
        std::iter::once(&self.lead).chain(self.parts.iter().map(|(triad, _)| triad)).cloned().collect()
    }
}

#[derive(Debug, Clone)]
struct SectionState {
    name: String,
    /// All claimants in the order of their claims.
    claimants: Vec<String>,
    /// Claimants that have not conceded.
    remaining: Vec<String>,
    contests: Vec<Contest>,
    arbiter: Option<ArbiterDecision>,
    ownership: Option<Ownership>,
}

impl SectionState {
    const fn is_contested(&self) -> bool {
        self.ownership.is_none() && self.remaining.len() > 1
    }
}

/// A round of negotiation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Round {
    pub number: u32,
    pub temperature: f64,
    pub contests: Vec<OpenSection>,
}

/// A section whose owner is not decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenSection {
    pub section: String,
    /// Claimants that have not conceded.
    pub claimants: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct NegotiationState {
    pressure: Pressure,
    round: u32,
    temperature: Option<f64>,
    /// In the order of the reply.
    sections: Vec<SectionState>,
}

impl NegotiationState {
    /// Starts without any claims. `sections` are in the order of the reply.
    pub fn new(pressure: Pressure, sections: impl IntoIterator<Item = String>) -> Self {
        let sections = sections.into_iter().map(|name| SectionState {
            name,
            claimants: Vec::new(),
            remaining: Vec::new(),
            contests: Vec::new(),
            arbiter: None,
            ownership: None,
        });
        Self { pressure, round: 0, temperature: None, sections: sections.collect() }
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut SectionState> {
        self.sections.iter_mut().find(|section| section.name == name)
    }

    /// Registers a triad's claim. Ignores repeated claims, claims for sections that are unknown or have an owner, and
    /// claims after the start of the first round.
    pub fn claim(&mut self, section: &str, triad: &str) -> Option<EventPayload> {
        if self.round > 0 {
            return None;
        }
        let state = self.section_mut(section)?;
        if state.ownership.is_some() || state.claimants.iter().any(|known| known == triad) {
            return None;
        }
        state.claimants.push(triad.to_owned());
        state.remaining.push(triad.to_owned());
        Some(EventPayload::NegotiationClaimed { section: section.to_owned(), claimant: triad.to_owned() })
    }

    /// Assigns each section with a single claimant to that claimant, and each section without claimants to the triad
    /// that `fallback` returns for it.
    pub fn assign_uncontested(&mut self, fallback: impl Fn(&str) -> String) -> Vec<EventPayload> {
        let round = self.round;
        let open = self.sections.iter_mut().filter(|section| section.ownership.is_none());
        open.filter_map(|section| {
            let owner = match section.remaining.as_slice() {
                [] => fallback(&section.name),
                [only] => only.clone(),
                _ => return None,
            };
            Some(resolve(section, Ownership::sole(owner), round))
        })
        .collect()
    }

    /// Starts the next round. Returns `None` after the last round; the arbiter then decides the sections that are
    /// [`unresolved`](Self::unresolved).
    pub fn next_round(&mut self) -> Option<(Round, Vec<EventPayload>)> {
        let number = self.round + 1;
        let temperature = self.pressure.temperature(number);
        let frozen = temperature <= self.pressure.freeze_threshold;
        if frozen || number > self.pressure.max_negotiation_rounds {
            return None;
        }
        let max_contests = self.pressure.escalation_threshold;
        let mut contests = Vec::new();
        let mut events = Vec::new();
        for section in self.sections.iter_mut().filter(|section| section.is_contested()) {
            if u32::try_from(section.contests.len()).unwrap_or(u32::MAX) >= max_contests {
                continue;
            }
            let claimants = section.remaining.clone();
            section.contests.push(Contest {
                round: number,
                temperature,
                claimants: claimants.clone(),
                decisions: BTreeMap::new(),
            });
            events.push(EventPayload::NegotiationContested {
                section: section.name.clone(),
                claimants: claimants.clone(),
                round: number,
                temperature,
            });
            contests.push(OpenSection { section: section.name.clone(), claimants });
        }
        if contests.is_empty() {
            return None;
        }
        self.round = number;
        self.temperature = Some(temperature);
        Some((Round { number, temperature, contests }, events))
    }

    /// Ends the round with the claimants' decisions, keyed by section and claimant. A missing decision counts as
    /// [`Stance::Hold`], so an unreadable answer never costs a triad its claim.
    pub fn end_round(&mut self, stances: &BTreeMap<(String, String), Stance>) -> Vec<EventPayload> {
        let round = self.round;
        let mut events = Vec::new();
        for section in &mut self.sections {
            let Some(contest) = section.contests.last_mut().filter(|contest| contest.round == round) else {
                continue;
            };
            if section.ownership.is_some() {
                continue;
            }
            let mut not_conceded = Vec::new();
            for claimant in &section.remaining {
                let key = (section.name.clone(), claimant.clone());
                let stance = stances.get(&key).cloned().unwrap_or(Stance::Hold);
                contest.decisions.insert(claimant.clone(), stance.decision());
                events.push(EventPayload::NegotiationDecided {
                    section: section.name.clone(),
                    claimant: claimant.clone(),
                    decision: stance.decision(),
                    round,
                });
                if stance != Stance::Concede {
                    not_conceded.push((claimant.clone(), stance));
                }
            }
            if let Some(ownership) = agreement(&not_conceded, &section.remaining) {
                events.push(resolve(section, ownership, round));
            } else {
                section.remaining = not_conceded.into_iter().map(|(claimant, _)| claimant).collect();
            }
        }
        events
    }

    /// The sections without an owner, for the arbiter.
    pub fn unresolved(&self) -> Vec<OpenSection> {
        let open = self.sections.iter().filter(|section| section.ownership.is_none());
        open.map(|section| OpenSection {
            section: section.name.clone(),
            claimants: section.remaining.clone(),
        })
        .collect()
    }

    /// Applies the arbiter's ruling.
    ///
    /// The first claimant gets the section instead if the ruling names a triad that does not claim it, splits it
    /// among fewer than two, or merges it into a section that has no owner yet or is itself merged.
    pub fn apply_ruling(&mut self, name: &str, ruling: Ruling, reason: &str) -> Vec<EventPayload> {
        let target = match &ruling {
            Ruling::Merge(into) if into != name => self
                .sections
                .iter()
                .find(|section| section.name == *into)
                .and_then(|section| section.ownership.clone())
                .filter(|ownership| ownership.merged_into.is_none()),
            _ => None,
        };
        let round = self.round;
        let Some(section) = self.section_mut(name).filter(|section| section.ownership.is_none()) else {
            return Vec::new();
        };
        let Some(first) = section.remaining.first().cloned() else {
            return Vec::new();
        };
        let is_claimant = |triad: &String| section.remaining.contains(triad);
        let (decision, ownership) = match ruling {
            Ruling::Assign(triad) if is_claimant(&triad) => (SectionDecision::Assign, Ownership::sole(triad)),
            Ruling::Split(shares) => match split(&shares, is_claimant) {
                Some(ownership) => (SectionDecision::Split, ownership),
                None => (SectionDecision::Assign, Ownership::sole(first)),
            },
            Ruling::Merge(into) => match target {
                Some(target) => (
                    SectionDecision::Merge,
                    Ownership { lead: target.lead, parts: Vec::new(), merged_into: Some(into) },
                ),
                None => (SectionDecision::Assign, Ownership::sole(first)),
            },
            Ruling::Assign(_) => (SectionDecision::Assign, Ownership::sole(first)),
        };
        section.arbiter = Some(ArbiterDecision { decision, reason: reason.to_owned() });
        let decided = EventPayload::ArbiterDecided {
            section: name.to_owned(),
            decision,
            owners: ownership.owners(),
            reason: reason.to_owned(),
        };
        vec![decided, resolve(section, ownership, round)]
    }

    /// The sections that have an owner, in the order of the reply.
    pub fn ownerships(&self) -> impl Iterator<Item = (&str, &Ownership)> {
        self.sections.iter().filter_map(|section| Some((section.name.as_str(), section.ownership.as_ref()?)))
    }
}

fn resolve(section: &mut SectionState, ownership: Ownership, round: u32) -> EventPayload {
    let owners = ownership.owners();
    section.ownership = Some(ownership);
    EventPayload::NegotiationResolved { section: section.name.clone(), owners, round }
}

/// The ownership that the decisions of a round lead to. `None` if the section stays contested.
///
/// `not_conceded` are the claimants that did not concede, `before` the claimants before the round.
fn agreement(not_conceded: &[(String, Stance)], before: &[String]) -> Option<Ownership> {
    let holders = not_conceded.iter().filter(|(_, stance)| *stance == Stance::Hold).count();
    match not_conceded {
        // All conceded at the same time. The section still needs an author.
        [] => before.first().cloned().map(Ownership::sole),
        [(only, _)] => Some(Ownership::sole(only.clone())),
        // At most one claimant wants the whole section and the others want only parts, so their claims are compatible.
        several if holders <= 1 => {
            let lead =
                several.iter().find(|(_, stance)| *stance == Stance::Hold).or_else(|| several.first())?;
            let others = several.iter().filter(|(claimant, _)| *claimant != lead.0);
            let parts = others.filter_map(|(claimant, stance)| match stance {
                Stance::Revise(part) => Some((claimant.clone(), part.clone())),
                Stance::Hold | Stance::Concede => None,
            });
            Some(Ownership { lead: lead.0.clone(), parts: parts.collect(), merged_into: None })
        }
        _ => None,
    }
}

/// The ownership of a split section. `None` unless the triads are at least two distinct claimants.
fn split(shares: &[(String, String)], is_claimant: impl Fn(&String) -> bool) -> Option<Ownership> {
    let ((lead, _), rest) = shares.split_first()?;
    let mut parts: Vec<(String, String)> = Vec::new();
    for (triad, part) in rest {
        let is_repeated = triad == lead || parts.iter().any(|(known, _)| known == triad);
        if is_repeated || !is_claimant(triad) {
            return None;
        }
        parts.push((triad.clone(), part.clone()));
    }
    (is_claimant(lead) && !parts.is_empty()).then(|| Ownership {
        lead: lead.clone(),
        parts,
        merged_into: None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hfs_core::{Event, RunId, RunSnapshot, SectionStatus, Timestamp};
    use proptest::prelude::*;

    use super::*;

    impl NegotiationState {
        /// The state in the form of a run snapshot, which contains only sections with events.
        fn snapshot(&self) -> hfs_core::Negotiation {
            let convert = |section: &SectionState| hfs_core::Section {
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
            let has_events =
                |section: &&SectionState| !section.claimants.is_empty() || section.ownership.is_some();
            hfs_core::Negotiation {
                temperature: self.temperature,
                round: self.round,
                sections: self.sections.iter().filter(has_events).map(convert).collect(),
            }
        }
    }

    const SECTIONS: [&str; 4] = ["answer", "risks", "steps", "sources"];
    const TRIADS: [&str; 4] = ["a", "b", "c", "d"];

    fn negotiation(pressure: Pressure) -> NegotiationState {
        NegotiationState::new(pressure, SECTIONS.map(str::to_owned))
    }

    fn events(payloads: Vec<EventPayload>) -> Vec<Event> {
        let run = RunId::generate();
        (1..)
            .zip(payloads)
            .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
            .collect()
    }

    /// All triads in `stances` claim the section `answer`; then one round ends with these stances.
    fn after_one_round(stances: &[(&str, Stance)]) -> (NegotiationState, Vec<EventPayload>) {
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
    fn the_decisions_of_a_round_assign_a_section_or_leave_it_contested() {
        use Stance::{Concede, Hold, Revise};
        let part = |text: &str| Revise(text.to_owned());
        let owned = |lead: &str, parts: &[(&str, &str)]| {
            let parts = parts.iter().map(|(triad, part)| ((*triad).to_owned(), (*part).to_owned())).collect();
            Some(Ownership { lead: lead.to_owned(), parts, merged_into: None })
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
    fn a_missing_decision_counts_as_hold() {
        let mut state = negotiation(Pressure::default());
        state.claim("answer", "a");
        state.claim("answer", "b");
        state.next_round().unwrap();
        let events = state.end_round(&BTreeMap::new());
        assert!(events.iter().all(|event| matches!(
            event,
            EventPayload::NegotiationDecided { decision: ClaimDecision::Hold, .. }
        )));
        let open = &state.unresolved()[0];
        assert_eq!(
            (open.section.as_str(), open.claimants.as_slice()),
            ("answer", &["a", "b"].map(str::to_owned)[..])
        );
    }

    #[test]
    fn a_section_that_stays_contested_goes_to_the_arbiter_after_the_threshold() {
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
    fn there_are_no_rounds_at_or_below_the_freeze_threshold() {
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
    fn an_invalid_ruling_gives_the_section_to_the_first_claimant() {
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
            state.assign_uncontested(|_| "d".into());
            let events = state.apply_ruling("answer", ruling.clone(), "because");
            let Some(EventPayload::ArbiterDecided { decision: decided, owners: decided_owners, .. }) =
                events.first()
            else {
                panic!("{ruling:?}: {events:?}");
            };
            assert_eq!(
                (decided_owners.as_slice(), *decided),
                (&owners.map_to_owned()[..], decision),
                "{ruling:?}"
            );
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
            |(initial_temperature, temperature_decay, freeze_threshold, rounds, escalation_threshold)| {
                Pressure {
                    initial_temperature,
                    temperature_decay,
                    freeze_threshold,
                    max_negotiation_rounds: rounds,
                    escalation_threshold,
                    ..Pressure::default()
                }
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
        fn any_negotiation_ends_with_every_section_owned_and_replays_from_its_events(
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
            log.extend(state.assign_uncontested(|_| "d".to_owned()));
            let mut stances = stances.into_iter().cycle();
            let mut rounds = 0;
            let mut previous = f64::INFINITY;
            while let Some((round, events)) = state.next_round() {
                rounds += 1;
                prop_assert!(rounds <= pressure.max_negotiation_rounds);
                prop_assert!(round.temperature <= previous && round.temperature > pressure.freeze_threshold);
                previous = round.temperature;
                log.extend(events);
                let decided = round.contests.iter().flat_map(|open| {
                    open.claimants.iter().map(|claimant| (open.section.clone(), claimant.clone()))
                });
                let decided: Vec<_> = decided.collect();
                let decided = decided.into_iter().zip(stances.by_ref()).collect();
                log.extend(state.end_round(&decided));
                let folded = RunSnapshot::fold(&events_of(&log)).negotiation;
                prop_assert_eq!(sorted(folded), sorted(state.snapshot()));
            }
            for (open, ruling) in state.unresolved().into_iter().zip(rulings) {
                log.extend(state.apply_ruling(&open.section, ruling, "because"));
            }
            prop_assert!(state.unresolved().is_empty());
            let owned: Vec<&str> = state.ownerships().map(|(name, _)| name).collect();
            prop_assert_eq!(owned, SECTIONS.to_vec());
            for (section, ownership) in state.ownerships() {
                let owners = ownership.owners();
                prop_assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), owners.len(), "{}", section);
                prop_assert!(owners.iter().all(|owner| TRIADS.contains(&owner.as_str())));
                if let Some(target) = &ownership.merged_into {
                    let target = state.ownerships().find(|(name, _)| name == target).map(|(_, ownership)| ownership);
                    prop_assert!(target.is_some_and(|target| target.merged_into.is_none()));
                }
            }
            let folded = RunSnapshot::fold(&events_of(&log)).negotiation;
            prop_assert_eq!(sorted(folded), sorted(state.snapshot()));
        }
    }

    fn events_of(log: &[EventPayload]) -> Vec<Event> {
        events(log.to_vec())
    }

    /// Sorts the sections by name. The fold has them in the order of their first event, the state in the order of the
    /// reply.
    fn sorted(mut negotiation: hfs_core::Negotiation) -> hfs_core::Negotiation {
        negotiation.sections.sort_by(|a, b| a.name.cmp(&b.name));
        negotiation
    }
}
