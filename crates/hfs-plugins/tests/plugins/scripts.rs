//! Plugins in Python and JavaScript: supported features, error messages and permissions.

use std::time::Duration;

use hfs_core::{
    Event, EventPayload, Hooks, Node, RunEnding, RunId, RunSnapshot, SessionId, Slot, Timestamp, Tone,
    Verdict,
};
use hfs_plugins::{Language, PluginState, Plugins};

use crate::fixture::{Home, on_user_message, state};

fn assert_active(plugins: &Plugins, name: &str) {
    assert_eq!(state(plugins, name), (PluginState::Active, String::new()), "{:?}", plugins.log(name, 50));
}

/// A home with one running script `p`. `None` if there is no interpreter.
async fn running(language: Language, rest: &str, files: &[(&str, &str)]) -> Option<(Home, Plugins)> {
    let home = Home::with(language)?;
    home.add_source("p", rest, files);
    let plugins = home.start(&["p"]).await;
    assert_active(&plugins, "p");
    Some((home, plugins))
}

/// A plugin as written for the Python original of hfs: `entry_point: __init__`, functions of the module, `COMMANDS`.
const ORIGINAL: &str = r#"
seen = []

def on_start(session_id: str) -> None:
    seen.append(session_id)

def on_message(message: str, is_user: bool) -> str | None:
    if is_user and "fix" in message.lower():
        return f"[Enhanced] {message}"
    return None

async def on_run_complete(run_snapshot) -> None:
    seen.append(run_snapshot.usage.total_tokens + run_snapshot.model_dump(mode="json")["usage"]["total_tokens"])

def on_exit() -> None:
    print("goodbye")

def count(text):
    return f"{len(text.split())} words, {len(seen)} seen, at last {seen[-1]}"

COMMANDS = {"count": count}
"#;

#[tokio::test]
async fn a_plugin_of_the_python_original_runs_unchanged() {
    let manifest = "description: Enhances\nentry_point: __init__\n";
    let files = [("__init__.py", ORIGINAL)];
    let Some((_home, plugins)) = running(Language::Python, manifest, &files).await else { return };
    let session = SessionId::generate();
    plugins.on_start(session).await;
    assert_eq!(on_user_message(&plugins, "Fix it").await, Verdict::Replace("[Enhanced] Fix it".into()));
    assert_eq!(on_user_message(&plugins, "hello").await, Verdict::Pass);
    assert_eq!(plugins.on_message(session, "a fix", false).await, Verdict::Pass);
    let mut snapshot = RunSnapshot::default();
    snapshot.usage.total_tokens = 21;
    plugins.on_run_complete(session, &snapshot).await;
    let counted = plugins.run("count", "one two three", Some(session)).await.unwrap();
    assert_eq!(counted.as_deref(), Some("3 words, 2 seen, at last 42"));
    plugins.on_exit(session).await;
    assert!(plugins.log("p", 5).unwrap().iter().any(|line| line.contains("goodbye")));
    assert_eq!(plugins.take_notices(), [""; 0]);
}

#[tokio::test]
async fn hooks_may_be_methods_of_a_class() {
    let source = r#"
from typing import Protocol

class HFSHookSpec(Protocol):
    def on_start(self, session_id: str) -> None:
        """Called when HFS session starts."""
        ...

    def on_message(self, message: str, is_user: bool) -> str | None:
        ...

class MyPlugin:
    def on_message(self, message: str, is_user: bool) -> str | None:
        if is_user and "fix" in message.lower():
            return f"[Enhanced] {message}"
        return None
"#;
    let Some((_home, plugins)) = running(Language::Python, "", &[("__init__.py", source)]).await else {
        return;
    };
    plugins.on_start(SessionId::generate()).await;
    assert_eq!(on_user_message(&plugins, "Fix it").await, Verdict::Replace("[Enhanced] Fix it".into()));
    assert_eq!(on_user_message(&plugins, "hello").await, Verdict::Pass);
    assert_eq!(plugins.take_notices(), [""; 0]);
}

