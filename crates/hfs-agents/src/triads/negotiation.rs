//! The claims and negotiation phases: drives a [`NegotiationState`] with the answers of triads and arbiter.

mod state;

use std::collections::BTreeMap;

use futures::future::join_all;
use hfs_core::ClaimDecision;

use super::Participant;
use super::config::{ArbiterConfig, TriadConfig};
use super::prompts::{ArbiterAnswer, ClaimDecisions, material};
use super::runtime::{AgentHandle, Prompt, RunContext};
use crate::model::{ContestedSection, TriadTask};

pub(super) use state::{NegotiationState, Ownership};
use state::{OpenSection, Round, Ruling, Stance};

/// Registers the claims of all positions, in the order of the triads, and assigns the uncontested sections.
///
/// A section without claims goes to the first triad that has it as primary, else to the first that may claim it, else
/// to the first triad.
pub(super) fn register_claims(
    state: &mut NegotiationState,
    context: &RunContext<'_>,
    participants: &[Participant<'_, '_>],
) {
    // The first claimant gets the section if all claimants concede or the arbiter's ruling is not valid, so claims to
    // primary sections are registered first.
    for is_primary in [true, false] {
        for Participant { triad, position } in participants {
            let matching = |section: &&String| triad.config.primary.contains(section) == is_primary;
            for section in position.claims.iter().filter(matching) {
                context.emitter.events(state.claim(section, &triad.config.id));
            }
        }
    }
    let events = state.assign_uncontested(|section| {
        let find = |matches: &dyn Fn(&TriadConfig) -> bool| {
            participants.iter().map(|participant| participant.triad.config).find(|triad| matches(triad))
        };
        find(&|triad| triad.primary.iter().any(|name| name == section))
            .or_else(|| find(&|triad| triad.may_claim(section)))
            .or_else(|| find(&|_| true))
            .map(|triad| triad.id.clone())
            .unwrap_or_default()
    });
    context.emitter.events(events);
}

/// Runs all rounds, then asks the arbiter about the sections that are still contested.
pub(super) async fn negotiate(
    state: &mut NegotiationState,
    context: &RunContext<'_>,
    participants: &[Participant<'_, '_>],
    arbiter: &AgentHandle,
    config: &ArbiterConfig,
) {
    while let Some((round, events)) = state.next_round() {
        context.emitter.events(events);
        let decisions = participants.iter().map(|participant| decide(participant, context, &round));
        let stances: BTreeMap<(String, String), Stance> =
            join_all(decisions).await.into_iter().flatten().collect();
        context.emitter.events(state.end_round(&stances));
    }
    let unresolved = state.unresolved();
    let rulings = unresolved.iter().map(|open| ask_arbiter(context, participants, arbiter, config, open));
    let rulings = join_all(rulings).await;
    for (open, ruling) in unresolved.iter().zip(rulings) {
        let (ruling, reason) = ruling.unwrap_or_else(|| {
            let first = open.claimants.first().cloned().unwrap_or_default();
            let reason = "the arbiter gave no usable answer, so the first claimant gets the section";
            (Ruling::Assign(first), reason.to_owned())
        });
        context.emitter.events(state.apply_ruling(&open.section, ruling, &reason));
    }
}

