//! Exports a session as a single HTML file without external resources or scripts.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Checkpoint, Message, MessageDraft, MessageStatus, Part, PermissionRecord, StoreError};

use super::text::{escape_html, render_markdown};
use super::tool_call::{self, CodeBlock};
use super::{
    BranchRange, PageContents, PageOptions, Table, author_name, checkpoint_title, for_each_message,
    for_each_run, fork_origin, format_time, inserted_context, serialized_name, tables,
};
use crate::export::{DocumentSource, ExportError};

const STYLE: &str = include_str!("style.css");
/// Media types of images that are embedded. Of other attachments, the page shows only the name, type and
/// size.
const EMBEDDED_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Larger images are not embedded.
const MAX_EMBEDDED: u64 = 8 << 20;

/// Writes the session as HTML. The page is self-contained: it has no scripts, makes no requests, and shows a
/// timeline of the branches and checkpoints.
///
/// # Errors
/// Returns any error of reading the session or of writing the output.
pub fn write_html(
    source: &dyn DocumentSource,
    options: PageOptions<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let contents = PageContents::new(source, options.branches)?;
    let out: &mut dyn Write = &mut out;
    write_head(&contents, out)?;
    writeln!(out, "<main>")?;
    for range in &contents.ranges {
        write_section(source, &contents, range, out)?;
    }
    writeln!(out, "</main>")?;
    write_timeline(&contents, out)?;
    write_runs(source, out)?;
    write_summary(&contents, options, out)?;
    writeln!(out, "</body>\n</html>")?;
    out.flush()?;
    Ok(())
}

fn write_head(contents: &PageContents, out: &mut dyn Write) -> std::io::Result<()> {
    let name = escape_html(&contents.session.name);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n</header>"
    )
}

fn write_summary(
    contents: &PageContents,
    options: PageOptions<'_>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "<footer>\n<h2>About this session</h2>\n<dl>")?;
    for (label, value) in contents.summary(options.metadata) {
        writeln!(out, "<dt>{label}</dt><dd>{}</dd>", escape_html(&value))?;
    }
    writeln!(out, "</dl>\n</footer>")
}

