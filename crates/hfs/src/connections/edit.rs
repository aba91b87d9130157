//! Adds and removes the entry of a server in JSON, TOML and YAML, and keeps everything else as it is written.

use std::fmt;
use std::path::{Path, PathBuf};

use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::{Map, Value, json};
use toml_edit::DocumentMut;

/// What agents accept in JSON: comments and trailing commas.
const JSON_WITH_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The server that agents are to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The absolute path of hfs.
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Server {
    /// The program and its arguments.
    pub fn command(&self) -> Vec<String> {
        let program = self.program.display().to_string();
        std::iter::once(program).chain(self.arguments.iter().cloned()).collect()
    }
}

/// The entry of a server in a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry(Value);

impl Eq for Entry {}

impl Entry {
    /// The command with its arguments, in whatever form the entry has it.
    pub fn command(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |name: &str| -> Vec<String> {
            let items = self.0.get(name).and_then(Value::as_array);
            items.map(|items| items.iter().filter_map(text).collect()).unwrap_or_default()
        };
        match self.0.get("command").or_else(|| self.0.get("cmd")) {
            Some(Value::String(command)) => std::iter::once(command.clone()).chain(list("args")).collect(),
            _ => list("command"),
        }
    }

    /// Whether the entry starts `hfs mcp`, with any path and any options.
    pub fn is_of_hfs(&self) -> bool {
        let command = self.command();
        let program = command.first().and_then(|program| Path::new(program).file_stem());
        program.is_some_and(|program| program == "hfs") && command.iter().skip(1).any(|word| word == "mcp")
    }
}

/// How an agent writes the entry of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryForm {
    /// `command` and `args`.
    Command,
    /// The same with this `type`.
    TypedCommand(&'static str),
    /// The same with the type `local` and the tools that are allowed: all.
    Copilot,
    /// One list with the program and its arguments.
    Opencode,
    /// `cmd` and `args`, among other fields.
    Goose,
}

impl EntryForm {
    pub fn entry(self, server: &Server) -> Entry {
        let program = server.program.to_string_lossy();
        let arguments = &server.arguments;
        Entry(match self {
            Self::Command => json!({"command": program, "args": arguments}),
            Self::TypedCommand(kind) => json!({"type": kind, "command": program, "args": arguments}),
            Self::Copilot => json!({"type": "local", "command": program, "args": arguments, "tools": ["*"]}),
            Self::Opencode => json!({"type": "local", "command": server.command(), "enabled": true}),
            Self::Goose => json!({
                "enabled": true, "type": "stdio", "name": "hfs", "description": "Saved conversations with agents",
                "cmd": program, "args": arguments, "envs": {}, "timeout": 300,
            }),
        })
    }
}

/// Why a configuration is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// The text is not valid. The reason names the place.
    Syntax(String),
    /// A value that has to be an object is something else.
    NotAnObject(String),
    /// The text is valid, but an edit would change more than the entry.
    Unsafe,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => f.write_str(reason.trim()),
            Self::NotAnObject(key) => write!(f, "the value of {key} is not an object"),
            Self::Unsafe => f.write_str("it is written in a form that cannot be edited safely"),
        }
    }
}

/// The syntax of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON, with comments and trailing commas.
    Json,
    Toml,
    Yaml,
}

impl Syntax {
    /// The value of the whole text. An empty text is an empty object.
    fn parse(self, text: &str) -> Result<Value, EditError> {
        let text = without_mark(text);
        let value = match self {
            Self::Json => parse_to_serde_value::<Option<Value>>(text, &JSON_WITH_COMMENTS)
                .map_err(|error| EditError::Syntax(error.to_string()))?,
            Self::Toml => Some(toml_value(toml_document(text)?.as_item())),
            Self::Yaml => serde_saphyr::from_str::<Option<Value>>(text)
                .map_err(|error| EditError::Syntax(without_excerpt(&error.to_string())))?,
        };
        match value {
            None | Some(Value::Null) => Ok(Value::Object(Map::new())),
            Some(value @ Value::Object(_)) => Ok(value),
            Some(_) => Err(EditError::NotAnObject("the whole file".to_owned())),
        }
    }

