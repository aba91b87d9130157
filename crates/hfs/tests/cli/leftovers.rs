//! Temporary files of killed commands: the next command removes them, and those of running commands stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testkit::acp_agent::is_running;
use testkit::cli::{Hfs, Key};

use crate::hfs;

/// Kills that are tried until one comes while the command has its temporary file.
const ATTEMPTS: u32 = 40;

/// The binary with a session that takes a while to write.
fn with_a_long_session() -> Hfs {
    let hfs = hfs();
    let messages: Vec<_> = (0..20_000)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            serde_json::json!({"role": role, "content": format!("message {n}")})
        })
        .collect();
    fs::write(hfs.project().join("long.json"), serde_json::Value::from(messages).to_string()).unwrap();
    let _ = hfs.run(&["import", "long.json"]).ok();
    hfs
}

/// The temporary files in a folder.
fn temporary_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".hfs-tmp-")).collect()
}

/// Runs the command until it has a temporary file in `folder`, and kills it.
fn kill_with_a_temporary_file(hfs: &Hfs, arguments: &[&str], stdin: &[u8], folder: &Path) {
    for _ in 0..ATTEMPTS {
        let running = hfs.command(arguments).stdin(stdin).spawn();
        while is_running(running.pid()) && temporary_files(folder).is_empty() {
            thread::sleep(Duration::from_micros(200));
        }
        let output = running.kill();
        if output.signal.is_some() && !temporary_files(folder).is_empty() {
            return;
        }
    }
    panic!("no kill of {arguments:?} left a temporary file");
}

