//! Triads settle who writes what: claims, rounds of negotiation, the arbiter.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::config::{ArbiterConfig, TriadConfig};
use super::crew::{Ask, Crew, Member, Shared};
use super::negotiation::{Negotiation, Round, Ruling, Stance};
use super::prompts::{self, material};
use super::structured::{Choice, Decisions, Judgement, Position};
use crate::model::Task;

/// A triad at work with what it holds.
pub(super) type Standing<'a, 'b> = (&'b Crew<'a>, &'b Position);

/// Registers what the positions claim, in the order of the triads, and settles what nobody contests. A section
/// that nobody claims goes to a triad that is there for it, else to one that may claim it, else to the first.
pub(super) fn claim(state: &mut Negotiation, shared: &Shared<'_>, standing: &[Standing<'_, '_>]) {
    // Who is there for a section comes before who may also claim it: the first claimant wins ties.
    for primary in [true, false] {
        for (crew, position) in standing {
            let mine = |section: &&String| crew.config.primary.contains(section) == primary;
            for section in position.claims.iter().filter(mine) {
                shared.stage.events(state.claim(section, &crew.config.id));
            }
        }
    }
    let events = state.settle_uncontested(|section| {
        let find = |wanted: &dyn Fn(&TriadConfig) -> bool| {
            standing.iter().map(|(crew, _)| crew.config).find(|triad| wanted(triad))
        };
        find(&|triad| triad.primary.iter().any(|name| name == section))
            .or_else(|| find(&|triad| triad.may_claim(section)))
            .or_else(|| find(&|_| true))
            .map(|triad| triad.id.clone())
            .unwrap_or_default()
    });
    shared.stage.events(events);
}

/// Holds rounds until everything is settled or left to the arbiter, who then decides.
pub(super) async fn negotiate(
    state: &mut Negotiation,
    shared: &Shared<'_>,
    standing: &[Standing<'_, '_>],
    arbiter: (&Member, &ArbiterConfig),
) {
    while let Some((round, events)) = state.next_round() {
        shared.stage.events(events);
        let asked = standing.iter().map(|(crew, position)| decide(crew, shared, position, &round));
        let stances: BTreeMap<(String, String), Stance> =
            join_all(asked).await.into_iter().flatten().collect();
        shared.stage.events(state.end_round(&stances));
    }
    let open = state.unresolved();
    let asked = open.iter().map(|(section, claimants)| judge(shared, standing, arbiter, section, claimants));
    let rulings = join_all(asked).await;
    for ((section, claimants), ruling) in open.iter().zip(rulings) {
        let (ruling, reason) = ruling.unwrap_or_else(|| {
            let first = claimants.first().cloned().unwrap_or_default();
            (
                Ruling::Assign(first),
                "the arbiter gave no usable answer, so the first claimant has it".to_owned(),
            )
        });
        shared.stage.events(state.rule(section, ruling, &reason));
    }
}

/// What a triad decides in a round about the sections it has contested; what it leaves out, it holds.
async fn decide(
    crew: &Crew<'_>,
    shared: &Shared<'_>,
    position: &Position,
    round: &Round,
) -> Vec<((String, String), Stance)> {
    let id = &crew.config.id;
    let contested: Vec<&(String, Vec<String>)> =
        round.contests.iter().filter(|(_, claimants)| claimants.contains(id)).collect();
    if contested.is_empty() {
        return Vec::new();
    }
    let Some(lead) = crew.lead().filter(|_| crew.meter.left().is_ok()) else {
        // Whoever cannot work any more does not stand in the way of those who can.
        let concede =
            |(section, _): &&(String, Vec<String>)| ((section.clone(), id.clone()), Stance::Concede);
        return contested.iter().map(concede).collect();
    };
    let rivals = contested.iter().map(|(section, claimants)| {
        let others: Vec<&str> = claimants.iter().filter(|other| *other != id).map(String::as_str).collect();
        format!("- {section}: also claimed by {}", others.join(", "))
    });
    let prompt = format!(
        "{}\n\n{}\n\nThese sections that your triad claims are contested, in round {} at a temperature of \
         {:.2} (the colder, the more you should insist only on what you are there for):\n{}\n\nFor each, \
         concede it, revise your claim to a part of it, or hold it.",
        prompts::question(&shared.question, &shared.before),
        material("position", &position.position),
        round.number,
        round.temperature,
        rivals.collect::<Vec<_>>().join("\n"),
    );
    let task = Task::Decide {
        contested: contested
            .iter()
            .map(|(section, _)| (section.clone(), crew.config.primary.contains(section)))
            .collect(),
    };
    let ask = Ask { temperature: Some(round.temperature.min(1.0)), ..Ask::new(task, prompt) };
    let decisions = crew.ask_for::<Decisions>(shared, lead, ask, Decisions::SHAPE).await;
    let decisions = decisions.map(|decisions| decisions.decisions).unwrap_or_default();
    decisions
        .into_iter()
        .filter(|decision| contested.iter().any(|(section, _)| *section == decision.section))
        .map(|decision| {
            let stance = match (decision.decision, decision.part) {
                (Choice::Concede, _) => Stance::Concede,
                (Choice::Revise, Some(part)) if !part.trim().is_empty() => Stance::Revise(part),
                (Choice::Revise | Choice::Hold, _) => Stance::Hold,
            };
            ((decision.section, id.clone()), stance)
        })
        .collect()
}

async fn judge(
    shared: &Shared<'_>,
    standing: &[Standing<'_, '_>],
    (arbiter, config): (&Member, &ArbiterConfig),
    section: &str,
    claimants: &[String],
) -> Option<(Ruling, String)> {
    let about = shared.sections.iter().find(|known| known.name == section).map_or("", |known| &known.about);
    let others: Vec<&str> =
        shared.sections.iter().map(|known| known.name.as_str()).filter(|name| *name != section).collect();
    let cases =
        standing.iter().filter(|(crew, _)| claimants.contains(&crew.config.id)).map(|(crew, position)| {
            let proposals = position.proposals.join("; ");
            format!("{}: {} Proposes: {proposals}", crew.config.id, position.position)
        });
    let prompt = format!(
        "{}\n\nThe section \"{section}\" ({about}) is claimed by {}. They could not agree.\n\n{}\n\nAssign it \
         to one of them, split it among them, or merge it into one of these sections: {}. Give your reason.",
        prompts::question(&shared.question, &shared.before),
        claimants.join(", "),
        material("cases", &cases.collect::<Vec<_>>().join("\n\n")),
        others.join(", "),
    );
    let ask = Ask {
        temperature: Some(config.temperature),
        max_tokens: Some(config.max_tokens),
        ..Ask::new(Task::Rule { claimants: claimants.to_vec() }, prompt)
    };
    let judgement = arbiter.ask_for::<Judgement>(shared, None, ask, Judgement::SHAPE).await?;
    Some(match judgement {
        Judgement::Assign { owner, reason } => (Ruling::Assign(owner), reason),
        Judgement::Split { shares, reason } => {
            let shares = shares.into_iter().map(|share| (share.triad, share.part)).collect();
            (Ruling::Split(shares), reason)
        }
        Judgement::Merge { into, reason } => (Ruling::Merge(into), reason),
    })
}
