//! `hfs recall`: the passages of saved sessions that answer a question.

use hfs_retrieval::{RecallQuery, Recalled, RecalledPassage, RecalledSession};

use crate::args::limit_parser;
use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::json::RecallJson;
use crate::output::message::{FoundMessage, found_heading};
use crate::output::progress::update_index_or_warn;
use crate::output::sanitize;
use crate::project;
use crate::watch::catch_up::catch_up;

const EXAMPLES: &str = "\
Examples:
  hfs recall \"Why did we choose SQLite?\"
  hfs recall \"Which flag fixed the slow build?\" --project .
  hfs recall \"What did we decide in May 2026?\" -n 10 --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RecallArgs {
    /// A question in natural language
    #[arg(required = true, value_name = "QUESTION")]
    question: Vec<String>,
    /// Only the sessions of all projects whose directory or repository contains this text; a directory, such as ., stands
    /// for its project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Maximum number of passages, and of sessions
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 5, value_parser = limit_parser())]
    limit: u32,
}

pub fn run(args: &RecallArgs, context: &Context) -> Result<Outcome, CliError> {
    let in_project = args.project.as_deref().map(|text| project::filter(text, &context.environment));
    let query = RecallQuery {
        question: args.question.join(" "),
        sessions: in_project.unwrap_or_default(),
        except: None,
        limit: usize::try_from(args.limit).unwrap_or(usize::MAX),
    };
    catch_up(context);
    let store = context.store()?;
    update_index_or_warn(store.as_ref(), &context.console);
    let Recalled { sessions, passages, abstained, unreadable, .. } =
        hfs_retrieval::recall(store.as_ref(), &query)?;
    // What is far from an answer is not shown as one.
    let (sessions, passages) = if abstained { (Vec::new(), Vec::new()) } else { (sessions, passages) };
    let console = &context.console;
    console.warn_of_damage(unreadable, "message");
    if console.options.json {
        console.print_json(&RecallJson::new(&sessions, &passages, abstained, unreadable))?;
        return Ok(Outcome::Done);
    }
    if abstained {
        console.note("no saved session answers this; `hfs search` finds messages by their words");
        return Ok(Outcome::Done);
    }
    let mut entries: Vec<String> = passages.iter().map(|passage| render_passage(passage, context)).collect();
    entries.push(render_sessions(&sessions, context));
    console.print(&entries.join("\n"))?;
    Ok(Outcome::Done)
}

fn render_passage(passage: &RecalledPassage, context: &Context) -> String {
    let content = &passage.message.content;
    let heading = found_heading(
        &FoundMessage {
            session: passage.session,
            session_name: &passage.session_name,
            branch_name: &passage.branch_name,
            seq: passage.seq,
            role: content.role,
            time: &context.format_time(content.created_at),
        },
        &context.console.palette,
    );
    let text = passage.text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{heading}\n  {}\n", sanitize::line(&text))
}

fn render_sessions(sessions: &[RecalledSession], context: &Context) -> String {
    let Palette { dim, role, .. } = context.console.palette;
    let mut text = format!("{dim}Sessions, best first:{dim:#}\n");
    for session in sessions {
        let id = session.session.short();
        text.push_str(&format!("  {role}{}{role:#} {}\n", id.shown(), sanitize::line(&session.name)));
    }
    text
}
