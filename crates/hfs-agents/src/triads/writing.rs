//! Triads write their sections, and one reply is made of them.

use futures::future::join_all;
use hfs_core::{AgentError, DeltaKind};

use super::config::Preset;
use super::crew::{Ask, Crew, Member, Shared};
use super::negotiation::{Negotiation, Ownership};
use super::prompts::{self, material};
use super::settlement::Standing;
use super::structured::Position;
use crate::model::{Heard, ModelReply, PartsBuilder, Task};

/// Something that a triad has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    /// The section it belongs to.
    section: String,
    /// What to write of it; `None` for all of it.
    part: Option<String>,
    /// What to leave to others.
    except: Vec<String>,
    /// Other sections that are written with it.
    with: Vec<String>,
    triad: String,
}

/// Everything that is to be written, in the order in which it is read.
fn assignments(state: &Negotiation) -> Vec<Assignment> {
    let mut all = Vec::new();
    for (section, Ownership { lead, parts, within }) in state.ownerships() {
        if within.is_some() {
            continue;
        }
        let merged = state.ownerships().filter(|(_, other)| other.within.as_deref() == Some(section));
        all.push(Assignment {
            section: section.to_owned(),
            part: None,
            except: parts.iter().map(|(_, part)| part.clone()).collect(),
            with: merged.map(|(name, _)| name.to_owned()).collect(),
            triad: lead.clone(),
        });
        all.extend(parts.iter().map(|(triad, part)| Assignment {
            section: section.to_owned(),
            part: Some(part.clone()),
            except: Vec::new(),
            with: Vec::new(),
            triad: triad.clone(),
        }));
    }
    all
}

fn prompt(assignment: &Assignment, shared: &Shared<'_>, position: &Position) -> String {
    let about = |name: &str| {
        let known = shared.sections.iter().find(|section| section.name == name);
        known.map(|section| section.about.as_str()).unwrap_or_default().to_owned()
    };
    let section = &assignment.section;
    let mut task = match &assignment.part {
        Some(part) => format!("Write this part of the section \"{section}\": {part}"),
        None => format!("Write the section \"{section}\": {}", about(section)),
    };
    for with in &assignment.with {
        task.push_str(&format!("\nTreat \"{with}\" in it, too: {}", about(with)));
    }
    for except in &assignment.except {
        task.push_str(&format!("\nLeave out, since another triad writes it: {except}"));
    }
    let proposals: String = position.proposals.iter().map(|proposal| format!("\n- {proposal}")).collect();
    format!(
        "{}\n\n{}\n\n{task}\n\nAnswer with the text alone, in Markdown, without a heading.",
        prompts::question(&shared.question, &shared.before),
        material("position", &format!("{}{proposals}", position.position)),
    )
}

fn task(assignment: &Assignment, shared: &Shared<'_>, preset: Preset) -> Task {
    let place = shared.sections.iter().position(|section| section.name == assignment.section).unwrap_or(0);
    Task::Write { place, of: shared.sections.len(), critical: preset == Preset::Dialectic }
}

/// What was written, by assignment.
type Written = Vec<(Assignment, Option<String>)>;

/// Has a triad's assignments written by its agents in parallel; what one of them fails at, another takes over.
async fn write(crew: &Crew<'_>, shared: &Shared<'_>, position: &Position, todo: Vec<Assignment>) -> Written {
    let able: Vec<&Member> = crew.able().collect();
    if able.is_empty() {
        return todo.into_iter().map(|assignment| (assignment, None)).collect();
    }
    let mut shares: Vec<Vec<Assignment>> = able.iter().map(|_| Vec::new()).collect();
    for (at, assignment) in todo.into_iter().enumerate() {
        let place = at % able.len();
        if let Some(share) = shares.get_mut(place) {
            share.push(assignment);
        }
    }
    let writing = able.into_iter().zip(shares).map(|(member, share)| async move {
        let mut written: Written = Vec::new();
        for assignment in share {
            let mut text = None;
            // Each failure loses an agent, so this ends; without a loss another try would be no better.
            let mut author = crew.able_or_lead(member);
            while let Some(agent) = author {
                let task = task(&assignment, shared, crew.config.preset);
                text = crew.ask(shared, agent, task, prompt(&assignment, shared, position)).await;
                text = text.filter(|text| !text.trim().is_empty());
                author = if text.is_some() || agent.works() { None } else { crew.lead() };
            }
            written.push((assignment, text));
        }
        written
    });
    join_all(writing).await.into_iter().flatten().collect()
}

