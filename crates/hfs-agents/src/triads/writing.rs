//! The execution and integration phases: triads write their sections, and the integrator combines
//! them into one reply.

use futures::future::join_all;
use hfs_core::{AgentError, DeltaKind, IncompleteReason, IncompleteReply, TextDelta, append_text};

use super::Participant;
use super::config::Preset;
use super::negotiation::{NegotiationState, Ownership};
use super::prompts::{self, Position, material};
use super::runtime::{AgentHandle, Prompt, RunContext};
use crate::model::{ModelReply, StreamEvent, TriadTask};

/// Limit for an error that a reply quotes, in characters.
const MAX_NOTED_ERROR: usize = 300;

/// A section, or part of a section, that a triad writes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    triad: String,
    section: String,
    /// The part of the section to write; `None` for the whole section.
    part: Option<String>,
    /// Parts of the section that other triads write.
    excluded_parts: Vec<String>,
    /// Sections that were merged into this one.
    merged_sections: Vec<String>,
}

/// An assignment and its text; the text is `None` if the assignment could not be written.
type Written = (Assignment, Option<String>);

/// All assignments in the order of the reply.
fn assignments(state: &NegotiationState) -> Vec<Assignment> {
    let mut all = Vec::new();
    for (section, Ownership { lead, parts, merged_into }) in state.ownerships() {
        if merged_into.is_some() {
            continue;
        }
        let merged = state.ownerships().filter(|(_, other)| other.merged_into.as_deref() == Some(section));
        all.push(Assignment {
            triad: lead.clone(),
            section: section.to_owned(),
            part: None,
            excluded_parts: parts.iter().map(|(_, part)| part.clone()).collect(),
            merged_sections: merged.map(|(name, _)| name.to_owned()).collect(),
        });
        all.extend(parts.iter().map(|(triad, part)| Assignment {
            triad: triad.clone(),
            section: section.to_owned(),
            part: Some(part.clone()),
            excluded_parts: Vec::new(),
            merged_sections: Vec::new(),
        }));
    }
    all
}

fn prompt_text(assignment: &Assignment, context: &RunContext<'_>, position: &Position) -> String {
    let about = |name: &str| {
        let section = context.sections.iter().find(|section| section.name == name);
        section.map(|section| section.about.as_str()).unwrap_or_default().to_owned()
    };
    let section = &assignment.section;
    let mut task = match &assignment.part {
        Some(part) => format!("Write this part of the section \"{section}\": {part}"),
        None => format!("Write the section \"{section}\": {}", about(section)),
    };
    for merged in &assignment.merged_sections {
        task.push_str(&format!("\nAlso cover \"{merged}\" in this section: {}", about(merged)));
    }
    for part in &assignment.excluded_parts {
        task.push_str(&format!("\nLeave out, since another triad writes it: {part}"));
    }
    let proposals: String = position.proposals.iter().map(|proposal| format!("\n- {proposal}")).collect();
    format!(
        "{}\n\n{}\n\n{task}\n\nAnswer with the text alone, in Markdown, without a heading.",
        context.question.prompt(),
        material("position", &format!("{}{proposals}", position.position)),
    )
}

fn write_task(assignment: &Assignment, context: &RunContext<'_>, preset: Preset) -> TriadTask {
    let index = context.sections.iter().position(|section| section.name == assignment.section).unwrap_or(0);
    TriadTask::Write { index, count: context.sections.len(), with_critique: preset == Preset::Dialectic }
}

