//! Running plugins: messages, commands, widgets, stored values.

use std::time::Duration;

use hfs_core::{
    Event, EventPayload, Hooks, Node, RunId, RunSnapshot, SessionId, Slot, Timestamp, Tone, Verdict,
};
use hfs_plugins::{PluginError, PluginState};

use crate::fixture::{
    APPEND, HOOKS, Home, STORING, component, counter, counter_with_command, message_component, on_message,
    on_user_message, state,
};

/// A body for [`message_component`] that rejects every message. It ends the function early to add a data segment to the
/// module, and then opens another function, which the rest of the template closes.
const REJECT: &str = r#"(call $return_text (i32.const 2) (i32.const 512) (i32.const 7)) (return)) (data (i32.const 512) "because") (func (result i32) (i32.const 0)"#;

#[tokio::test]
async fn messages_pass_through_plugins_in_the_order_of_their_names() {
    let home = Home::new();
    home.add("a", HOOKS, &message_component("", APPEND));
    home.add("b", HOOKS, &message_component("", APPEND));
    let plugins = home.start(&["a", "b"]).await;
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("x!!".into()));
    home.add("c", HOOKS, &message_component("", REJECT));
    plugins.refresh();
    plugins.approve("c").unwrap();
    let rejected = Verdict::Reject { plugin: "c".into(), reason: "because".into() };
    assert_eq!(on_user_message(&plugins, "x").await, rejected);
    plugins.deny("c").unwrap();
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("x!!".into()));
}

#[tokio::test]
async fn values_of_a_session_are_separate_and_restored_on_rewind() {
    let home = Home::new();
    home.add("count", STORING, &counter(1));
    let plugins = home.start(&["count"]).await;
    let (first, second) = (SessionId::generate(), SessionId::generate());
    let count = async |session| match plugins.on_message(session, "x", true).await {
        Verdict::Replace(text) => text,
        verdict => panic!("{verdict:?} {:?}", plugins.take_notices()),
    };
    assert_eq!(count(first).await, "1");
    assert_eq!(count(first).await, "2");
    assert_eq!(count(second).await, "1");
    let saved = plugins.session_state(first).unwrap();
    assert_eq!(serde_json::to_value(&saved).unwrap(), serde_json::json!({"count": {"n": "2"}}));
    assert_eq!(count(first).await, "3");
    plugins.restore_state(first, &saved);
    assert_eq!(count(first).await, "3");
    assert_eq!(count(second).await, "2");
    let second_process = home.start(&[]).await;
    second_process.restore_state(first, &saved);
    assert_eq!(second_process.on_message(first, "x", true).await, Verdict::Replace("3".into()));
}

#[tokio::test]
async fn values_of_a_plugin_are_kept_across_processes() {
    let home = Home::new();
    home.add("count", STORING, &counter(0));
    let plugins = home.start(&["count"]).await;
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("1".into()));
    drop(plugins);
    let plugins = home.start(&[]).await;
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("2".into()));
    assert_eq!(plugins.session_state(SessionId::generate()), None);
}

#[tokio::test]
async fn commands_and_hooks_share_the_values_of_a_session() {
    let home = Home::new();
    let manifest = "capabilities: [commands, hooks]\npermissions: {storage: 1KiB}\n";
    home.add("count", manifest, &counter_with_command(1));
    let plugins = home.start(&["count"]).await;
    let session = SessionId::generate();
    assert_eq!(plugins.run("up", "", Some(session)).await.unwrap(), Some("1".into()));
    assert_eq!(plugins.on_message(session, "x", true).await, Verdict::Replace("2".into()));
    let stored = serde_json::to_value(plugins.session_state(session)).unwrap();
    assert_eq!(stored, serde_json::json!({"count": {"n": "2"}}));
    // A call without a session cannot use values of a session.
    let output = plugins.run("up", "", None).await.unwrap();
    assert_eq!(output, Some("invalid".into()));
}

#[tokio::test]
async fn exceeding_the_storage_quota_is_an_error_for_the_plugin() {
    let imports = r#"(import "hfs:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32)))"#;
    let body = r"(call $set (i32.const 0) (i32.const 16) (i32.const 2) (i32.const 4096) (i32.const 1023) (i32.const 2048))
        (call $outcome)";
    let home = Home::new();
    home.add("p", STORING, &message_component(imports, body));
    let plugins = home.start(&["p"]).await;
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("quota".into()));
    assert_eq!(state(&plugins, "p").0, PluginState::Active);
}