/// Writes the branches and their checkpoints, with links to those that the page shows.
fn write_timeline(contents: &PageContents, out: &mut dyn Write) -> std::io::Result<()> {
    if contents.branches.len() < 2 && contents.checkpoints.is_empty() {
        return Ok(());
    }
    writeln!(out, "<nav aria-label=\"Timeline\">\n<h2>Timeline</h2>\n<ol>")?;
    for branch in &contents.branches {
        let name = escape_html(&branch.name);
        let shown = contents.ranges.iter().any(|range| range.branch.id == branch.id);
        let name = if shown { format!("<a href=\"#branch-{}\">{name}</a>", branch.id) } else { name };
        let from = branch.parent.and_then(|parent| contents.branches.iter().find(|other| other.id == parent));
        let from = from.map(|parent| format!(", {}", fork_origin(&parent.name, branch, escape_html)));
        let current = if branch.id == contents.session.current_branch { " (current)" } else { "" };
        writeln!(out, "<li>{name}{current}{}", from.unwrap_or_default())?;
        let checkpoints: Vec<&Checkpoint> =
            contents.checkpoints.iter().filter(|checkpoint| checkpoint.branch == branch.id).collect();
        if !checkpoints.is_empty() {
            writeln!(out, "<ol>")?;
            for checkpoint in checkpoints {
                let number = checkpoint.number;
                let title = checkpoint_title(checkpoint, escape_html);
                let title = if contents.shows(checkpoint.branch, checkpoint.seq) {
                    format!("<a href=\"#checkpoint-{number}\">{title}</a>")
                } else {
                    title
                };
                writeln!(out, "<li>{title}, after message {}</li>", checkpoint.seq)?;
            }
            writeln!(out, "</ol>")?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>\n</nav>")
}

fn write_section(
    source: &dyn DocumentSource,
    contents: &PageContents,
    range: &BranchRange,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let branch = &range.branch;
    let title = range.title(escape_html);
    writeln!(out, "<section id=\"branch-{}\">\n<h2>Branch {title}</h2>", branch.id)?;
    let write_checkpoints = |seq, out: &mut dyn Write| -> std::io::Result<()> {
        for checkpoint in contents.checkpoints_at(branch.id, seq) {
            writeln!(
                out,
                "<p class=\"mark\" id=\"checkpoint-{}\">{}</p>",
                checkpoint.number,
                checkpoint_title(checkpoint, escape_html)
            )?;
        }
        Ok(())
    };
    write_checkpoints(branch.forked_at, out)?;
    for_each_message(source, range, &mut |message| {
        write_message(source, message, out)?;
        write_checkpoints(message.seq, out)?;
        Ok(())
    })?;
    writeln!(out, "</section>")?;
    Ok(())
}

fn write_message(
    source: &dyn DocumentSource,
    message: &Message,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let is_context = message.content.is_context();
    let class = if is_context { "context" } else { message.content.role.as_str() };
    write!(out, "<article class=\"{class}\">\n<header><h3>{}</h3>", author_name(&message.content))?;
    if let Some(model) = &message.content.model {
        write!(out, "<span>{}</span>", escape_html(model))?;
    }
    let at = message.content.created_at;
    if at.is_known() {
        write!(out, "<time datetime=\"{at}\">{}</time>", format_time(at))?;
    }
    write!(out, "<span>message {}</span>", message.seq)?;
    if message.content.status != MessageStatus::Complete {
        write!(out, "<strong>{}</strong>", serialized_name(message.content.status))?;
    }
    writeln!(out, "</header>")?;
    for part in &message.content.parts {
        writeln!(out, "{}", render_part(source, &message.content, part)?)?;
    }
    writeln!(out, "</article>")?;
    Ok(())
}

/// A text part: the context that a tool inserted, folded, and the author's own text.
fn render_text((context, own): (&str, &str)) -> String {
    let own = render_markdown(own);
    if context.is_empty() {
        return own;
    }
    let (label, context) = inserted_context(context);
    format!("{}\n{own}", details(label, &code(&context)))
}

fn details(summary: &str, content: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n{content}\n</details>", escape_html(summary))
}

/// A block of code. Lines of a diff have the color of their kind.
fn render_block(block: &CodeBlock) -> String {
    if block.language != "diff" {
        return code(&block.text);
    }
    let lines: Vec<String> = block
        .text
        .lines()
        .map(|line| match line.as_bytes().first() {
            Some(b'+') => format!("<ins>{}</ins>", escape_html(line)),
            Some(b'-') => format!("<del>{}</del>", escape_html(line)),
            _ => escape_html(line),
        })
        .collect();
    format!("<pre tabindex=\"0\"><code>{}</code></pre>", lines.join("\n"))
}

fn code(text: &str) -> String {
    format!("<pre tabindex=\"0\"><code>{}</code></pre>", escape_html(text))
}

fn render_part(
    source: &dyn DocumentSource,
    content: &MessageDraft,
    part: &Part,
) -> Result<String, ExportError> {
    Ok(match part {
        Part::Text { text } => render_text(content.split_text(text)),
        Part::Thinking { text, .. } if text.is_empty() => {
            details("Thinking", "<p>Encrypted by its provider.</p>")
        }
        Part::Thinking { text, .. } => details("Thinking", &render_markdown(text)),
        Part::ToolCall { name, input, .. } => {
            let view = tool_call::call(name, input);
            let blocks: String = view.blocks.iter().map(render_block).collect();
            details(&format!("Tool call: {}", view.title), &blocks)
        }
        Part::ToolResult { output, is_error, .. } => {
            let summary = if *is_error { "Tool error" } else { "Tool result" };
            details(summary, &code(&tool_call::output(output)))
        }
        Part::Attachment { media_type, name, hash, bytes } => {
            let label = name.as_deref().unwrap_or("Attachment");
            let embedded =
                hash.filter(|_| EMBEDDED_TYPES.contains(&media_type.as_str()) && *bytes <= MAX_EMBEDDED);
            let mut lost = "";
            let image = match embedded.map(|hash| source.attachment(hash)) {
                Some(Ok(bytes)) => Some(STANDARD.encode(bytes)),
                Some(Err(StoreError::NotFound { .. })) => {
                    lost = ", which the store has lost";
                    None
                }
                None => None,
                Some(Err(error)) => return Err(error.into()),
            };
            match image {
                Some(data) => {
                    format!("<img alt=\"{}\" src=\"data:{media_type};base64,{data}\">", escape_html(label))
                }
                None => {
                    let (label, media_type) = (escape_html(label), escape_html(media_type));
                    format!("<p class=\"mark\">{label} ({media_type}, {bytes} bytes{lost})</p>")
                }
            }
        }
        Part::Opaque { source, raw } => match PermissionRecord::read(part) {
            Some(record) => format!("<p class=\"mark\">{}</p>", escape_html(&record.describe())),
            None => {
                let raw = serde_json::to_string_pretty(raw).unwrap_or_default();
                details(&format!("Other content from {source}"), &code(&raw))
            }
        },
    })
}

fn write_runs(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut any = false;
    for_each_run(source, &mut |number, run| {
        if !any {
            writeln!(out, "<section aria-label=\"Agent activity\">\n<h2>Agent activity</h2>")?;
        }
        any = true;
        writeln!(out, "<details>\n<summary>Run {number}, {}</summary>", format_time(run.started_at))?;
        tables(run).try_for_each(|table| write_table(&table, out))?;
        writeln!(out, "</details>")
    })?;
    if any {
        writeln!(out, "</section>")?;
    }
    Ok(())
}

fn write_table(table: &Table, out: &mut dyn Write) -> std::io::Result<()> {
    write!(out, "<div class=\"wide\" tabindex=\"0\">\n<table>\n<thead><tr>")?;
    for column in table.columns {
        write!(out, "<th scope=\"col\">{column}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in &table.rows {
        let cells = row.each_ref().map(|cell| format!("<td>{}</td>", escape_html(cell)));
        writeln!(out, "<tr>{}</tr>", cells.concat())?;
    }
    writeln!(out, "</tbody>\n</table>\n</div>")
}
