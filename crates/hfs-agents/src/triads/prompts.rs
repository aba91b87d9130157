//! The prompts of agents in triads, and the structured answers they ask for.
//!
//! Text from outside (the conversation, other agents' answers) is enclosed in XML-like tags, so that the model can
//! distinguish material from instructions.
//!
//! Structured answers are read leniently: models surround JSON with prose and code fences however clearly the
//! prompt forbids it, and not every provider offers constrained output. [`parse_answer`] therefore takes the
//! first JSON object of the expected shape and ignores the rest.

use hfs_core::{ClaimDecision, EventPayload, Message, Part, Role as MessageRole};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::{Role, SectionConfig, TriadConfig};
use crate::model::TriadTask;

/// Limit for the conversation before the question, in characters.
const MAX_CONTEXT: usize = 6_000;
/// Limit for one message of the context, in characters.
const MAX_CONTEXT_MESSAGE: usize = 1_500;
/// How many opening braces are tried as the start of a JSON object. Each attempt may scan the rest of the text, so
/// without a limit a text of braces would take quadratic time.
const MAX_JSON_STARTS: usize = 64;

/// Cuts a text after `max_chars` characters and marks the cut.
pub(super) fn truncate(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{} [...]", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The user's question and the conversation before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Question {
    /// Text of the newest user message.
    pub text: String,
    /// Excerpt of the conversation before that message; may be empty.
    pub context: String,
    /// Number of earlier messages that are not part of the excerpt, or only in part.
    pub cut: usize,
}

