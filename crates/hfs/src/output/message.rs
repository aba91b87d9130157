//! Messages of a session as text.

use hfs_core::{
    DiffLine, MAIN_BRANCH, Message, MessageDraft, MessageStatus, Part, PermissionRecord, Role, Seq,
    SessionId, Timestamp, ToolInput, diff_lines, patched_files, plural, readable_context,
};
use serde_json::Value;

use super::console::Palette;
use super::table::shorten;
use super::{sanitize, time_format};

/// A folded part is rendered on one line; its text is shortened to this many columns.
const FOLDED_WIDTH: usize = 100;

/// How much of a message is rendered.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    /// Render thinking, tool calls and tool results in full, and times to the second.
    pub full: bool,
    /// The current time, for relative times.
    pub now: Timestamp,
}

/// A message with its heading.
pub fn render(message: &Message, detail: Detail, palette: &Palette) -> String {
    let mut text = heading(message, detail, palette);
    for part in &message.content.parts {
        let rendered = match part {
            Part::Text { text } => render_text(message.content.split_text(text), detail, palette),
            part => render_part(part, detail, palette),
        };
        if !rendered.is_empty() {
            text += &rendered;
            if !rendered.ends_with('\n') {
                text.push('\n');
            }
        }
    }
    if let Some(reason) =
        message.content.extra.get("error").and_then(|error| error.get("message")).and_then(Value::as_str)
    {
        let dim = palette.dim;
        text += &format!("{dim}[ended early: {}]{dim:#}\n", sanitize::line(reason));
    }
    text
}

/// A message that a search or a question has found, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct FoundMessage<'a> {
    pub session: SessionId,
    pub session_name: &'a str,
    pub branch_name: &'a str,
    pub seq: Seq,
    pub role: Role,
    /// Its time as it is shown.
    pub time: &'a str,
}

/// The line above the excerpt of a message that was found. Names the branch unless it is the main branch.
pub fn found_heading(found: &FoundMessage<'_>, palette: &Palette) -> String {
    let FoundMessage { session, session_name, branch_name, seq, role: author, time } = *found;
    let Palette { dim, role, .. } = *palette;
    let branch = if branch_name == MAIN_BRANCH {
        String::new()
    } else {
        format!(" · {}", sanitize::line(branch_name))
    };
    format!(
        "{role}{}{role:#} {dim}{} #{seq}{branch} · {author} · {time}{dim:#}",
        session.short().shown(),
        sanitize::line(session_name),
    )
}

fn heading(message: &Message, detail: Detail, palette: &Palette) -> String {
    let Palette { role, dim, warning, .. } = *palette;
    let when = if detail.full {
        time_format::local(message.content.created_at)
    } else {
        time_format::relative(message.content.created_at, detail.now)
    };
    let mut facts = vec![format!("#{}", message.seq), when];
    facts.extend(message.content.model.as_deref().or(message.content.agent.as_deref()).map(sanitize::line));
    if detail.full {
        match message.content.usage {
            Some(usage) => {
                facts.push(format!("{} + {} tokens", usage.prompt_tokens, usage.completion_tokens));
            }
            None if message.content.is_reply_of_model() => facts.push("tokens unknown".to_owned()),
            None => {}
        }
    }
    let status = match message.content.status {
        MessageStatus::Complete => String::new(),
        MessageStatus::Streaming => format!(" {warning}streaming{warning:#}"),
        MessageStatus::Interrupted => format!(" {warning}interrupted{warning:#}"),
    };
    format!("{role}{}{role:#} {dim}{}{dim:#}{status}\n", author(&message.content), facts.join(" · "))
}

fn author(message: &MessageDraft) -> &'static str {
    match message.role {
        Role::User if message.is_context() => "context",
        Role::User => "you",
        Role::Assistant => "assistant",
        Role::System => "system",
        Role::Tool => "tool",
    }
}

/// A text part, with the context that a tool inserted before the author's own text folded.
fn render_text((context, own): (&str, &str), detail: Detail, palette: &Palette) -> String {
    let own = sanitize::block(own).trim_end().to_owned();
    if context.is_empty() {
        return own;
    }
    let readable = if detail.full { context.into() } else { readable_context(context) };
    render_foldable("context", &readable, detail, palette) + &own
}

fn render_part(part: &Part, detail: Detail, palette: &Palette) -> String {
    let folded = |label: &str, text: &str| folded(label, text, palette);
    let show = |label: &str, text: &str| render_foldable(label, text, detail, palette);
    match part {
        Part::Text { text } => sanitize::block(text).trim_end().to_owned(),
        Part::Thinking { text, .. } => show("thinking", text),
        Part::ToolCall { name, input, .. } => {
            let label = format!("tool {}", sanitize::line(name));
            if detail.full {
                let dim = palette.dim;
                format!("{dim}[{label}]{dim:#}\n{}\n", indented(tool_input(input, palette).trim_end()))
            } else {
                folded(&label, &tool_summary(input))
            }
        }
        Part::ToolResult { output, is_error, .. } => {
            show(if *is_error { "tool failed" } else { "result" }, output)
        }
        Part::Attachment { media_type, name, bytes, .. } => {
            let name = name.as_deref().map(|name| format!("{name}, ")).unwrap_or_default();
            folded("attachment", &format!("{name}{media_type}, {}", format_size(*bytes)))
        }
        Part::Opaque { source, raw } => match PermissionRecord::read(part) {
            Some(record) => folded(&sanitize::line(&record.kind), &record.describe()),
            None => show(&format!("{} record", sanitize::line(source)), &pretty(raw)),
        },
    }
}

