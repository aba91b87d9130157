//! Plugins at work: messages, commands, widgets, and what they keep.

use std::time::Duration;

use hfs_core::{
    Event, EventPayload, Hooks, Node, RunId, RunSnapshot, SessionId, Slot, Timestamp, Tone, Verdict,
};
use hfs_plugins::{PluginError, Plugins, State};

use crate::fixture::{
    APPEND, HOOKS, Home, STORING, component, counter, counter_with_command, message_component, on_message,
    state,
};

async fn said(plugins: &Plugins, text: &str) -> Verdict {
    plugins.on_message(SessionId::generate(), text, true).await
}

const REJECT: &str = r#"(call $say (i32.const 2) (i32.const 512) (i32.const 7)) (return)) (data (i32.const 512) "because") (func (result i32) (i32.const 0)"#;

#[tokio::test]
async fn messages_go_from_plugin_to_plugin_in_the_order_of_names() {
    let home = Home::new();
    home.add("a", HOOKS, &message_component("", APPEND));
    home.add("b", HOOKS, &message_component("", APPEND));
    let plugins = home.begin(&["a", "b"]).await;
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("x!!".into()));
    home.add("c", HOOKS, &message_component("", REJECT));
    plugins.refresh();
    plugins.approve("c").unwrap();
    let rejected = Verdict::Reject { plugin: "c".into(), reason: "because".into() };
    assert_eq!(said(&plugins, "x").await, rejected);
    plugins.deny("c").unwrap();
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("x!!".into()));
}

#[tokio::test]
async fn what_is_kept_for_a_session_is_its_own_and_comes_back_on_rewind() {
    let home = Home::new();
    home.add("count", STORING, &counter(1));
    let plugins = home.begin(&["count"]).await;
    let (one, other) = (SessionId::generate(), SessionId::generate());
    let count = async |session| match plugins.on_message(session, "x", true).await {
        Verdict::Replace(text) => text,
        verdict => panic!("{verdict:?} {:?}", plugins.take_notices()),
    };
    assert_eq!(count(one).await, "1");
    assert_eq!(count(one).await, "2");
    assert_eq!(count(other).await, "1");
    let mark = plugins.session_state(one).unwrap();
    assert_eq!(serde_json::to_value(&mark).unwrap(), serde_json::json!({"count": {"n": "2"}}));
    assert_eq!(count(one).await, "3");
    plugins.restore_state(one, &mark);
    assert_eq!(count(one).await, "3");
    assert_eq!(count(other).await, "2");
    let elsewhere = home.begin(&[]).await;
    elsewhere.restore_state(one, &mark);
    assert_eq!(elsewhere.on_message(one, "x", true).await, Verdict::Replace("3".into()));
}

#[tokio::test]
async fn what_is_kept_for_a_plugin_outlives_the_process_and_its_instance() {
    let home = Home::new();
    home.add("count", STORING, &counter(0));
    let plugins = home.begin(&["count"]).await;
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("1".into()));
    drop(plugins);
    let plugins = home.begin(&[]).await;
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("2".into()));
    assert_eq!(plugins.session_state(SessionId::generate()), None);
}

#[tokio::test]
async fn commands_and_hooks_keep_the_same_things_for_a_session() {
    let home = Home::new();
    let manifest = "capabilities: [commands, hooks]\npermissions: {storage: 1KiB}\n";
    home.add("count", manifest, &counter_with_command(1));
    let plugins = home.begin(&["count"]).await;
    let session = SessionId::generate();
    assert_eq!(plugins.run("up", "", Some(session)).await.unwrap(), Some("1".into()));
    assert_eq!(plugins.on_message(session, "x", true).await, Verdict::Replace("2".into()));
    let kept = serde_json::to_value(plugins.session_state(session)).unwrap();
    assert_eq!(kept, serde_json::json!({"count": {"n": "2"}}));
    // Outside of a session there is nothing to keep it with.
    let told = plugins.run("up", "", None).await.unwrap();
    assert_eq!(told, Some("invalid".into()));
}

#[tokio::test]
async fn a_quota_is_an_answer_and_not_a_crash() {
    let imports = r#"(import "hfs:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32)))"#;
    let body = r"(call $set (i32.const 0) (i32.const 16) (i32.const 2) (i32.const 4096) (i32.const 1023) (i32.const 2048))
        (call $told)";
    let home = Home::new();
    home.add("p", STORING, &message_component(imports, body));
    let plugins = home.begin(&["p"]).await;
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("quota".into()));
    assert_eq!(state(&plugins, "p").0, State::Active);
}

/// Lists one command, which says what it was given.
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
             (call $say (i32.const 1) (local.get $text) (local.get $len)))
           (data (i32.const 512) "{name}") (data (i32.const 560) "about")"#,
        name.len()
    );
    component(&["commands"], "", &functions)
}

