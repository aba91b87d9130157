//! Who writes which section: a pure state machine.
//!
//! Triads claim sections. A section that several claim is contested: in each round its claimants concede,
//! revise (want a part only) or hold. What is still contested when the temperature freezes, after too many
//! rounds over it, or after the last round, is the arbiter's to decide. Every change is told as an event, and
//! folding the events gives the same state.

use std::collections::BTreeMap;

use hfs_core::{ArbiterDecision, ClaimDecision, Contest, EventPayload, SectionDecision};

use super::config::Pressure;

/// A claimant's decision in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stance {
    Concede,
    /// The part it still wants.
    Revise(String),
    Hold,
}

impl Stance {
    const fn kind(&self) -> ClaimDecision {
        match self {
            Self::Concede => ClaimDecision::Concede,
            Self::Revise(_) => ClaimDecision::Revise,
            Self::Hold => ClaimDecision::Hold,
        }
    }
}

/// What the arbiter says of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    Assign(String),
    /// The first named leads; each part is written by its triad.
    Split(Vec<(String, String)>),
    /// The section is written together with another one.
    Merge(String),
}

/// Who writes a section. The lead writes everything that is nobody else's part, so that the whole is covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub lead: String,
    /// Other triads, and what each of them writes.
    pub parts: Vec<(String, String)>,
    /// The section in which this one is written.
    pub within: Option<String>,
}

impl Ownership {
    const fn whole(lead: String) -> Self {
        Self { lead, parts: Vec::new(), within: None }
    }

    /// Everyone who owns some of it, the lead first.
    pub fn owners(&self) -> Vec<String> {
        std::iter::once(&self.lead).chain(self.parts.iter().map(|(triad, _)| triad)).cloned().collect()
    }
}

#[derive(Debug, Clone)]
struct Section {
    name: String,
    claimants: Vec<String>,
    /// Who has not conceded.
    remaining: Vec<String>,
    contests: Vec<Contest>,
    arbiter: Option<ArbiterDecision>,
    ownership: Option<Ownership>,
}

impl Section {
    const fn is_contested(&self) -> bool {
        self.ownership.is_none() && self.remaining.len() > 1
    }
}

/// A round that is to be held.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Round {
    pub number: u32,
    pub temperature: f64,
    /// Each contested section with its claimants.
    pub contests: Vec<(String, Vec<String>)>,
}

/// The state of a negotiation.
#[derive(Debug, Clone)]
pub(crate) struct Negotiation {
    pressure: Pressure,
    round: u32,
    temperature: Option<f64>,
    /// In the order of the reply.
    sections: Vec<Section>,
}

impl Negotiation {
    /// A negotiation over these sections.
    pub fn new(pressure: Pressure, sections: impl IntoIterator<Item = String>) -> Self {
        let sections = sections.into_iter().map(|name| Section {
            name,
            claimants: Vec::new(),
            remaining: Vec::new(),
            contests: Vec::new(),
            arbiter: None,
            ownership: None,
        });
        Self { pressure, round: 0, temperature: None, sections: sections.collect() }
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut Section> {
        self.sections.iter_mut().find(|section| section.name == name)
    }

    /// A triad wants a section. Claims of the same triad, for unknown sections, or after the first round
    /// change nothing.
    pub fn claim(&mut self, section: &str, triad: &str) -> Option<EventPayload> {
        if self.round > 0 {
            return None;
        }
        let found = self.section_mut(section)?;
        if found.ownership.is_some() || found.claimants.iter().any(|known| known == triad) {
            return None;
        }
        found.claimants.push(triad.to_owned());
        found.remaining.push(triad.to_owned());
        Some(EventPayload::NegotiationClaimed { section: section.to_owned(), claimant: triad.to_owned() })
    }

    /// Sections that one triad alone claims are its own; those that nobody claims go to whom `otherwise` names.
    pub fn settle_uncontested(&mut self, otherwise: impl Fn(&str) -> String) -> Vec<EventPayload> {
        let round = self.round;
        let free = self.sections.iter_mut().filter(|section| section.ownership.is_none());
        free.filter_map(|section| {
            let owner = match section.remaining.as_slice() {
                [] => otherwise(&section.name),
                [only] => only.clone(),
                _ => return None,
            };
            Some(resolve(section, Ownership::whole(owner), round))
        })
        .collect()
    }

    /// The next round, if there is to be one; the rest is for the arbiter then.
    pub fn next_round(&mut self) -> Option<(Round, Vec<EventPayload>)> {
        let number = self.round + 1;
        let temperature = self.pressure.temperature(number);
        let frozen = temperature <= self.pressure.freeze_threshold;
        if frozen || number > self.pressure.max_negotiation_rounds {
            return None;
        }
        let patience = self.pressure.escalation_threshold;
        let mut contests = Vec::new();
        let mut events = Vec::new();
        for section in self.sections.iter_mut().filter(|section| section.is_contested()) {
            if u32::try_from(section.contests.len()).unwrap_or(u32::MAX) >= patience {
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
            contests.push((section.name.clone(), claimants));
        }
        if contests.is_empty() {
            return None;
        }
        self.round = number;
        self.temperature = Some(temperature);
        Some((Round { number, temperature, contests }, events))
    }

    /// Ends the round with what the claimants decided, by section and claimant. Whoever said nothing holds.
    ///
    /// One who is left has the section. When nobody is left, whoever claimed it first keeps it. When at most
    /// one holds and the others revise, the section is split: the one who holds (else the first) leads, the
    /// others write their parts.
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
            let mut left = Vec::new();
            for claimant in &section.remaining {
                let key = (section.name.clone(), claimant.clone());
                let stance = stances.get(&key).cloned().unwrap_or(Stance::Hold);
                contest.decisions.insert(claimant.clone(), stance.kind());
                events.push(EventPayload::NegotiationDecided {
                    section: section.name.clone(),
                    claimant: claimant.clone(),
                    decision: stance.kind(),
                    round,
                });
                if stance != Stance::Concede {
                    left.push((claimant.clone(), stance));
                }
            }
            if let Some(ownership) = agreed(&left, &section.remaining) {
                events.push(resolve(section, ownership, round));
            } else {
                section.remaining = left.into_iter().map(|(claimant, _)| claimant).collect();
            }
        }
        events
    }

