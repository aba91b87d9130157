//! `hfs plugin`: approving, installing and running plugins.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testkit::cli::Hfs;

use crate::plugin_fixture::{APPEND, HOOKS, STORING, counter, counter_with_command, message_component};
use crate::{hfs, shown, text};

/// A long time limit, because many tests run at once.
fn with_long_timeout() -> Hfs {
    hfs().env("HFS_PLUGINS_HOOK_MS", "20000")
}

fn install(hfs: &Hfs, name: &str, rest: &str, binary: &[u8]) {
    let folder = hfs.hfs_home().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: {name}\nversion: 1.0.0\n{rest}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
}

/// The name and the state of each plugin.
fn states(hfs: &Hfs) -> Vec<(String, String)> {
    let document = hfs.run(&["plugin", "list", "--json"]).ok().json();
    let field = |plugin: &serde_json::Value, name: &str| plugin[name].as_str().unwrap().to_owned();
    let plugins = document["plugins"].as_array().unwrap();
    plugins.iter().map(|plugin| (field(plugin, "name"), field(plugin, "state"))).collect()
}

#[test]
fn a_plugin_is_not_approved_without_confirmation() {
    let hfs = with_long_timeout();
    install(&hfs, "p", HOOKS, &message_component("", APPEND));
    assert_eq!(states(&hfs), [("p".into(), "pending".into())]);
    let output = hfs.run(&["plugin", "approve", "p"]).fails_with(5);
    assert!(output.stderr.contains("no terminal to ask on"), "{}", output.stderr);
    let _ = hfs.command(&["plugin", "approve", "p"]).stdin("yes\n").run().fails_with(5);
    let _ = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "hello");
    assert_eq!(states(&hfs), [("p".into(), "pending".into())]);
    assert!(!hfs.hfs_home().join("plugin_permissions.yaml").exists());
}

#[test]
fn an_approved_plugin_sees_messages_unless_plugins_are_off() {
    let hfs = with_long_timeout();
    install(&hfs, "p", HOOKS, &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "approve", "p", "--yes"]).ok();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let message = &shown(&hfs, "@")["messages"][0];
    assert_eq!(text(message), "hello!");
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
    let _ = hfs.run(&["plugin", "show", "unknown"]).fails_with(3);
}

#[test]
fn a_rewind_restores_the_session_state_of_a_plugin() {
    let hfs = with_long_timeout();
    install(&hfs, "count", STORING, &counter(1));
    let _ = hfs.run(&["plugin", "approve", "count", "-y"]).ok();
    let last_user_message = |hfs: &Hfs| {
        text(&shown(hfs, "@")["messages"].as_array().unwrap().iter().rev().nth(1).unwrap().clone()).to_owned()
    };
    // Each exchange is two messages, and the plugin sees both.
    let _ = hfs.run(&["chat", "one"]).ok();
    assert_eq!(last_user_message(&hfs), "1");
    let _ = hfs.run(&["chat", "-c", "two"]).ok();
    assert_eq!(last_user_message(&hfs), "3");
    let _ = hfs.run(&["rewind", "@", "1"]).ok();
    let _ = hfs.run(&["chat", "-c", "two again"]).ok();
    assert_eq!(last_user_message(&hfs), "3");
    let _ = hfs.run(&["chat", "-c", "three"]).ok();
    assert_eq!(last_user_message(&hfs), "5");
}

#[test]
fn session_state_changed_by_a_command_is_saved_and_a_rewind_restores_it() {
    let hfs = with_long_timeout().env("HFS_PLUGINS_COMMAND_MS", "20000");
    let manifest = "capabilities: [hooks, commands]\npermissions: {storage: 1KiB}\n";
    install(&hfs, "count", manifest, &counter_with_command(1));
    let _ = hfs.run(&["plugin", "approve", "count", "-y"]).ok();
    let up = || hfs.run(&["plugin", "run", "-s", "@", "count", "up"]).ok().stdout.trim().to_owned();
    // An exchange is two messages, and the plugin sees both.
    let _ = hfs.run(&["chat", "one"]).ok();
    assert_eq!((up(), up()), ("3".into(), "4".into()));
    // Without plugins the conversation continues, and their session state is kept.
    let _ = hfs.run(&["--no-plugins", "chat", "-c", "two"]).ok();
    assert_eq!(up(), "5");
    let _ = hfs.run(&["chat", "-c", "three"]).ok();
    assert_eq!(up(), "8");
    let _ = hfs.run(&["rewind", "@", "1"]).ok();
    assert_eq!(up(), "3");
}