/// A plugin with one command, which returns its arguments.
fn echo(name: &str) -> Vec<u8> {
    let functions = format!(
        r#"(func (export "hfs:plugin/commands@0.1.0#list") (result i32)
             ;; One command at 700: its name, `about` and `usage`.
             (i32.store (i32.const 700) (i32.const 512)) (i32.store (i32.const 704) (i32.const {}))
             (i32.store (i32.const 708) (i32.const 560)) (i32.store (i32.const 712) (i32.const 5))
             (i32.store (i32.const 716) (i32.const 0)) (i32.store (i32.const 720) (i32.const 0))
             (i32.store (i32.const 1024) (i32.const 700)) (i32.store (i32.const 1028) (i32.const 1))
             (i32.const 1024))
           (func (export "hfs:plugin/commands@0.1.0#run")
             (param $name i32) (param $namen i32) (param $text i32) (param $len i32)
             (param $session i32) (param $sessiona i32) (param $sessionn i32) (result i32)
             (call $return_text (i32.const 1) (local.get $text) (local.get $len)))
           (data (i32.const 512) "{name}") (data (i32.const 560) "about")"#,
        name.len()
    );
    component(&["commands"], "", &functions)
}

#[tokio::test]
async fn a_command_of_two_plugins_is_called_with_the_plugins_name() {
    let home = Home::new();
    home.add("a", "capabilities: [commands]\n", &echo("say"));
    let plugins = home.start(&["a"]).await;
    assert_eq!(plugins.commands()[0].about, "about");
    assert_eq!(plugins.run("say", "1  2", None).await.unwrap(), Some("1  2".into()));
    assert_eq!(plugins.run("a:say", "x", None).await.unwrap(), Some("x".into()));
    assert!(matches!(plugins.run("sing", "", None).await, Err(PluginError::CommandNotFound { .. })));
    home.add("b", "capabilities: [commands]\n", &echo("say"));
    plugins.refresh();
    plugins.approve("b").unwrap();
    plugins.started().await;
    let names: Vec<String> = plugins.commands().into_iter().map(|command| command.name).collect();
    assert_eq!(names, ["a:say", "b:say"]);
    assert!(matches!(plugins.run("say", "", None).await, Err(PluginError::AmbiguousCommand { .. })));
    assert_eq!(plugins.run("b:say", "x", None).await.unwrap(), Some("x".into()));
    plugins.deny("b").unwrap();
    assert!(matches!(plugins.run("b:say", "x", None).await, Err(PluginError::NotActive { .. })));
    assert_eq!(plugins.run("say", "x", None).await.unwrap(), Some("x".into()));
}

#[tokio::test]
async fn a_plugin_with_an_invalid_command_name_is_refused() {
    let home = Home::new();
    home.add("a", "capabilities: [commands]\n", &echo("rm -rf"));
    let plugins = home.start(&["a"]).await;
    let (state, reason) = state(&plugins, "a");
    assert_eq!(state, PluginState::Invalid);
    assert!(reason.contains("not a valid name for a command"), "{reason}");
}

/// A plugin whose widget renders a line and a gauge at the first time, and panics at every later one.
fn meter() -> Vec<u8> {
    let functions = r#"
      (global $drawn (mut i32) (i32.const 0))
      (func (export "hfs:plugin/widgets@0.1.0#list") (result i32)
        (i32.store (i32.const 700) (i32.const 512)) (i32.store (i32.const 704) (i32.const 1))
        (i32.store (i32.const 708) (i32.const 520)) (i32.store (i32.const 712) (i32.const 10))
        (i32.store (i32.const 716) (i32.const 530)) (i32.store (i32.const 720) (i32.const 5))
        (i32.store (i32.const 724) (i32.const 0))
        (i32.store (i32.const 1024) (i32.const 700)) (i32.store (i32.const 1028) (i32.const 1))
        (i32.const 1024))
      (func (export "hfs:plugin/widgets@0.1.0#render")
        (param $id i32) (param $idn i32) (param $session i32) (param $sessiona i32) (param $sessionn i32) (result i32)
        (global.set $drawn (i32.add (global.get $drawn) (i32.const 1)))
        (if (i32.gt_u (global.get $drawn) (i32.const 1)) (then (unreachable)))
        ;; Two nodes of 24 bytes at 800: a line with one span, a gauge.
        (i32.store (i32.const 800) (i32.const 0))
        (i32.store (i32.const 808) (i32.const 760)) (i32.store (i32.const 812) (i32.const 1))
        (i32.store (i32.const 760) (i32.const 530)) (i32.store (i32.const 764) (i32.const 5)) (i32.store (i32.const 768) (i32.const 3))
        (i32.store (i32.const 824) (i32.const 1))
        (i32.store (i32.const 832) (i32.const 530)) (i32.store (i32.const 836) (i32.const 5))
        (f64.store (i32.const 840) (f64.const 7.5))
        (i32.store (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1028) (i32.const 800)) (i32.store (i32.const 1032) (i32.const 2))
        (i32.const 1024))
      (data (i32.const 512) "w") (data (i32.const 520) "status-bar") (data (i32.const 530) "title")"#;
    component(&["widgets", "on-message"], "", &format!("{functions} {}", on_message("(call $pass)")))
}