fn folded(label: &str, text: &str, palette: &Palette) -> String {
    let dim = palette.dim;
    let line = shorten(&sanitize::line(text), FOLDED_WIDTH);
    let gap = if line.is_empty() { "" } else { " " };
    format!("{dim}[{label}]{gap}{line}{dim:#}\n")
}

fn unfolded(label: &str, text: &str, palette: &Palette) -> String {
    let dim = palette.dim;
    let text = sanitize::block(text);
    format!("{dim}[{label}]{dim:#}\n{}\n", indented(text.trim_end()))
}

fn render_foldable(label: &str, text: &str, detail: Detail, palette: &Palette) -> String {
    if detail.full && !text.is_empty() {
        unfolded(label, text, palette)
    } else {
        folded(label, text, palette)
    }
}

/// A tool's arguments on one line: a command, the lines that an edit changes, the length of a file.
fn tool_summary(input: &Value) -> String {
    let lines = |text: &str| text.lines().count();
    match ToolInput::of(input) {
        ToolInput::Command(command) => command,
        ToolInput::Edits { path, edits } => {
            let removed: usize = edits.iter().map(|(old, _)| lines(old)).sum();
            let added: usize = edits.iter().map(|(_, new)| lines(new)).sum();
            format!("{} +{added} -{removed}", path.unwrap_or_default())
        }
        ToolInput::Patch(patch) => patched_files(patch).collect::<Vec<_>>().join(", "),
        ToolInput::File { path, content } => format!("{path}, {}", plural(lines(content), "line")),
        ToolInput::Other => one_line(input),
    }
}

/// A tool's arguments in full: a command as a command, an edit as a diff, a file with its lines.
fn tool_input(input: &Value, palette: &Palette) -> String {
    let styled = |line: &str| {
        let style = match line.as_bytes().first() {
            Some(b'+') => palette.good,
            Some(b'-') => palette.error,
            _ => anstyle::Style::new(),
        };
        format!("{style}{}{style:#}\n", sanitize::block(line))
    };
    let mut text = match ToolInput::of(input) {
        ToolInput::Command(command) => format!("$ {}\n", sanitize::block(&command)),
        ToolInput::Edits { path, edits } => {
            let mut text = path.map(|path| format!("{}\n", sanitize::line(path))).unwrap_or_default();
            for (index, (old, new)) in edits.into_iter().enumerate() {
                if index > 0 {
                    text += "...\n";
                }
                text.extend(diff_lines(old, new).into_iter().map(|line| match line {
                    DiffLine::Same(line) => styled(&format!(" {line}")),
                    DiffLine::Removed(line) => styled(&format!("-{line}")),
                    DiffLine::Added(line) => styled(&format!("+{line}")),
                }));
            }
            text
        }
        ToolInput::Patch(patch) => patch.lines().map(styled).collect(),
        ToolInput::File { path, content } => {
            format!("{}\n{}\n", sanitize::line(path), sanitize::block(content).trim_end())
        }
        ToolInput::Other => String::new(),
    };
    if text.is_empty() || input.is_object() {
        text += &fields(input, &ToolInput::fields(input));
    }
    text
}

/// The arguments that are not in `shown`, each with its name. A text keeps its line breaks.
fn fields(input: &Value, shown: &[&str]) -> String {
    let Value::Object(fields) = input else { return sanitize::block(&pretty(input)) };
    let mut text = String::new();
    for (name, value) in fields.iter().filter(|(name, _)| !shown.contains(&name.as_str())) {
        let (name, value) = (sanitize::line(name), sanitize::block(&pretty(value)));
        if value.contains('\n') {
            text += &format!(
                "{name}:\n{}\n",
                value.lines().map(|line| format!("  {line}\n")).collect::<String>().trim_end()
            );
        } else {
            text += &format!("{name}: {value}\n");
        }
    }
    text
}

