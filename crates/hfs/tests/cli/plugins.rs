//! `hfs plugin`, and plugins at work in a conversation.

use std::fs;

use serde_json::json;
use testkit::cli::Hfs;

use crate::plugin_fixture::{APPEND, HOOKS, STORING, counter, counter_with_command, message_component};
use crate::{hfs, shown, text};

/// A machine that runs many tests at once is slow.
fn patient() -> Hfs {
    hfs().env("HFS_PLUGINS_HOOK_MS", "20000")
}

fn install(hfs: &Hfs, name: &str, rest: &str, binary: &[u8]) {
    let folder = hfs.hfs_home().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: {name}\nversion: 1.0.0\n{rest}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
}

fn states(hfs: &Hfs) -> Vec<(String, String)> {
    let document = hfs.run(&["plugin", "list", "--json"]).ok().json();
    let name = |plugin: &serde_json::Value, field: &str| plugin[field].as_str().unwrap().to_owned();
    let plugins = document["plugins"].as_array().unwrap();
    plugins.iter().map(|plugin| (name(plugin, "name"), name(plugin, "state"))).collect()
}

#[test]
fn nothing_is_approved_unless_somebody_says_so() {
    let hfs = patient();
    install(&hfs, "p", HOOKS, &message_component("", APPEND));
    assert_eq!(states(&hfs), [("p".into(), "pending".into())]);
    let told = hfs.run(&["plugin", "approve", "p"]).fails_with(5);
    assert!(told.stderr.contains("nobody to ask"), "{}", told.stderr);
    let _ = hfs.command(&["plugin", "approve", "p"]).stdin("yes\n").run().fails_with(5);
    let _ = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "hello");
    assert_eq!(states(&hfs), [("p".into(), "pending".into())]);
    assert!(!hfs.hfs_home().join("plugin_permissions.yaml").exists());
}

#[test]
fn an_approved_plugin_sees_messages_and_without_plugins_none_does() {
    let hfs = patient();
    install(&hfs, "p", HOOKS, &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "approve", "p", "--yes"]).ok();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let said = &shown(&hfs, "@")["messages"][0];
    assert_eq!(text(said), "hello!");
    let _ = hfs.run(&["--no-plugins", "chat", "hello"]).ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "hello");
    let _ = hfs.run(&["plugin", "disable", "p"]).ok();
    assert_eq!(states(&hfs), [("p".into(), "disabled".into())]);
    let listed = hfs.run(&["config", "get", "disabled_plugins", "--json"]).ok().json();
    assert_eq!(listed["value"], json!(["p"]));
    let _ = hfs.run(&["plugin", "enable", "p"]).ok();
    assert_eq!(states(&hfs), [("p".into(), "active".into())]);
    let _ = hfs.run(&["plugin", "revoke", "p"]).ok();
    assert_eq!(states(&hfs), [("p".into(), "pending".into())]);
    let _ = hfs.run(&["plugin", "deny", "p"]).ok();
    assert_eq!(states(&hfs), [("p".into(), "denied".into())]);
    let _ = hfs.run(&["plugin", "show", "nobody"]).fails_with(3);
}

#[test]
fn a_rewind_brings_back_what_a_plugin_kept_for_the_session() {
    let hfs = patient();
    install(&hfs, "count", STORING, &counter(1));
    let _ = hfs.run(&["plugin", "approve", "count", "-y"]).ok();
    let said = |hfs: &Hfs| {
        text(&shown(hfs, "@")["messages"].as_array().unwrap().iter().rev().nth(1).unwrap().clone()).to_owned()
    };
    // Each exchange is two messages, and the plugin sees both.
    let _ = hfs.run(&["chat", "one"]).ok();
    assert_eq!(said(&hfs), "1");
    let _ = hfs.run(&["chat", "-c", "two"]).ok();
    assert_eq!(said(&hfs), "3");
    let _ = hfs.run(&["rewind", "@", "1"]).ok();
    let _ = hfs.run(&["chat", "-c", "two again"]).ok();
    assert_eq!(said(&hfs), "3");
    let _ = hfs.run(&["chat", "-c", "three"]).ok();
    assert_eq!(said(&hfs), "5");
}

#[test]
fn what_a_command_changes_is_kept_for_the_session_and_a_rewind_takes_it_back() {
    let hfs = patient().env("HFS_PLUGINS_COMMAND_MS", "20000");
    let manifest = "capabilities: [hooks, commands]\npermissions: {storage: 1KiB}\n";
    install(&hfs, "count", manifest, &counter_with_command(1));
    let _ = hfs.run(&["plugin", "approve", "count", "-y"]).ok();
    let up = || hfs.run(&["plugin", "run", "-s", "@", "count", "up"]).ok().stdout.trim().to_owned();
    // An exchange is two messages, and the plugin sees both.
    let _ = hfs.run(&["chat", "one"]).ok();
    assert_eq!((up(), up()), ("3".into(), "4".into()));
    // Without plugins a conversation goes on, and what they keep waits for them.
    let _ = hfs.run(&["--no-plugins", "chat", "-c", "two"]).ok();
    assert_eq!(up(), "5");
    let _ = hfs.run(&["chat", "-c", "three"]).ok();
    assert_eq!(up(), "8");
    let _ = hfs.run(&["rewind", "@", "1"]).ok();
    assert_eq!(up(), "3");
}

#[test]
fn a_broken_plugin_is_shown_with_its_reason_and_hurts_nothing() {
    let hfs = patient();
    install(&hfs, "broken", HOOKS, b"not a component");
    install(&hfs, "trap", HOOKS, &message_component("", "(unreachable)"));
    let _ = hfs.run(&["plugin", "approve", "broken", "--yes"]).fails_with(5);
    let _ = hfs.run(&["plugin", "approve", "trap", "--yes"]).ok();
    let told = hfs.run(&["chat", "hello"]).ok();
    assert!(told.stderr.contains("trap: stopped in on_message: it panicked"), "{}", told.stderr);
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "hello");
    let log = hfs.run(&["plugin", "logs", "trap"]).ok().stdout;
    assert!(log.contains("stopped in on_message"), "{log}");
    // The question and its answer were two strikes; one more.
    let _ = hfs.run(&["chat", "hello"]).ok();
    let list = hfs.run(&["plugin", "list"]).ok().stdout;
    assert!(list.contains("quarantined") && list.contains("not a WebAssembly component"), "{list}");
}
