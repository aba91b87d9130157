//! The commands for plugin authors, with plugins in Python and JavaScript.

#![allow(clippy::print_stdout, reason = "a skipped test prints the reason")]

use std::fs;
use std::path::{Path, PathBuf};

use hfs_plugins::Language;
use testkit::cli::{Hfs, Key};

use crate::plugin_fixture::interpreters;
use crate::{hfs, shown, text};

const BOTH: [(Language, &str, &str); 2] =
    [(Language::Python, "python", "plugin.py"), (Language::JavaScript, "javascript", "plugin.js")];

/// The binary in a home with this interpreter, already compiled; `None` if the interpreter has not been built.
fn hfs_with_interpreter(language: Language) -> Option<Hfs> {
    let shared = interpreters(language)?;
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000");
    let home = hfs.hfs_home();
    fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(&shared, home.join("runtimes")).unwrap();
    std::os::unix::fs::symlink(shared.join("cache"), home.join("cache")).unwrap();
    Some(hfs)
}

/// Runs `plugin new` and returns the new plugin's directory.
fn new_plugin(hfs: &Hfs, name: &str, arguments: &[&str]) -> PathBuf {
    let _ = hfs.run(&[&["plugin", "new", name], arguments].concat()).ok();
    hfs.project().join(name)
}