/// A triad's decisions in a round, keyed by section and triad.
async fn decide(
    participant: &Participant<'_, '_>,
    context: &RunContext<'_>,
    round: &Round,
) -> Vec<((String, String), Stance)> {
    let Participant { triad, position } = participant;
    let id = &triad.config.id;
    let contested: Vec<&OpenSection> =
        round.contests.iter().filter(|open| open.claimants.contains(id)).collect();
    if contested.is_empty() {
        return Vec::new();
    }
    let Some(lead) = triad.lead().filter(|_| triad.meter.remaining().is_ok()) else {
        // A triad without agents or budget could not write the sections, so it concedes them.
        let key = |open: &OpenSection| (open.section.clone(), id.clone());
        return contested.iter().map(|open| (key(open), Stance::Concede)).collect();
    };
    let rivals = contested.iter().map(|open| {
        let others: Vec<&str> =
            open.claimants.iter().filter(|other| *other != id).map(String::as_str).collect();
        format!("- {}: also claimed by {}", open.section, others.join(", "))
    });
    let text = format!(
        "{}\n\n{}\n\nThese sections that your triad claims are contested, in round {} at a temperature of \
         {:.2} (the lower, the more you should insist only on what your triad is responsible for):\n{}\n\nFor \
         each, concede it, revise your claim to a part of it, or hold it, and say why.",
        context.question.prompt(),
        material("position", &position.position),
        round.number,
        round.temperature,
        rivals.collect::<Vec<_>>().join("\n"),
    );
    let sections = contested.iter().map(|open| ContestedSection {
        name: open.section.clone(),
        is_primary: triad.config.primary.contains(&open.section),
    });
    let task = TriadTask::Decide { contested: sections.collect() };
    // Some providers reject temperatures above 1.
    let temperature = Some(round.temperature.min(1.0));
    let prompt = Prompt { temperature, ..Prompt::new(task, text) };
    let answer = triad.ask_for::<ClaimDecisions>(context, lead, prompt, ClaimDecisions::SHAPE).await;
    let decisions = answer.map(|answer| answer.decisions).unwrap_or_default();
    decisions
        .into_iter()
        .filter(|decision| contested.iter().any(|open| open.section == decision.section))
        .map(|decision| {
            let stance = match (decision.decision, decision.part) {
                (ClaimDecision::Concede, _) => Stance::Concede,
                (ClaimDecision::Revise, Some(part)) if !part.trim().is_empty() => Stance::Revise(part),
                // A revision without a part does not narrow the claim.
                (ClaimDecision::Revise | ClaimDecision::Hold, _) => Stance::Hold,
            };
            ((decision.section, id.clone()), stance)
        })
        .collect()
}

/// Asks the arbiter about a section. Returns the ruling and its reason; `None` if the answer cannot be parsed.
async fn ask_arbiter(
    context: &RunContext<'_>,
    participants: &[Participant<'_, '_>],
    arbiter: &AgentHandle,
    config: &ArbiterConfig,
    open: &OpenSection,
) -> Option<(Ruling, String)> {
    let OpenSection { section, claimants } = open;
    let about = context.sections.iter().find(|known| known.name == *section).map_or("", |known| &known.about);
    let other_sections: Vec<&str> =
        context.sections.iter().map(|known| known.name.as_str()).filter(|name| name != section).collect();
    let cases = participants
        .iter()
        .filter(|participant| claimants.contains(&participant.triad.config.id))
        .map(|Participant { triad, position }| {
            let proposals = position.proposals.join("; ");
            format!("{}: {} Proposes: {proposals}", triad.config.id, position.position)
        });
    let text = format!(
        "{}\n\nThe section \"{section}\" ({about}) is claimed by {}. They could not agree.\n\n{}\n\nAssign it \
         to one of them, split it among them, or merge it into one of these sections: {}. Give your reason.",
        context.question.prompt(),
        claimants.join(", "),
        material("cases", &cases.collect::<Vec<_>>().join("\n\n")),
        other_sections.join(", "),
    );
    let prompt = Prompt {
        temperature: Some(config.temperature),
        max_tokens: Some(config.max_tokens),
        ..Prompt::new(TriadTask::Arbitrate { section: section.clone(), claimants: claimants.clone() }, text)
    };
    let answer = arbiter.ask_for::<ArbiterAnswer>(context, None, prompt, ArbiterAnswer::SHAPE).await?;
    Some(match answer {
        ArbiterAnswer::Assign { owner, reason } => (Ruling::Assign(owner), reason),
        ArbiterAnswer::Split { shares, reason } => {
            let shares = shares.into_iter().map(|share| (share.triad, share.part)).collect();
            (Ruling::Split(shares), reason)
        }
        ArbiterAnswer::Merge { into, reason } => (Ruling::Merge(into), reason),
    })
}