    /// The entry of a server in the object at `path`.
    pub fn get(self, text: &str, path: &[&str], name: &str) -> Result<Option<Entry>, EditError> {
        let mut value = &self.parse(text)?;
        for key in path {
            match value.get(key) {
                None | Some(Value::Null) => return Ok(None),
                Some(inner @ Value::Object(_)) => value = inner,
                Some(_) => return Err(EditError::NotAnObject((*key).to_owned())),
            }
        }
        Ok(value.get(name).cloned().map(Entry))
    }

    /// Adds or replaces an entry.
    pub fn set(self, text: &str, path: &[&str], name: &str, entry: &Entry) -> Result<String, EditError> {
        // Checks that the keys lead to objects.
        self.get(text, path, name)?;
        let content = without_mark(text);
        let edited = match self {
            Self::Json => set_json(content, path, name, &entry.0)?,
            Self::Toml => set_toml(content, path, name, &entry.0)?,
            Self::Yaml => set_yaml(content, path, name, &entry.0)?,
        };
        let mut expected = self.parse(text)?;
        insert(&mut expected, path, name, &entry.0);
        self.checked(with_form_of(text, edited), &expected)
    }

    /// Removes an entry, and the objects that are empty without it.
    pub fn remove(self, text: &str, path: &[&str], name: &str) -> Result<String, EditError> {
        let content = without_mark(text);
        let edited = match self {
            Self::Json => remove_json(content, path, name)?,
            Self::Toml => remove_toml(content, path, name)?,
            Self::Yaml => remove_yaml(content, path, name)?,
        };
        let mut expected = self.parse(text)?;
        prune(&mut expected, path, name);
        self.checked(with_form_of(text, edited), &expected)
    }

    /// Returns an edited text if it has the expected value.
    fn checked(self, edited: String, expected: &Value) -> Result<String, EditError> {
        if self.parse(&edited).as_ref() == Ok(expected) { Ok(edited) } else { Err(EditError::Unsafe) }
    }
}

/// Whether a text has an object at `path` that is not the entry of a server itself.
pub fn has_object_without_type(text: &str, path: &[&str]) -> bool {
    let Ok(value) = Syntax::Json.parse(text) else { return false };
    let found = path.iter().try_fold(&value, |value, key| value.get(key));
    found.is_some_and(|found| found.is_object() && found.get("type").is_none())
}

fn insert(value: &mut Value, path: &[&str], name: &str, entry: &Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    match path.split_first() {
        None => {
            fields.insert(name.to_owned(), entry.clone());
        }
        Some((first, rest)) => {
            insert(fields.entry((*first).to_owned()).or_insert(Value::Null), rest, name, entry);
        }
    }
}

/// Removes an entry, and then the objects on its path that are empty.
fn prune(value: &mut Value, path: &[&str], name: &str) {
    let Some(fields) = value.as_object_mut() else { return };
    match path.split_first() {
        None => {
            fields.shift_remove(name);
        }
        Some((first, rest)) => {
            let Some(inner) = fields.get_mut(*first) else { return };
            prune(inner, rest, name);
            if inner.as_object().is_some_and(Map::is_empty) {
                fields.shift_remove(*first);
            }
        }
    }
}

/// The mark with which some editors begin a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// An edited text with the mark and the line endings of the text before: an edit may insert lines that end with LF, also in a text
/// with CRLF.
fn with_form_of(before: &str, after: String) -> String {
    let is_crlf = before.contains("\r\n") && before.matches('\n').count() == before.matches("\r\n").count();
    let mut text = String::new();
    text.extend(before.starts_with(BYTE_ORDER_MARK).then_some(BYTE_ORDER_MARK));
    text.push_str(&if is_crlf { after.replace("\r\n", "\n").replace('\n', "\r\n") } else { after });
    text
}

fn json_root(text: &str) -> Result<CstRootNode, EditError> {
    CstRootNode::parse(text, &JSON_WITH_COMMENTS).map_err(|error| EditError::Syntax(error.to_string()))
}

fn set_json(text: &str, path: &[&str], name: &str, entry: &Value) -> Result<String, EditError> {
    let root = json_root(text)?;
    let is_new = text.trim().is_empty();
    let mut object = root.object_value_or_create().ok_or(EditError::Unsafe)?;
    for key in path {
        object = object.object_value_or_set(key);
    }
    match object.get(name) {
        Some(property) => property.set_value(json_input(entry)),
        None => {
            if is_new || !text.contains('{') || text.contains('\n') {
                object.ensure_multiline();
            }
            object.append(name, json_input(entry));
        }
    }
    let mut edited = root.to_string();
    if is_new && !edited.ends_with('\n') {
        edited.push('\n');
    }
    Ok(edited)
}

