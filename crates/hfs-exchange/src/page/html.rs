//! A session as one HTML file that needs nothing else and runs nothing.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Checkpoint, Message, MessageStatus, Part, StoreError};

use super::PageOptions;
use super::activity::{Table, each_run, tables};
use super::outline::{Outline, Stretch, each, mark, moment, origin, role_name, word};
use super::text::{escape_html, render_markdown};
use crate::export::{DocumentSource, ExportError};

const STYLE: &str = include_str!("style.css");
/// Pictures of these kinds are shown; everything else is only named.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Larger pictures are only named.
const MAX_PICTURE: u64 = 8 << 20;

/// Writes the session as HTML: self-contained, without scripts, without a request to anywhere, with a timeline
/// of its branches and checkpoints.
///
/// # Errors
/// When the session cannot be read or the output cannot be written.
pub fn write_html(
    source: &dyn DocumentSource,
    options: PageOptions<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let outline = Outline::of(source, options.shown)?;
    let out: &mut dyn Write = &mut out;
    head(&outline, options, out)?;
    timeline(&outline, out)?;
    runs(source, out)?;
    writeln!(out, "<main id=\"conversation\">")?;
    for stretch in &outline.stretches {
        section(source, &outline, stretch, out)?;
    }
    writeln!(out, "</main>\n</body>\n</html>")?;
    out.flush()?;
    Ok(())
}

fn head(outline: &Outline, options: PageOptions<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let name = escape_html(&outline.session.name);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#conversation\">To the conversation</a>\n<header>\n<h1>{name}</h1>\n<dl>"
    )?;
    for (what, value) in outline.facts(options.stamp) {
        writeln!(out, "<dt>{what}</dt><dd>{}</dd>", escape_html(&value))?;
    }
    writeln!(out, "</dl>\n</header>")
}

