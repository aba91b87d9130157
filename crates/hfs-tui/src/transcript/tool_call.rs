//! Shows the arguments of tool calls: a command as a command, an edit as a diff, a file with its lines.

use hfs_core::{DiffLine, ToolInput, changed_lines, diff_lines, patched_files};
use ratatui::text::{Line, Span};
use serde_json::Value;

use crate::render::MessageLayout;
use crate::text::{
    Fragment, beginning, display_width, fitting_suffix, hard_wrap, markdown, plural, sanitize, sanitize_line,
    truncate, wrap_text,
};
use crate::theme::CodeRole;

/// Maximum rows of a diff or a file.
const MAX_ROWS: usize = 400;
/// Maximum bytes of a summary.
const SUMMARY_BYTES: usize = 400;
/// Equal lines that are shown around the change of a file.
const CONTEXT_LINES: usize = 3;

/// Summarizes a call's arguments in one line, in which a path is shortened to `width` cells.
pub fn summary(input: &Value, width: usize) -> String {
    match ToolInput::of(input) {
        ToolInput::Command(command) => short(&command),
        ToolInput::Edits { path, edits } => {
            // Tools repeat lines around a change, to say where it is.
            let counts = edits.iter().map(|(old, new)| change_counts(old, new));
            let (added, removed) = counts.fold((0, 0), |(a, r), (added, removed)| (a + added, r + removed));
            with_path(path.unwrap_or_default(), &format!("  +{added} -{removed}"), width)
        }
        ToolInput::Patch(patch) => {
            let files = patched_files(patch).map(sanitize_line);
            short(&files.collect::<Vec<_>>().join(", "))
        }
        ToolInput::File { path, content } => {
            with_path(path, &format!("  {}", plural(content.lines().count(), "line")), width)
        }
        ToolInput::Other => match path_argument(input) {
            Some((name, path)) => {
                let others = input.as_object().into_iter().flatten().filter(|(field, _)| *field != name);
                let others = list_fields(others);
                let others = if others.is_empty() { others } else { format!("  {others}") };
                with_path(path, &others, width)
            }
            None => summarize(input),
        },
    }
}

/// Returns a path followed by a text. If they do not fit, the beginning of the path is left out: the end says more than the
/// home directory in front of it.
fn with_path(path: &str, text: &str, width: usize) -> String {
    /// The end of a path is shown even if the text after it must be cut.
    const MIN_PATH: usize = 24;
    let path = sanitize_line(path);
    let room = width.saturating_sub(display_width(text)).max(MIN_PATH);
    if display_width(&path) <= room {
        return format!("{path}{text}");
    }
    let end = fitting_suffix(&path, room.saturating_sub(1));
    let end = end.find('/').filter(|at| at + 1 < end.len()).and_then(|at| end.get(at..)).unwrap_or(end);
    format!("…{end}{text}")
}

/// Returns the name and the value of the argument for the file that a call is about. `path` is not such an argument: for
/// many tools it is the folder of a search, and says less than what is searched for.
fn path_argument(input: &Value) -> Option<(&str, &str)> {
    const NAMES: [&str; 4] = ["file_path", "filePath", "absolute_path", "notebook_path"];
    let fields = input.as_object()?;
    NAMES.iter().find_map(|name| Some((*name, fields.get(*name)?.as_str()?)))
}

fn short(text: &str) -> String {
    sanitize_line(beginning(text, SUMMARY_BYTES))
}

/// If there is only one argument, its name is left out.
fn summarize(input: &Value) -> String {
    match input {
        Value::Object(fields) if fields.len() == 1 => {
            fields.values().next().map(summarize).unwrap_or_default()
        }
        Value::Object(fields) => list_fields(fields),
        Value::String(text) => short(text),
        other => short(&other.to_string()),
    }
}

fn list_fields<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if text.len() > SUMMARY_BYTES {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&format!("{}: {}", sanitize_line(name), truncate(&summarize(value), 60)));
    }
    text
}

/// Returns the rows of a call's arguments.
pub fn lines(input: &Value, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    let mut rows = match ToolInput::of(input) {
        ToolInput::Command(command) => command_rows(&command, width, layout),
        ToolInput::Edits { path, edits } => {
            let mut rows: Vec<Line<'static>> = path
                .map(|path| Line::styled(truncate(&sanitize_line(path), width), theme.dim))
                .into_iter()
                .collect();
            for (index, (old, new)) in edits.into_iter().enumerate() {
                if index > 0 {
                    rows.push(Line::styled("⋯", theme.border));
                }
                rows.extend(diff(old, new, width, layout));
            }
            limited(rows, layout)
        }
        ToolInput::Patch(patch) => {
            limited(patch.lines().flat_map(|line| diff_line(line, width, layout)).collect(), layout)
        }
        ToolInput::File { path, content } => {
            let mut rows = vec![Line::styled(truncate(&sanitize_line(path), width), theme.dim)];
            let language = path.rsplit_once('.').map_or("", |(_, extension)| extension);
            rows.extend(code(content, language, width, layout));
            limited(rows, layout)
        }
        ToolInput::Other if has_long_text(input) || is_flat(input) => Vec::new(),
        ToolInput::Other => {
            let pretty = serde_json::to_string_pretty(input).unwrap_or_default();
            return code(&pretty, "json", width, layout);
        }
    };
    rows.extend(other_fields(input, &ToolInput::fields(input), width, layout));
    rows
}