const ALL: &str = "capabilities: [commands, hooks, widgets]\npermissions: {storage: 4KiB}\n";

const PYTHON: &str = r#"
import hfs
from . import more
import more as same

EVENTS = ["run.*"]

@hfs.command("twice", about="says it twice", usage="TEXT")
async def twice(text):
    import asyncio
    await asyncio.sleep(0.001)
    return more.twice(text) + same.MARK

def on_message(message):
    if message == "secret":
        return hfs.reject("that is secret")
    hfs.session.kv.set("last", message)
    hfs.kv.set("role", message.role)

def on_event(event):
    hfs.kv.set("event", event.type)

@hfs.widget("w", slot="status-bar", title="W")
def draw():
    return [hfs.line("last ", (hfs.session.kv.get("last", "-"), "good")), hfs.gauge("g", 0.5),
            hfs.table(["a"], [[1], [2]]), hfs.sparkline([1, 2]), "plain"]

@hfs.command("kept")
def kept():
    return " ".join(hfs.kv.get(key) for key in hfs.kv.keys())
"#;

const JAVASCRIPT: &str = r#"
import hfs from "hfs";
import { twice as double, MARK } from "./more.js";

export const EVENTS = ["run.*"];

hfs.command("twice", { about: "says it twice", usage: "TEXT" }, (text) => double(text) + MARK);

export function onMessage(text, isUser, message) {
  if (text === "secret") return hfs.reject("that is secret");
  hfs.session.kv.set("last", text);
  hfs.kv.set("role", message.role);
}

export function onEvent(event) {
  hfs.kv.set("event", event.type);
}

hfs.widget("w", { slot: "status-bar", title: "W" }, () => [
  hfs.line("last ", [hfs.session.kv.get("last", "-"), "good"]), hfs.gauge("g", 0.5),
  hfs.table(["a"], [[1], [2]]), hfs.sparkline([1, 2]), "plain",
]);

hfs.command("kept", () => hfs.kv.keys().map((key) => hfs.kv.get(key)).join(" "));
"#;

/// Checks the commands, hooks, widgets and stored values of a script with [`ALL`] capabilities.
async fn check_all_features(language: Language, files: &[(&str, &str)]) {
    let Some((_home, plugins)) = running(language, ALL, files).await else { return };
    let session = SessionId::generate();
    let listed = plugins.commands();
    let twice = listed.iter().find(|command| command.name == "twice").unwrap();
    assert_eq!((twice.about.as_str(), twice.usage.as_str()), ("says it twice", "TEXT"));
    assert_eq!(plugins.run("twice", "ab", Some(session)).await.unwrap().as_deref(), Some("abab!"));

    assert_eq!(plugins.on_message(session, "hello", true).await, Verdict::Pass);
    let rejected = Verdict::Reject { plugin: "p".into(), reason: "that is secret".into() };
    assert_eq!(plugins.on_message(session, "secret", true).await, rejected);

    let payload = EventPayload::RunEnded { duration_ms: 1, ending: RunEnding::Completed };
    let at = Timestamp::from_millis(0).unwrap();
    plugins.on_event(session, &Event { run: RunId::generate(), number: 1, at, payload }).await;
    assert_eq!(plugins.run("kept", "", Some(session)).await.unwrap().as_deref(), Some("run.ended user"));

    // From before the question on, since it starts the rendering.
    let mut changes = plugins.changes();
    let mut widgets = plugins.widgets(Some(session));
    while widgets.is_empty() {
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
        widgets = plugins.widgets(Some(session));
    }
    assert_eq!((widgets[0].slot, widgets[0].title.as_str()), (Slot::StatusBar, "W"));
    let expected = [
        Node::Text(vec![("last ".into(), Tone::Plain), ("hello".into(), Tone::Good)]),
        Node::Gauge { label: "g".into(), ratio: 0.5 },
        Node::Table { header: vec!["a".into()], rows: vec![vec!["1".into()], vec!["2".into()]] },
        Node::Sparkline { values: vec![1, 2] },
        Node::Text(vec![("plain".into(), Tone::Plain)]),
    ];
    assert_eq!(widgets[0].nodes, expected);
}