fn json_input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(json_input).collect()),
        Value::Object(fields) => CstInputValue::Object(
            fields.iter().map(|(name, value)| (name.clone(), json_input(value))).collect(),
        ),
    }
}

fn remove_json(text: &str, path: &[&str], name: &str) -> Result<String, EditError> {
    let root = json_root(text)?;
    let mut object: CstObject = root.object_value().ok_or(EditError::Unsafe)?;
    let mut objects = Vec::new();
    for key in path {
        let property = object.get(key).ok_or(EditError::Unsafe)?;
        object = property.object_value().ok_or(EditError::Unsafe)?;
        objects.push(property);
    }
    object.get(name).ok_or(EditError::Unsafe)?.remove();
    while let Some(property) = objects.pop() {
        if property.object_value().is_some_and(|object| object.properties().is_empty()) {
            property.remove();
        } else {
            break;
        }
    }
    Ok(root.to_string())
}

fn toml_document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = before.matches('\n').count() + 1;
        EditError::Syntax(format!("{} on line {line} column {column}", error.message().trim()))
    })
}

/// The first line of a parser's message. The others quote the text, in which keys may be, and lines of any length.
fn without_excerpt(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

fn set_toml(text: &str, path: &[&str], name: &str, entry: &Value) -> Result<String, EditError> {
    let mut document = toml_document(text)?;
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for key in path {
        let item = table.entry(key).or_insert_with(|| {
            let mut implicit = toml_edit::Table::new();
            implicit.set_implicit(true);
            toml_edit::Item::Table(implicit)
        });
        table = item.as_table_like_mut().ok_or_else(|| EditError::NotAnObject((*key).to_owned()))?;
    }
    let mut server = toml_edit::Table::new();
    for (key, value) in entry.as_object().into_iter().flatten() {
        server.insert(key, toml_edit::Item::Value(toml_input(value)));
    }
    let is_inline = !table.is_empty() && table.iter().all(|(_, item)| item.is_inline_table());
    let item = if is_inline {
        toml_edit::Item::Value(toml_edit::Value::InlineTable(server.into_inline_table()))
    } else {
        match table.get(name).and_then(toml_edit::Item::as_table) {
            Some(replaced) => *server.decor_mut() = replaced.decor().clone(),
            None if !text.trim().is_empty() => server.decor_mut().set_prefix("\n"),
            None => {}
        }
        toml_edit::Item::Table(server)
    };
    table.insert(name, item);
    Ok(document.to_string())
}

fn toml_input(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.as_i64().unwrap_or_default().into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(toml_input).collect::<toml_edit::Array>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.as_str(), toml_input(value)));
            fields.collect::<toml_edit::InlineTable>().into()
        }
        // TOML has no null, and no entry has one.
        Value::Null => "".into(),
    }
}

fn toml_value(item: &toml_edit::Item) -> Value {
    if let Some(table) = item.as_table_like() {
        return table.iter().map(|(name, item)| (name.to_owned(), toml_value(item))).collect();
    }
    if let Some(tables) = item.as_array_of_tables() {
        let tables = tables.iter().map(|table| {
            table.iter().map(|(name, item)| (name.to_owned(), toml_value(item))).collect::<Value>()
        });
        return tables.collect();
    }
    match item.as_value() {
        Some(toml_edit::Value::String(text)) => text.value().as_str().into(),
        Some(toml_edit::Value::Integer(number)) => (*number.value()).into(),
        Some(toml_edit::Value::Float(number)) => (*number.value()).into(),
        Some(toml_edit::Value::Boolean(value)) => (*value.value()).into(),
        Some(toml_edit::Value::Datetime(time)) => time.value().to_string().into(),
        Some(toml_edit::Value::Array(items)) => {
            items.iter().map(|value| toml_value(&toml_edit::Item::Value(value.clone()))).collect()
        }
        Some(toml_edit::Value::InlineTable(_)) | None => Value::Null,
    }
}