/// Returns the rows of a command.
pub fn command_lines(command: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    limited(command_rows(command, width, layout), layout)
}

fn command_rows(command: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let mut rows = code(command, "bash", width.saturating_sub(2), layout);
    for (index, row) in rows.iter_mut().enumerate() {
        let mark = if index == 0 { "$ " } else { "  " };
        row.spans.insert(0, Span::styled(mark, layout.text_style.theme.accent));
    }
    rows
}

/// The numbers of lines that a change of a file adds and removes.
pub fn change_counts(old: &str, new: &str) -> (usize, usize) {
    let (mut added, mut removed) = (0, 0);
    for line in diff_lines(old, new) {
        match line {
            DiffLine::Added(_) => added += 1,
            DiffLine::Removed(_) => removed += 1,
            DiffLine::Same(_) => {}
        }
    }
    (added, removed)
}

/// Returns the rows of a change of a file: what changes, with a few lines around it.
pub fn change_lines(old: &str, new: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    limited(diff_rows(changed_lines(old, new, CONTEXT_LINES), width, layout), layout)
}

/// Whether an argument has line breaks, which JSON would show as `\n`.
fn has_long_text(input: &Value) -> bool {
    input.as_object().is_some_and(|fields| {
        fields.values().any(|value| value.as_str().is_some_and(|text| text.contains('\n')))
    })
}

/// Whether there are arguments, and none contains others.
fn is_flat(input: &Value) -> bool {
    let is_scalar = |value: &Value| !value.is_array() && !value.is_object();
    input.as_object().is_some_and(|fields| !fields.is_empty() && fields.values().all(is_scalar))
}

/// Lists the arguments that are not in `shown`, each with its name.
fn other_fields(
    input: &Value,
    shown: &[&str],
    width: usize,
    layout: MessageLayout<'_>,
) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    let mut rows = Vec::new();
    for (name, value) in
        input.as_object().into_iter().flatten().filter(|(name, _)| !shown.contains(&name.as_str()))
    {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if text.contains('\n') {
            rows.push(Line::styled(format!("{}:", sanitize_line(name)), theme.dim));
            rows.extend(wrap_text(&sanitize(&text), theme.text, width.saturating_sub(2)).into_iter().map(
                |mut row| {
                    row.spans.insert(0, Span::raw("  "));
                    row
                },
            ));
        } else {
            rows.extend(wrap_text(
                &format!("{}: {}", sanitize_line(name), sanitize(&text)),
                theme.dim,
                width,
            ));
        }
    }
    limited(rows, layout)
}

fn diff(old: &str, new: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    diff_rows(diff_lines(old, new), width, layout)
}

fn diff_rows(lines: Vec<DiffLine<'_>>, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let rows = lines.into_iter().flat_map(|line| {
        let line = match line {
            DiffLine::Same(text) => format!(" {text}"),
            DiffLine::Removed(text) => format!("-{text}"),
            DiffLine::Added(text) => format!("+{text}"),
        };
        diff_line(&line, width, layout)
    });
    rows.collect()
}

fn diff_line(line: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    let style = match line.as_bytes().first() {
        Some(b'+') => theme.code(CodeRole::Added),
        Some(b'-') => theme.code(CodeRole::Removed),
        Some(b'@' | b'*') => theme.dim,
        _ => theme.code(CodeRole::Plain),
    };
    hard_wrap(&[Fragment::new(sanitize(line), style)], width)
}