impl Question {
    /// Takes the newest user message as the question and the newest messages before it as the context.
    pub fn from_history(history: &[Message]) -> Self {
        let index =
            history.iter().rposition(|message| message.content.role == MessageRole::User).unwrap_or(0);
        let text = history.get(index).map(|message| message.content.text()).unwrap_or_default();
        let mut context: Vec<String> = Vec::new();
        let mut remaining = MAX_CONTEXT;
        let mut cut = 0;
        for message in history.iter().take(index).rev() {
            let texts: Vec<&str> = message
                .content
                .parts
                .iter()
                .filter_map(|part| match part {
                    Part::Text { text } => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            let whole = texts.join("\n");
            let shown = truncate(whole.trim(), MAX_CONTEXT_MESSAGE);
            let is_whole = shown == whole.trim();
            let entry = format!("{}: {shown}", message.content.role);
            let length = entry.chars().count();
            if texts.is_empty() {
                continue;
            }
            // A message that does not fit is skipped; a shorter message before it may still fit.
            if length > remaining {
                cut += 1;
                continue;
            }
            cut += usize::from(!is_whole);
            remaining -= length;
            context.push(entry);
        }
        context.reverse();
        Self { text, context: context.join("\n"), cut }
    }

    /// The beginning of every prompt.
    pub fn prompt(&self) -> String {
        let Self { text, context, .. } = self;
        if context.is_empty() {
            format!("<question>\n{text}\n</question>")
        } else {
            format!("<conversation>\n{context}\n</conversation>\n\n<question>\n{text}\n</question>")
        }
    }
}

/// System prompt of an agent in a triad.
pub(super) fn system_prompt(triad: &TriadConfig, name: &str, role: Role) -> String {
    let mut text = format!(
        "You are {name} of the triad \"{}\", one of several groups of three agents that answer a question \
         together. {}",
        triad.id,
        match role {
            Role::Orchestrator => "You divide the work of your triad and merge the results.",
            Role::Worker => "You do the work that your orchestrator gives you, thoroughly and briefly.",
            Role::Proposer => "You draft your triad's position, and revise it when an objection is right.",
            Role::Critic => "You find what is wrong or missing in a draft. You are specific and fair.",
            Role::Synthesizer => "You weigh draft and objections and decide your triad's position.",
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
    text.push_str("\n\nWrite in the language of the question.");
    text
}

/// System prompt of the arbiter.
pub(super) const ARBITER: &str = "You are the arbiter among groups of agents that answer a question together. Where \
    they cannot agree who writes a section, you assign, split or merge it, for the good of the reply.";

/// System prompt of the integrator.
pub(super) const INTEGRATOR: &str = "You make one coherent reply of sections that several authors wrote. Keep every \
    fact and reservation, remove repetitions and contradictions, keep a clear structure, and speak to the person who \
    asked. Do not mention the authors or that there were sections.";

/// Text from outside, in tags.
pub(super) fn material(tag: &str, text: &str) -> String {
    format!("<{tag}>\n{}\n</{tag}>", text.trim())
}

/// The list of sections, with those that the triad may claim marked.
pub(super) fn sections(triad: &TriadConfig, sections: &[SectionConfig]) -> String {
    let mut text = "The reply will have these sections:".to_owned();
    for section in sections {
        let claim = if triad.primary.contains(&section.name) {
            " (your triad is responsible for it)"
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

/// Adds the request for an answer of the given shape.
pub(super) fn with_shape(prompt: &str, shape: &str) -> String {
    format!("{prompt}\n\nAnswer with JSON of this shape and nothing else:\n{shape}")
}

/// Repeats the request for an answer of the given shape, after an answer that could not be read.
pub(super) fn repeat_in_shape(shape: &str) -> String {
    format!(
        "Your last answer could not be read. Answer the same again, with JSON of this shape and nothing \
         else, no words before or after it:\n{shape}"
    )
}

/// The first JSON object in the text that has the expected shape.
pub(super) fn parse_answer<T: DeserializeOwned>(text: &str) -> Option<T> {
    text.match_indices('{').take(MAX_JSON_STARTS).find_map(|(start, _)| {
        // A stream deserializer ignores the text after the object.
        let mut values = serde_json::Deserializer::from_str(text.get(start..)?).into_iter::<T>();
        values.next()?.ok()
    })
}

/// A triad's position on the question.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Position {
    pub position: String,
    /// Names of the sections that the triad wants to write.
    pub claims: Vec<String>,
    /// What the sections should say.
    #[serde(default)]
    pub proposals: Vec<String>,
}

impl Position {
    pub const SHAPE: &'static str =
        r#"{"position": "what you hold", "claims": ["section name"], "proposals": ["what to say in them"]}"#;
}

/// The orchestrator's tasks for the two workers.
#[derive(Debug, Deserialize)]
pub(super) struct WorkerTasks {
    pub tasks: [String; 2],
}

impl WorkerTasks {
    pub const SHAPE: &'static str = r#"{"tasks": ["for the first worker", "for the second worker"]}"#;
}

/// A vote for a position, numbered from 1.
#[derive(Debug, Deserialize)]
pub(super) struct Vote {
    pub vote: usize,
}

impl Vote {
    pub const SHAPE: &'static str = r#"{"vote": 1}"#;
}

/// A triad's decisions about the sections it contests.
#[derive(Debug, Deserialize)]
pub(super) struct ClaimDecisions {
    pub decisions: Vec<SectionClaim>,
}

impl ClaimDecisions {
    pub const SHAPE: &'static str = r#"{"decisions": [{"section": "name", "decision": "concede | revise | hold", "part": "if revise: what you still want", "reason": "why, in one sentence"}]}"#;
}

#[derive(Debug, Deserialize)]
pub(super) struct SectionClaim {
    pub section: String,
    pub decision: ClaimDecision,
    #[serde(default)]
    pub part: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

/// The arbiter's decision about a section.
#[derive(Debug, Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub(super) enum ArbiterAnswer {
    Assign { owner: String, reason: String },
    Split { shares: Vec<Share>, reason: String },
    Merge { into: String, reason: String },
}

impl ArbiterAnswer {
    pub const SHAPE: &'static str = r#"{"decision": "assign", "owner": "triad", "reason": "why"} or {"decision": "split", "shares": [{"triad": "who leads", "part": "what"}, {"triad": "another", "part": "what"}], "reason": "why"} or {"decision": "merge", "into": "section", "reason": "why"}"#;
}

/// A triad's part of a split section.
#[derive(Debug, Deserialize)]
pub(super) struct Share {
    pub triad: String,
    #[serde(default)]
    pub part: String,
}

/// The event of an answer, with JSON as readable text. `None` for the reply, which is a message.
pub(super) fn answer_event(
    agent: &str,
    task: &TriadTask,
    answer: &str,
    known_sections: &[SectionConfig],
) -> Option<EventPayload> {
    let list = |items: &[String]| items.iter().map(|item| format!("\n- {item}")).collect::<String>();
    let mut sections = Vec::new();
    let (subject, text) = match task {
        TriadTask::Decompose => {
            ("tasks", parse_answer::<WorkerTasks>(answer).map(|tasks| list(&tasks.tasks)))
        }
        TriadTask::Research { .. } => ("report", None),
        TriadTask::Propose => ("draft", None),
        TriadTask::Critique => ("critique", None),
        TriadTask::Position { .. } => {
            let position = parse_answer::<Position>(answer);
            sections.extend(position.iter().flat_map(|position| position.claims.iter().cloned()));
            let text = |position: Position| {
                let claims = if position.claims.is_empty() {
                    "nothing".to_owned()
                } else {
                    position.claims.join(", ")
                };
                let proposals = match list(&position.proposals) {
                    proposals if proposals.is_empty() => proposals,
                    proposals => format!("\n{proposals}"),
                };
                format!("{}{proposals}\n\nClaims {claims}.", position.position)
            };
            ("position", position.map(text))
        }
        TriadTask::Vote => {
            ("vote", parse_answer::<Vote>(answer).map(|vote| format!("For position {}.", vote.vote)))
        }
        TriadTask::Decide { contested } => {
            sections.extend(contested.iter().map(|section| section.name.clone()));
            let decisions = parse_answer::<ClaimDecisions>(answer).map(|answer| answer.decisions);
            let text = |decisions: Vec<SectionClaim>| {
                list(&decisions.iter().map(SectionClaim::text).collect::<Vec<_>>())
            };
            ("decision", decisions.map(text))
        }
        TriadTask::Arbitrate { section, .. } => {
            sections.push(section.clone());
            ("ruling", parse_answer::<ArbiterAnswer>(answer).map(|ruling| ruling.text()))
        }
        TriadTask::Write { index, .. } => {
            sections.extend(known_sections.get(*index).map(|section| section.name.clone()));
            ("section", None)
        }
        TriadTask::Integrate { .. } => return None,
    };
    let text = text.as_deref().unwrap_or(answer).trim().to_owned();
    (!text.is_empty()).then(|| EventPayload::AgentAnswered {
        agent: agent.to_owned(),
        subject: subject.to_owned(),
        sections,
        text,
    })
}

impl SectionClaim {
    fn text(&self) -> String {
        let decision = match (self.decision, &self.part) {
            (ClaimDecision::Concede, _) => "concedes it".to_owned(),
            (ClaimDecision::Revise, Some(part)) => format!("wants only a part of it, {part}"),
            (ClaimDecision::Revise | ClaimDecision::Hold, _) => "holds it".to_owned(),
        };
        let reason = self.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}: {decision}{reason}", self.section)
    }
}

impl ArbiterAnswer {
    fn text(&self) -> String {
        let (decision, reason) = match self {
            Self::Assign { owner, reason } => (format!("Assigns it to {owner}"), reason),
            Self::Split { shares, reason } => {
                let shares = shares.iter().map(|share| format!("{} ({})", share.triad, share.part));
                (format!("Splits it among {}", shares.collect::<Vec<_>>().join(", ")), reason)
            }
            Self::Merge { into, reason } => (format!("Merges it into {into}"), reason),
        };
        format!("{decision}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn history(texts: &[(MessageRole, &str)]) -> Vec<Message> {
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
    fn the_question_is_the_newest_user_message_and_the_context_the_newest_messages_before_it() {
        let long = "word ".repeat(2_000);
        let history = history(&[
            (MessageRole::User, &long),
            (MessageRole::Assistant, &long),
            (MessageRole::User, &long),
            (MessageRole::Assistant, &long),
            (MessageRole::Assistant, "the last answer"),
            (MessageRole::User, "and now?"),
        ]);
        let Question { text, context, .. } = Question::from_history(&history);
        assert_eq!(text, "and now?");
        assert!(context.ends_with("assistant: the last answer"), "{context}");
        assert!(context.chars().count() <= MAX_CONTEXT + 10);
        assert_eq!(Question::from_history(&[]), Question::default());
    }

    #[test]
    fn json_is_found_between_words_and_code_fences() {
        for text in [
            r#"{"vote": 2}"#,
            "Sure! ```json\n{\"vote\": 2}\n``` Anything else?",
            "I think {this} is it: {\"vote\": 2, \"why\": \"it is {good}\"}",
        ] {
            assert_eq!(parse_answer::<Vote>(text).map(|vote| vote.vote), Some(2), "{text}");
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_not_accepted() {
        for text in ["", "no", "{", "{\"vote\": \"two\"}", "[1]", "{\"vote\": -1}"] {
            assert!(parse_answer::<Vote>(text).is_none(), "{text}");
        }
        assert!(parse_answer::<ArbiterAnswer>(r#"{"decision": "burn", "reason": "x"}"#).is_none());
    }

    #[test]
    fn structured_answers_are_recorded_as_readable_text() {
        let text = |task: &TriadTask, answer: &str| match answer_event("a", task, answer, &[]) {
            Some(EventPayload::AgentAnswered { subject, sections, text, .. }) => (subject, sections, text),
            other => panic!("{other:?}"),
        };
        let position = r#"Sure: {"position": "It is safe.", "claims": ["answer"], "proposals": ["say so"]}"#;
        assert_eq!(
            text(&TriadTask::Position { claims: Vec::new() }, position),
            ("position".into(), vec!["answer".into()], "It is safe.\n\n- say so\n\nClaims answer.".into())
        );
        let decisions = r#"{"decisions": [{"section": "risks", "decision": "concede", "reason": "they know more"},
            {"section": "answer", "decision": "revise", "part": "the how"}]}"#;
        assert_eq!(
            text(&TriadTask::Decide { contested: Vec::new() }, decisions).2,
            "- risks: concedes it: they know more\n- answer: wants only a part of it, the how"
        );
        let ruling = r#"{"decision": "assign", "owner": "makers", "reason": "they asked first"}"#;
        let arbitrate = TriadTask::Arbitrate { section: "risks".into(), claimants: Vec::new() };
        assert_eq!(
            text(&arbitrate, ruling),
            ("ruling".into(), vec!["risks".into()], "Assigns it to makers: they asked first".into())
        );
        assert_eq!(text(&TriadTask::Vote, "no JSON").2, "no JSON", "an answer in another form is kept");
        assert_eq!(answer_event("a", &TriadTask::Integrate { sections: Vec::new() }, "x", &[]), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[\\[{}\\]\":,a-z0-9 \\n]{0,400}") {
            let _ = parse_answer::<Position>(&text);
            let _ = parse_answer::<ClaimDecisions>(&text);
            let _ = parse_answer::<ArbiterAnswer>(&text);
        }
    }

    #[test]
    fn a_long_text_of_braces_is_rejected_quickly() {
        assert!(parse_answer::<Position>(&"{".repeat(1_000_000)).is_none());
        assert!(parse_answer::<Position>(&"{\"a\":".repeat(200_000)).is_none());
    }
}