fn remove_toml(text: &str, path: &[&str], name: &str) -> Result<String, EditError> {
    let mut document = toml_document(text)?;
    remove_from_table(document.as_table_mut(), path, name)?;
    Ok(document.to_string())
}

fn remove_from_table(
    table: &mut dyn toml_edit::TableLike,
    path: &[&str],
    name: &str,
) -> Result<(), EditError> {
    let Some((first, rest)) = path.split_first() else {
        return table.remove(name).map(drop).ok_or(EditError::Unsafe);
    };
    let inner = table.get_mut(first).and_then(toml_edit::Item::as_table_like_mut).ok_or(EditError::Unsafe)?;
    remove_from_table(inner, rest, name)?;
    if inner.is_empty() {
        table.remove(first);
    }
    Ok(())
}

// `yaml-edit` changes the indentation of an inserted mapping's lists and the comments around it, so an entry is a block of
// lines instead. Where that does not fit, such as in a flow mapping, the check of the result rejects it.

fn set_yaml(text: &str, path: &[&str], name: &str, entry: &Value) -> Result<String, EditError> {
    let [key] = path else { return Err(EditError::Unsafe) };
    let mut document = YamlLines::new(text);
    document.remove_entry(key, name);
    let header = match document.find_key(key) {
        Some(header) => header,
        None => document.append_key(key),
    };
    document.open(header, key);
    let indent = document.indent_below(header);
    let place = document.end_of_block(header);
    document.lines.splice(place..place, yaml_block(name, entry, indent));
    Ok(document.lines.concat())
}

fn remove_yaml(text: &str, path: &[&str], name: &str) -> Result<String, EditError> {
    let [key] = path else { return Err(EditError::Unsafe) };
    let mut document = YamlLines::new(text);
    if !document.remove_entry(key, name) {
        return Err(EditError::Unsafe);
    }
    if let Some(header) = document.find_key(key)
        && document.is_empty_block(header)
    {
        document.lines.remove(header);
    }
    Ok(document.lines.concat())
}

/// The lines of a YAML text with their ends.
struct YamlLines {
    lines: Vec<String>,
}

impl YamlLines {
    fn new(text: &str) -> Self {
        Self { lines: text.split_inclusive('\n').map(str::to_owned).collect() }
    }

    fn line(&self, index: usize) -> &str {
        self.lines.get(index).map_or("", String::as_str)
    }

    /// The indentation of a line with content; `None` for blank lines and comments.
    fn indent(&self, index: usize) -> Option<usize> {
        let line = self.line(index).trim_end();
        let content = line.trim_start_matches(' ');
        (!content.is_empty() && !content.starts_with('#')).then(|| line.len() - content.len())
    }

    /// The line of a key at the top level.
    fn find_key(&self, key: &str) -> Option<usize> {
        (0..self.lines.len()).find(|index| is_key(self.line(*index), key))
    }

    fn append_key(&mut self, key: &str) -> usize {
        if let Some(last) = self.lines.last_mut()
            && !last.ends_with('\n')
        {
            last.push('\n');
        }
        self.lines.push(format!("{key}:\n"));
        self.lines.len() - 1
    }

    /// Lets a block follow a key without a value.
    fn open(&mut self, header: usize, key: &str) {
        let Some(line) = self.lines.get_mut(header) else { return };
        let value = line.get(key.len() + 1..).unwrap_or_default();
        let (value, comment) =
            value.split_once(" #").map_or((value, ""), |(value, comment)| (value, comment.trim_end()));
        if matches!(value.trim(), "{}" | "null" | "~") {
            let comment = if comment.is_empty() { String::new() } else { format!(" #{comment}") };
            *line = format!("{key}:{comment}\n");
        } else if !line.ends_with('\n') {
            line.push('\n');
        }
    }

    /// The end of the lines below a key: after the last line with content that is indented.
    fn end_of_block(&self, header: usize) -> usize {
        let mut end = header + 1;
        for index in header + 1..self.lines.len() {
            match self.indent(index) {
                Some(0) => break,
                Some(_) => end = index + 1,
                None => {}
            }
        }
        end
    }

    fn indent_below(&self, header: usize) -> usize {
        (header + 1..self.end_of_block(header)).find_map(|index| self.indent(index)).unwrap_or(2)
    }

    fn is_empty_block(&self, header: usize) -> bool {
        self.end_of_block(header) == header + 1
    }

