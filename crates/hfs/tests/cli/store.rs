//! `hfs store` and `hfs doctor`

use crate::{fields, hfs};

#[test]
fn the_store_commands_report_their_documented_fields() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let info = hfs.run(&["store", "info", "--json"]).ok().json();
    assert_eq!(
        fields(&info),
        [
            "url",
            "backend",
            "schema_version",
            "sessions",
            "messages",
            "checkpoints",
            "bytes",
            "checkpoint_bytes",
            "compressed_bytes",
            "uncompressed_bytes"
        ]
    );
    assert_eq!((info["sessions"].as_u64(), info["messages"].as_u64()), (Some(1), Some(2)));
    let verified = hfs.run(&["store", "verify", "--json"]).ok().json();
    assert_eq!(fields(&verified), ["ok", "checked", "problems"]);
    assert_eq!((verified["ok"].as_bool(), verified["checked"]["messages"].as_u64()), (Some(true), Some(2)));
    assert_eq!(hfs.run(&["store", "repair", "--json"]).ok().json()["repaired"], serde_json::json!([]));
    let _ = hfs.run(&["store", "vacuum"]).ok();
}

#[test]
fn a_backup_is_an_independent_store_and_overwrites_nothing() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let output = hfs.run(&["store", "backup", "copy.db", "--json"]).ok().json();
    assert_eq!(fields(&output), ["file", "bytes"]);
    let _ = hfs.run(&["store", "backup", "copy.db"]).fails_with(4);
    let _ = hfs.run(&["session", "delete", "--purge", "@"]).ok();
    let copied = hfs.run(&["--store", "sqlite:copy.db", "session", "show", "@", "--json"]).ok().json();
    assert_eq!(copied["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn a_copy_of_a_store_is_compared_and_leaves_what_was_changed_there() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let from = hfs.hfs_home().join("hfs.db").display().to_string();
    let copied = hfs.run(&["store", "copy", &from, "sqlite:other.db", "--json"]).ok().json();
    assert_eq!(
        fields(&copied),
        ["copied", "already_there", "messages", "differing", "damaged", "unreadable"]
    );
    assert_eq!((copied["copied"].as_u64(), copied["messages"].as_u64()), (Some(1), Some(2)));
    let other = |arguments: &[&str]| hfs.run(&[&["--store", "other.db"], arguments].concat()).ok();
    let _ = other(&["session", "rename", "@", "changed there"]);
    let output = hfs.run(&["store", "copy", &from, "other.db"]).fails_with(4);
    assert!(output.stderr.contains("its attributes differ there"), "{}", output.describe());
    assert!(other(&["session", "list"]).stdout.contains("changed there"));
    let _ = hfs.run(&["store", "copy", "missing.db", "other.db"]).fails_with(3);
    assert!(!hfs.project().join("missing.db").exists());
    let _ = hfs.run(&["store", "copy", "other.db", "sqlite:./other.db"]).fails_with(6);
}

#[test]
fn damage_is_found_and_reported() {
    let hfs = hfs();
    for number in 0..20 {
        let text = format!("message {number} {}", "of some length ".repeat(200));
        let _ = hfs.run(&["chat", &text]).ok();
    }
    // Vacuum writes the WAL back, so that the damaged pages below are the ones that are read.
    let _ = hfs.run(&["store", "vacuum"]).ok();
    let path = hfs.hfs_home().join("hfs.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 20_000] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let output = hfs.run(&["store", "verify"]).fails_with(7);
    assert!(!output.stdout.contains("no problems found"), "{}", output.describe());
}

#[test]
fn a_store_that_does_not_open_is_repaired_and_the_hints_lead_to_the_repair() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello zebrafinch"]).ok();
    let _ = hfs.run(&["store", "vacuum"]).ok();
    let path = hfs.hfs_home().join("hfs.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    for command in [["session", "list"], ["store", "verify"]] {
        let output = hfs.run(&command).fails_with(7);
        assert!(output.stderr.contains("hfs store repair"), "{}", output.describe());
        assert!(!output.stderr.contains("store verify`"), "{}", output.describe());
    }
    let report = hfs.run(&["store", "repair", "--json"]).ok().json();
    assert!(report["repaired"][0]["detail"].as_str().unwrap().contains("hfs.db.damaged"), "{report}");
    assert_eq!(std::fs::read(hfs.hfs_home().join("hfs.db.damaged")).unwrap(), bytes);
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
    assert_eq!(hfs.run(&["search", "zebrafinch", "--json"]).ok().json()["total"], 1);
    assert_eq!(hfs.run(&["store", "repair", "--json"]).ok().json()["repaired"], serde_json::json!([]));
}

#[test]
fn a_file_that_is_no_store_is_refused_by_a_repair() {
    let hfs = hfs();
    std::fs::write(hfs.project().join("notes.txt"), "my notes").unwrap();
    let output = hfs.run(&["--store", "sqlite:notes.txt", "store", "repair"]).fails_with(6);
    assert!(!output.stderr.contains("hfs store repair`"), "{}", output.describe());
    assert_eq!(std::fs::read_to_string(hfs.project().join("notes.txt")).unwrap(), "my notes");
}

#[test]
fn every_created_file_is_private_to_the_user() {
    use std::os::unix::fs::PermissionsExt;
    let hfs = hfs();
    let _ = hfs.run(&["-v", "chat", "hello"]).ok();
    let _ = hfs.run(&["config", "set", "model", "x"]).ok();
    let mut pending = vec![hfs.hfs_home()];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert!(seen > 4, "the home, the store, the configuration and the log");
}

#[test]
fn the_log_contains_no_message_text_and_no_key() {
    let hfs = hfs().env("OPENAI_API_KEY", "sesame-0123456789");
    let _ = hfs.run(&["-v", "chat", "xylophone secret"]).ok();
    let log = std::fs::read_to_string(hfs.hfs_home().join("logs/hfs.log")).unwrap();
    assert!(log.contains("started") && !log.contains("xylophone") && !log.contains("sesame"), "{log}");
}

#[test]
fn a_mistyped_store_is_not_created_by_a_command_about_sessions() {
    let hfs = hfs();
    let path = hfs.home().join("typo/hfs.db");
    let store = path.to_str().unwrap();
    for command in
        [&["session", "list"][..], &["search", "x"], &["recall", "x"], &["export", "@"], &["stats"]]
    {
        let mut arguments = vec!["--store", store];
        arguments.extend(command);
        let output = hfs.run(&arguments).fails_with(3);
        assert!(output.stderr.contains("there is no store at"), "{}", output.describe());
    }
    assert!(!path.parent().unwrap().exists());
    let _ = hfs.run(&["--store", store, "chat", "hi"]).ok();
    let _ = hfs.run(&["--store", store, "session", "list"]).ok();
}

#[test]
fn the_doctor_shows_names_of_keys_only_and_reports_problems() {
    let hfs = hfs().env("OPENAI_API_KEY", "sesame-0123456789");
    let output = hfs.run(&["doctor"]).ok();
    assert!(
        output.stdout.contains("OPENAI_API_KEY set") && !output.stdout.contains("sesame"),
        "{}",
        output.describe()
    );
    let document = hfs.run(&["doctor", "--json"]).ok().json();
    assert_eq!(document["ok"], true);
    let names: Vec<_> =
        document["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "home",
            "config",
            "store",
            "schema",
            "disk space",
            "agent",
            "keys",
            "plugins",
            "transcripts",
            "watcher",
            "terminal"
        ]
    );

    std::fs::write(hfs.hfs_home().join("config.yaml"), "model: a\noutput_mode: loud\n").unwrap();
    let output = hfs.run(&["doctor"]).fails_with(6);
    assert!(output.stdout.contains("config.yaml:2: output_mode is \"loud\""), "{}", output.describe());
}

