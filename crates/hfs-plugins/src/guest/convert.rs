//! The contract's calls in the host's own words. What a plugin answers is checked before anybody sees it.

use std::time::Duration;

use hfs_core::{Node, SessionId, Slot, Timestamp, Tone, Verdict};
use wasmtime::Store;

use super::{Doors, MOST_TEXT};
use crate::contract::exports::hfs::plugin::{commands, on_message, widgets};
use crate::contract::hfs::plugin::types::{Error as GuestError, Message};
use crate::gate::GuestState;

/// How many commands and widgets a plugin may have.
const MOST_LISTED: usize = 64;
/// How many nodes a widget may have, rows a table, values a curve.
const MOST_NODES: usize = 200;
const MOST_ROWS: usize = 200;
const MOST_VALUES: usize = 500;
/// A longer line is cut, in characters.
const LONGEST_LINE: usize = 400;
/// No widget is drawn more often by itself.
const SHORTEST_REFRESH: Duration = Duration::from_millis(250);

/// A command as its plugin lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandSpec {
    pub name: String,
    pub about: String,
    pub usage: String,
}

/// A widget as its plugin lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WidgetSpec {
    pub id: String,
    pub slot: Slot,
    pub title: String,
    pub refresh: Option<Duration>,
}

pub(crate) type Calling<'c> = (&'c mut Store<GuestState>, &'c Doors);
pub(crate) type Called<T> = wasmtime::Result<Result<T, GuestError>>;

fn slot(name: &str) -> Option<Slot> {
    match name {
        "sidebar" => Some(Slot::Sidebar),
        "status-bar" => Some(Slot::StatusBar),
        "panel" => Some(Slot::Panel),
        _ => None,
    }
}

/// Has an interpreter load its plugin; any other plugin is what it is.
pub(crate) fn load((store, doors): Calling<'_>) -> Called<()> {
    doors.interpreter.as_ref().map_or(Ok(Ok(())), |door| door.call_load(store))
}

fn broken(message: impl Into<String>) -> GuestError {
    GuestError { code: "invalid".to_owned(), message: message.into() }
}

fn absent<T>(what: &str) -> Called<T> {
    Ok(Err(broken(format!("it has no {what}"))))
}

fn bounded(text: String, what: &str) -> Result<String, GuestError> {
    if text.len() > MOST_TEXT {
        return Err(broken(format!("{what} of {} bytes is too long; {MOST_TEXT} is the limit", text.len())));
    }
    Ok(text)
}

/// On one line, without anything that a terminal would obey.
fn line(text: &str) -> String {
    text.chars()
        .take(LONGEST_LINE)
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}

pub(crate) fn start((store, doors): Calling<'_>, session: SessionId) -> Called<()> {
    let Some(door) = &doors.start else { return Ok(Ok(())) };
    door.call_handle(store, &session.to_string())
}

pub(crate) fn message(
    (store, doors): Calling<'_>,
    session: SessionId,
    text: &str,
    is_user: bool,
    now: Timestamp,
) -> Called<Option<Verdict>> {
    let Some(door) = &doors.message else { return Ok(Ok(None)) };
    let message = Message {
        id: String::new(),
        session: session.to_string(),
        role: if is_user { "user" } else { "assistant" }.to_owned(),
        author: None,
        text: text.to_owned(),
        created_ms: u64::try_from(now.as_micros() / 1_000).unwrap_or(0),
    };
    Ok(door.call_handle(&mut *store, &message)?.and_then(|verdict| {
        Ok(Some(match verdict {
            on_message::Verdict::Pass => Verdict::Pass,
            on_message::Verdict::Replace(text) if text.trim().is_empty() => {
                return Err(broken("it wants to replace a message by nothing"));
            }
            on_message::Verdict::Replace(text) => Verdict::Replace(bounded(text, "a message")?),
            on_message::Verdict::Reject(reason) => {
                Verdict::Reject { plugin: store.data().services.plugin.clone(), reason: line(&reason) }
            }
        }))
    }))
}

pub(crate) fn event((store, doors): Calling<'_>, session: SessionId, event: &str) -> Called<()> {
    let Some(door) = &doors.event else { return Ok(Ok(())) };
    door.call_handle(store, &session.to_string(), event)
}

pub(crate) fn patterns((store, doors): Calling<'_>) -> Called<Vec<String>> {
    let Some(door) = &doors.event else { return Ok(Ok(Vec::new())) };
    let mut patterns = door.call_patterns(store)?;
    patterns.truncate(MOST_LISTED);
    Ok(Ok(patterns))
}

