//! No plugin runs before the user has approved its files.

use std::fs;

use hfs_core::Verdict;
use hfs_plugins::{Permission, Place, PluginState};

use crate::fixture::{
    APPEND, HOOKS, Home, component, message_component, newer_component, on_message, on_user_message, state,
};

fn replaced(text: &str) -> Verdict {
    Verdict::Replace(text.to_owned())
}

#[tokio::test]
async fn a_plugin_runs_only_while_it_is_approved() {
    let home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    let plugins = home.start(&[]).await;
    assert_eq!(state(&plugins, "p").0, PluginState::Pending);
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
    let status = plugins.get("p").unwrap();
    let permissions: Vec<String> = status.permissions.iter().map(Permission::description).collect();
    assert_eq!(permissions, ["see every message, and change or stop it before it is saved"]);
    plugins.approve("p").unwrap();
    assert_eq!(on_user_message(&plugins, "a").await, replaced("a!"));
    let again = home.start(&[]).await;
    assert_eq!(on_user_message(&again, "a").await, replaced("a!"));
    again.deny("p").unwrap();
    assert_eq!(
        (on_user_message(&again, "a").await, state(&again, "p").0),
        (Verdict::Pass, PluginState::Denied)
    );
    again.revoke("p").unwrap();
    assert_eq!(
        (on_user_message(&again, "a").await, state(&again, "p").0),
        (Verdict::Pass, PluginState::Pending)
    );
}

#[tokio::test]
async fn a_plugin_changed_by_one_byte_does_not_run_until_it_is_approved_again() {
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    fs::write(folder.join("notes.txt"), "a").unwrap();
    assert_eq!(on_user_message(&home.start(&["p"]).await, "a").await, replaced("a!"));
    fs::write(folder.join("notes.txt"), "b").unwrap();
    let plugins = home.start(&[]).await;
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, PluginState::Pending);
    assert!(reason.contains("changed since it was approved"), "{reason}");
    plugins.approve("p").unwrap();
    assert_eq!(on_user_message(&plugins, "a").await, replaced("a!"));
}

#[tokio::test]
async fn a_component_changed_by_one_byte_does_not_run_and_the_user_is_notified() {
    let home = Home::new();
    let binary = message_component("", APPEND);
    let folder = home.add("p", HOOKS, &binary);
    let mut changed = binary.clone();
    // The constant of the appended `!` becomes `?`.
    let at = binary.windows(2).rposition(|pair| pair == [0x41, 33]).unwrap();
    changed[at + 1] ^= 0b1_1110;
    fs::write(folder.join("plugin.wasm"), &changed).unwrap();
    assert_eq!(on_user_message(&home.start(&["p"]).await, "a").await, replaced("a?"));
    fs::write(folder.join("plugin.wasm"), &binary).unwrap();
    let plugins = home.start(&[]).await;
    assert_eq!(
        (state(&plugins, "p").0, on_user_message(&plugins, "a").await),
        (PluginState::Pending, Verdict::Pass)
    );
    let notices = plugins.take_notices().join("\n");
    assert!(notices.contains("p: does not run, it is pending: its files changed"), "{notices}");
}

#[tokio::test]
async fn files_that_change_after_they_were_listed_are_not_approved() {
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    let plugins = home.start(&[]).await;
    fs::write(folder.join("manifest.yaml"), "name: p\nversion: 2.0.0\ncapabilities: [hooks]\n").unwrap();
    let error = plugins.approve("p").unwrap_err().to_string();
    assert!(error.contains("changed while"), "{error}");
    assert_eq!(state(&plugins, "p").0, PluginState::Pending);
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
}

