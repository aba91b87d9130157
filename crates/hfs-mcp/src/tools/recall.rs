//! The tool `recall`.

use hfs_core::{Message, MessageRange, Part, Role, Seq, SessionId};
use hfs_retrieval::{AnalyzedText, Question, RecallQuery, RecalledPassage};
use schemars::JsonSchema;
use serde::Deserialize;

use super::is_quoting_hfs;
use crate::answer::{Answer, MAX_ANSWER_BYTES};
use crate::error::McpError;
use crate::library::Library;
use crate::place::Place;

const DEFAULT_LIMIT: usize = 5;
const MAX_LIMIT: usize = 20;

/// Arguments of `recall`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecallArgs {
    /// The question, in natural language
    question: String,
    /// Only projects whose directory or repository contains this text; . for the current project; by default all
    project: Option<String>,
    /// Maximum number of passages; 5 by default
    #[schemars(range(min = 1, max = 20))]
    limit: Option<usize>,
}

/// Passages that are examined. Sessions in which agents have asked hfs the same question have the most of its words, and
/// answer nothing.
const EXAMINED: usize = 60;
/// A message is taken to ask the question if it is at most this many times as long, and has this share of its terms.
const QUESTION_LENGTH: usize = 3;
const QUESTION_TERMS: f64 = 0.8;
/// Messages after a question in which its answer is looked for.
const ANSWER_MESSAGES: u32 = 12;
/// Maximum size of the beginning of an answer, in bytes.
const ANSWER_BYTES: usize = 400;

pub fn run(library: &Library<'_>, args: &RecallArgs) -> Result<String, McpError> {
    let limit = args.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let query = RecallQuery {
        question: args.question.clone(),
        sessions: library.project_filter(args.project.as_deref()),
        except: None,
        limit: EXAMINED,
    };
    let recalled = hfs_retrieval::recall(library.store(), &query)?;
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    let mut blocks = Vec::new();
    let mut shown: Vec<(SessionId, String)> = Vec::new();
    let passages = if recalled.abstained { &[] } else { recalled.passages.as_slice() };
    for passage in passages {
        if blocks.len() == limit {
            break;
        }
        let Some((heading, text)) = examine(library, passage, &args.question)? else { continue };
        // Tools copy messages from one session to another.
        if shown.iter().any(|(_, known)| *known == text) {
            continue;
        }
        blocks.push(format!("{heading}\n  {text}"));
        shown.push((passage.session, text));
    }
    if blocks.is_empty() {
        answer.push_footer("No saved conversation answers this. search finds messages by single words.");
        return Ok(answer.finish());
    }
    for block in &blocks {
        if !answer.push(block) {
            break;
        }
    }
    let others = recalled.sessions.iter().map(|session| session.session).take(limit);
    let others: Vec<String> = others
        .filter(|session| !shown.iter().any(|(known, _)| known == session))
        .take(3)
        .map(|session| Ok(format!("{} {}", session.short(), library.label_of(session)?)))
        .collect::<Result<_, McpError>>()?;
    if !others.is_empty() {
        answer.push_footer(&format!("May also help: {}", others.join("; ")));
    }
    answer.push_footer("read with a citation shows the whole message and what is around it.");
    if recalled.unreadable > 0 {
        answer.push_footer(&format!("{} damaged messages are left out.", recalled.unreadable));
    }
    Ok(answer.finish())
}

/// The heading and the text of a passage. For a message that asks the question itself, those of the reply to it. `None` if
/// the passage answers nothing.
fn examine(
    library: &Library<'_>,
    passage: &RecalledPassage,
    question: &str,
) -> Result<Option<(String, String)>, McpError> {
    let content = &passage.message.content;
    if is_quoting_hfs(content) {
        return Ok(None);
    }
    if !is_asking(&passage.message, question) {
        let text = library.excerpt(content, &passage.text);
        return Ok(Some((heading(library, passage, &passage.message, passage.seq)?, text)));
    }
    let range = MessageRange::From(passage.seq + 1, ANSWER_MESSAGES);
    let after = library.store().read_messages(passage.branch, range)?;
    let turn = after.iter().take_while(|message| !message.content.is_typed());
    for message in turn.filter(|message| message.content.role == Role::Assistant) {
        let text = message.content.parts.iter().find_map(|part| match part {
            Part::Text { text } if !text.trim().is_empty() => Some(text.trim()),
            _ => None,
        });
        if let Some(text) = text {
            let beginning = text.get(..text.floor_char_boundary(ANSWER_BYTES)).unwrap_or_default();
            let text = library.excerpt(&message.content, beginning);
            return Ok(Some((heading(library, passage, message, message.seq)?, text)));
        }
    }
    Ok(None)
}

/// Whether a message of the user is little more than the question.
fn is_asking(message: &Message, question: &str) -> bool {
    if !message.content.is_typed() {
        return false;
    }
    let text = message.content.text();
    if text.len() > question.len().saturating_mul(QUESTION_LENGTH) {
        return false;
    }
    let terms = Question::parse(question).terms;
    let analyzed = AnalyzedText::new(&text);
    let found = terms.iter().filter(|term| !analyzed.find(&term.patterns).is_empty()).count();
    let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    share(found) >= QUESTION_TERMS * share(terms.len())
}

fn heading(
    library: &Library<'_>,
    passage: &RecalledPassage,
    message: &Message,
    seq: Seq,
) -> Result<String, McpError> {
    let place =
        Place { session: passage.session, branch: passage.branch, branch_name: &passage.branch_name, seq };
    Ok(format!(
        "[{}] {}, {}, {}",
        place.cite(),
        message.content.role,
        library.time(message.content.created_at),
        library.label_of(passage.session)?,
    ))
}