#[tokio::test]
async fn commands_are_called_by_their_name_and_by_their_plugins_where_two_have_it() {
    let home = Home::new();
    home.add("a", "capabilities: [commands]\n", &echo("say"));
    let plugins = home.begin(&["a"]).await;
    assert_eq!(plugins.commands()[0].about, "about");
    assert_eq!(plugins.run("say", "1  2", None).await.unwrap(), Some("1  2".into()));
    assert_eq!(plugins.run("a:say", "x", None).await.unwrap(), Some("x".into()));
    assert!(matches!(plugins.run("sing", "", None).await, Err(PluginError::NoCommand { .. })));
    home.add("b", "capabilities: [commands]\n", &echo("say"));
    plugins.refresh();
    plugins.approve("b").unwrap();
    plugins.started().await;
    let names: Vec<String> = plugins.commands().into_iter().map(|command| command.name).collect();
    assert_eq!(names, ["a:say", "b:say"]);
    assert!(matches!(plugins.run("say", "", None).await, Err(PluginError::Ambiguous { .. })));
    assert_eq!(plugins.run("b:say", "x", None).await.unwrap(), Some("x".into()));
    plugins.deny("b").unwrap();
    assert!(matches!(plugins.run("b:say", "x", None).await, Err(PluginError::NotActive { .. })));
    assert_eq!(plugins.run("say", "x", None).await.unwrap(), Some("x".into()));
}

#[tokio::test]
async fn a_command_with_a_name_that_is_none_is_refused() {
    let home = Home::new();
    home.add("a", "capabilities: [commands]\n", &echo("rm -rf"));
    let plugins = home.begin(&["a"]).await;
    let (state, reason) = state(&plugins, "a");
    assert_eq!(state, State::Invalid);
    assert!(reason.contains("no name for a command"), "{reason}");
}

/// Shows how often it was drawn, as a gauge and as a line; after the first time only with what is wrong.
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
async fn a_widget_is_drawn_for_whoever_looks_and_its_last_good_picture_stays() {
    let home = Home::new();
    home.add("m", "capabilities: [hooks, widgets]\n", &meter());
    let plugins = home.begin(&["m"]).await;
    let mut changes = plugins.changes();
    let session = SessionId::generate();
    assert_eq!(plugins.pictures(Some(session)), []);
    let picture = loop {
        if let Some(picture) = plugins.pictures(Some(session)).pop() {
            break picture;
        }
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    };
    assert_eq!(
        (picture.plugin.as_str(), picture.slot, picture.title.as_str()),
        ("m", Slot::StatusBar, "title")
    );
    assert_eq!(
        picture.nodes,
        [Node::Text(vec![("title".into(), Tone::Good)]), Node::Gauge { label: "title".into(), ratio: 1.0 }]
    );
    // A message makes it draw again, and there it breaks.
    plugins.on_message(session, "x", true).await;
    loop {
        if plugins.take_notices().iter().any(|told| told.contains("stopped in drawing")) {
            break;
        }
        tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    }
    assert_eq!(plugins.pictures(Some(session)), [picture]);
}

/// Rejects messages once an event of the family it wants, and only that, was seen.
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
        (call $say (i32.const 1) (i32.const 600) (i32.const 1))";
    let exports = ["on-start", "on-event", "on-run-complete", "on-message"];
    component(&exports, "", &format!("{functions} {}", on_message(body)))
}

#[tokio::test]
async fn hooks_are_called_for_what_they_want() {
    let home = Home::new();
    home.add("w", HOOKS, &watcher());
    let plugins = home.begin(&["w"]).await;
    let session = SessionId::generate();
    let event = |payload| Event { run: RunId::generate(), number: 1, at: Timestamp::UNIX_EPOCH, payload };
    plugins.on_start(session).await;
    plugins.on_event(session, &event(EventPayload::PhaseStarted { phase: "a".into() })).await;
    plugins.on_event(session, &event(EventPayload::PhaseEnded { phase: "a".into(), duration_ms: 1 })).await;
    plugins.on_event(session, &event(EventPayload::RunStarted { agent: "a".into(), answers: None })).await;
    plugins.on_run_complete(session, &RunSnapshot::default()).await;
    plugins.on_exit(session).await;
    // '0' + 20 for the start, 1 for each phase event, 10 for the run.
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("P".into()), "{:?}", plugins.take_notices());
}

#[tokio::test]
async fn one_broken_one_slow_and_one_quarantined_do_not_keep_the_good_from_their_work() {
    let mut home = Home::new();
    home.add("a-good", HOOKS, &message_component("", APPEND));
    home.add("broken", HOOKS, b"not a component");
    home.add("quarantined", HOOKS, &message_component("", "(unreachable)"));
    home.add("slow", HOOKS, &message_component("", "(loop $l (br $l)) (unreachable)"));
    home.add("z-good", HOOKS, &message_component("", APPEND));
    home.limits.hook = Duration::from_secs(1);
    home.limits.strikes = 1;
    let plugins = home.begin(&["quarantined"]).await;
    said(&plugins, "x").await;
    drop(plugins);
    home.limits.strikes = 3;
    let plugins = home.begin(&["a-good", "slow", "z-good"]).await;
    assert_eq!(said(&plugins, "x").await, Verdict::Replace("x!!".into()));
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
    let told = plugins.take_notices().join("\n");
    assert!(told.contains("slow") && told.contains("longer than it may"), "{told}");
}
