//! Nothing runs before a person approved it as it is.

use std::fs;

use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::{Place, Plugins, State};

use crate::fixture::{APPEND, HOOKS, Home, component, message_component, newer_component, on_message, state};

async fn said(plugins: &Plugins, text: &str) -> Verdict {
    plugins.on_message(SessionId::generate(), text, true).await
}

fn replaced(text: &str) -> Verdict {
    Verdict::Replace(text.to_owned())
}

#[tokio::test]
async fn a_plugin_runs_once_it_is_approved_and_not_before() {
    let home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    let plugins = home.begin(&[]).await;
    assert_eq!(state(&plugins, "p").0, State::Pending);
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
    let words: Vec<String> = plugins.get("p").unwrap().powers.iter().map(hfs_plugins::Power::words).collect();
    assert_eq!(words, ["see every message, and change or stop it before it is saved"]);
    plugins.approve("p").unwrap();
    assert_eq!(said(&plugins, "a").await, replaced("a!"));
    let again = home.begin(&[]).await;
    assert_eq!(said(&again, "a").await, replaced("a!"));
    again.deny("p").unwrap();
    assert_eq!((said(&again, "a").await, state(&again, "p").0), (Verdict::Pass, State::Denied));
    again.revoke("p").unwrap();
    assert_eq!((said(&again, "a").await, state(&again, "p").0), (Verdict::Pass, State::Pending));
}

#[tokio::test]
async fn a_plugin_changed_by_one_byte_does_not_run_until_it_is_approved_again() {
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    fs::write(folder.join("notes.txt"), "a").unwrap();
    assert_eq!(said(&home.begin(&["p"]).await, "a").await, replaced("a!"));
    fs::write(folder.join("notes.txt"), "b").unwrap();
    let plugins = home.begin(&[]).await;
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, State::Pending);
    assert!(reason.contains("changed since it was approved"), "{reason}");
    plugins.approve("p").unwrap();
    assert_eq!(said(&plugins, "a").await, replaced("a!"));
}

#[tokio::test]
async fn a_component_changed_by_one_byte_does_not_run_and_the_user_is_told() {
    let home = Home::new();
    let binary = message_component("", APPEND);
    let folder = home.add("p", HOOKS, &binary);
    let mut changed = binary.clone();
    // An exclamation mark becomes a question mark, and nothing else does.
    let at = binary.windows(2).rposition(|pair| pair == [0x41, 33]).unwrap();
    changed[at + 1] ^= 0b1_1110;
    fs::write(folder.join("plugin.wasm"), &changed).unwrap();
    assert_eq!(said(&home.begin(&["p"]).await, "a").await, replaced("a?"));
    fs::write(folder.join("plugin.wasm"), &binary).unwrap();
    let plugins = home.begin(&[]).await;
    assert_eq!((state(&plugins, "p").0, said(&plugins, "a").await), (State::Pending, Verdict::Pass));
    let told = plugins.take_notices().join("\n");
    assert!(told.contains("p: does not run, it is pending: its files changed"), "{told}");
}

#[tokio::test]
async fn what_changes_between_the_question_and_the_answer_is_not_approved() {
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    let plugins = home.begin(&[]).await;
    fs::write(folder.join("manifest.yaml"), "name: p\nversion: 2.0.0\ncapabilities: [hooks]\n").unwrap();
    let error = plugins.approve("p").unwrap_err().to_string();
    assert!(error.contains("changed while"), "{error}");
    assert_eq!(state(&plugins, "p").0, State::Pending);
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
}

#[tokio::test]
async fn a_new_version_says_what_it_could_not_do_before() {
    let home = Home::new();
    let binary = message_component("", APPEND);
    home.add("p", "capabilities: [hooks]\npermissions: {storage: 1KiB}\n", &binary);
    home.begin(&["p"]).await;
    home.add("p", "capabilities: [hooks]\npermissions: {storage: 1KiB, session: read}\n", &binary);
    let status = home.look().get("p").unwrap();
    assert_eq!(status.state, State::Pending);
    let words: Vec<String> = status.new_powers.iter().map(hfs_plugins::Power::words).collect();
    assert_eq!(words, ["read all your saved conversations"]);
}

#[tokio::test]
async fn a_projects_plugin_begins_denied_and_takes_nobodys_name() {
    let home = Home::new();
    home.add_to_project("p", HOOKS, &message_component("", APPEND));
    home.add_to_project("q", HOOKS, &message_component("", APPEND));
    home.add("q", HOOKS, &message_component("", APPEND));
    let plugins = home.begin(&["q"]).await;
    assert_eq!(said(&plugins, "a").await, replaced("a!"));
    let status = plugins.get("p").unwrap();
    assert_eq!((status.state, status.place), (State::Denied, Place::Project));
    let (state, reason) = state(&plugins, "q~2");
    assert_eq!(state, State::Invalid);
    assert!(reason.contains("is taken"), "{reason}");
    plugins.approve("p").unwrap();
    assert_eq!(said(&plugins, "a").await, replaced("a!!"));
}

#[tokio::test]
async fn what_is_switched_off_does_not_run() {
    let mut home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    home.disabled.insert("p".into());
    let plugins = home.begin(&["p"]).await;
    assert_eq!((state(&plugins, "p").0, said(&plugins, "a").await), (State::Disabled, Verdict::Pass));
    plugins.enable("p").unwrap();
    assert_eq!(said(&plugins, "a").await, replaced("a!"));
    plugins.disable("p").unwrap();
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
}

#[tokio::test]
async fn decisions_that_cannot_be_read_approve_nothing() {
    let home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    home.begin(&["p"]).await;
    fs::write(home.path().join("plugin_permissions.yaml"), "plugins: [").unwrap();
    let plugins = home.begin(&[]).await;
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, State::Pending);
    assert!(reason.contains("plugin_permissions.yaml"), "{reason}");
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
}