#[test]
fn every_command_says_that_a_store_is_a_folder_or_a_device_and_creates_nothing_beside_it() {
    let hfs = hfs();
    let folder = hfs.home().join("data");
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite:{}", folder.display());
    for command in [
        &["session", "list"][..],
        &["chat", "hi"],
        &["search", "x"],
        &["import", "."],
        &["store", "info"],
        &["store", "verify"],
        &["store", "repair"],
        &["store", "backup", "copy.db"],
        &["doctor"],
        &[],
    ] {
        let output = hfs.run(&[&["--store", url.as_str()], command].concat());
        let said = format!("{}{}", output.stdout, output.stderr);
        for words in [folder.to_str().unwrap(), "is a folder", "hfs.db"] {
            assert!(said.contains(words), "{command:?}: {}", output.describe());
        }
        assert!(!said.contains("I/O error"), "{command:?}: {}", output.describe());
    }
    let _ = hfs.run(&["--store", &url, "session", "list"]).fails_with(6);
    let entries = std::fs::read_dir(hfs.home()).unwrap().map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = entries.filter(|name| name.to_string_lossy().starts_with("data")).collect();
    assert_eq!(beside, ["data"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let device = hfs.run(&["--store", "sqlite:/dev/null", "session", "list"]).fails_with(6);
    assert!(device.stderr.contains("/dev/null is a device"), "{}", device.describe());
    assert!(!std::path::Path::new("/dev/null-live").exists());
}

#[test]
fn a_store_that_cannot_be_written_to_is_refused_with_what_to_do() {
    let hfs = hfs();
    // Of /proc, not even root can write to a folder.
    let output = hfs.run(&["--store", "sqlite:/proc/self/fd/store.db", "session", "list"]);
    assert!(
        output.stderr.contains("/proc/self/fd/store.db") || output.stderr.contains("/fd/store.db"),
        "{}",
        output.describe()
    );
    let file = hfs.home().join("words.txt");
    std::fs::write(&file, "only words, no database").unwrap();
    let text = hfs.run(&["--store", file.to_str().unwrap(), "session", "list"]).fails_with(7);
    assert!(text.stderr.contains("words.txt is not a database of hfs"), "{}", text.describe());
    let below = file.join("store.db");
    let output = hfs.run(&["--store", below.to_str().unwrap(), "session", "list"]).fails_with(8);
    assert!(output.stderr.contains("not a directory"), "{}", output.describe());
    // The folders of a new store are created.
    let missing = hfs.home().join("a/b/store.db");
    let _ = hfs.run(&["--store", missing.to_str().unwrap(), "chat", "hi"]).ok();
    assert!(missing.is_file());
}