    /// Removes the lines of an entry below a key. Returns whether it was found.
    fn remove_entry(&mut self, key: &str, name: &str) -> bool {
        let Some(header) = self.find_key(key) else { return false };
        let (indent, end) = (self.indent_below(header), self.end_of_block(header));
        let is_entry = |index: &usize| {
            self.indent(*index) == Some(indent) && is_key(self.line(*index).trim_start(), name)
        };
        let Some(start) = (header + 1..end).find(is_entry) else { return false };
        let next = (start + 1..end).find(|index| self.indent(*index).is_some_and(|found| found <= indent));
        // Comments and blank lines before the next entry belong to it.
        let mut last = next.unwrap_or(end);
        while last > start + 1 && self.indent(last - 1).is_none() {
            last -= 1;
        }
        self.lines.drain(start..last);
        true
    }
}

fn is_key(line: &str, key: &str) -> bool {
    line.strip_prefix(key)
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn yaml_block(name: &str, entry: &Value, indent: usize) -> Vec<String> {
    let (outer, inner) = (" ".repeat(indent), " ".repeat(indent + 2));
    let mut lines = vec![format!("{outer}{name}:\n")];
    for (key, value) in entry.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) if !items.is_empty() => {
                lines.push(format!("{inner}{key}:\n"));
                lines.extend(items.iter().map(|item| format!("{inner}- {}\n", yaml_scalar(item))));
            }
            value => lines.push(format!("{inner}{key}: {}\n", yaml_scalar(value))),
        }
    }
    lines
}