pub(crate) fn run_complete((store, doors): Calling<'_>, session: SessionId, snapshot: &str) -> Called<()> {
    let Some(door) = &doors.run_complete else { return Ok(Ok(())) };
    door.call_handle(store, &session.to_string(), snapshot)
}

pub(crate) fn exit((store, doors): Calling<'_>, session: SessionId) -> Called<()> {
    let Some(door) = &doors.exit else { return Ok(Ok(())) };
    door.call_handle(store, &session.to_string())?;
    Ok(Ok(()))
}

pub(crate) fn list_commands((store, doors): Calling<'_>) -> Called<Vec<CommandSpec>> {
    let Some(door) = &doors.commands else { return Ok(Ok(Vec::new())) };
    let listed = door.call_list(store)?;
    if let Some(bad) = listed.iter().find(|command| !is_command_name(&command.name)) {
        return Ok(Err(broken(format!("{:?} is no name for a command", line(&bad.name)))));
    }
    if listed.len() > MOST_LISTED {
        return Ok(Err(broken(format!(
            "{} commands are too many; {MOST_LISTED} is the limit",
            listed.len()
        ))));
    }
    let spec = |command: commands::Command| CommandSpec {
        about: line(&command.about),
        usage: line(&command.usage),
        name: command.name,
    };
    Ok(Ok(listed.into_iter().map(spec).collect()))
}

fn is_command_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-')
}

pub(crate) fn run_command(
    (store, doors): Calling<'_>,
    name: &str,
    arguments: &str,
    session: Option<SessionId>,
) -> Called<Option<String>> {
    let Some(door) = &doors.commands else { return absent("commands") };
    let invocation = commands::Invocation {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        session: session.map(|session| session.to_string()),
    };
    Ok(door.call_run(store, &invocation)?.and_then(|outcome| match outcome {
        commands::Outcome::Done => Ok(None),
        commands::Outcome::Show(text) => bounded(text, "a result").map(Some),
    }))
}

pub(crate) fn list_widgets((store, doors): Calling<'_>) -> Called<Vec<WidgetSpec>> {
    let Some(door) = &doors.widgets else { return Ok(Ok(Vec::new())) };
    let listed = door.call_list(store)?;
    if listed.len() > MOST_LISTED {
        return Ok(Err(broken(format!("{} widgets are too many; {MOST_LISTED} is the limit", listed.len()))));
    }
    let spec = |widget: widgets::Widget| {
        let slot = slot(&widget.slot)
            .ok_or_else(|| broken(format!("{:?} is no place for a widget", line(&widget.slot))))?;
        let refresh = widget.refresh_ms.map(|ms| Duration::from_millis(ms.into()).max(SHORTEST_REFRESH));
        Ok(WidgetSpec { slot, title: line(&widget.title), refresh, id: widget.id })
    };
    Ok(listed.into_iter().map(spec).collect())
}

pub(crate) fn render((store, doors): Calling<'_>, id: &str, session: Option<SessionId>) -> Called<Vec<Node>> {
    let Some(door) = &doors.widgets else { return absent("widgets") };
    let session = session.map(|session| session.to_string());
    let nodes = door.call_render(store, id, session.as_deref())?;
    Ok(nodes.map(|nodes| nodes.into_iter().take(MOST_NODES).map(node).collect()))
}

fn node(node: widgets::Node) -> Node {
    let lines = |texts: Vec<String>| texts.iter().take(MOST_LISTED).map(|text| line(text)).collect();
    match node {
        widgets::Node::Text(spans) => Node::Text(
            spans.iter().take(MOST_LISTED).map(|span| (line(&span.text), tone(span.tone))).collect(),
        ),
        widgets::Node::Gauge(gauge) => Node::Gauge {
            label: line(&gauge.label),
            ratio: if gauge.ratio.is_finite() { gauge.ratio.clamp(0.0, 1.0) } else { 0.0 },
        },
        widgets::Node::Table(table) => Node::Table {
            header: lines(table.header),
            rows: table.rows.into_iter().take(MOST_ROWS).map(lines).collect(),
        },
        widgets::Node::Sparkline(values) => {
            Node::Sparkline { values: values.into_iter().take(MOST_VALUES).collect() }
        }
    }
}

const fn tone(tone: widgets::Tone) -> Tone {
    match tone {
        widgets::Tone::Plain => Tone::Plain,
        widgets::Tone::Dim => Tone::Dim,
        widgets::Tone::Accent => Tone::Accent,
        widgets::Tone::Good => Tone::Good,
        widgets::Tone::Warn => Tone::Warn,
        widgets::Tone::Bad => Tone::Bad,
    }
}
