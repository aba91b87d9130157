//! What agents are told. Everything that came from outside stands between marks, so that it reads as material.

use hfs_core::{Message, Part, Role as Speaks};

use super::config::{Role, SectionConfig, TriadConfig};
use super::structured::Position;

/// How much of the conversation before the question is shown, in characters.
const LONGEST_BEFORE: usize = 6_000;
/// The most of one message of it.
const LONGEST_MESSAGE: usize = 1_500;

/// The beginning of a text, with a mark where it was cut.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} [...]", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The newest user's message, and a digest of what stands before it.
pub(super) fn question_and_before(history: &[Message]) -> (String, String) {
    let at = history.iter().rposition(|message| message.content.role == Speaks::User).unwrap_or(0);
    let question = history.get(at).map(|message| message.content.text()).unwrap_or_default();
    let mut digest: Vec<String> = Vec::new();
    let mut left = LONGEST_BEFORE;
    for message in history.iter().take(at).rev() {
        let text: Vec<&str> = message
            .content
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let entry =
            format!("{}: {}", message.content.role, shortened(text.join("\n").trim(), LONGEST_MESSAGE));
        let size = entry.chars().count();
        if text.is_empty() || size > left {
            continue;
        }
        left -= size;
        digest.push(entry);
    }
    digest.reverse();
    (question, digest.join("\n"))
}

/// Who an agent of a triad is.
pub(super) fn identity(triad: &TriadConfig, name: &str, role: Role) -> String {
    let mut text = format!(
        "You are {name} of the triad \"{}\", one of several groups of three agents that answer a question \
         together. {}",
        triad.id,
        match role {
            Role::Orchestrator => "You divide the work of your triad and merge what comes back.",
            Role::Worker => "You do the work that your orchestrator gives you, thoroughly and briefly.",
            Role::Proposer => "You draft what your triad holds, and revise it when an objection is right.",
            Role::Critic => "You find what is wrong or missing in a draft. You are specific and fair.",
            Role::Synthesizer => "You weigh draft and objections and decide what your triad holds.",
            Role::Peer => "You and your two peers are equals: you propose, discuss and vote.",
            Role::Arbiter | Role::Integrator => "",
        }
    );
    if !triad.system_context.trim().is_empty() {
        text.push_str("\n\n");
        text.push_str(triad.system_context.trim());
    }
    for objective in &triad.objectives {
        text.push_str("\n- ");
        text.push_str(objective);
    }
    text.push_str(SAME_LANGUAGE);
    text
}

/// Who decides where triads do not agree.
pub(super) const ARBITER: &str = "You are the arbiter among groups of agents that answer a question together. Where \
    they cannot agree who writes a section, you assign, split or merge it, for the good of the reply.";

/// Who makes one reply of many sections.
pub(super) const INTEGRATOR: &str = "You make one coherent reply of sections that several authors wrote. Keep every \
    fact and reservation, remove repetitions and contradictions, keep a clear structure, and speak to the person who \
    asked. Do not mention the authors or that there were sections.";

const SAME_LANGUAGE: &str = "\n\nWrite in the language of the question.";

/// The question with what was said before it.
pub(super) fn question(question: &str, before: &str) -> String {
    if before.is_empty() {
        format!("<question>\n{question}\n</question>")
    } else {
        format!("<conversation>\n{before}\n</conversation>\n\n<question>\n{question}\n</question>")
    }
}

/// Material under a name.
pub(super) fn material(name: &str, text: &str) -> String {
    format!("<{name}>\n{}\n</{name}>", text.trim())
}

/// What sections there are, and which of them a triad is there for and may claim.
pub(super) fn sections(triad: &TriadConfig, sections: &[SectionConfig]) -> String {
    let mut text = "The reply will have these sections:".to_owned();
    for section in sections {
        let claim = if triad.primary.contains(&section.name) {
            " (your triad is there for it)"
        } else if triad.may_claim(&section.name) {
            " (your triad may claim it)"
        } else {
            ""
        };
        text.push_str(&format!("\n- {}{claim}: {}", section.name, section.about));
    }
    text.push_str("\n\nClaim the sections that your triad should write, and only those that it may claim.");
    text
}

/// Several positions, numbered from 1.
pub(super) fn positions(positions: &[Position]) -> String {
    let numbered = (1..).zip(positions).map(|(number, position)| {
        let proposals: String = position.proposals.iter().map(|proposal| format!("\n- {proposal}")).collect();
        let claims = position.claims.join(", ");
        format!("Position {number}: {}{proposals}\nClaims: {claims}", position.position)
    });
    material("positions", &numbered.collect::<Vec<_>>().join("\n\n"))
}

/// Asks for an answer in a shape.
pub(super) fn with_shape(prompt: &str, shape: &str) -> String {
    format!("{prompt}\n\nAnswer with JSON of this shape and nothing else:\n{shape}")
}

/// Asks again for what could not be read.
pub(super) fn once_more(shape: &str) -> String {
    format!(
        "Your last answer could not be read. Answer the same again, with JSON of this shape and nothing \
         else, no words before or after it:\n{shape}"
    )
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Timestamp};

    use super::*;

    fn history(texts: &[(Speaks, &str)]) -> Vec<Message> {
        let branch = BranchId::generate();
        (1..)
            .zip(texts)
            .map(|(seq, (role, text))| Message {
                branch,
                seq,
                content: MessageDraft::new(*role, vec![Part::text(*text)], Timestamp::UNIX_EPOCH),
            })
            .collect()
    }

    #[test]
    fn the_newest_question_is_answered_and_the_newest_talk_before_it_is_shown() {
        let long = "word ".repeat(2_000);
        let history = history(&[
            (Speaks::User, &long),
            (Speaks::Assistant, &long),
            (Speaks::User, &long),
            (Speaks::Assistant, &long),
            (Speaks::Assistant, "the last answer"),
            (Speaks::User, "and now?"),
        ]);
        let (question, before) = question_and_before(&history);
        assert_eq!(question, "and now?");
        assert!(before.ends_with("assistant: the last answer"), "{before}");
        assert!(before.chars().count() <= LONGEST_BEFORE + 10);
        assert_eq!(question_and_before(&[]), (String::new(), String::new()));
    }
}