/// Distributes a triad's assignments over its agents, which write in parallel. If an agent is lost, the lead takes
/// over its assignment.
async fn write_assignments(
    participant: &Participant<'_, '_>,
    context: &RunContext<'_>,
    assignments: Vec<Assignment>,
) -> Vec<Written> {
    let Participant { triad, position } = participant;
    let agents: Vec<&AgentHandle> = triad.available_agents().collect();
    if agents.is_empty() {
        return assignments.into_iter().map(|assignment| (assignment, None)).collect();
    }
    let mut shares: Vec<Vec<Assignment>> = agents.iter().map(|_| Vec::new()).collect();
    for (index, assignment) in assignments.into_iter().enumerate() {
        let agent_index = index % agents.len();
        if let Some(share) = shares.get_mut(agent_index) {
            share.push(assignment);
        }
    }
    let writing = agents.into_iter().zip(shares).map(|(agent, share)| async move {
        let mut written = Vec::new();
        for assignment in share {
            let mut text = None;
            // Ask the lead only if the current agent was lost during the call. If the agent is still available,
            // the budget was used up or the answer was empty; asking again would not help, since all agents of a
            // triad share its budget and would get the same prompt. The loop ends because each repetition means
            // that one more agent is lost.
            let mut author = triad.available_or_lead(agent);
            while let Some(current) = author {
                let task = write_task(&assignment, context, triad.config.preset);
                let prompt = prompt_text(&assignment, context, position);
                text = triad.ask(context, current, task, prompt).await;
                text = text.filter(|text| !text.trim().is_empty());
                author = if text.is_some() || current.is_available() { None } else { triad.lead() };
            }
            written.push((assignment, text));
        }
        written
    });
    join_all(writing).await.into_iter().flatten().collect()
}

/// Writes all sections. Returns their names and texts in the order of the reply.
///
/// If a triad cannot write an assignment, another triad writes it. If no triad can, the position of the assigned triad
/// is used as the text. A section without any text is left out and reported as an error event.
pub(super) async fn write_sections(
    state: &NegotiationState,
    context: &RunContext<'_>,
    participants: &[Participant<'_, '_>],
) -> Vec<(String, String)> {
    let all = assignments(state);
    let writing = participants.iter().map(|participant| {
        let id = &participant.triad.config.id;
        let own = all.iter().filter(|assignment| assignment.triad == *id).cloned().collect();
        write_assignments(participant, context, own)
    });
    let mut written: Vec<Written> = join_all(writing).await.into_iter().flatten().collect();
    reassign_unwritten(&mut written, context, participants).await;
    let mut sections: Vec<(String, String)> = Vec::new();
    for assignment in all {
        let text = written.iter().find(|(done, _)| *done == assignment).and_then(|(_, text)| text.clone());
        let text = text.or_else(|| position_text(&assignment, participants));
        let name = &assignment.section;
        match (text, sections.iter_mut().find(|(known, _)| known == name)) {
            (Some(text), Some((_, section))) => {
                section.push_str("\n\n");
                section.push_str(text.trim());
            }
            (Some(text), None) => sections.push((name.clone(), text.trim().to_owned())),
            (None, _) => {
                let message = format!("no triad could write {name:?} for {}", assignment.triad);
                context.emitter.error(None, message);
            }
        }
    }
    sections
}

/// Reassigns each unwritten assignment to the first other triad that can write it.
async fn reassign_unwritten(
    written: &mut [Written],
    context: &RunContext<'_>,
    participants: &[Participant<'_, '_>],
) {
    let unwritten = written.iter_mut().filter(|(_, text)| text.is_none());
    let writing = unwritten.map(|(assignment, text)| async move {
        let can_write = |participant: &&Participant<'_, '_>| {
            let triad = participant.triad;
            triad.config.id != assignment.triad && triad.lead().is_some() && triad.meter.remaining().is_ok()
        };
        let Some(substitute) =
            participants.iter().find(can_write).filter(|_| context.meter.remaining().is_ok())
        else {
            return;
        };
        let message = format!(
            "{} could not write {:?}; {} writes it instead",
            assignment.triad, assignment.section, substitute.triad.config.id
        );
        context.emitter.error(None, message);
        let rewritten = write_assignments(substitute, context, vec![assignment.clone()]).await;
        *text = rewritten.into_iter().find_map(|(_, text)| text);
    });
    join_all(writing).await;
}

