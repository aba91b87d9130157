//! Each triad comes to a position, in the manner of its preset.

use futures::future::join_all;

use super::config::Preset;
use super::crew::{Ask, Crew, Member, Shared};
use super::prompts::{self, material};
use super::structured::{Position, Tasks, Vote};
use crate::model::Task;

/// What a triad holds, claims and proposes. `None` when none of its agents is left.
///
/// A triad that came to no readable position still stands for the sections it is there for.
pub(super) async fn deliberate(crew: &Crew<'_>, shared: &Shared<'_>) -> Option<Position> {
    let position = match crew.config.preset {
        Preset::Hierarchical => hierarchical(crew, shared).await,
        Preset::Dialectic => dialectic(crew, shared).await,
        Preset::Consensus => consensus(crew, shared).await,
    };
    crew.lead()?;
    let mut position =
        position.unwrap_or_else(|| Position { claims: crew.config.primary.clone(), ..Position::default() });
    position.claims.retain(|section| crew.config.may_claim(section));
    Some(position)
}

/// Asks a member for the triad's position, with the material that was gathered.
async fn take_position(
    crew: &Crew<'_>,
    shared: &Shared<'_>,
    member: &Member,
    material: &str,
) -> Option<Position> {
    let prompt = format!(
        "{}\n\n{material}\n\n{}\n\nSay what your triad holds, which sections it claims, and what it proposes.",
        prompts::question(&shared.question, &shared.before),
        prompts::sections(crew.config, shared.sections),
    );
    let claims = crew.config.primary.iter().chain(&crew.config.reach).cloned().collect();
    let task = Task::Position { claims };
    crew.ask_for(shared, member, Ask::new(task, prompt), Position::SHAPE).await
}

async fn hierarchical(crew: &Crew<'_>, shared: &Shared<'_>) -> Option<Position> {
    let [orchestrator, workers @ ..] = &crew.members;
    let question = prompts::question(&shared.question, &shared.before);
    let prompt =
        format!("{question}\n\nTake the question apart into two tasks, one for each of your workers.");
    let tasks =
        crew.ask_for::<Tasks>(shared, orchestrator, Ask::new(Task::Decompose, prompt), Tasks::SHAPE).await;
    // Without an orchestrator the workers take the obvious halves.
    let tasks = tasks.map_or_else(
        || ["Answer the question.".to_owned(), "Find what an obvious answer would miss.".to_owned()],
        |tasks| tasks.tasks,
    );
    let work = workers.iter().zip(&tasks).enumerate().map(|(half, (worker, task))| {
        let prompt = format!("{question}\n\n{}\n\nDo this task and report briefly.", material("task", task));
        crew.ask(shared, worker, Task::Research { half }, prompt)
    });
    let reports: Vec<String> = join_all(work).await.into_iter().flatten().collect();
    let reports = reports.join("\n\n");
    let position = take_position(crew, shared, crew.lead()?, &material("reports", &reports)).await;
    position.or_else(|| stand_in(crew, reports))
}

async fn dialectic(crew: &Crew<'_>, shared: &Shared<'_>) -> Option<Position> {
    let [synthesizer, proposer, critic] = &crew.members;
    let question = prompts::question(&shared.question, &shared.before);
    let prompt = format!("{question}\n\nDraft what your triad should hold.");
    let mut draft = crew.ask(shared, proposer, Task::Propose, prompt.clone()).await;
    if draft.is_none() {
        draft = crew.ask(shared, crew.lead()?, Task::Propose, prompt).await;
    }
    let mut best = draft.unwrap_or_default();
    let draft = material("draft", &best);
    let prompt = format!("{question}\n\n{draft}\n\nSay what is wrong with this draft and what it lacks.");
    let critique = crew.ask(shared, critic, Task::Critique, prompt).await;
    let mut all = draft.clone();
    if let Some(critique) = critique {
        let critique = material("critique", &critique);
        let prompt =
            format!("{question}\n\n{draft}\n\n{critique}\n\nRevise the draft where the critique is right.");
        let revision = crew.ask(shared, proposer, Task::Propose, prompt).await;
        all = format!("{all}\n\n{critique}");
        if let Some(revision) = revision {
            all = format!("{all}\n\n{}", material("revision", &revision));
            best = revision;
        }
    }
    let position = take_position(crew, shared, crew.able_or_lead(synthesizer)?, &all).await;
    position.or_else(|| stand_in(crew, best))
}

/// What had been worked out stands for the position that nobody could put into its form.
fn stand_in(crew: &Crew<'_>, text: String) -> Option<Position> {
    let claims = crew.config.primary.clone();
    (!text.trim().is_empty()).then(|| Position { position: text, claims, proposals: Vec::new() })
}

async fn consensus(crew: &Crew<'_>, shared: &Shared<'_>) -> Option<Position> {
    let first = join_all(crew.able().map(|peer| take_position(crew, shared, peer, ""))).await;
    let first: Vec<Position> = first.into_iter().flatten().collect();
    if first.len() <= 1 {
        return first.into_iter().next();
    }
    let seen = format!(
        "{}\n\nThese are the positions of all peers. Keep yours or change it.",
        prompts::positions(&first)
    );
    let discussed = join_all(crew.able().map(|peer| take_position(crew, shared, peer, &seen))).await;
    let discussed: Vec<Position> = discussed.into_iter().flatten().collect();
    let standing = if discussed.is_empty() { first } else { discussed };
    if standing.len() == 1 {
        return standing.into_iter().next();
    }
    let prompt = format!(
        "{}\n\n{}\n\nVote for the position that your triad should take, by its number.",
        prompts::question(&shared.question, &shared.before),
        prompts::positions(&standing)
    );
    let task = Task::Vote { among: standing.len() };
    let votes =
        join_all(crew.able().map(|peer| {
            crew.ask_for::<Vote>(shared, peer, Ask::new(task.clone(), prompt.clone()), Vote::SHAPE)
        }));
    let votes: Vec<usize> = votes.await.into_iter().flatten().map(|vote| vote.vote).collect();
    standing.into_iter().nth(elected(&votes))
}

/// The place of the position that two of three want; without such a majority, of the first.
fn elected(votes: &[usize]) -> usize {
    let majority = (1..=3).find(|number| votes.iter().filter(|vote| *vote == number).count() >= 2);
    majority.map_or(0, |number| number - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_three_decide_and_without_them_the_first() {
        for (votes, place) in [
            (vec![2, 2, 1], 1),
            (vec![1, 3, 3], 2),
            (vec![1, 2, 3], 0),
            (vec![2], 0),
            (vec![], 0),
            (vec![9, 9, 9], 0),
            (vec![2, 2], 1),
        ] {
            assert_eq!(elected(&votes), place, "{votes:?}");
        }
    }
}