#[test]
fn a_broken_plugin_is_listed_with_its_reason_and_does_not_affect_chats() {
    let hfs = with_long_timeout();
    install(&hfs, "broken", HOOKS, b"not a component");
    install(&hfs, "trap", HOOKS, &message_component("", "(unreachable)"));
    let _ = hfs.run(&["plugin", "approve", "broken", "--yes"]).fails_with(5);
    let _ = hfs.run(&["plugin", "approve", "trap", "--yes"]).ok();
    let output = hfs.run(&["chat", "hello"]).ok();
    assert!(output.stderr.contains("trap: stopped in on_message: it panicked"), "{}", output.stderr);
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "hello");
    let log = hfs.run(&["plugin", "logs", "trap"]).ok().stdout;
    assert!(log.contains("stopped in on_message"), "{log}");
    // The plugin failed for each of the two messages. The third failure quarantines it.
    let _ = hfs.run(&["chat", "hello"]).ok();
    let list = hfs.run(&["plugin", "list"]).ok().stdout;
    assert!(list.contains("quarantined") && list.contains("not a WebAssembly component"), "{list}");
}

/// Writes a plugin to a directory outside of the user's plugins.
fn source(hfs: &Hfs, version: &str, binary: &[u8]) -> PathBuf {
    let folder = hfs.project().join("source");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.yaml"), format!("name: p\nversion: {version}\n{HOOKS}")).unwrap();
    fs::write(folder.join("plugin.wasm"), binary).unwrap();
    fs::write(folder.join("README.md"), "words").unwrap();
    folder
}