#[tokio::test]
async fn python_has_commands_hooks_widgets_and_several_files() {
    let more = "MARK = '!'\ndef twice(text):\n    return text * 2\n";
    check_all_features(Language::Python, &[("plugin.py", PYTHON), ("more.py", more)]).await;
}

#[tokio::test]
async fn javascript_has_commands_hooks_widgets_and_several_files() {
    let more = "export const MARK = '!';\nexport const twice = (text) => text + text;\n";
    check_all_features(Language::JavaScript, &[("plugin.js", JAVASCRIPT), ("more.js", more)]).await;
}

#[tokio::test]
async fn javascript_without_modules_works_too() {
    let source = "const { loud } = require('./more');\nfunction onMessage(text) { return loud(text); }\n\
        const COMMANDS = { size: (text) => text.length };";
    let more = "exports.loud = (text) => text.toUpperCase();";
    let files = [("plugin.js", source), ("more.js", more)];
    let Some((_home, plugins)) = running(Language::JavaScript, "", &files).await else { return };
    assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Replace("HI".into()));
    assert_eq!(plugins.run("size", "four", None).await.unwrap().as_deref(), Some("4"));
}

/// Checks that a bad plugin is invalid while another one works. Returns the reason and the log.
async fn invalid_reason(language: Language, file: &str, source: &str) -> Option<String> {
    let home = Home::with(language)?;
    home.add_source("bad", "", &[(file, source)]);
    let good = match language {
        Language::Python => "def on_message(message):\n    return message + '!'\n",
        Language::JavaScript => "export const onMessage = (text) => text + '!';\n",
    };
    home.add_source("good", "", &[(file, good)]);
    let plugins = home.start(&["bad", "good"]).await;
    let (state, reason) = state(&plugins, "bad");
    assert_eq!(state, PluginState::Invalid, "{reason}");
    assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Replace("hi!".into()));
    let log = plugins.log("bad", 20).unwrap().join("\n");
    Some(format!("{reason}\n{log}"))
}