#[tokio::test]
async fn a_widget_is_rendered_once_it_is_shown_and_keeps_its_last_successful_rendering() {
    let home = Home::new();
    home.add("m", "capabilities: [hooks, widgets]\n", &meter());
    let plugins = home.start(&["m"]).await;
    let mut changes = plugins.changes();
    let session = SessionId::generate();
    assert_eq!(plugins.widgets(Some(session)), []);
    let widget = loop {
        if let Some(widget) = plugins.widgets(Some(session)).pop() {
            break widget;
        }
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    };
    assert_eq!((widget.plugin.as_str(), widget.slot, widget.title.as_str()), ("m", Slot::StatusBar, "title"));
    assert_eq!(
        widget.nodes,
        [Node::Text(vec![("title".into(), Tone::Good)]), Node::Gauge { label: "title".into(), ratio: 1.0 }]
    );
    // A message causes another rendering, which panics.
    plugins.on_message(session, "x", true).await;
    loop {
        if plugins.take_notices().iter().any(|notice| notice.contains("stopped in drawing")) {
            break;
        }
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    }
    assert_eq!(plugins.widgets(Some(session)), [widget]);
}

/// A plugin that replaces messages with a character, `0` plus the sum of the hooks that were called: 1 for each event,
/// 10 for a completed run, 20 for a start.
fn watcher() -> Vec<u8> {
    let functions = r#"
      (global $seen (mut i32) (i32.const 0))
      (func (export "hfs:plugin/on-event@0.1.0#patterns") (result i32)
        (i32.store (i32.const 700) (i32.const 512)) (i32.store (i32.const 704) (i32.const 7))
        (i32.store (i32.const 1024) (i32.const 700)) (i32.store (i32.const 1028) (i32.const 1))
        (i32.const 1024))
      (func (export "hfs:plugin/on-event@0.1.0#handle")
        (param $session i32) (param $sessionn i32) (param $text i32) (param $len i32) (result i32)
        (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
        (call $pass))
      (func (export "hfs:plugin/on-run-complete@0.1.0#handle")
        (param $session i32) (param $sessionn i32) (param $text i32) (param $len i32) (result i32)
        (global.set $seen (i32.add (global.get $seen) (i32.const 10)))
        (call $pass))
      (func (export "hfs:plugin/on-start@0.1.0#handle") (param $session i32) (param $sessionn i32) (result i32)
        (global.set $seen (i32.add (global.get $seen) (i32.const 20)))
        (call $pass))
      (data (i32.const 512) "phase.*")"#;
    let body = "(i32.store8 (i32.const 600) (i32.add (i32.const 48) (global.get $seen)))
        (call $return_text (i32.const 1) (i32.const 600) (i32.const 1))";
    let exports = ["on-start", "on-event", "on-run-complete", "on-message"];
    component(&exports, "", &format!("{functions} {}", on_message(body)))
}

#[tokio::test]
async fn events_are_filtered_by_pattern_and_other_hooks_are_always_called() {
    let home = Home::new();
    home.add("w", HOOKS, &watcher());
    let plugins = home.start(&["w"]).await;
    let session = SessionId::generate();
    let event = |payload| Event { run: RunId::generate(), number: 1, at: Timestamp::UNIX_EPOCH, payload };
    plugins.on_start(session).await;
    plugins.on_event(session, &event(EventPayload::PhaseStarted { phase: "a".into() })).await;
    plugins.on_event(session, &event(EventPayload::PhaseEnded { phase: "a".into(), duration_ms: 1 })).await;
    plugins.on_event(session, &event(EventPayload::RunStarted { agent: "a".into(), answers: None })).await;
    plugins.on_run_complete(session, &RunSnapshot::default()).await;
    plugins.on_exit(session).await;
    // '0' + 20 for the start + 1 for each of two phase events + 10 for the run.
    assert_eq!(
        on_user_message(&plugins, "x").await,
        Verdict::Replace("P".into()),
        "{:?}",
        plugins.take_notices()
    );
}

#[tokio::test]
async fn broken_slow_and_quarantined_plugins_do_not_stop_the_others() {
    let mut home = Home::new();
    home.add("a-good", HOOKS, &message_component("", APPEND));
    home.add("broken", HOOKS, b"not a component");
    home.add("quarantined", HOOKS, &message_component("", "(unreachable)"));
    home.add("slow", HOOKS, &message_component("", "(loop $l (br $l)) (unreachable)"));
    home.add("z-good", HOOKS, &message_component("", APPEND));
    home.limits.hook = Duration::from_secs(1);
    home.limits.strikes = 1;
    let plugins = home.start(&["quarantined"]).await;
    on_user_message(&plugins, "x").await;
    drop(plugins);
    home.limits.strikes = 3;
    let plugins = home.start(&["a-good", "slow", "z-good"]).await;
    assert_eq!(on_user_message(&plugins, "x").await, Verdict::Replace("x!!".into()));
    let states: Vec<(String, &str)> =
        plugins.list().into_iter().map(|status| (status.name, status.state.as_str())).collect();
    let expected = [
        ("a-good", "active"),
        ("broken", "invalid"),
        ("quarantined", "quarantined"),
        ("slow", "active"),
        ("z-good", "active"),
    ];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    let notices = plugins.take_notices().join("\n");
    assert!(notices.contains("slow") && notices.contains("exceeded its time limit"), "{notices}");
}