fn zip_of(folder: &Path, to: &Path, extra: &[&str]) {
    let mut zip = zip::ZipWriter::new(File::create(to).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for file in ["manifest.yaml", "plugin.wasm", "README.md"] {
        zip.start_file(format!("p/{file}"), options).unwrap();
        zip.write_all(&fs::read(folder.join(file)).unwrap()).unwrap();
    }
    for name in extra {
        zip.start_file(*name, options).unwrap();
        zip.write_all(b"x").unwrap();
    }
    zip.finish().unwrap();
}

/// The version and the state of the plugin `p`.
fn state(hfs: &Hfs) -> (String, String) {
    let plugin = hfs.run(&["plugin", "show", "p", "--json"]).ok().json()["plugin"].clone();
    let field = |name: &str| plugin[name].as_str().unwrap().to_owned();
    (field("version"), field("state"))
}

fn pair(version: &str, state: &str) -> (String, String) {
    (version.into(), state.into())
}

/// Asserts that no temporary directory is left.
fn assert_only_the_plugin_exists(hfs: &Hfs) {
    let names: Vec<_> = fs::read_dir(hfs.hfs_home().join("plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["p"]);
}

#[test]
fn a_directory_and_an_archive_are_installed_but_not_approved() {
    let hfs = hfs();
    let folder = source(&hfs, "1.0.0", &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "install", folder.to_str().unwrap()]).ok();
    assert_eq!(state(&hfs), pair("1.0.0", "pending"));
    let _ = hfs.run(&["plugin", "approve", "p", "-y"]).ok();
    assert_eq!(state(&hfs), pair("1.0.0", "active"));

    // Another version from an archive replaces it and must be approved again.
    let archive = hfs.project().join("p.zip");
    zip_of(&source(&hfs, "2.0.0", &message_component("", APPEND)), &archive, &[]);
    let _ = hfs.run(&["plugin", "install", archive.to_str().unwrap()]).ok();
    assert_eq!(state(&hfs), pair("2.0.0", "pending"));
    assert!(hfs.hfs_home().join("plugins/p/README.md").is_file());
    assert_only_the_plugin_exists(&hfs);
    let _ = hfs.run(&["plugin", "uninstall", "p"]).ok();
    let _ = hfs.run(&["plugin", "show", "p"]).fails_with(3);
}

#[test]
fn a_plugin_of_scripts_is_installed_with_all_its_sources() {
    for (language, entry, module) in
        [("python", "plugin.py", "helpers.py"), ("javascript", "plugin.js", "helpers.js")]
    {
        let hfs = hfs();
        let _ = hfs.run(&["plugin", "new", "mine", "--lang", language]).ok();
        fs::write(hfs.project().join("mine").join(module), "").unwrap();
        let _ = hfs.run(&["plugin", "install", "mine"]).ok();
        for file in [entry, module, "manifest.yaml"] {
            let [from, to] =
                [hfs.project().join("mine"), hfs.hfs_home().join("plugins/mine")].map(|f| f.join(file));
            assert_eq!(fs::read(from).unwrap(), fs::read(to).unwrap(), "{file}");
        }
    }
}

#[test]
fn installed_files_are_private_whatever_the_umask_and_the_permissions_of_the_source() {
    use std::os::unix::fs::PermissionsExt;
    let hfs = hfs();
    let folder = source(&hfs, "1.0.0", &message_component("", APPEND));
    let archive = hfs.project().join("p.zip");
    zip_of(&folder, &archive, &[]);
    fs::create_dir(folder.join("deep")).unwrap();
    for name in ["manifest.yaml", "plugin.wasm", "README.md"] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    for from in [&folder, &archive] {
        // Only a shell can set the umask of the process that it starts.
        let mut shell = Command::new("/bin/sh");
        let install = hfs.command(&["plugin", "install"]).arg(from).to_command();
        shell
            .args(["-c", "umask 000; exec \"$@\"", "sh"])
            .arg(install.get_program())
            .args(install.get_args());
        shell.env_clear().envs(install.get_envs().filter_map(|(name, value)| Some((name, value?))));
        assert!(shell.current_dir(hfs.project()).output().unwrap().status.success());
        let mut pending = vec![hfs.hfs_home()];
        while let Some(path) = pending.pop() {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
            if metadata.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
}

#[test]
fn an_invalid_archive_is_refused_and_the_installed_plugin_is_kept() {
    let hfs = hfs();
    let folder = source(&hfs, "1.0.0", &message_component("", APPEND));
    let _ = hfs.run(&["plugin", "install", folder.to_str().unwrap()]).ok();
    let _ = hfs.run(&["plugin", "approve", "p", "-y"]).ok();

    let outside = hfs.project().join("outside.zip");
    zip_of(&folder, &outside, &["../../escaped"]);
    let output = hfs.run(&["plugin", "install", outside.to_str().unwrap()]).fails_with(6);
    assert!(
        output.stderr.contains("points outside") && output.stderr.contains("outside.zip"),
        "{}",
        output.stderr
    );
    assert!(!hfs.hfs_home().join("escaped").exists());

    let broken = source(&hfs, "2.0.0", b"not a component");
    let output = hfs.run(&["plugin", "install", broken.to_str().unwrap()]).fails_with(6);
    assert!(output.stderr.contains("not a WebAssembly component"), "{}", output.stderr);
    let archive = hfs.project().join("p.zip");
    zip_of(&broken, &archive, &[]);
    let output = hfs.run(&["plugin", "install", archive.to_str().unwrap()]).fails_with(6);
    assert!(output.stderr.contains("p.zip: ") && !output.stderr.contains(".hfs-tmp-"), "{}", output.stderr);

    assert_eq!(state(&hfs), pair("1.0.0", "active"));
    assert_only_the_plugin_exists(&hfs);
}
