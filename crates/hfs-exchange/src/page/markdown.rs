//! Exports a session as Markdown.

use std::io::Write;

use hfs_core::{Message, MessageDraft, MessageStatus, Part, PermissionRecord};

use super::text::{escape_html, escape_markdown, fence, quote_markdown};
use super::{
    BranchRange, PageContents, PageOptions, Table, author_name, checkpoint_title, for_each_message,
    for_each_run, format_time, inserted_context, serialized_name, tables, tool_call,
};
use crate::export::{DocumentSource, ExportError};

/// Writes the session as Markdown. Messages are quoted and their HTML is escaped, so they cannot add headings
/// or tags to the page.
///
/// # Errors
/// Returns any error of reading the session or of writing the output.
pub fn write_markdown(
    source: &dyn DocumentSource,
    options: PageOptions<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let contents = PageContents::new(source, options.branches)?;
    let out: &mut dyn Write = &mut out;
    writeln!(out, "# {}\n", escape_markdown(&contents.session.name))?;
    writeln!(out, "## Conversation\n")?;
    for range in &contents.ranges {
        if contents.ranges.len() > 1 || range.parent.is_some() || range.is_cut() {
            write_branch_heading(range, out)?;
        }
        let write_checkpoints = |seq, out: &mut dyn Write| -> std::io::Result<()> {
            for checkpoint in contents.checkpoints_at(range.branch.id, seq) {
                writeln!(out, "*{}*\n", checkpoint_title(checkpoint, escape_markdown))?;
            }
            Ok(())
        };
        write_checkpoints(range.branch.forked_at, out)?;
        for_each_message(source, range, &mut |message| {
            write_message(message, out)?;
            write_checkpoints(message.seq, out)?;
            Ok(())
        })?;
    }
    write_runs(source, out)?;
    writeln!(out, "## About this session\n")?;
    for (label, value) in contents.summary(options.metadata) {
        writeln!(out, "- **{label}:** {}", escape_markdown(&value))?;
    }
    out.flush()?;
    Ok(())
}

fn write_branch_heading(range: &BranchRange, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "## Branch {}\n", range.title(escape_markdown))
}

fn write_message(message: &Message, out: &mut dyn Write) -> Result<(), ExportError> {
    write!(out, "### {}", author_name(&message.content))?;
    if let Some(model) = &message.content.model {
        write!(out, " ({})", escape_markdown(model))?;
    }
    writeln!(out)?;
    if message.content.created_at.is_known() {
        writeln!(out, "\n*{}, message {}*\n", format_time(message.content.created_at), message.seq)?;
    } else {
        writeln!(out, "\n*Message {}*\n", message.seq)?;
    }
    if message.content.status != MessageStatus::Complete {
        writeln!(out, "*{}*\n", serialized_name(message.content.status))?;
    }
    for part in &message.content.parts {
        writeln!(out, "{}", render_part(&message.content, part))?;
    }
    Ok(())
}

/// A text part: the context that a tool inserted, folded, and the author's own text.
fn render_text((context, own): (&str, &str)) -> String {
    let own = if own.trim().is_empty() { String::new() } else { quote_markdown(own) };
    if context.is_empty() {
        return own;
    }
    let (label, context) = inserted_context(context);
    format!("{}\n{own}", details(label, &fence(&context, "")))
}

/// A collapsed block with a summary.
fn details(summary: &str, content: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n\n{content}\n</details>\n", escape_html(summary))
}

fn render_part(content: &MessageDraft, part: &Part) -> String {
    match part {
        Part::Text { text } => render_text(content.split_text(text)),
        Part::Thinking { text, .. } if text.is_empty() => details("Thinking", "Encrypted by its provider.\n"),
        Part::Thinking { text, .. } => details("Thinking", &quote_markdown(text)),
        Part::ToolCall { name, input, .. } => {
            let view = tool_call::call(name, input);
            let blocks: Vec<String> =
                view.blocks.iter().map(|block| fence(&block.text, block.language)).collect();
            details(&format!("Tool call: {}", view.title), &blocks.join("\n"))
        }
        Part::ToolResult { output, is_error, .. } => {
            let summary = if *is_error { "Tool error" } else { "Tool result" };
            details(summary, &fence(&tool_call::output(output), ""))
        }
        Part::Attachment { media_type, name, bytes, .. } => {
            let name = name.as_deref().map(|name| format!(" {}", escape_markdown(name))).unwrap_or_default();
            format!("*Attachment:*{name} ({}, {bytes} bytes)\n", escape_markdown(media_type))
        }
        Part::Opaque { source, raw } => match PermissionRecord::read(part) {
            Some(record) => format!("*{}*\n", escape_markdown(&one_line(&record.describe()))),
            None => {
                let raw = serde_json::to_string_pretty(raw).unwrap_or_default();
                details(&format!("Other content from {}", one_line(source)), &fence(&raw, "json"))
            }
        },
    }
}

/// Replaces line breaks, because a blank line would end the HTML block of a summary.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write_runs(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    for_each_run(source, &mut |number, run| {
        if number == 1 {
            writeln!(out, "## Agent activity\n")?;
        }
        writeln!(out, "### Run {number}\n\n*{}*\n", format_time(run.started_at))?;
        tables(run).try_for_each(|table| write_table(&table, out))
    })
}

fn write_table(table: &Table, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "| {} |\n|---|---|---|---|", table.columns.join(" | "))?;
    for row in &table.rows {
        writeln!(out, "| {} |", row.each_ref().map(|cell| escape_markdown(cell)).join(" | "))?;
    }
    writeln!(out)
}