#[tokio::test]
async fn new_permissions_of_a_new_version_are_listed() {
    let home = Home::new();
    let binary = message_component("", APPEND);
    home.add("p", "capabilities: [hooks]\npermissions: {storage: 1KiB}\n", &binary);
    home.start(&["p"]).await;
    home.add("p", "capabilities: [hooks]\npermissions: {storage: 1KiB, session: read}\n", &binary);
    let status = home.discover().get("p").unwrap();
    assert_eq!(status.state, PluginState::Pending);
    let new: Vec<String> = status.new_permissions.iter().map(Permission::description).collect();
    assert_eq!(new, ["read all your saved conversations"]);
}

#[tokio::test]
async fn a_plugin_of_a_project_starts_denied_and_cannot_take_a_name() {
    let home = Home::new();
    home.add_to_project("p", HOOKS, &message_component("", APPEND));
    home.add_to_project("q", HOOKS, &message_component("", APPEND));
    home.add("q", HOOKS, &message_component("", APPEND));
    let plugins = home.start(&["q"]).await;
    assert_eq!(on_user_message(&plugins, "a").await, replaced("a!"));
    let status = plugins.get("p").unwrap();
    assert_eq!((status.state, status.place), (PluginState::Denied, Place::Project));
    let (state, reason) = state(&plugins, "q~2");
    assert_eq!(state, PluginState::Invalid);
    assert!(reason.contains("is taken"), "{reason}");
    plugins.approve("p").unwrap();
    assert_eq!(on_user_message(&plugins, "a").await, replaced("a!!"));
}

#[tokio::test]
async fn a_disabled_plugin_does_not_run() {
    let mut home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    home.disabled.insert("p".into());
    let plugins = home.start(&["p"]).await;
    assert_eq!(
        (state(&plugins, "p").0, on_user_message(&plugins, "a").await),
        (PluginState::Disabled, Verdict::Pass)
    );
    plugins.enable("p").unwrap();
    assert_eq!(on_user_message(&plugins, "a").await, replaced("a!"));
    plugins.disable("p").unwrap();
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
}

#[tokio::test]
async fn unreadable_approvals_approve_nothing() {
    let home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    home.start(&["p"]).await;
    fs::write(home.path().join("plugin_permissions.yaml"), "plugins: [").unwrap();
    let plugins = home.start(&[]).await;
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, PluginState::Pending);
    assert!(reason.contains("plugin_permissions.yaml"), "{reason}");
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
}

/// Adds a plugin with this component, checks that it is invalid, and returns the reason.
fn invalid_reason(binary: &[u8], manifest: &str) -> String {
    let home = Home::new();
    home.add("p", manifest, binary);
    let plugins = home.discover();
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, PluginState::Invalid, "{reason}");
    assert!(plugins.approve("p").is_err());
    reason
}