/// Returns highlighted code.
fn code(text: &str, language: &str, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    // The fence is longer than any run of tildes in the text, so the text cannot end the block.
    let fence = "~".repeat(longest_run(text, '~').max(2) + 1);
    let is_name = language.chars().all(|c| c.is_ascii_alphanumeric());
    let language = if is_name { language } else { "" };
    let rows = markdown(&format!("{fence}{language}\n{text}\n{fence}"), width + 2, layout.text_style);
    // Without the bar of code blocks, and without the name of the language.
    let skip = usize::from(!language.is_empty());
    let rows = rows.into_iter().skip(skip).map(|mut row| {
        if !row.spans.is_empty() {
            row.spans.remove(0);
        }
        row
    });
    rows.collect()
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

fn limited(mut rows: Vec<Line<'static>>, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let hidden = rows.len().saturating_sub(MAX_ROWS);
    if hidden > 0 {
        rows.truncate(MAX_ROWS);
        rows.push(Line::styled(format!("… {}", plural(hidden, "more line")), layout.text_style.theme.dim));
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ports::OutputMode;
    use crate::text::TextStyle;
    use crate::theme::Theme;

    fn rendered(input: &Value) -> Vec<String> {
        let (theme, zone) = (Theme::dark(), jiff::tz::TimeZone::UTC);
        let layout = MessageLayout {
            width: 60,
            today: jiff::civil::date(2026, 2, 1),
            text_style: TextStyle { theme: &theme, syntax: None },
            revision: 1,
            output: OutputMode::Compact,
            time_zone: &zone,
        };
        lines(input, 60, layout).iter().map(|line| line.to_string().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_command_is_shown_as_a_command() {
        let bash = json!({"command": "ls -l |\n  wc", "description": "Count files", "timeout": 5});
        assert_eq!(rendered(&bash), ["$ ls -l |", "    wc", "description: Count files", "timeout: 5"]);
        assert_eq!(summary(&bash, 60), "ls -l | wc");
    }

    #[test]
    fn an_edit_is_shown_as_a_diff_without_equal_lines() {
        let edit = json!({"file_path": "src/a.rs", "old_string": "fn a() {\n    1\n}", "new_string": "fn a() {\n    2\n    3\n}"});
        assert_eq!(rendered(&edit), ["src/a.rs", " fn a() {", "-    1", "+    2", "+    3", " }"]);
        assert_eq!(summary(&edit, 60), "src/a.rs  +2 -1");
        let edits = json!({"path": "b", "edits": [{"oldText": "x", "newText": "y"}, {"oldText": "p", "newText": ""}]});
        assert_eq!(rendered(&edits), ["b", "-x", "+y", "⋯", "-p"]);
        let all = json!({"path": "b", "old_string": "x", "new_string": "y", "replace_all": true});
        assert_eq!(rendered(&all), ["b", "-x", "+y", "replace_all: true"]);
        let repeated = json!({"path": "c", "old_str": "a\na", "new_str": "a\na\na"});
        assert_eq!(rendered(&repeated), ["c", " a", " a", "+a"]);
    }

    #[test]
    fn a_patch_and_a_file_are_shown_with_their_lines() {
        let patch = "*** Begin Patch\n*** Update File: a.txt\n@@\n-old\n+new\n*** End Patch";
        assert_eq!(rendered(&json!({"input": patch})), patch.lines().collect::<Vec<_>>());
        assert_eq!(summary(&json!(patch), 60), "a.txt");
        let file = json!({"file_path": "notes.md", "content": "# Title\n\n~~~~\ntext"});
        assert_eq!(rendered(&file), ["notes.md", "# Title", "", "~~~~", "text"]);
        assert_eq!(summary(&file, 60), "notes.md  4 lines");
        let appended = json!({"path": "a.txt", "content": "x", "mode": "append"});
        assert_eq!(rendered(&appended), ["a.txt", "x", "mode: append"]);
        let patched = json!({"patch": patch, "dry_run": true});
        assert_eq!(rendered(&patched).last().map(String::as_str), Some("dry_run: true"));
    }

    #[test]
    fn other_arguments_are_listed_by_name_and_nested_ones_are_json() {
        assert_eq!(rendered(&json!({"pattern": "x", "limit": 5})), ["pattern: x", "limit: 5"]);
        let nested = json!({"todos": [{"id": 1}]});
        assert_eq!(rendered(&nested).first().map(String::as_str), Some("{"));
        assert_eq!(rendered(&json!({"text": "one\ntwo", "n": 1})), ["text:", "  one", "  two", "n: 1"]);
        assert_eq!(summary(&json!({"pattern": "x", "path": "src"}), 60), "pattern: x, path: src");
        for odd in
            [json!(null), json!([]), json!({"command": []}), json!({"edits": [1]}), json!({"command": 3})]
        {
            rendered(&odd);
            summary(&odd, 60);
        }
    }

    #[test]
    fn the_end_of_a_path_and_the_size_of_a_change_are_shown_if_the_path_is_long() {
        let path = "/home/user/workspace/service/.worktrees/1/cmd/agent/hooks.rs";
        let edit = json!({"file_path": path, "old_string": "a", "new_string": "b\nc"});
        assert_eq!(summary(&edit, 40), "…/.worktrees/1/cmd/agent/hooks.rs  +2 -1");
        assert_eq!(summary(&edit, 80), format!("{path}  +2 -1"));
        assert_eq!(summary(&edit, 3), "…/1/cmd/agent/hooks.rs  +2 -1");
        let read = json!({"file_path": path, "offset": 190, "limit": 20});
        assert_eq!(summary(&read, 50), "…/1/cmd/agent/hooks.rs  offset: 190, limit: 20");
        assert_eq!(summary(&json!({"file_path": "a.rs"}), 50), "a.rs");
        let one = json!({"file_path": "a.rs", "content": "x"});
        assert_eq!(summary(&one, 50), "a.rs  1 line");
    }
}
