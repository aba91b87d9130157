//! Trust in a project's `.hfs` folder.

use std::fs;

use testkit::cli::{Hfs, Key};

use crate::hfs;
use crate::plugin_fixture::{APPEND, HOOKS, message_component};

const IGNORED: &str =
    ".hfs is ignored, because you have not trusted it; `hfs trust` shows what it would change";

fn write(hfs: &Hfs, name: &str, text: impl AsRef<[u8]>) {
    let path = hfs.project().join(".hfs").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn model(hfs: &Hfs, options: &[&str]) -> String {
    let arguments = [&["config", "get", "model", "--json"], options].concat();
    hfs.run(&arguments).ok().json()["value"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_projects_folder_has_no_effect_until_it_is_trusted_and_after_it_changed() {
    let hfs = hfs();
    write(&hfs, "config.yaml", "model: theirs\noutput_mode: verbose\n");
    let output = hfs.run(&["session", "list"]).ok();
    assert!(output.stderr.contains(IGNORED), "{}", output.describe());
    assert_eq!(model(&hfs, &[]), "");
    let shown = hfs.run(&["trust", "--json"]).ok().json();
    assert_eq!(shown["state"], "undecided");
    assert_eq!(shown["settings"]["model"], "theirs");

    assert_eq!(model(&hfs, &["--trust"]), "theirs");
    let output = hfs.run(&["session", "list"]).ok();
    assert!(!output.stderr.contains("ignored"), "{}", output.describe());
    assert_eq!(model(&hfs, &[]), "theirs");
    let listed = hfs.run(&["trust", "list", "--json"]).ok().json();
    assert_eq!(
        (listed["projects"][0]["trusted"].as_bool(), listed["projects"][0]["current"].as_bool()),
        (Some(true), Some(true))
    );

    write(&hfs, "config.yaml", "model: changed\n");
    assert_eq!(model(&hfs, &[]), "");
    let output = hfs.run(&["session", "list"]).ok();
    assert!(output.stderr.contains("has changed since you decided about it"), "{}", output.describe());
    assert_eq!(hfs.run(&["trust", "--json"]).ok().json()["state"], "changed");

    assert_eq!(model(&hfs, &["--trust"]), "changed");
    let _ = hfs.run(&["trust", "revoke", "."]).ok();
    assert_eq!(model(&hfs, &[]), "");
    let _ = hfs.run(&["trust", "revoke", "."]).fails_with(3);
}

#[test]
fn a_broken_project_configuration_is_reported_and_blocks_nothing() {
    for text in [
        &b"model: [\n"[..],
        b"temperature: hot\n",
        b"- a\n",
        b"api_key: abc\n",
        b"\xff\xfe",
        b"triads: missing.yaml\n",
        b"triads: ../outside.yaml\n",
        b"triads: /etc/passwd\n",
    ] {
        let hfs = hfs();
        fs::write(hfs.project().join("outside.yaml"), hfs.run(&["config", "triads", "small"]).ok().stdout)
            .unwrap();
        write(&hfs, "config.yaml", text);
        let output = hfs.run(&["--trust", "chat", "hello"]).ok();
        let name = String::from_utf8_lossy(text);
        assert!(output.stderr.contains("ignored"), "{name}: {}", output.describe());
        assert!(!output.stderr.contains("abc"), "{name}: {}", output.describe());
    }
}

#[test]
fn special_files_in_a_projects_folder_stop_no_command() {
    let hfs = hfs();
    write(&hfs, "plugins/p/manifest.yaml", "name: p\n");
    let pipe = hfs.project().join(".hfs/config.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _ = hfs.run(&["session", "list"]).ok();
    let output = hfs.run(&["--trust", "session", "list"]).ok();
    assert!(output.stderr.contains("the settings of this project are ignored"), "{}", output.describe());
}

#[test]
fn a_project_cannot_disable_an_approved_plugin() {
    let hfs = hfs();
    let folder = hfs.hfs_home().join("plugins/guard");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: guard\nversion: 1.0.0\n{HOOKS}")).unwrap();
    fs::write(folder.join("plugin.wasm"), message_component("", APPEND)).unwrap();
    let _ = hfs.run(&["plugin", "approve", "guard", "-y"]).ok();
    write(&hfs, "config.yaml", "disabled_plugins: [guard]\n");
    for options in [&[][..], &["--trust"]] {
        let arguments = [options, &["plugin", "show", "guard", "--json"]].concat();
        assert_eq!(hfs.run(&arguments).ok().json()["plugin"]["state"], "active");
    }
}

#[test]
fn a_projects_plugins_are_found_only_in_a_trusted_folder_and_need_their_own_approval() {
    let hfs = hfs();
    write(&hfs, "plugins/theirs/manifest.yaml", format!("name: theirs\nversion: 1.0.0\n{HOOKS}"));
    write(&hfs, "plugins/theirs/plugin.wasm", message_component("", APPEND));
    let _ = hfs.run(&["plugin", "show", "theirs"]).fails_with(3);
    let shown = hfs.run(&["--trust", "plugin", "show", "theirs", "--json"]).ok().json();
    assert_eq!(shown["plugin"]["state"], "denied");
}

#[test]
fn text_typed_before_the_question_does_not_answer_it_and_reaches_the_app() {
    // Starts hfs a while after the terminal exists, so that the text is typed before.
    let shell = Hfs::new("/bin/sh");
    write(&shell, "config.yaml", "model: theirs\n");
    let binary = env!("CARGO_BIN_EXE_hfs");
    let terminal = shell.command(&["-c", "sleep 1; exec \"$0\"", binary]).in_terminal(30, 100);
    terminal.type_text("yes");
    terminal.press(Key::Enter);
    terminal.type_text("half a line");
    terminal.wait_for("Trust this folder as it is now?");
    terminal.type_text("what?");
    terminal.press(Key::Enter);
    terminal.wait_for("Type y or n.");
    terminal.type_text("n");
    terminal.press(Key::Enter);
    let screen = terminal.wait_until("the app", |screen| {
        screen.alternate_screen() && screen.contents().contains("half a line")
    });
    assert!(screen.contents().contains("❯ yes"), "{}", screen.contents());
    let shown = shell.command(&["-c", "exec \"$0\" trust --json", binary]).run().ok().json();
    assert_eq!(shown["state"], "refused");
}

#[test]
fn on_a_terminal_hfs_asks_once_and_keeps_the_answer() {
    let hfs = hfs();
    write(&hfs, "config.yaml", "model: theirs\nbase_url: http://evil.example\n");
    for (answer, expected) in [("n", ""), ("y", "theirs")] {
        let _ = hfs.run(&["trust", "revoke", "."]);
        let terminal = hfs.command(&["session", "list"]).in_terminal(30, 100);
        let screen = terminal.wait_for("Trust this folder as it is now?").contents();
        assert!(screen.contains("It sets model to theirs"), "{screen}");
        assert!(screen.contains("It also sets base_url, which a project may not choose"), "{screen}");
        terminal.type_text(answer);
        terminal.press(Key::Enter);
        assert!(terminal.wait_for_exit().success());
        assert_eq!(model(&hfs, &[]), expected);
        let again = hfs.command(&["session", "list"]).in_terminal(30, 100);
        assert!(!again.wait_for_end().contents().contains("Trust this folder"));
    }
}
