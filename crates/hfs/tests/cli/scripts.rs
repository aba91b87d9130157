//! Plugins in Python and JavaScript, and the way of those who write them.

#![allow(clippy::print_stdout, reason = "a test says why it was left out")]

use std::fs;
use std::path::{Path, PathBuf};

use hfs_plugins::Language;
use testkit::cli::{Hfs, Key};

use crate::plugin_fixture::interpreters;
use crate::{hfs, shown, text};

const BOTH: [(Language, &str, &str); 2] =
    [(Language::Python, "python", "plugin.py"), (Language::JavaScript, "javascript", "plugin.js")];

/// The binary in a home that has this interpreter, compiled.
fn with(language: Language) -> Option<Hfs> {
    let shared = interpreters(language)?;
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000");
    let home = hfs.hfs_home();
    fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(&shared, home.join("runtimes")).unwrap();
    std::os::unix::fs::symlink(shared.join("cache"), home.join("cache")).unwrap();
    Some(hfs)
}

fn new(hfs: &Hfs, name: &str, arguments: &[&str]) -> PathBuf {
    let _ = hfs.run(&[&["plugin", "new", name], arguments].concat()).ok();
    hfs.project().join(name)
}

#[test]
fn a_new_plugin_is_checked_installed_approved_and_works() {
    for (language, name, _) in BOTH {
        let Some(hfs) = with(language) else { return };
        new(&hfs, "mine", &["--lang", name]);
        let checked = hfs.run(&["plugin", "check", "mine", "--yes", "--json"]).ok().json();
        assert_eq!(checked["ok"], true, "{checked:#}");
        let _ = hfs.run(&["plugin", "install", "mine"]).ok();
        let _ = hfs.run(&["plugin", "approve", "mine", "--yes"]).ok();
        assert_eq!(hfs.run(&["plugin", "run", "mine", "hello", "you"]).ok().stdout, "Hello, **you**!\n");
        let _ = hfs.run(&["chat", "please fix it"]).ok();
        assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "please fix it");
    }
}

#[test]
fn a_check_says_what_does_not_work_and_where() {
    for (language, name, file) in BOTH {
        let Some(hfs) = with(language) else { return };
        let folder = new(&hfs, "mine", &["--lang", name]);
        let source = fs::read_to_string(folder.join(file)).unwrap();
        fs::write(folder.join(file), source.replace("\"fix\"", "missing")).unwrap();
        let told = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
        assert!(told.stdout.contains("FAILED on-message"), "{}", told.stdout);
        assert!(
            told.stdout.contains(&format!("{file}:")) && told.stdout.contains("missing"),
            "{}",
            told.stdout
        );
        assert!(told.stdout.contains("ok     commands"), "{}", told.stdout);
        // What does not even load.
        fs::write(folder.join(file), "onMessage, on_message, command, widget = (\n").unwrap();
        let told = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
        assert!(
            told.stderr.contains(&format!("{file}:")) && told.stderr.contains("SyntaxError"),
            "{}",
            told.stderr
        );
    }
}

#[test]
fn nothing_is_tried_out_when_nobody_can_be_asked() {
    let hfs = hfs();
    new(&hfs, "mine", &["--lang", "python"]);
    for command in ["check", "dev"] {
        let told = hfs.run(&["plugin", command, "mine"]).fails_with(5);
        assert!(told.stderr.contains("nobody to ask"), "{}", told.stderr);
    }
}

#[test]
fn without_an_interpreter_it_is_said_how_to_get_one() {
    let hfs = hfs();
    new(&hfs, "mine", &["--lang", "python"]);
    let told = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
    assert!(told.stderr.contains("hfs plugin runtime"), "{}", told.stderr);
    let listed = hfs.run(&["plugin", "runtime"]).ok();
    assert!(
        listed.stdout.contains("not here") && listed.stderr.contains("cargo xtask runtimes"),
        "{}",
        listed.stderr
    );
    let told = hfs.run(&["plugin", "runtime", "install", "nowhere"]).fails_with(3);
    assert!(told.stderr.contains("not there"), "{}", told.stderr);
    fs::write(hfs.project().join("hfs-python.wasm"), "no interpreter").unwrap();
    let told = hfs.run(&["plugin", "runtime", "install", "hfs-python.wasm"]).fails_with(6);
    assert!(told.stderr.contains("no interpreter"), "{}", told.stderr);
}