/// The position of the assigned triad as a text.
fn position_text(assignment: &Assignment, participants: &[Participant<'_, '_>]) -> Option<String> {
    let participant =
        participants.iter().find(|participant| participant.triad.config.id == assignment.triad)?;
    let mut text = participant.position.position.trim().to_owned();
    for proposal in &participant.position.proposals {
        text.push_str(&format!("\n- {proposal}"));
    }
    (!text.trim().is_empty()).then_some(text)
}

/// Combines the sections into one reply and streams it. A reply that lost agents did not contribute to says so at its end.
///
/// If the integrator fails before its first text, the sections themselves become the reply, which is incomplete.
///
/// # Errors
/// Returns the integrator's error if it fails later, since the streamed text cannot be replaced.
pub(super) async fn integrate(
    context: &RunContext<'_>,
    integrator: &AgentHandle,
    sections: &[(String, String)],
) -> Result<ModelReply, AgentError> {
    let texts: Vec<String> = sections.iter().map(|(name, text)| format!("## {name}\n\n{text}")).collect();
    let text = format!(
        "{}\n\n{}\n\nMake one coherent reply of these sections.",
        context.question.prompt(),
        material("sections", &texts.join("\n\n")),
    );
    let prompt = Prompt::new(TriadTask::Integrate { sections: sections.to_vec() }, text);
    let mut parts = Vec::new();
    let mut has_text = false;
    let mut handler = |event: StreamEvent<'_>| {
        if let StreamEvent::Delta(delta) = event {
            has_text |= delta.kind == DeltaKind::Text;
            append_text(&mut parts, &delta);
            context.emitter.reply(delta);
        }
    };
    let reply = integrator.ask_streaming(context, None, &prompt, &mut handler).await;
    match reply {
        Some(Ok(mut reply)) if has_text => {
            if let Some(note) = lost_agents_note(context) {
                let delta = TextDelta::text(note);
                append_text(&mut reply.parts, &delta);
                context.emitter.reply(delta);
            }
            Ok(reply)
        }
        Some(Err(error)) if has_text => Err(error),
        None if has_text => Err(AgentError::Unavailable {
            provider: integrator.identity.model.clone(),
            message: "the time budget of the run was used up in the middle of the reply".to_owned(),
            retry_after: None,
            suggestion: None,
        }),
        failed => {
            context.emitter.error(None, "the integrator failed; the reply contains the unchanged sections");
            let cause = match failed {
                Some(Err(error)) => error.to_string(),
                Some(Ok(reply)) => reply
                    .incomplete
                    .map_or_else(|| "its answer was empty".to_owned(), |incomplete| incomplete.to_string()),
                None => "the budget of the run is used up".to_owned(),
            };
            let note = format!(
                "{}\n\n---\n\n*These are the sections as the triads wrote them, because the integrator failed: {cause}*",
                texts.join("\n\n")
            );
            let delta = TextDelta::text(note);
            append_text(&mut parts, &delta);
            context.emitter.reply(delta);
            let incomplete = IncompleteReply {
                provider: "the integrator".to_owned(),
                reason: IncompleteReason::AgentsLost,
                stop_reason: Some(prompts::truncate(&cause, MAX_NOTED_ERROR)),
            };
            Ok(ModelReply { parts, incomplete: Some(incomplete), ..ModelReply::default() })
        }
    }
}

/// A paragraph that names the agents whose models failed, and the first failure. `None` if no agent was lost.
fn lost_agents_note(context: &RunContext<'_>) -> Option<String> {
    let lost = context.lost_agents();
    let first = lost.first()?;
    let ids: Vec<&str> = lost.iter().map(|agent| agent.id.as_str()).collect();
    let error = prompts::truncate(&first.error, MAX_NOTED_ERROR);
    Some(format!("\n\n---\n\n*Written without {}: {error}*", ids.join(", ")))
}