#[tokio::test]
async fn an_error_while_loading_python_has_file_and_line() {
    for (source, expected) in [
        (
            "def on_message(m):\n    pass\nimport requests\n",
            "plugin.py:3: ModuleNotFoundError: No module named 'requests'",
        ),
        ("def on_message(m):\n    return ((\n", "plugin.py:2: SyntaxError"),
        ("def on_message(m): ...\nx = 1 / 0\n", "plugin.py:2: ZeroDivisionError"),
    ] {
        let Some(error) = invalid_reason(Language::Python, "plugin.py", source).await else { return };
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_error_while_loading_javascript_has_file_and_line() {
    for (source, expected) in [
        ("const onMessage = 1;\nrequire('fs');\n", "plugin.js:2: Error: there is no module \"fs\""),
        ("const onMessage = 1;\nlet = = 3;\n", "plugin.js:2: SyntaxError"),
        ("export const onMessage = 1;\nnothing.here();\n", "plugin.js:2: ReferenceError"),
    ] {
        let Some(error) = invalid_reason(Language::JavaScript, "plugin.js", source).await else { return };
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_exception_has_file_and_line_and_its_trace_is_logged() {
    let python = [
        ("plugin.py", "import more\n\ndef on_message(m):\n    more.f()\n"),
        ("more.py", "def f():\n    raise ValueError('no')\n"),
    ];
    let javascript = [
        ("plugin.js", "import { f } from './more.js';\n\nexport const onMessage = () => f();\n"),
        ("more.js", "export function f() {\n  throw new TypeError('no');\n}\n"),
    ];
    for (language, files, expected) in [
        (Language::Python, python, "more.py:2: ValueError: no"),
        (Language::JavaScript, javascript, "more.js:2: TypeError: no"),
    ] {
        let Some((_home, plugins)) = running(language, "", &files).await else { return };
        assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Pass);
        let error = plugins.take_notices().join("\n");
        assert!(error.contains(expected), "{error}");
        let log = plugins.log("p", 30).unwrap().join("\n");
        assert!(log.contains(files[0].0), "{log}");
        assert_active(&plugins, "p");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named_in_the_error() {
    let python = "import hfs\ndef on_message(m):\n    try:\n        hfs.kv.get('k')\n    except PermissionError as e:\n        return str(e)\n";
    let javascript = "export const onMessage = () => {\n  try { hfs.kv.get('k'); } catch (e) { return `${e.code}: ${e.message}`; }\n};";
    for (language, file, source) in
        [(Language::Python, "plugin.py", python), (Language::JavaScript, "plugin.js", javascript)]
    {
        let Some((_home, plugins)) = running(language, "", &[(file, source)]).await else { return };
        let Verdict::Replace(error) = on_user_message(&plugins, "hi").await else {
            panic!("{:?}", plugins.take_notices())
        };
        assert!(error.contains("permissions.storage was not granted"), "{error}");
    }
}

#[tokio::test]
async fn every_instance_has_its_own_random_numbers() {
    let python = "import random, uuid\ndef on_message(m):\n    return f'{random.random()} {uuid.uuid4()}'\n";
    let javascript = "export const onMessage = () => `${Math.random()} ${Math.random()}`;";
    for (language, file, source) in
        [(Language::Python, "plugin.py", python), (Language::JavaScript, "plugin.js", javascript)]
    {
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let Some((_home, plugins)) = running(language, "", &[(file, source)]).await else { return };
            let Verdict::Replace(text) = on_user_message(&plugins, "hi").await else {
                panic!("{:?}", plugins.take_notices())
            };
            numbers.extend(text.split(' ').map(ToOwned::to_owned));
        }
        let distinct: std::collections::BTreeSet<&String> = numbers.iter().collect();
        assert_eq!(distinct.len(), 6, "{numbers:?}");
    }
}

/// The modules that the guide lists.
fn listed_modules() -> Vec<String> {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugins.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, rest) = guide.split_once("these modules can be imported").unwrap();
    let list = rest.split('`').nth(1).unwrap();
    list.split_whitespace().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn every_module_in_the_guide_can_be_imported() {
    let modules = listed_modules();
    assert!(modules.len() > 60, "{modules:?}");
    let source = format!("import {}\ndef on_message(m):\n    return 'all'\n", modules.join(", "));
    let Some((_home, plugins)) = running(Language::Python, "", &[("plugin.py", &source)]).await else {
        return;
    };
    assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Replace("all".into()));
}

#[tokio::test]
async fn a_missing_interpreter_is_explained() {
    let home = Home::new();
    home.add_source("p", "", &[("plugin.py", "def on_start(): ...\n")]);
    let plugins = home.start(&["p"]).await;
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, PluginState::Invalid);
    assert!(reason.contains("no Python interpreter") && reason.contains("hfs plugin runtime"), "{reason}");
}

#[tokio::test]
async fn a_script_that_changed_after_approval_does_not_run() {
    let files =
        [("plugin.py", "import more\ndef on_message(m):\n    return more.x\n"), ("more.py", "x = 'a'\n")];
    let Some((home, plugins)) = running(Language::Python, "", &files).await else { return };
    assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Replace("a".into()));
    drop(plugins);
    std::fs::write(home.path().join("plugins/p/more.py"), "x = 'b'\n").unwrap();
    let plugins = home.start(&[]).await;
    assert_eq!(state(&plugins, "p").0, PluginState::Pending);
    assert_eq!(on_user_message(&plugins, "hi").await, Verdict::Pass);
}