#[test]
fn a_damaged_interpreter_is_not_used() {
    let Some(shared) = interpreters(Language::JavaScript) else { return };
    let hfs = hfs();
    let runtimes = hfs.hfs_home().join("runtimes");
    fs::create_dir_all(&runtimes).unwrap();
    for file in ["hfs-javascript.wasm", "hfs-javascript.blake3"] {
        fs::copy(shared.join(file), runtimes.join(file)).unwrap();
    }
    let mut bytes = fs::read(runtimes.join("hfs-javascript.wasm")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(runtimes.join("hfs-javascript.wasm"), bytes).unwrap();
    new(&hfs, "mine", &["--lang", "javascript"]);
    let told = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
    assert!(told.stderr.contains("damaged"), "{}", told.stderr);
}

fn save(folder: &Path, file: &str, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    fs::write(folder.join(file), change(&text)).unwrap();
}

#[test]
fn what_is_being_written_is_tried_out_as_it_is_saved() {
    for (language, name, file) in BOTH {
        let Some(hfs) = with(language) else { return };
        let folder = new(&hfs, "mine", &["--lang", name]);
        let terminal = hfs.command(&["plugin", "dev", "mine"]).in_terminal(40, 120);
        terminal.wait_for("Let it run?");
        terminal.type_text("y");
        terminal.press(Key::Enter);
        terminal.wait_for("loaded mine in");
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Hello, **you**!");
        save(&folder, file, |text| text.replace("Hello, ", "Goodbye, "));
        terminal.wait_for("reloaded mine in");
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Goodbye, **you**!");
        save(&folder, file, |text| format!("{text}\n)\n"));
        terminal.wait_for("does not run");
        terminal.wait_for(&format!("{file}:"));
        save(&folder, file, |text| text.replace("\n)\n", "\n").replace("Goodbye", "Welcome"));
        terminal
            .wait_until("a second load", |screen| screen.contents().matches("reloaded mine in").count() == 2);
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Welcome, **you**!");
        // What would let it do more is not let through unasked.
        save(&folder, "manifest.yaml", |text| text.replace("#   session: read", "  session: read"));
        terminal.wait_for("wants more than before");
        terminal.wait_for("read all your saved conversations");
        terminal.type_text("/quit");
        terminal.press(Key::Enter);
        terminal.wait_for_exit();
    }
}

/// The folder with the tool that compiles plugins in JavaScript, where the interpreter was built with it.
fn compilers() -> Option<PathBuf> {
    let shared = interpreters(Language::JavaScript)?;
    let tools = shared.parent()?.join("javascript/node_modules/.bin");
    if !tools.join("componentize-qjs").exists() {
        println!("skipped: no componentize-qjs; `cargo xtask runtimes` brings it");
        return None;
    }
    Some(tools)
}

#[test]
fn a_plugin_is_compiled_from_javascript() {
    let Some(tools) = compilers() else { return };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000").env("PATH", std::env::join_paths(folders).unwrap());
    new(&hfs, "loud", &["--lang", "javascript", "--compiled"]);
    let _ = hfs.run(&["plugin", "build", "loud"]).ok();
    let _ = hfs.run(&["plugin", "install", "loud"]).ok();
    let _ = hfs.command(&["plugin", "approve", "loud", "--yes"]).timeout(PATIENCE).run().ok();
    let _ = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "HELLO");
}

/// An unoptimised compiler of machine code takes its time with an interpreter.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(200);

#[test]
fn what_compiles_a_plugin_is_named_where_it_is_not_there() {
    let hfs = hfs().env("PATH", "/nowhere");
    for (language, tool) in [("python", "componentize-py"), ("javascript", "componentize-qjs")] {
        new(&hfs, language, &["--lang", language, "--compiled"]);
        let told = hfs.run(&["plugin", "build", language]).fails_with(8);
        assert!(told.stderr.contains(tool) && told.stderr.contains("brings it"), "{}", told.stderr);
    }
}