#[test]
fn a_new_plugin_is_checked_installed_approved_and_works() {
    for (language, name, _) in BOTH {
        let Some(hfs) = hfs_with_interpreter(language) else { return };
        new_plugin(&hfs, "mine", &["--lang", name]);
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
fn an_existing_folder_is_not_changed_by_a_new_plugin() {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let folder = new_plugin(&hfs, "mine", &["--lang", "python"]);
    edit_file(&folder, "plugin.py", |_| "# mine\n".to_owned());
    let output = hfs.run(&["plugin", "new", "mine", "--lang", "python"]).fails_with(4);
    assert!(output.stderr.contains("exists already; nothing was changed"), "{}", output.describe());
    assert_eq!(fs::read_to_string(folder.join("plugin.py")).unwrap(), "# mine\n");
}

#[test]
fn a_check_reports_the_part_that_fails_and_its_source_line() {
    for (language, name, file) in BOTH {
        let Some(hfs) = hfs_with_interpreter(language) else { return };
        let folder = new_plugin(&hfs, "mine", &["--lang", name]);
        let source = fs::read_to_string(folder.join(file)).unwrap();
        fs::write(folder.join(file), source.replace("\"fix\"", "missing")).unwrap();
        let output = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
        assert!(output.stdout.contains("FAILED on-message"), "{}", output.stdout);
        assert!(
            output.stdout.contains(&format!("{file}:")) && output.stdout.contains("missing"),
            "{}",
            output.stdout
        );
        assert!(output.stdout.contains("ok     commands"), "{}", output.stdout);
        // A plugin that does not load.
        fs::write(folder.join(file), "onMessage, on_message, command, widget = (\n").unwrap();
        let output = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
        assert!(
            output.stderr.contains(&format!("{file}:")) && output.stderr.contains("SyntaxError"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_plugin_is_not_run_if_the_user_cannot_be_asked() {
    let hfs = hfs();
    new_plugin(&hfs, "mine", &["--lang", "python"]);
    for command in ["check", "dev"] {
        let output = hfs.run(&["plugin", command, "mine"]).fails_with(5);
        assert!(output.stderr.contains("no terminal to ask on"), "{}", output.stderr);
    }
}

#[test]
fn without_an_interpreter_the_error_says_how_to_install_one() {
    let hfs = hfs();
    new_plugin(&hfs, "mine", &["--lang", "python"]);
    let output = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
    assert!(output.stderr.contains("hfs plugin runtime"), "{}", output.stderr);
    let listed = hfs.run(&["plugin", "runtime"]).ok();
    assert!(
        listed.stdout.contains("not installed") && listed.stderr.contains("hfs plugin runtime install"),
        "{}",
        listed.stderr
    );
    let output = hfs.run(&["plugin", "runtime", "install", "nowhere"]).fails_with(3);
    assert!(output.stderr.contains("no such file"), "{}", output.stderr);
    fs::write(hfs.project().join("hfs-python.wasm"), "no interpreter").unwrap();
    let output = hfs.run(&["plugin", "runtime", "install", "hfs-python.wasm"]).fails_with(6);
    assert!(output.stderr.contains("not an interpreter"), "{}", output.stderr);
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
    new_plugin(&hfs, "mine", &["--lang", "javascript"]);
    let output = hfs.run(&["plugin", "check", "mine", "--yes"]).fails_with(6);
    assert!(output.stderr.contains("damaged"), "{}", output.stderr);
}

fn edit_file(folder: &Path, file: &str, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    fs::write(folder.join(file), change(&text)).unwrap();
}

#[test]
fn dev_reloads_a_plugin_when_its_files_change() {
    for (language, name, file) in BOTH {
        let Some(hfs) = hfs_with_interpreter(language) else { return };
        let folder = new_plugin(&hfs, "mine", &["--lang", name]);
        let terminal = hfs.command(&["plugin", "dev", "mine"]).in_terminal(40, 120);
        terminal.wait_for("Let it run?");
        terminal.type_text("y");
        terminal.press(Key::Enter);
        terminal.wait_for("loaded mine in");
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Hello, **you**!");
        edit_file(&folder, file, |text| text.replace("Hello, ", "Goodbye, "));
        terminal.wait_for("reloaded mine in");
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Goodbye, **you**!");
        edit_file(&folder, file, |text| format!("{text}\n)\n"));
        terminal.wait_for("does not run");
        terminal.wait_for(&format!("{file}:"));
        // What does not run passes no message.
        terminal.type_text("a message");
        terminal.press(Key::Enter);
        let screen = terminal.wait_until("a second explanation", |screen| {
            screen.contents().matches("the plugin does not run").count() == 2
        });
        assert!(!screen.contents().contains("passes unchanged"));
        edit_file(&folder, file, |text| text.replace("\n)\n", "\n").replace("Goodbye", "Welcome"));
        terminal
            .wait_until("a second load", |screen| screen.contents().matches("reloaded mine in").count() == 2);
        terminal.type_text("/hello you");
        terminal.press(Key::Enter);
        terminal.wait_for("Welcome, **you**!");
        // Additional permissions are not granted without asking.
        edit_file(&folder, "manifest.yaml", |text| text.replace("#   session: read", "  session: read"));
        terminal.wait_for("asks for new permissions");
        terminal.wait_for("read all your saved conversations");
        terminal.type_text("/quit");
        terminal.press(Key::Enter);
        terminal.wait_for_exit();
    }
}

/// The directory with the tool that compiles plugins in JavaScript; the interpreter's build installs it.
fn javascript_compiler() -> Option<PathBuf> {
    let shared = interpreters(Language::JavaScript)?;
    let tools = shared.parent()?.join("javascript/node_modules/.bin");
    if !tools.join("componentize-qjs").exists() {
        println!("skipped: no componentize-qjs; `cargo xtask runtimes` installs it");
        return None;
    }
    Some(tools)
}

#[test]
fn a_plugin_is_compiled_from_javascript() {
    let Some(tools) = javascript_compiler() else { return };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000").env("PATH", std::env::join_paths(folders).unwrap());
    new_plugin(&hfs, "loud", &["--lang", "javascript", "--compiled"]);
    let _ = hfs.run(&["plugin", "build", "loud"]).ok();
    let _ = hfs.run(&["plugin", "install", "loud"]).ok();
    let _ = hfs.command(&["plugin", "approve", "loud", "--yes"]).timeout(COMPILE_TIMEOUT).run().ok();
    let _ = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "HELLO");
}

/// Compiling an interpreter to machine code is slow in a debug build.
const COMPILE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(200);

#[test]
fn a_missing_compiler_is_named_with_the_command_that_installs_it() {
    let hfs = hfs().env("PATH", "/nowhere");
    for (language, tool) in [("python", "componentize-py"), ("javascript", "componentize-qjs")] {
        new_plugin(&hfs, language, &["--lang", language, "--compiled"]);
        let output = hfs.run(&["plugin", "build", language]).fails_with(8);
        assert!(output.stderr.contains(tool) && output.stderr.contains("installs it"), "{}", output.stderr);
    }
}
