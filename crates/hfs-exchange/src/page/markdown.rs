//! A session as Markdown, with the full trace of what its agents did.

use std::io::Write;

use hfs_core::{Message, MessageStatus, Part};

use super::PageOptions;
use super::activity::{Table, each_run, tables};
use super::outline::{Outline, Stretch, each, mark, moment, origin, role_name, word};
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
    for (what, value) in outline.facts(options.stamp) {
        writeln!(out, "- **{what}:** {}", escape_markdown(&value))?;
    }
    writeln!(out)?;
    runs(source, out)?;
    writeln!(out, "## Conversation\n")?;
    for stretch in &outline.stretches {
        if outline.stretches.len() > 1 || stretch.parent.is_some() {
            branch_heading(stretch, out)?;
        }
        let marks = |seq, out: &mut dyn Write| -> std::io::Result<()> {
            for (number, checkpoint) in outline.checkpoints_at(stretch.branch.id, seq) {
                writeln!(out, "*{}*\n", mark(number, checkpoint, escape_markdown))?;
            }
            Ok(())
        };
        marks(stretch.branch.forked_at, out)?;
        each(source, stretch, &mut |found| {
            message(found, out)?;
            marks(found.seq, out)?;
            Ok(())
        })?;
    }
    out.flush()?;
    Ok(())
}

fn branch_heading(stretch: &Stretch, out: &mut dyn Write) -> std::io::Result<()> {
    let branch = &stretch.branch;
    let from = stretch.parent.as_ref().map(|parent| format!(", {}", origin(parent, branch, escape_markdown)));
    writeln!(out, "## Branch {}{}\n", escape_markdown(&branch.name), from.unwrap_or_default())
}

fn message(message: &Message, out: &mut dyn Write) -> Result<(), ExportError> {
    write!(out, "### {}", role_name(message.content.role))?;
    if let Some(model) = &message.content.model {
        write!(out, " ({})", escape_markdown(model))?;
    }
    writeln!(out)?;
    if message.content.created_at.is_known() {
        writeln!(out, "\n*{}, message {}*\n", moment(message.content.created_at), message.seq)?;
    } else {
        writeln!(out, "\n*Message {}*\n", message.seq)?;
    }
    if message.content.status != MessageStatus::Complete {
        writeln!(out, "*{}*\n", word(message.content.status))?;
    }
    for part in &message.content.parts {
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
    each_run(source, &mut |number, run| {
        if number == 1 {
            writeln!(out, "## Agent activity\n")?;
        }
        writeln!(out, "### Run {number}\n\n*{}*\n", moment(run.started_at))?;
        tables(run).try_for_each(|found| table(&found, out))
    })
}

fn table(table: &Table, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "| {} |\n|---|---|---|---|", table.columns.join(" | "))?;
    for row in &table.rows {
        writeln!(out, "| {} |", row.each_ref().map(|cell| escape_markdown(cell)).join(" | "))?;
    }
    writeln!(out)
}