/// A value on one line: JSON, or a text without quotes where it cannot be anything else.
fn yaml_scalar(value: &Value) -> String {
    let is_plain = |text: &str| {
        text.len() > 1
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ' '))
            && !text.ends_with(' ')
            && !["true", "false", "null", "yes", "no", "on", "off"]
                .contains(&text.to_ascii_lowercase().as_str())
    };
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(form: EntryForm) -> Entry {
        form.entry(&Server {
            program: "/usr/bin/hfs".into(),
            arguments: vec!["mcp".into(), "--home".into(), "/x y".into()],
        })
    }

    /// Adds the entry, checks that what was there is still there in the same form, and that removing it restores the text.
    fn round_trip(syntax: Syntax, form: EntryForm, path: &[&str], before: &str) -> String {
        let entry = entry(form);
        let after =
            syntax.set(before, path, "hfs", &entry).unwrap_or_else(|error| panic!("{error}: {before}"));
        assert_eq!(syntax.get(&after, path, "hfs").unwrap(), Some(entry.clone()));
        // What is on one line becomes several, unless the file is restored.
        for line in before.lines().map(str::trim).filter(|line| line.len() > 3 && before.lines().count() > 1)
        {
            assert!(after.contains(line.trim_end_matches(',')), "{line:?} is missing in {after}");
        }
        assert_eq!(syntax.set(&after, path, "hfs", &entry).unwrap(), after, "the same again");
        let other = form.entry(&Server { program: "/opt/hfs".into(), arguments: vec!["mcp".into()] });
        let changed = syntax.set(&after, path, "hfs", &other).unwrap();
        assert_eq!(syntax.get(&changed, path, "hfs").unwrap(), Some(other));
        assert_eq!(syntax.remove(&after, path, "hfs").unwrap(), before, "{after}");
        after
    }

    #[test]
    fn an_entry_in_json_keeps_comments_order_and_layout() {
        let path = &["mcpServers"];
        for before in [
            "{\n  \"numStartups\": 3,\n  \"projects\": {\n    \"/a\": {}\n  }\n}\n",
            "{\n  // mine\n  \"mcpServers\": {\n    \"other\": { \"command\": \"x\" }, // keep\n  },\n}\n",
            "{\n\t\"mcpServers\": {\n\t\t\"other\": {\n\t\t\t\"command\": \"x\"\n\t\t}\n\t}\n}",
            "{\r\n  \"a\": 1\r\n}\r\n",
        ] {
            round_trip(Syntax::Json, EntryForm::TypedCommand("stdio"), path, before);
        }
        for one_line in ["{}", "{\"a\": 1}", "{\"mcpServers\":{\"other\":{\"command\":\"x\"}}}"] {
            let after = Syntax::Json.set(one_line, path, "hfs", &entry(EntryForm::Command)).unwrap();
            let removed = Syntax::Json.remove(&after, path, "hfs").unwrap();
            assert_eq!(Syntax::Json.parse(&removed), Syntax::Json.parse(one_line), "{after}");
        }
        let new = Syntax::Json.set("", path, "hfs", &entry(EntryForm::Command)).unwrap();
        assert_eq!(
            new,
            "{\n  \"mcpServers\": {\n    \"hfs\": {\n      \"command\": \"/usr/bin/hfs\",\n      \"args\": [\"mcp\", \"--home\", \"/x y\"]\n    }\n  }\n}\n"
        );
    }

    #[test]
    fn an_entry_in_toml_keeps_comments_order_and_layout() {
        let path = &["mcp_servers"];
        for before in [
            "# mine\nmodel = \"gpt-5\"   # cheap\n\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n",
            "[mcp_servers.other]\ncommand = \"x\"\nargs = [\n  \"a\", # first\n]\n\n[tui]\nnotifications = true\n",
            "mcp_servers = { other = { command = \"x\" } }\n",
            "model = 'x'\r\n[a]\r\nb = 1\r\n",
            "",
        ] {
            round_trip(Syntax::Toml, EntryForm::Command, path, before);
        }
    }

    #[test]
    fn an_entry_in_yaml_keeps_comments_order_and_layout() {
        let path = &["extensions"];
        for before in [
            "# mine\nGOOSE_MODEL: x # cheap\nextensions:\n  developer:\n    enabled: true\n    args:\n    - a\n    - \"b: c\"\n\n  # second\n  other:\n    enabled: false\n\n# the end\nGOOSE_MODE: auto\n",
            "extensions:\n    developer:\n        enabled: true\n",
            "GOOSE_MODEL: x\n",
            "a: |\n  extensions:\n    hfs: 1\nextensions:\n  b:\n    text: |\n      hfs:\n        x\n",
            "GOOSE_MODEL: x\r\nextensions:\r\n  developer:\r\n    enabled: true\r\n",
        ] {
            round_trip(Syntax::Yaml, EntryForm::Goose, path, before);
        }
        let empty =
            Syntax::Yaml.set("extensions: {} # none\n", path, "hfs", &entry(EntryForm::Goose)).unwrap();
        assert!(empty.starts_with("extensions: # none\n  hfs:\n    enabled: true\n"), "{empty}");
        let flow = "extensions: {developer: {enabled: true}}\n";
        assert_eq!(Syntax::Yaml.set(flow, path, "hfs", &entry(EntryForm::Goose)), Err(EditError::Unsafe));
    }

    #[test]
    fn a_text_that_is_not_valid_is_refused_with_the_place() {
        for (syntax, text) in [
            (Syntax::Json, "{\n  \"a\": 1\n  \"b\"\n}"),
            (Syntax::Toml, "a = 1\nb = \n"),
            (Syntax::Yaml, "a: 1\nb: [\n"),
        ] {
            let error = syntax.set(text, &["x"], "hfs", &entry(EntryForm::Command)).unwrap_err();
            let EditError::Syntax(reason) = &error else { panic!("{error}") };
            assert!(reason.contains("line"), "{reason}");
        }
        for (syntax, text) in [
            (Syntax::Json, "{\"x\": []}"),
            (Syntax::Toml, "x = 1\n"),
            (Syntax::Yaml, "x: text\n"),
            (Syntax::Json, "[1]"),
        ] {
            let refused = syntax.set(text, &["x"], "hfs", &entry(EntryForm::Command));
            assert!(matches!(refused, Err(EditError::NotAnObject(_))), "{refused:?}");
        }
    }

    #[test]
    fn an_entry_of_hfs_is_recognized_in_every_form() {
        for form in [
            EntryForm::Command,
            EntryForm::TypedCommand("stdio"),
            EntryForm::Copilot,
            EntryForm::Opencode,
            EntryForm::Goose,
        ] {
            assert_eq!(entry(form).command(), ["/usr/bin/hfs", "mcp", "--home", "/x y"], "{form:?}");
            assert!(entry(form).is_of_hfs());
        }
        assert!(!Entry(json!({"command": "npx", "args": ["hfs", "mcp"]})).is_of_hfs());
        assert!(!Entry(json!({"url": "http://localhost"})).is_of_hfs());
    }
}