/// Adds a plugin of this binary and returns why it is invalid.
fn refused(binary: &[u8], manifest: &str) -> String {
    let home = Home::new();
    home.add("p", manifest, binary);
    let plugins = home.look();
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, State::Invalid, "{reason}");
    assert!(plugins.approve("p").is_err());
    reason
}

#[test]
fn broken_binaries_are_named_with_their_reason() {
    let good = message_component("", APPEND);
    let native = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut cases = vec![
        (Vec::new(), "empty"),
        (b"hello, this is text".to_vec(), "no WebAssembly component"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (native[..100_000].to_vec(), "no WebAssembly component"),
        (wat::parse_str("(module)").unwrap(), "not yet a component"),
        (wat::parse_str("(component)").unwrap(), "exports nothing"),
        (newer_component(), "0.2.0"),
    ];
    let wasi = r#"(component (import "wasi:http/types@0.2.0" (instance)))"#;
    cases.push((wat::parse_str(wasi).unwrap(), "nothing that hfs gives"));
    let unknown = r#"(component (import "acme:secret/door@1.0.0" (instance)))"#;
    cases.push((wat::parse_str(unknown).unwrap(), "nothing that hfs gives"));
    for (binary, word) in cases {
        let reason = refused(&binary, HOOKS);
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

#[tokio::test]
async fn flipped_bits_hurt_nobody() {
    let good = message_component("", APPEND);
    for step in [97, 61, 13] {
        let mut flipped = good.clone();
        flipped.iter_mut().skip(20).step_by(step).for_each(|byte| *byte ^= 0x5a);
        let home = Home::new();
        home.add("flipped", HOOKS, &flipped);
        home.add("good", HOOKS, &good);
        let plugins = home.begin(&["good"]).await;
        // Whatever is left of it, it is either refused or harmless.
        if plugins.approve("flipped").is_ok() {
            plugins.started().await;
        }
        plugins.deny("flipped").unwrap();
        assert_eq!(said(&plugins, "a").await, replaced("a!"));
    }
}

#[test]
fn a_manifest_and_its_binary_must_agree() {
    let hook = message_component("", APPEND);
    for (manifest, binary, word) in [
        ("capabilities: [commands]\n", &hook, "does not name the capability hooks"),
        ("capabilities: [hooks, widgets]\n", &hook, "has nothing of it"),
        ("", &hook, "does not name the capability hooks"),
        (HOOKS, &asking("http", "fetch", 10), "permissions.network"),
        (HOOKS, &asking("kv", "delete", 4), "permissions.storage"),
        (HOOKS, &asking("files", "delete", 3), "permissions.filesystem"),
        (HOOKS, &asking("session", "runs", 4), "permissions.session"),
    ] {
        let reason = refused(binary, manifest);
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

/// A component that imports a function of the contract.
fn asking(interface: &str, function: &str, parameters: usize) -> Vec<u8> {
    let parameters = "i32 ".repeat(parameters);
    let import =
        format!(r#"(import "hfs:plugin/{interface}@0.1.0" "{function}" (func $asked (param {parameters})))"#);
    let zeros = "(i32.const 0)".repeat(parameters.split_whitespace().count());
    component(&["on-message"], &import, &on_message(&format!("(call $asked {zeros}) (call $pass)")))
}

#[test]
fn nothing_leads_out_of_a_plugins_folder() {
    let home = Home::new();
    let outside = home.user_home().join("outside.wasm");
    fs::write(&outside, message_component("", APPEND)).unwrap();
    for entry in ["../outside.wasm", "/bin/true", "..", "a/../../x.wasm", "a\\\\b.wasm"] {
        let reason = refused(&[], &format!("entry_point: \"{entry}\"\n{HOOKS}"));
        assert!(reason.contains("entry_point"), "{entry}: {reason}");
    }
    #[cfg(unix)]
    {
        let folder = home.add("linked", HOOKS, &[]);
        fs::remove_file(folder.join("plugin.wasm")).unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("plugin.wasm")).unwrap();
        std::os::unix::fs::symlink(&folder, home.path().join("plugins/whole")).unwrap();
        let plugins = home.look();
        for name in ["linked", "whole"] {
            assert_eq!(state(&plugins, name).0, State::Invalid);
        }
    }
    let folder = home.add("missing", HOOKS, &[]);
    fs::remove_file(folder.join("plugin.wasm")).unwrap();
    assert!(state(&home.look(), "missing").1.contains("it has no code"));
    let folder = home.add("named", &format!("entry_point: plugin.wasm\n{HOOKS}"), &[]);
    fs::remove_file(folder.join("plugin.wasm")).unwrap();
    assert!(state(&home.look(), "named").1.contains("plugin.wasm is not there"));
}

#[tokio::test]
async fn wrong_types_are_refused() {
    let wrong = r#"(component
        (core module $m (func (export "f") (param i32) (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $f (param "x" u32) (result u32) (canon lift (core func $i "f")))
        (instance $e (export "handle" (func $f)))
        (export "hfs:plugin/on-message@0.1.0" (instance $e)))"#;
    let home = Home::new();
    home.add("p", HOOKS, &wat::parse_str(wrong).unwrap());
    let plugins = home.begin(&["p"]).await;
    let (state, reason) = state(&plugins, "p");
    assert_eq!(state, State::Invalid, "{reason}");
    assert!(reason.contains("message is not of the contract"), "{reason}");
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
}

#[cfg(unix)]
#[tokio::test]
async fn machine_code_lies_where_nobody_else_can_write() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let folder = home.add("p", HOOKS, &message_component("", APPEND));
    home.begin(&["p"]).await;
    let cache = home.path().join("cache/plugins");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
}