    /// The sections that are left to the arbiter, each with its claimants, once there are no more rounds.
    pub fn unresolved(&self) -> Vec<(String, Vec<String>)> {
        let open = self.sections.iter().filter(|section| section.ownership.is_none());
        open.map(|section| (section.name.clone(), section.remaining.clone())).collect()
    }

    /// The arbiter has decided. A ruling that names others than the claimants, or a section that has no owner
    /// of its own to merge into, gives the section to the first claimant instead.
    pub fn rule(&mut self, name: &str, ruling: Ruling, reason: &str) -> Vec<EventPayload> {
        let target = match &ruling {
            Ruling::Merge(into) if into != name => self
                .sections
                .iter()
                .find(|section| section.name == *into)
                .and_then(|section| section.ownership.clone())
                .filter(|ownership| ownership.within.is_none()),
            _ => None,
        };
        let round = self.round;
        let Some(section) = self.section_mut(name).filter(|section| section.ownership.is_none()) else {
            return Vec::new();
        };
        let Some(first) = section.remaining.first().cloned() else {
            return Vec::new();
        };
        let claims = |triad: &String| section.remaining.contains(triad);
        let (decision, ownership) = match ruling {
            Ruling::Assign(triad) if claims(&triad) => (SectionDecision::Assign, Ownership::whole(triad)),
            Ruling::Split(shares) => match split(&shares, claims) {
                Some(ownership) => (SectionDecision::Split, ownership),
                None => (SectionDecision::Assign, Ownership::whole(first)),
            },
            Ruling::Merge(into) => match target {
                Some(target) => (
                    SectionDecision::Merge,
                    Ownership { lead: target.lead, parts: Vec::new(), within: Some(into) },
                ),
                None => (SectionDecision::Assign, Ownership::whole(first)),
            },
            Ruling::Assign(_) => (SectionDecision::Assign, Ownership::whole(first)),
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

    /// Who writes what, in the order of the sections; complete once nothing is unresolved.
    pub fn ownerships(&self) -> impl Iterator<Item = (&str, &Ownership)> {
        self.sections.iter().filter_map(|section| Some((section.name.as_str(), section.ownership.as_ref()?)))
    }
}

fn resolve(section: &mut Section, ownership: Ownership, round: u32) -> EventPayload {
    let owners = ownership.owners();
    section.ownership = Some(ownership);
    EventPayload::NegotiationResolved { section: section.name.clone(), owners, round }
}

/// What those who are left have come to, if they have.
fn agreed(left: &[(String, Stance)], before: &[String]) -> Option<Ownership> {
    let holders = left.iter().filter(|(_, stance)| *stance == Stance::Hold).count();
    match left {
        [] => before.first().cloned().map(Ownership::whole),
        [(only, _)] => Some(Ownership::whole(only.clone())),
        several if holders <= 1 => {
            let lead =
                several.iter().find(|(_, stance)| *stance == Stance::Hold).or_else(|| several.first())?;
            let parts = several.iter().filter(|(claimant, _)| *claimant != lead.0);
            let parts = parts.filter_map(|(claimant, stance)| match stance {
                Stance::Revise(part) => Some((claimant.clone(), part.clone())),
                Stance::Hold | Stance::Concede => None,
            });
            Some(Ownership { lead: lead.0.clone(), parts: parts.collect(), within: None })
        }
        _ => None,
    }
}

/// A split among claimants: the first leads, each further one has one part.
fn split(shares: &[(String, String)], claims: impl Fn(&String) -> bool) -> Option<Ownership> {
    let ((lead, _), rest) = shares.split_first()?;
    let mut parts: Vec<(String, String)> = Vec::new();
    for (triad, part) in rest {
        let again = triad == lead || parts.iter().any(|(known, _)| known == triad);
        if again || !claims(triad) {
            return None;
        }
        parts.push((triad.clone(), part.clone()));
    }
    (claims(lead) && !parts.is_empty()).then(|| Ownership { lead: lead.clone(), parts, within: None })
}

#[cfg(test)]
mod tests;
