//! The deliberation phase: each triad arrives at a position, in the way its preset prescribes.

use futures::future::join_all;

use super::config::Preset;
use super::prompts::{self, Position, Vote, WorkerTasks, material};
use super::runtime::{AgentHandle, Prompt, RunContext, TriadRuntime};
use crate::model::TriadTask;

/// Returns the triad's position, without claims that its configuration does not allow. `None` if all agents of the triad
/// are lost.
///
/// A triad without a readable position claims its primary sections.
pub(super) async fn deliberate(triad: &TriadRuntime<'_>, context: &RunContext<'_>) -> Option<Position> {
    let position = match triad.config.preset {
        Preset::Hierarchical => hierarchical(triad, context).await,
        Preset::Dialectic => dialectic(triad, context).await,
        Preset::Consensus => consensus(triad, context).await,
    };
    triad.lead()?;
    let mut position =
        position.unwrap_or_else(|| Position { claims: triad.config.primary.clone(), ..Position::default() });
    position.claims.retain(|section| triad.config.may_claim(section));
    Some(position)
}

/// Asks an agent to state the triad's position, given material such as reports or a draft.
async fn ask_position(
    triad: &TriadRuntime<'_>,
    context: &RunContext<'_>,
    agent: &AgentHandle,
    material: &str,
) -> Option<Position> {
    let text = format!(
        "{}\n\n{material}\n\n{}\n\nSay what your triad holds, which sections it claims, and what it proposes.",
        context.question.prompt(),
        prompts::sections(triad.config, context.sections),
    );
    let claims = triad.config.primary.iter().chain(&triad.config.reach).cloned().collect();
    let prompt = Prompt::new(TriadTask::Position { claims }, text);
    triad.ask_for(context, agent, prompt, Position::SHAPE).await
}

/// A position with this text that claims the primary sections, for a triad whose agents could not state one in the
/// required form.
fn position_from_text(triad: &TriadRuntime<'_>, text: String) -> Option<Position> {
    let claims = triad.config.primary.clone();
    (!text.trim().is_empty()).then(|| Position { position: text, claims, proposals: Vec::new() })
}

async fn hierarchical(triad: &TriadRuntime<'_>, context: &RunContext<'_>) -> Option<Position> {
    let [orchestrator, workers @ ..] = &triad.agents;
    let question = context.question.prompt();
    let text = format!("{question}\n\nTake the question apart into two tasks, one for each of your workers.");
    let prompt = Prompt::new(TriadTask::Decompose, text);
    let tasks = triad.ask_for::<WorkerTasks>(context, orchestrator, prompt, WorkerTasks::SHAPE).await;
    let tasks = tasks.map_or_else(
        || ["Answer the question.".to_owned(), "Find what an obvious answer would miss.".to_owned()],
        |tasks| tasks.tasks,
    );
    let research = workers.iter().zip(&tasks).enumerate().map(|(half, (worker, task))| {
        let text = format!("{question}\n\n{}\n\nDo this task and report briefly.", material("task", task));
        triad.ask(context, worker, TriadTask::Research { half }, text)
    });
    let reports: Vec<String> = join_all(research).await.into_iter().flatten().collect();
    let reports = reports.join("\n\n");
    let position = ask_position(triad, context, triad.lead()?, &material("reports", &reports)).await;
    position.or_else(|| position_from_text(triad, reports))
}

async fn dialectic(triad: &TriadRuntime<'_>, context: &RunContext<'_>) -> Option<Position> {
    let [synthesizer, proposer, critic] = &triad.agents;
    let question = context.question.prompt();
    let text = format!("{question}\n\nDraft what your triad should hold.");
    let mut draft = triad.ask(context, proposer, TriadTask::Propose, text.clone()).await;
    if draft.is_none() {
        draft = triad.ask(context, triad.lead()?, TriadTask::Propose, text).await;
    }
    // Without a draft, the other agents still have the question.
    let mut newest_draft = draft.unwrap_or_default();
    let draft = material("draft", &newest_draft);
    let text = format!("{question}\n\n{draft}\n\nSay what is wrong with this draft and what it lacks.");
    let critique = triad.ask(context, critic, TriadTask::Critique, text).await;
    let mut discussion = draft.clone();
    if let Some(critique) = critique {
        let critique = material("critique", &critique);
        let text =
            format!("{question}\n\n{draft}\n\n{critique}\n\nRevise the draft where the critique is right.");
        let revision = triad.ask(context, proposer, TriadTask::Propose, text).await;
        discussion = format!("{discussion}\n\n{critique}");
        if let Some(revision) = revision {
            discussion = format!("{discussion}\n\n{}", material("revision", &revision));
            newest_draft = revision;
        }
    }
    let position = ask_position(triad, context, triad.available_or_lead(synthesizer)?, &discussion).await;
    position.or_else(|| position_from_text(triad, newest_draft))
}

async fn consensus(triad: &TriadRuntime<'_>, context: &RunContext<'_>) -> Option<Position> {
    let initial = join_all(triad.available_agents().map(|peer| ask_position(triad, context, peer, ""))).await;
    let initial: Vec<Position> = initial.into_iter().flatten().collect();
    if initial.len() <= 1 {
        return initial.into_iter().next();
    }
    let discussion = format!(
        "{}\n\nThese are the positions of all peers. Keep yours or change it.",
        prompts::positions(&initial)
    );
    let revised =
        join_all(triad.available_agents().map(|peer| ask_position(triad, context, peer, &discussion))).await;
    let revised: Vec<Position> = revised.into_iter().flatten().collect();
    let candidates = if revised.is_empty() { initial } else { revised };
    if candidates.len() == 1 {
        return candidates.into_iter().next();
    }
    let text = format!(
        "{}\n\n{}\n\nVote for the position that your triad should take, by its number.",
        context.question.prompt(),
        prompts::positions(&candidates)
    );
    let prompt = Prompt::new(TriadTask::Vote, text);
    let votes = join_all(
        triad
            .available_agents()
            .map(|peer| triad.ask_for::<Vote>(context, peer, prompt.clone(), Vote::SHAPE)),
    );
    let votes: Vec<usize> = votes.await.into_iter().flatten().map(|vote| vote.vote).collect();
    let index = elected(&votes, candidates.len());
    candidates.into_iter().nth(index)
}

/// Index of the position with at least two of three votes, or 0 if there is none. Votes count from 1; a vote for a
/// position that does not exist does not count.
fn elected(votes: &[usize], candidates: usize) -> usize {
    let majority = (1..=candidates).find(|number| votes.iter().filter(|vote| *vote == number).count() >= 2);
    majority.map_or(0, |number| number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_two_elects_a_position_and_otherwise_the_first_is_taken() {
        for (votes, candidates, index) in [
            (vec![2, 2, 1], 3, 1),
            (vec![1, 3, 3], 3, 2),
            (vec![1, 2, 3], 3, 0),
            (vec![2], 3, 0),
            (vec![], 3, 0),
            (vec![9, 9, 9], 3, 0),
            (vec![2, 2], 2, 1),
            (vec![3, 3], 2, 0),
            (vec![3, 3, 2], 2, 0),
            (vec![0, 0], 2, 0),
        ] {
            assert_eq!(elected(&votes, candidates), index, "{votes:?} for {candidates}");
        }
    }
}
