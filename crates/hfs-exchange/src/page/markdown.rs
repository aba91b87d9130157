//! A session as Markdown, with the full trace of what its agents did.

use std::io::Write;

use hfs_core::{Message, MessageStatus, Part, Run, RunSnapshot, TokenCount};

use super::PageOptions;
use super::outline::{Outline, Stretch, duration, each, is_telling, role_name, word};
use super::text::{escape_html, escape_markdown, fence, quote_markdown};
use crate::export::{DocumentSource, ExportError};

/// Writes the session as Markdown. Whatever its messages hold, headings are the page's own.
///
/// # Errors
/// When the session cannot be read or the output cannot be written.
pub fn write_markdown(
    source: &dyn DocumentSource,
    options: PageOptions<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let outline = Outline::of(source, options.shown)?;
    let out: &mut dyn Write = &mut out;
    writeln!(out, "# {}\n", escape_markdown(&outline.session.name))?;
    writeln!(out, "- **Exported:** {}", options.stamp.exported_at)?;
    writeln!(out, "- **Messages:** {}", outline.messages)?;
    let usage = outline.usage;
    if usage.total() > 0 {
        let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
        writeln!(out, "- **Tokens:** {} ({prompt} prompt, {completion} completion)", usage.total())?;
    }
    if outline.duration_ms > 0 {
        writeln!(out, "- **Duration:** {}", duration(outline.duration_ms))?;
    }
    if let Some(project) = &outline.session.project {
        writeln!(out, "- **Project:** {}", escape_markdown(&project.directory))?;
    }
    writeln!(out)?;
    runs(source, out)?;
    writeln!(out, "## Conversation\n")?;
    for stretch in &outline.stretches {
        if outline.stretches.len() > 1 || stretch.parent.is_some() {
            branch_heading(stretch, out)?;
        }
        for (number, checkpoint) in outline.checkpoints_at(stretch.branch.id, 0) {
            checkpoint_line(number, checkpoint, out)?;
        }
        each(source, stretch, &mut |found| {
            message(found, out)?;
            for (number, checkpoint) in outline.checkpoints_at(stretch.branch.id, found.seq) {
                checkpoint_line(number, checkpoint, out)?;
            }
            Ok(())
        })?;
    }
    out.flush()?;
    Ok(())
}

fn branch_heading(stretch: &Stretch, out: &mut dyn Write) -> std::io::Result<()> {
    let name = escape_markdown(&stretch.branch.name);
    match &stretch.parent {
        Some(parent) => {
            let parent = escape_markdown(parent);
            writeln!(out, "## Branch {name}\n\nFrom {parent}, after message {}.\n", stretch.branch.forked_at)
        }
        None => writeln!(out, "## Branch {name}\n"),
    }
}

fn checkpoint_line(
    number: usize,
    checkpoint: &hfs_core::Checkpoint,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let label = checkpoint.label.as_deref().map(|label| format!(": {}", escape_markdown(label)));
    let trigger = escape_markdown(&checkpoint.trigger);
    writeln!(out, "*Checkpoint {number} ({trigger}){}*\n", label.unwrap_or_default())
}

fn message(message: &Message, out: &mut dyn Write) -> Result<(), ExportError> {
    write!(out, "### {}", role_name(message.role))?;
    if let Some(model) = &message.model {
        write!(out, " ({})", escape_markdown(model))?;
    }
    writeln!(out, "\n\n*{}, number {}*\n", message.created_at, message.seq)?;
    if message.status != MessageStatus::Complete {
        writeln!(out, "*{}*\n", word(message.status))?;
    }
    for part in &message.parts {
        writeln!(out, "{}", told(part))?;
    }
    Ok(())
}

/// Something that is folded away behind a summary.
fn folded(summary: &str, content: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n\n{content}\n</details>\n", escape_html(summary))
}