#[test]
fn commands_that_write_files_remove_what_killed_ones_have_left() {
    let hfs = with_a_long_session();
    let exports = hfs.project().join("exports");
    fs::create_dir(&exports).unwrap();
    let one = exports.join("one.json").to_str().unwrap().to_owned();
    let all = exports.to_str().unwrap().to_owned();
    let backup = exports.join("backup.db").to_str().unwrap().to_owned();
    let transcripts = hfs.home().join(".claude/projects").join(
        hfs.project().canonicalize().unwrap().to_str().unwrap().replace(|c: char| !c.is_alphanumeric(), "-"),
    );
    let commands: [(&[&str], &Path); 4] = [
        (&["export", "@", "-o", &one], &exports),
        (&["export", "--all", "-o", &all], &exports),
        (&["store", "backup", &backup], &exports),
        (&["handoff", "@", "claude"], &transcripts),
    ];
    for (arguments, folder) in commands {
        kill_with_a_temporary_file(&hfs, arguments, b"", folder);
        // Only a complete file has its name.
        assert!(!Path::new(&one).exists() || arguments[0] != "export", "{arguments:?}");
        assert!(!Path::new(&backup).exists());
        let _ = hfs.run(arguments).ok();
        let left = temporary_files(folder);
        assert!(left.is_empty(), "{arguments:?}: {left:?}");
        for path in [&one, &backup] {
            let _ = fs::remove_file(path);
        }
        for entry in fs::read_dir(&exports).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn a_running_export_keeps_its_temporary_file_while_others_end() {
    let hfs = with_a_long_session();
    let exports = hfs.project().join("exports");
    fs::create_dir(&exports).unwrap();
    let slow = exports.join("slow.json").to_str().unwrap().to_owned();
    let quick = exports.join("quick.json").to_str().unwrap().to_owned();
    let _ = hfs.run(&["chat", "a short session"]).ok();
    let long = hfs.run(&["session", "list", "--all", "--json"]).ok().json()["sessions"][1]["id"].clone();
    let running = hfs.command(&["export", long.as_str().unwrap(), "-o", &slow]).spawn();
    while !Path::new(&slow).exists() && temporary_files(&exports).is_empty() {
        thread::sleep(Duration::from_micros(200));
    }
    let _ = hfs.run(&["export", "@", "-o", &quick]).ok();
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{}", output.describe());
    assert!(Path::new(&slow).is_file() && Path::new(&quick).is_file());
}

#[test]
fn a_killed_import_leaves_no_copy_of_its_input() {
    let hfs = hfs();
    let folder = hfs.temporary();
    // A database on standard input is copied to a file, since SQLite cannot read a stream.
    let path = hfs.project().join("other.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("CREATE TABLE other (text); INSERT INTO other VALUES (zeroblob(60000000))")
        .unwrap();
    drop(database);
    let bytes = fs::read(&path).unwrap();
    kill_with_a_temporary_file(&hfs, &["import", "-"], &bytes, &folder);
    // This import needs no copy itself.
    let _ = hfs.command(&["import", "-"]).stdin(r#"[{"role": "user", "content": "hi"}]"#).run().ok();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // A long stream is in a file without a name.
    let text = format!(r#"[{{"role": "user", "content": "{}"}}]"#, "word ".repeat(4_000_000));
    for delay in [20, 60, 120] {
        let running = hfs.command(&["import", "-"]).stdin(&text).spawn();
        thread::sleep(Duration::from_millis(delay));
        let _ = running.kill();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn commands_that_replace_a_file_remove_what_killed_ones_have_left() {
    let hfs = hfs();
    let _ = hfs.run(&["config", "set", "theme", "dark"]).ok();
    // The time between creating the file and renaming it is too short for a kill.
    let (left, plugin) = (hfs.hfs_home().join(".hfs-tmp-left"), hfs.hfs_home().join("plugins/.hfs-tmp-left"));
    fs::write(&left, "theme: light").unwrap();
    let _ = hfs.run(&["config", "set", "theme", "light"]).ok();
    assert!(!left.exists());
    let _ = hfs.run(&["plugin", "new", "mine", "--lang", "python"]).ok();
    fs::create_dir_all(&plugin).unwrap();
    fs::write(plugin.join("manifest.yaml"), "name: half").unwrap();
    let _ = hfs.run(&["plugin", "install", "mine"]).ok();
    assert!(!plugin.exists());
}

#[test]
fn a_killed_verification_leaves_no_copy_of_the_store() {
    let hfs = with_a_long_session();
    let locks = hfs.hfs_home().join("hfs.db-live");
    let copies = || {
        let names = fs::read_dir(&locks).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().contains(".verify")).count()
    };
    let mut was_left = false;
    for _ in 0..ATTEMPTS {
        let running = hfs.command(&["store", "verify"]).spawn();
        while copies() == 0 && is_running(running.pid()) {
            thread::sleep(Duration::from_micros(200));
        }
        let _ = running.kill();
        was_left |= copies() > 0;
        if was_left {
            break;
        }
    }
    assert!(was_left);
    let _ = hfs.run(&["session", "list"]).ok();
    assert_eq!(copies(), 0);
}

#[test]
fn the_message_in_the_editor_of_a_killed_app_stays_as_long_as_the_editor_runs() {
    let hfs = hfs();
    let ready = hfs.project().join("ready");
    let end = hfs.project().join("end");
    // An editor that replaces the file, and waits.
    let editor = hfs.project().join("editor");
    let script = format!(
        "#!/bin/sh\ntrap '' HUP\necho mine > \"$1.new\"; mv \"$1.new\" \"$1\"; touch {}\nwhile [ ! -e {} ]; do sleep 0.02; done\n",
        ready.display(),
        end.display()
    );
    fs::write(&editor, script).unwrap();
    fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let app = hfs.command(&[]).env("EDITOR", editor.to_str().unwrap()).in_terminal(24, 80);
    let _ = app.wait_for("Type a message");
    app.press(Key::Ctrl('g'));
    while !ready.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    app.kill();
    let import = || {
        let _ = hfs.command(&["import", "-"]).stdin(r#"[{"role": "user", "content": "hi"}]"#).run().ok();
    };
    import();
    let left = temporary_files(&hfs.temporary());
    assert_eq!(fs::read_to_string(left[0].join("message.md")).unwrap(), "mine\n");
    fs::write(&end, "").unwrap();
    for _ in 0..500 {
        import();
        if temporary_files(&hfs.temporary()).is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{left:?} is left");
}