/// A tool's arguments on one line, without JSON punctuation.
fn one_line(input: &Value) -> String {
    match input {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            });
            fields.collect::<Vec<_>>().join(" ")
        }
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_else(|_| other.to_string()),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// A number of bytes with a decimal unit, such as `2.5 KB`.
#[allow(clippy::cast_precision_loss, reason = "the result has one decimal")]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = "KB";
    for larger in UNITS {
        unit = larger;
        // From 999.95 on, the value would be printed as 1000.0.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hfs_core::{BranchId, MessageDraft};

    fn rendered(parts: Vec<Part>, full: bool) -> String {
        let now = Timestamp::from_millis(1_769_956_200_000).unwrap();
        let content = MessageDraft::new(Role::Assistant, parts, now);
        let row = Message { branch: BranchId::generate(), seq: 3, content };
        let detail = Detail { full, now };
        render(&row, detail, &Palette::default())
    }

    #[test]
    fn tool_calls_are_folded_to_one_line_unless_full_detail_is_requested() {
        let parts = vec![
            Part::Thinking { text: "first\nthis".into(), signature: None },
            Part::text("Let me look.\n\nNow."),
            Part::ToolCall {
                id: "1".into(),
                name: "grep".into(),
                input: serde_json::json!({"pattern": "a\nb", "count": 2}),
            },
            Part::ToolResult { id: "1".into(), output: "x\ny\n".into(), is_error: true },
            Part::Attachment { media_type: "image/png".into(), name: None, hash: None, bytes: 2_500 },
        ];
        insta::assert_snapshot!(rendered(parts.clone(), false), @r"
        assistant #3 · just now
        [thinking] first this
        Let me look.

        Now.
        [tool grep] pattern=a b count=2
        [tool failed] x y
        [attachment] image/png, 2.5 KB
        ");
        insta::assert_snapshot!(rendered(parts, true).split_once('\n').unwrap().1, @r#"
        [thinking]
            first
            this
        Let me look.

        Now.
        [tool grep]
            pattern:
              a
              b
            count: 2
        [tool failed]
            x
            y
        [attachment] image/png, 2.5 KB
        "#);
    }

    #[test]
    fn a_tool_call_is_shown_as_a_command_a_diff_or_a_file() {
        let show = |input: Value, full| {
            let text = rendered(vec![Part::ToolCall { id: "1".into(), name: "T".into(), input }], full);
            text.split_once('\n').unwrap().1.to_owned()
        };
        let command = serde_json::json!({"command": "ls -l |\n  wc", "description": "Count"});
        assert_eq!(show(command.clone(), false), "[tool T] ls -l |   wc\n");
        assert_eq!(show(command, true), "[tool T]\n    $ ls -l |\n      wc\n    description: Count\n");
        let edit =
            serde_json::json!({"file_path": "a.rs", "old_string": "one\ntwo", "new_string": "one\n2\n3"});
        assert_eq!(show(edit.clone(), false), "[tool T] a.rs +3 -2\n");
        assert_eq!(show(edit.clone(), true), "[tool T]\n    a.rs\n     one\n    -two\n    +2\n    +3\n");
        let mut all = edit;
        all["replace_all"] = true.into();
        let shown = show(all, true);
        assert_eq!(shown, "[tool T]\n    a.rs\n     one\n    -two\n    +2\n    +3\n    replace_all: true\n");
        let file = serde_json::json!({"path": "a.md", "content": "# T\n\ntext"});
        assert_eq!(show(file.clone(), false), "[tool T] a.md, 3 lines\n");
        assert_eq!(show(file, true), "[tool T]\n    a.md\n    # T\n    \n    text\n");
    }

    #[test]
    fn imported_context_is_not_shown_as_the_users_words() {
        let show = |parts: &[&str]| {
            let parts = parts.iter().map(|text| Part::text(*text)).collect();
            let mut content = MessageDraft::new(Role::User, parts, Timestamp::UNKNOWN);
            content.source = Some(hfs_core::Source { format: "codex".into(), id: "1".into() });
            content.mark_injected_context();
            let row = Message { branch: BranchId::generate(), seq: 3, content };
            render(&row, Detail { full: false, now: Timestamp::UNKNOWN }, &Palette::default())
        };
        let context = "<environment_context>x</environment_context>";
        assert_eq!(show(&[context]), format!("context #3 · time unknown\n[context] {context}\n"));
        let typed = format!("you #3 · time unknown\n[context] {context}\nFix it\n");
        assert_eq!(show(&[&format!("{context}\nFix it")]), typed);
        assert_eq!(show(&[context, "Fix it"]), typed);
    }

    #[test]
    fn no_part_can_contain_a_control_sequence() {
        let evil = "\x1b[2J\x1b]0;x\x07evil";
        for full in [false, true] {
            let text = rendered(
                vec![
                    Part::text(evil),
                    Part::ToolCall {
                        id: evil.into(),
                        name: evil.into(),
                        input: serde_json::json!({ evil: evil }),
                    },
                    Part::ToolResult { id: evil.into(), output: evil.into(), is_error: false },
                    Part::Attachment {
                        media_type: evil.into(),
                        name: Some(evil.into()),
                        hash: None,
                        bytes: 0,
                    },
                    Part::Opaque { source: evil.into(), raw: serde_json::json!([evil]) },
                ],
                full,
            );
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_rounded_to_one_decimal() {
        assert_eq!(
            [0, 999, 1_000, 999_949, 999_950, 5_400_000_000].map(format_size).join(", "),
            "0 bytes, 999 bytes, 1.0 KB, 999.9 KB, 1.0 MB, 5.4 GB"
        );
    }
}