fn told(part: &Part) -> String {
    match part {
        Part::Text { text } if text.trim().is_empty() => String::new(),
        Part::Text { text } => quote_markdown(text),
        Part::Thinking { text, .. } if text.is_empty() => folded("Thinking", "Encrypted by its provider.\n"),
        Part::Thinking { text, .. } => folded("Thinking", &quote_markdown(text)),
        Part::ToolCall { name, input, .. } => {
            let input = serde_json::to_string_pretty(input).unwrap_or_default();
            folded(&format!("Tool call: {}", one_line(name)), &fence(&input, "json"))
        }
        Part::ToolResult { output, is_error, .. } => {
            folded(if *is_error { "Tool error" } else { "Tool result" }, &fence(output, ""))
        }
        Part::Attachment { media_type, name, bytes, .. } => {
            let name = name.as_deref().map(|name| format!(" {}", escape_markdown(name))).unwrap_or_default();
            format!("*Attachment:*{name} ({}, {bytes} bytes)\n", escape_markdown(media_type))
        }
        Part::Opaque { source, raw } => {
            let raw = serde_json::to_string_pretty(raw).unwrap_or_default();
            folded(&format!("From {}", one_line(source)), &fence(&raw, "json"))
        }
    }
}

/// A blank line would end the summary's block.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn runs(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut number = 0;
    for id in source.runs()? {
        let run = source.run(id)?;
        if !is_telling(&run) {
            continue;
        }
        if number == 0 {
            writeln!(out, "## Agent activity\n")?;
        }
        number += 1;
        writeln!(out, "### Run {number}\n")?;
        describe(&run, out)?;
    }
    Ok(())
}

fn describe(run: &Run, out: &mut dyn Write) -> std::io::Result<()> {
    let snapshot = &run.snapshot;
    writeln!(out, "*{}*\n", run.started_at)?;
    for triad in &snapshot.agent_tree.triads {
        writeln!(out, "- Triad {} ({})", escape_markdown(&triad.triad_id), escape_markdown(&triad.preset))?;
        for agent in &triad.agents {
            let role = escape_markdown(&agent.role);
            writeln!(out, "    - {} ({role}): {}", escape_markdown(&agent.agent_id), word(agent.status))?;
        }
    }
    for agent in &snapshot.agent_tree.agents {
        let role = escape_markdown(&agent.role);
        writeln!(out, "- {} ({role}): {}", escape_markdown(&agent.agent_id), word(agent.status))?;
    }
    if !snapshot.agent_tree.triads.is_empty() || !snapshot.agent_tree.agents.is_empty() {
        writeln!(out)?;
    }
    negotiation(snapshot, out)?;
    table("agent", &snapshot.usage.by_agent, out)?;
    table("phase", &snapshot.usage.by_phase, out)?;
    if !snapshot.timeline.phases.is_empty() {
        writeln!(out, "| Timeline | Start | End | Duration |\n|---|---|---|---|")?;
        for phase in &snapshot.timeline.phases {
            let end = phase.end.map(|end| end.to_string()).unwrap_or_default();
            let took = phase.duration_ms.map(duration).unwrap_or_default();
            writeln!(out, "| {} | {} | {end} | {took} |", escape_markdown(&phase.name), phase.start)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn negotiation(snapshot: &RunSnapshot, out: &mut dyn Write) -> std::io::Result<()> {
    if snapshot.negotiation.sections.is_empty() {
        return Ok(());
    }
    writeln!(out, "| Section | Outcome | Owners | Contests |\n|---|---|---|---|")?;
    for section in &snapshot.negotiation.sections {
        let owners: Vec<String> = section.owners.iter().map(|owner| escape_markdown(owner)).collect();
        let (name, status) = (escape_markdown(&section.name), word(section.status));
        writeln!(out, "| {name} | {status} | {} | {} |", owners.join(", "), section.contests.len())?;
    }
    writeln!(out)
}

fn table(
    of: &str,
    counts: &std::collections::BTreeMap<String, TokenCount>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "| Usage by {of} | Prompt | Completion | Calls |\n|---|---|---|---|")?;
    for (name, count) in counts {
        let usage = count.usage;
        let name = escape_markdown(name);
        writeln!(
            out,
            "| {name} | {} | {} | {} |",
            usage.prompt_tokens, usage.completion_tokens, count.calls
        )?;
    }
    writeln!(out)
}