/// Every section with its text, in the order in which they are read. A section that could not be written is
/// made of what its triad had proposed, or left out with an error event.
pub(super) async fn execute(
    state: &Negotiation,
    shared: &Shared<'_>,
    standing: &[Standing<'_, '_>],
) -> Vec<(String, String)> {
    let all = assignments(state);
    let writing = standing.iter().map(|(crew, position)| {
        let mine = all.iter().filter(|assignment| assignment.triad == crew.config.id).cloned().collect();
        write(crew, shared, position, mine)
    });
    let mut written: Written = join_all(writing).await.into_iter().flatten().collect();
    take_over(&mut written, shared, standing).await;
    let mut sections: Vec<(String, String)> = Vec::new();
    for assignment in all {
        let text = written.iter().find(|(done, _)| *done == assignment).and_then(|(_, text)| text.clone());
        let text = text.or_else(|| proposed(&assignment, standing));
        let name = &assignment.section;
        match (text, sections.iter_mut().find(|(known, _)| known == name)) {
            (Some(text), Some((_, before))) => {
                before.push_str("\n\n");
                before.push_str(text.trim());
            }
            (Some(text), None) => sections.push((name.clone(), text.trim().to_owned())),
            (None, _) => {
                let message = format!("nobody could write {name:?} for {}", assignment.triad);
                shared.stage.error(None, message);
            }
        }
    }
    sections
}

/// What a triad could not write, the first other one that still can writes in its place.
async fn take_over(written: &mut Written, shared: &Shared<'_>, standing: &[Standing<'_, '_>]) {
    let missing = written.iter_mut().filter(|(_, text)| text.is_none());
    let writing = missing.map(|(assignment, text)| async move {
        let able = |(crew, _): &&Standing<'_, '_>| {
            crew.config.id != assignment.triad && crew.lead().is_some() && crew.meter.left().is_ok()
        };
        let Some((crew, position)) = standing.iter().find(able).filter(|_| shared.meter.left().is_ok())
        else {
            return;
        };
        let message =
            format!("{} could not write {:?}; {} does", assignment.triad, assignment.section, crew.config.id);
        shared.stage.error(None, message);
        let done = write(crew, shared, position, vec![assignment.clone()]).await;
        *text = done.into_iter().find_map(|(_, text)| text);
    });
    join_all(writing).await;
}

/// What a triad had said before it could write no more.
fn proposed(assignment: &Assignment, standing: &[Standing<'_, '_>]) -> Option<String> {
    let (_, position) = standing.iter().find(|(crew, _)| crew.config.id == assignment.triad)?;
    let mut text = position.position.trim().to_owned();
    for proposal in &position.proposals {
        text.push_str(&format!("\n- {proposal}"));
    }
    (!text.trim().is_empty()).then_some(text)
}

/// Makes one reply, streaming it. When the integrator cannot, the sections themselves are the reply; when it
/// breaks off in the middle, that is the run's failure, since what was said cannot be taken back.
pub(super) async fn integrate(
    shared: &Shared<'_>,
    integrator: &Member,
    sections: &[(String, String)],
) -> Result<ModelReply, AgentError> {
    let texts: Vec<String> = sections.iter().map(|(name, text)| format!("## {name}\n\n{text}")).collect();
    let prompt = format!(
        "{}\n\n{}\n\nMake one coherent reply of these sections.",
        prompts::question(&shared.question, &shared.before),
        material("sections", &texts.join("\n\n")),
    );
    let ask = Ask::new(Task::Integrate { sections: sections.to_vec() }, prompt);
    let mut parts = PartsBuilder::default();
    let mut has_spoken = false;
    let mut ear = |heard: &Heard<'_>| {
        if let Heard::Piece(kind, text) = heard {
            has_spoken |= *kind == DeltaKind::Text;
            parts.push(*kind, text);
            shared.stage.reply(*kind, text);
        }
    };
    let reply = integrator.ask_aloud(shared, None, &ask, &mut ear).await;
    match reply {
        Some(Ok(reply)) if has_spoken => Ok(reply),
        Some(Err(error)) if has_spoken => Err(error),
        None if has_spoken => Err(AgentError::Unavailable {
            provider: integrator.who.model.clone(),
            message: "the time of the run was up in the middle of the reply".to_owned(),
            retry_after: None,
        }),
        _ => {
            shared.stage.error(None, "the sections were not made one reply and stand as they were written");
            let text = texts.join("\n\n");
            shared.stage.reply(DeltaKind::Text, &text);
            parts.push(DeltaKind::Text, &text);
            Ok(ModelReply { parts: parts.finish(), ..ModelReply::default() })
        }
    }
}