#[test]
fn broken_components_are_invalid_with_a_reason() {
    let good = message_component("", APPEND);
    let native = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut cases = vec![
        (Vec::new(), "empty"),
        (b"hello, this is text".to_vec(), "not a WebAssembly component"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (native[..100_000].to_vec(), "not a WebAssembly component"),
        (wat::parse_str("(module)").unwrap(), "not a component"),
        (wat::parse_str("(component)").unwrap(), "exports no interface"),
        (newer_component(), "0.2.0"),
    ];
    let wasi = r#"(component (import "wasi:http/types@0.2.0" (instance)))"#;
    cases.push((wat::parse_str(wasi).unwrap(), "which hfs does not provide"));
    let unknown = r#"(component (import "acme:secret/door@1.0.0" (instance)))"#;
    cases.push((wat::parse_str(unknown).unwrap(), "which hfs does not provide"));
    for (binary, word) in cases {
        let reason = invalid_reason(&binary, HOOKS);
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

#[tokio::test]
async fn a_component_with_flipped_bits_is_refused_or_harmless() {
    let good = message_component("", APPEND);
    for step in [97, 61, 13] {
        let mut flipped = good.clone();
        flipped.iter_mut().skip(20).step_by(step).for_each(|byte| *byte ^= 0x5a);
        let home = Home::new();
        home.add("flipped", HOOKS, &flipped);
        home.add("good", HOOKS, &good);
        let plugins = home.start(&["good"]).await;
        // Whether it still validates depends on which bits were flipped.
        if plugins.approve("flipped").is_ok() {
            plugins.started().await;
        }
        plugins.deny("flipped").unwrap();
        assert_eq!(on_user_message(&plugins, "a").await, replaced("a!"));
    }
}

#[test]
fn a_manifest_and_its_binary_must_agree() {
    let hook = message_component("", APPEND);
    for (manifest, binary, word) in [
        ("capabilities: [commands]\n", &hook, "does not list the capability hooks"),
        ("capabilities: [hooks, widgets]\n", &hook, "does not implement it"),
        ("", &hook, "does not list the capability hooks"),
        (HOOKS, &importing("http", "fetch", 10), "permissions.network"),
        (HOOKS, &importing("kv", "delete", 4), "permissions.storage"),
        (HOOKS, &importing("files", "delete", 3), "permissions.filesystem"),
        (HOOKS, &importing("session", "runs", 4), "permissions.session"),
    ] {
        let reason = invalid_reason(binary, manifest);
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

/// A component that imports and calls a function of the contract.
fn importing(interface: &str, function: &str, parameters: usize) -> Vec<u8> {
    let parameters = "i32 ".repeat(parameters);
    let import = format!(
        r#"(import "hfs:plugin/{interface}@0.1.0" "{function}" (func $imported (param {parameters})))"#
    );
    let zeros = "(i32.const 0)".repeat(parameters.split_whitespace().count());
    component(&["on-message"], &import, &on_message(&format!("(call $imported {zeros}) (call $pass)")))
}

#[test]
fn entry_points_and_links_outside_the_folder_are_refused() {
    let home = Home::new();
    let outside = home.user_home().join("outside.wasm");
    fs::write(&outside, message_component("", APPEND)).unwrap();
    for entry in ["../outside.wasm", "/bin/true", "..", "a/../../x.wasm", "a\\\\b.wasm"] {
        let reason = invalid_reason(&[], &format!("entry_point: \"{entry}\"\n{HOOKS}"));
        assert!(reason.contains("entry_point"), "{entry}: {reason}");
    }
    {
        let folder = home.add("linked", HOOKS, &[]);
        fs::remove_file(folder.join("plugin.wasm")).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("plugin.wasm")).unwrap();
        std::os::unix::fs::symlink(&folder, home.path().join("plugins/whole")).unwrap();
        let plugins = home.discover();
        for name in ["linked", "whole"] {
            assert_eq!(state(&plugins, name).0, PluginState::Invalid);
        }
    }
    let folder = home.add("missing", HOOKS, &[]);
    fs::remove_file(folder.join("plugin.wasm")).unwrap();
    assert!(state(&home.discover(), "missing").1.contains("it has no code"));
    let folder = home.add("named", &format!("entry_point: plugin.wasm\n{HOOKS}"), &[]);
    fs::remove_file(folder.join("plugin.wasm")).unwrap();
    assert!(state(&home.discover(), "named").1.contains("plugin.wasm does not exist"));
}

#[tokio::test]
async fn an_export_with_wrong_types_is_refused() {
    let wrong = r#"(component
        (core module $m (func (export "f") (param i32) (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $f (param "x" u32) (result u32) (canon lift (core func $i "f")))
        (instance $e (export "handle" (func $f)))
        (export "hfs:plugin/on-message@0.1.0" (instance $e)))"#;
    let home = Home::new();
    home.add("p", HOOKS, &wat::parse_str(wrong).unwrap());
    let plugins = home.start(&["p"]).await;
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, PluginState::Invalid, "{reason}");
    assert!(reason.contains("on-message does not match the contract"), "{reason}");
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
}

#[tokio::test]
async fn compiled_code_is_cached_in_a_private_folder() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    home.start(&["p"]).await;
    let cache = home.path().join("cache/plugins");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
}