/// The branches with their checkpoints, each below the one it leaves.
fn timeline(outline: &Outline, out: &mut dyn Write) -> std::io::Result<()> {
    if outline.branches.len() < 2 && outline.checkpoints.is_empty() {
        return Ok(());
    }
    writeln!(out, "<nav aria-label=\"Timeline\">\n<h2>Timeline</h2>\n<ol>")?;
    for branch in &outline.branches {
        let name = escape_html(&branch.name);
        let shown = outline.stretches.iter().any(|stretch| stretch.branch.id == branch.id);
        let name = if shown { format!("<a href=\"#branch-{}\">{name}</a>", branch.id) } else { name };
        let from = branch.parent.and_then(|parent| outline.branches.iter().find(|other| other.id == parent));
        let from = from.map(|parent| format!(", {}", origin(&parent.name, branch, escape_html)));
        let current = if branch.id == outline.session.current_branch { " (current)" } else { "" };
        writeln!(out, "<li>{name}{current}{}", from.unwrap_or_default())?;
        let marks: Vec<(usize, &Checkpoint)> = outline
            .checkpoints
            .iter()
            .enumerate()
            .filter(|(_, checkpoint)| checkpoint.branch == branch.id)
            .map(|(index, checkpoint)| (index + 1, checkpoint))
            .collect();
        if !marks.is_empty() {
            writeln!(out, "<ol>")?;
            for (number, checkpoint) in marks {
                let told = mark(number, checkpoint, escape_html);
                let told = if shown { format!("<a href=\"#checkpoint-{number}\">{told}</a>") } else { told };
                writeln!(out, "<li>{told}, after message {}</li>", checkpoint.seq)?;
            }
            writeln!(out, "</ol>")?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>\n</nav>")
}

fn section(
    source: &dyn DocumentSource,
    outline: &Outline,
    stretch: &Stretch,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let branch = &stretch.branch;
    let from = stretch.parent.as_ref().map(|parent| format!(", {}", origin(parent, branch, escape_html)));
    let (name, from) = (escape_html(&branch.name), from.unwrap_or_default());
    writeln!(out, "<section id=\"branch-{}\">\n<h2>Branch {name}{from}</h2>", branch.id)?;
    let marks = |seq, out: &mut dyn Write| -> std::io::Result<()> {
        for (number, checkpoint) in outline.checkpoints_at(branch.id, seq) {
            writeln!(
                out,
                "<p class=\"mark\" id=\"checkpoint-{number}\">{}</p>",
                mark(number, checkpoint, escape_html)
            )?;
        }
        Ok(())
    };
    marks(branch.forked_at, out)?;
    each(source, stretch, &mut |found| {
        message(source, found, out)?;
        marks(found.seq, out)?;
        Ok(())
    })?;
    writeln!(out, "</section>")?;
    Ok(())
}

fn message(source: &dyn DocumentSource, message: &Message, out: &mut dyn Write) -> Result<(), ExportError> {
    let role = message.content.role.as_str();
    write!(out, "<article class=\"{role}\">\n<header><h3>{}</h3>", role_name(message.content.role))?;
    if let Some(model) = &message.content.model {
        write!(out, "<span>{}</span>", escape_html(model))?;
    }
    let at = message.content.created_at;
    if at.is_known() {
        write!(out, "<time datetime=\"{at}\">{}</time>", moment(at))?;
    }
    write!(out, "<span>message {}</span>", message.seq)?;
    if message.content.status != MessageStatus::Complete {
        write!(out, "<strong>{}</strong>", word(message.content.status))?;
    }
    writeln!(out, "</header>")?;
    for part in &message.content.parts {
        writeln!(out, "{}", told(source, part)?)?;
    }
    writeln!(out, "</article>")?;
    Ok(())
}

fn folded(summary: &str, content: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n{content}\n</details>", escape_html(summary))
}

fn code(text: &str) -> String {
    format!("<pre tabindex=\"0\"><code>{}</code></pre>", escape_html(text))
}

fn told(source: &dyn DocumentSource, part: &Part) -> Result<String, ExportError> {
    Ok(match part {
        Part::Text { text } => render_markdown(text),
        Part::Thinking { text, .. } if text.is_empty() => {
            folded("Thinking", "<p>Encrypted by its provider.</p>")
        }
        Part::Thinking { text, .. } => folded("Thinking", &render_markdown(text)),
        Part::ToolCall { name, input, .. } => {
            let input = serde_json::to_string_pretty(input).unwrap_or_default();
            folded(&format!("Tool call: {name}"), &code(&input))
        }
        Part::ToolResult { output, is_error, .. } => {
            folded(if *is_error { "Tool error" } else { "Tool result" }, &code(output))
        }
        Part::Attachment { media_type, name, hash, bytes } => {
            let told = name.as_deref().unwrap_or("Attachment");
            let shown = hash.filter(|_| PICTURES.contains(&media_type.as_str()) && *bytes <= MAX_PICTURE);
            let picture = match shown.map(|hash| source.attachment(hash)) {
                Some(Ok(bytes)) => Some(STANDARD.encode(bytes)),
                Some(Err(StoreError::NotFound { .. })) | None => None,
                Some(Err(error)) => return Err(error.into()),
            };
            match picture {
                Some(data) => {
                    format!("<img alt=\"{}\" src=\"data:{media_type};base64,{data}\">", escape_html(told))
                }
                None => {
                    let (told, media_type) = (escape_html(told), escape_html(media_type));
                    format!("<p class=\"mark\">{told} ({media_type}, {bytes} bytes)</p>")
                }
            }
        }
        Part::Opaque { source, raw } => {
            let raw = serde_json::to_string_pretty(raw).unwrap_or_default();
            folded(&format!("From {source}"), &code(&raw))
        }
    })
}

fn runs(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut any = false;
    each_run(source, &mut |number, run| {
        if !any {
            writeln!(out, "<section aria-label=\"Agent activity\">\n<h2>Agent activity</h2>")?;
        }
        any = true;
        writeln!(out, "<details>\n<summary>Run {number}, {}</summary>", moment(run.started_at))?;
        tables(run).try_for_each(|found| table(&found, out))?;
        writeln!(out, "</details>")
    })?;
    if any {
        writeln!(out, "</section>")?;
    }
    Ok(())
}

fn table(table: &Table, out: &mut dyn Write) -> std::io::Result<()> {
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
