//! The tool `recall`.

use hfs_retrieval::{RecallQuery, RecalledPassage};
use schemars::JsonSchema;
use serde::Deserialize;

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

pub fn run(library: &Library<'_>, args: &RecallArgs) -> Result<String, McpError> {
    let query = RecallQuery {
        question: args.question.clone(),
        sessions: library.project_filter(args.project.as_deref()),
        except: None,
        limit: args.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
    };
    let recalled = hfs_retrieval::recall(library.store(), &query)?;
    let mut answer = Answer::new(MAX_ANSWER_BYTES);
    if recalled.abstained || recalled.passages.is_empty() {
        answer.push_footer("No saved conversation answers this. search finds messages by single words.");
        return Ok(answer.finish());
    }
    let mut shown = Vec::new();
    for passage in &recalled.passages {
        if !answer.push(&render(library, passage)?) {
            break;
        }
        shown.push(passage.session);
    }
    let others = recalled.sessions.iter().map(|session| session.session);
    let others: Vec<String> = others
        .filter(|session| !shown.contains(session))
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

fn render(library: &Library<'_>, passage: &RecalledPassage) -> Result<String, McpError> {
    let place = Place {
        session: passage.session,
        branch: passage.branch,
        branch_name: &passage.branch_name,
        seq: passage.seq,
    };
    let content = &passage.message.content;
    Ok(format!(
        "[{}] {}, {}, {}\n  {}",
        place.cite(),
        content.role,
        library.time(content.created_at),
        library.label_of(passage.session)?,
        library.excerpt(content, &passage.text),
    ))
}
