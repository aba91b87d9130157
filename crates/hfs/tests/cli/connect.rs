//! `hfs connect` and `hfs disconnect`

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::cli::{Hfs, Key};

use crate::hfs;
use crate::mcp_client::{McpClient, PROTOCOL_VERSION};

/// The configurations that the tests change, as a user may have written them.
const CONFIGURATIONS: [(&str, &str, &str); 9] = [
    (
        "claude",
        ".claude.json",
        r#"{
  "numStartups": 12,
  "projects": {
    "/srv": {
      "allowedTools": []
    }
  }
}"#,
    ),
    (
        "codex",
        ".codex/config.toml",
        r#"# mine
model = "gpt-5" # cheap

[mcp_servers.other]
command = "x"

[projects."/srv"]
trust_level = "trusted"
"#,
    ),
    (
        "opencode",
        ".config/opencode/opencode.jsonc",
        r#"{
  // mine
  "$schema": "https://opencode.ai/config.json",
  "mcp": {
    "other": { "type": "local", "command": ["x"] }, // keep
  },
}
"#,
    ),
    ("gemini", ".gemini/settings.json", "{\n\t\"theme\": \"Default\"\n}\n"),
    ("qwen", ".qwen/settings.json", "{}\n"),
    (
        "goose",
        ".config/goose/config.yaml",
        "GOOSE_MODEL: x # cheap
extensions:
  developer:
    enabled: true
    type: builtin
    name: developer

# the end
GOOSE_MODE: auto
",
    ),
    ("cursor", ".cursor/mcp.json", "{\"mcpServers\": {\"other\": {\"command\": \"x\"}}}"),
    ("copilot", ".copilot/mcp-config.json", "{\r\n  \"mcpServers\": {}\r\n}\r\n"),
    ("windsurf", ".codeium/windsurf/mcp_config.json", ""),
];

fn write(hfs: &Hfs, name: &str, text: &str) -> PathBuf {
    let path = hfs.home().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// All files and folders below the home directory, without those of hfs.
fn tree(hfs: &Hfs) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    fn add(folder: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                found.insert(entry.clone(), None);
                add(&entry, found);
            } else {
                found.insert(entry.clone(), Some(fs::read(&entry).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    add(&hfs.home(), &mut found);
    found.retain(|path, _| !path.starts_with(hfs.hfs_home()));
    found
}

fn state(hfs: &Hfs, name: &str) -> Value {
    let listed = hfs.run(&["connect", "--json"]).ok().json();
    listed["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == name).unwrap().clone()
}

#[test]
fn disconnecting_leaves_every_configuration_as_it_was() {
    let hfs = hfs();
    for (_, file, text) in CONFIGURATIONS {
        write(&hfs, file, text);
    }
    let before = tree(&hfs);
    let names: Vec<&str> = CONFIGURATIONS.iter().map(|(name, _, _)| *name).collect();
    let arguments = [&["connect"], &names[..], &["--yes", "--json"]].concat();
    let connected = hfs.run(&arguments).ok().json();
    for agent in connected["agents"].as_array().unwrap() {
        assert_eq!((&agent["state"], &agent["changed"]), (&json!("connected"), &json!(true)), "{agent}");
    }
    for (_, file, text) in CONFIGURATIONS {
        let now = fs::read_to_string(hfs.home().join(file)).unwrap();
        for line in text.lines().map(str::trim).filter(|line| line.len() > 3 && text.lines().count() > 1) {
            assert!(now.contains(line.trim_end_matches(&['}', ','][..])), "{line:?} is missing in {now}");
        }
    }
    // The same again changes nothing.
    let connected_tree = tree(&hfs);
    let again = hfs.run(&arguments).ok().json();
    assert!(again["agents"].as_array().unwrap().iter().all(|agent| agent["changed"] == false), "{again}");
    assert!(tree(&hfs) == connected_tree);

    let _ = hfs.run(&["disconnect", "--yes"]).ok();
    assert!(tree(&hfs) == before);
    assert!(!hfs.hfs_home().join("connections").exists(), "no copy remains");
    let output = hfs.run(&["disconnect", "--yes"]).ok();
    assert!(output.stderr.contains("no agent is connected"), "{}", output.stderr);
}

#[test]
fn files_and_folders_that_did_not_exist_are_removed_again() {
    let hfs = hfs();
    let before = tree(&hfs);
    for (name, _, _) in CONFIGURATIONS {
        let _ = hfs.run(&["connect", name, "--yes"]).ok();
        assert_eq!(state(&hfs, name)["state"], "connected");
        // Also after a change of what is entered.
        let _ = hfs.run(&["connect", name, "--write", "--yes"]).ok();
        let _ = hfs.run(&["disconnect", name, "--yes"]).ok();
        assert!(tree(&hfs) == before, "{name}");
    }
}

#[test]
fn what_is_entered_starts_the_server_on_the_same_store() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger because it is one file."]).ok();
    let elsewhere = hfs.home().join("else where");
    let elsewhere = elsewhere.to_str().unwrap();
    let _ = hfs.run(&["--home", elsewhere, "chat", "The tomatoes were planted."]).ok();
    for (home, words, options) in [(None, "SQLite", 0), (Some(elsewhere), "tomatoes", 2)] {
        for (name, _, _) in CONFIGURATIONS {
            let arguments: Vec<&str> = home
                .iter()
                .flat_map(|home| ["--home", *home])
                .chain(["connect", name, "--write", "--yes"])
                .collect();
            let _ = hfs.run(&arguments).ok();
            let arguments: Vec<&str> =
                home.iter().flat_map(|home| ["--home", *home]).chain(["connect", "--json"]).collect();
            let listed = hfs.run(&arguments).ok().json();
            let agent =
                listed["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == name).unwrap();
            let command: Vec<&str> =
                agent["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            assert_eq!(command[1..3], ["mcp", "--write"]);
            assert_eq!(command.len(), 3 + options);
            // As an agent starts it: without the variables of hfs.
            let mut server = Command::new(command[0]);
            server.args(&command[1..]).env_clear().env("HOME", hfs.home()).env("PATH", "/usr/bin:/bin");
            let mut client = McpClient::initialize(server, PROTOCOL_VERSION);
            assert!(client.ask("search", &json!({"query": words})).contains(words), "{name}");
        }
    }
}

#[test]
fn a_configuration_that_has_changed_since_loses_only_the_entry_of_hfs() {
    let hfs = hfs();
    for (name, file, text) in CONFIGURATIONS {
        let path = write(&hfs, file, text);
        let _ = hfs.run(&["connect", name, "--yes"]).ok();
        let connected = fs::read_to_string(&path).unwrap();
        let (from, to) = match name {
            "claude" => ("\"numStartups\": 12", "\"numStartups\": 13"),
            "codex" => ("model = \"gpt-5\"", "model = \"gpt-6\""),
            "opencode" => ("// mine", "// still mine"),
            "gemini" => ("\"Default\"", "\"Dark\""),
            "goose" => ("GOOSE_MODEL: x", "GOOSE_MODEL: y"),
            "cursor" => ("\"command\": \"x\"", "\"command\": \"y\""),
            _ => continue,
        };
        fs::write(&path, connected.replacen(from, to, 1)).unwrap();
        let _ = hfs.run(&["disconnect", name, "--yes"]).ok();
        let now = fs::read_to_string(&path).unwrap();
        let expected = text.replacen(from, to, 1);
        if text.lines().count() > 1 {
            assert_eq!(now, expected, "{name}");
        } else {
            let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(value(&now), value(&expected), "{name}");
        }
    }
}

#[test]
fn without_a_terminal_nothing_changes_unless_yes_is_given() {
    let hfs = hfs();
    write(
        &hfs,
        ".claude.json",
        "{\n  \"apiKey\": \"sk-ant-api03-Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiOqWeRtYuIoPaSdFgHjKlZxCvBnM12345\"\n}\n",
    );
    let before = tree(&hfs);
    let refused = hfs.run(&["connect", "claude"]).fails_with(5);
    assert!(
        refused.stderr.contains("no terminal to ask on") && refused.stderr.contains("--yes"),
        "{}",
        refused.stderr
    );
    let shown = hfs.run(&["connect", "claude", "--dry-run"]).ok().stdout;
    assert!(shown.contains("+     \"hfs\": {") && shown.contains(".claude.json"), "{shown}");
    assert!(!shown.contains("Zq8vT2mN4kR7"), "{shown}");
    assert!(tree(&hfs) == before);
    assert!(!hfs.hfs_home().join("connections").exists());
    let unknown = hfs.run(&["connect", "clippy"]).fails_with(2);
    assert!(unknown.stderr.contains("claude"), "{}", unknown.stderr);
}

#[test]
fn on_a_terminal_the_change_is_shown_and_asked_about() {
    let hfs = hfs();
    let path = write(&hfs, ".claude.json", "{\n  \"numStartups\": 12\n}\n");
    for (answer, connected) in [("n", false), ("y", true)] {
        let terminal = hfs.command(&["connect", "claude"]).in_terminal(24, 100);
        let _ = terminal.wait_for("Change this file? [y/N]");
        terminal.type_text(answer);
        terminal.press(Key::Enter);
        let _ = terminal.wait_for_end();
        assert_eq!(fs::read_to_string(&path).unwrap().contains("\"hfs\""), connected);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_left_alone_and_its_place_named() {
    let hfs = hfs();
    for (name, file, text, place) in [
        ("claude", ".claude.json", "{\n  \"a\": 1\n  \"b\": 2\n}\n", "line 2"),
        ("codex", ".codex/config.toml", "a = 1\nb = = 2\n", "line 2"),
        ("goose", ".config/goose/config.yaml", "a: 1\n b: [\n", "line"),
        ("gemini", ".gemini/settings.json", "{\"mcpServers\": 5}", "mcpServers"),
        (
            "goose",
            ".config/goose/config.yaml",
            "extensions: {a: {enabled: true}}\n",
            "cannot be edited safely",
        ),
    ] {
        let path = write(&hfs, file, text);
        let refused = hfs.run(&["connect", name, "--yes", "--json"]).fails_with(6).json_error();
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(path.to_str().unwrap()) && message.contains(place), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(state(&hfs, "claude")["state"], "unreadable");
    let several = hfs.run(&["connect", "claude", "cursor", "--yes", "--json"]).fails_with(6).json();
    assert_eq!(several["agents"][0]["error"]["kind"], "invalid");
    assert_eq!(several["agents"][1]["state"], "connected");
    // A folder in place of the file.
    fs::create_dir_all(hfs.home().join(".qwen/settings.json")).unwrap();
    let refused = hfs.run(&["connect", "qwen", "--yes"]).fails_with(6);
    assert!(refused.stderr.contains("not a regular file"), "{}", refused.stderr);
}

#[test]
fn links_and_permissions_of_a_configuration_stay() {
    let hfs = hfs();
    let real = write(&hfs, "dotfiles/claude.json", "{\n  \"a\": 1\n}\n");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let link = hfs.home().join(".claude.json");
    symlink("dotfiles/claude.json", &link).unwrap();
    for arguments in [["connect", "claude", "--yes"], ["disconnect", "claude", "--yes"]] {
        let _ = hfs.run(&arguments).ok();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(fs::read_to_string(&real).unwrap(), "{\n  \"a\": 1\n}\n");
    fs::remove_file(&real).unwrap();
    let refused = hfs.run(&["connect", "claude", "--yes"]).fails_with(6);
    assert!(refused.stderr.contains("symbolic link to a file that does not exist"), "{}", refused.stderr);
    let private = write(&hfs, ".cursor/mcp.json", "{}");
    let _ = hfs.run(&["connect", "cursor", "--yes"]).ok();
    let mut records = fs::read_dir(hfs.hfs_home().join("connections")).unwrap();
    let record = records.next().unwrap().unwrap().path();
    assert!(record.file_name().unwrap().to_str().unwrap().starts_with("cursor-"), "{record:?}");
    assert!(records.next().is_none());
    assert_eq!(fs::metadata(record).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(private.is_file());
}

#[test]
fn a_server_of_the_user_with_the_same_name_is_restored() {
    let hfs = hfs();
    let text = "{\n  \"mcpServers\": {\n    \"hfs\": {\n      \"command\": \"other\"\n    }\n  }\n}\n";
    let path = write(&hfs, ".cursor/mcp.json", text);
    assert_eq!(state(&hfs, "cursor")["state"], "different");
    let kept = hfs.run(&["disconnect", "cursor", "--yes"]).ok();
    assert!(kept.stderr.contains("not added"), "{}", kept.stderr);
    let _ = hfs.run(&["connect", "cursor", "--yes"]).ok();
    assert_eq!(state(&hfs, "cursor")["state"], "connected");
    let _ = hfs.run(&["disconnect", "cursor", "--yes"]).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_variables_of_the_agents_move_their_configurations() {
    let hfs = hfs();
    for (name, variable, value, file) in [
        ("claude", "CLAUDE_CONFIG_DIR", "cc", "cc/.claude.json"),
        ("codex", "CODEX_HOME", "cx", "cx/config.toml"),
        ("opencode", "XDG_CONFIG_HOME", "xdg", "xdg/opencode/opencode.json"),
        ("opencode", "OPENCODE_CONFIG", "oc/my.json", "oc/my.json"),
        ("goose", "GOOSE_PATH_ROOT", "gp", "gp/config/config.yaml"),
        ("gemini", "GEMINI_CLI_HOME", "gh", "gh/.gemini/settings.json"),
        ("qwen", "QWEN_HOME", "qw", "qw/settings.json"),
        ("copilot", "COPILOT_HOME", "co", "co/mcp-config.json"),
    ] {
        let value = hfs.home().join(value);
        let connected =
            hfs.command(&["connect", name, "--yes", "--json"]).env(variable, &value).run().ok().json();
        let expected = hfs.home().join(file);
        assert_eq!(connected["agents"][0]["file"], expected.to_str().unwrap());
        assert!(expected.is_file(), "{name}");
        let _ = hfs.command(&["disconnect", name, "--yes"]).env(variable, &value).run().ok();
        assert!(!expected.exists(), "{name}");
    }
}

#[test]
fn configurations_of_one_agent_in_several_places_are_all_restored() {
    let hfs = hfs();
    let before = tree(&hfs);
    let moved = hfs.home().join("moved");
    for command in ["connect", "disconnect"] {
        let arguments = [command, "claude", "--yes"];
        let _ = hfs.run(&arguments).ok();
        let _ = hfs.command(&arguments).env("CLAUDE_CONFIG_DIR", &moved).run().ok();
        assert_eq!(hfs.home().join(".claude.json").exists(), command == "connect");
        assert_eq!(moved.join(".claude.json").exists(), command == "connect");
    }
    assert!(tree(&hfs) == before);
}

#[test]
fn a_store_in_the_working_directory_is_entered_with_its_whole_path() {
    let hfs = hfs();
    let expected = format!("sqlite:{}", hfs.project().canonicalize().unwrap().join("work.db").display());
    for store in ["work.db", "sqlite:work.db", "sqlite://work.db"] {
        let _ = hfs.run(&["--store", store, "connect", "cursor", "--yes"]).ok();
        let connected = state(&hfs, "cursor");
        let command = connected["command"].as_array().unwrap();
        assert_eq!(command[2..], [json!("--store"), json!(expected)], "{store}: {connected}");
        let _ = hfs.run(&["disconnect", "cursor", "--yes"]).ok();
    }
}

#[test]
fn version_2_of_opencode_keeps_its_servers_one_level_deeper() {
    let hfs = hfs();
    let text = "{\n  \"mcp\": {\n    \"servers\": {\n      \"other\": {\n        \"type\": \"local\",\n        \"command\": [\"x\"]\n      }\n    }\n  }\n}\n";
    let path = write(&hfs, ".config/opencode/opencode.json", text);
    let _ = hfs.run(&["connect", "opencode", "--yes"]).ok();
    let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written["mcp"]["servers"]["hfs"]["type"], "local");
    let _ = hfs.run(&["disconnect", "opencode", "--yes"]).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_list_names_the_agents_that_were_found() {
    let hfs = hfs();
    write(&hfs, ".codex/config.toml", "");
    fs::create_dir_all(hfs.home().join(".claude")).unwrap();
    let _ = hfs.run(&["connect", "codex", "--yes"]).ok();
    let output = hfs.run(&["connect"]).ok();
    assert!(output.stdout.contains("Codex") && output.stdout.contains("connected"), "{}", output.stdout);
    assert!(
        output.stdout.contains("Claude Code") && output.stdout.contains("not connected"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("Cursor") && output.stderr.contains("cursor"), "{}", output.describe());
}

#[test]
fn a_byte_order_mark_and_line_endings_of_a_configuration_stay() {
    let hfs = hfs();
    for (name, file, text) in [
        ("claude", ".claude.json", "\u{feff}{\r\n  // mine\r\n  \"a\": 1,\r\n}\r\n"),
        ("codex", ".codex/config.toml", "\u{feff}# mine\r\nmodel = \"x\"\r\n"),
        (
            "goose",
            ".config/goose/config.yaml",
            "\u{feff}# mine\r\nextensions:\r\n  dev:\r\n    enabled: true\r\n",
        ),
        ("cursor", ".cursor/mcp.json", "\u{feff}"),
    ] {
        let path = write(&hfs, file, text);
        let _ = hfs.run(&["connect", name, "--yes"]).ok();
        assert_eq!(state(&hfs, name)["state"], "connected", "{name}");
        let connected = fs::read_to_string(&path).unwrap();
        assert!(connected.starts_with('\u{feff}') && !connected[3..].contains('\u{feff}'), "{connected:?}");
        if text.contains('\n') {
            assert_eq!(connected.matches('\n').count(), connected.matches("\r\n").count(), "{connected:?}");
        }
        // Also if the copy of the original does not help, because the file has changed since.
        fs::write(&path, connected.replace("mine", "yours")).unwrap();
        let _ = hfs.run(&["disconnect", name, "--yes"]).ok();
        if text.contains("mine") {
            assert_eq!(fs::read_to_string(&path).unwrap(), text.replace("mine", "yours"), "{name}");
        }
    }
}

#[test]
fn the_place_of_an_error_is_named_without_a_quotation() {
    let hfs = hfs();
    let long = "x".repeat(100_000);
    for (name, file, text, place) in [
        ("codex", ".codex/config.toml", format!("a = 1\napi_key = \"{long}\" = 2\n"), "line 2"),
        ("goose", ".config/goose/config.yaml", format!("a: 1\nkey: [{long}\n"), "line"),
        ("claude", ".claude.json", format!("{{\n  \"key\": \"{long}\" 2\n}}\n"), "line 2"),
    ] {
        write(&hfs, file, &text);
        let refused = hfs.run(&["connect", name, "--yes"]).fails_with(6).stderr;
        assert!(refused.contains(place) && !refused.contains("xxx") && refused.len() < 1_000, "{refused}");
    }
}

#[test]
fn no_copy_of_a_configuration_remains_that_is_not_connected() {
    let hfs = hfs();
    let copies = hfs.hfs_home().join("connections");
    let text = "{\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"x\"\n    }\n  }\n}\n";
    // The user removes the file, the entry, or puts another server in its place.
    for changed in [None, Some(text.to_owned()), Some(text.replace("other", "hfs"))] {
        let path = write(&hfs, ".cursor/mcp.json", text);
        let _ = hfs.run(&["connect", "cursor", "--yes"]).ok();
        assert!(copies.exists());
        match &changed {
            Some(changed) => fs::write(&path, changed).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let _ = hfs.run(&["disconnect", "--dry-run"]).ok();
        assert!(copies.exists(), "a dry run changes nothing");
        let _ = hfs.run(&["disconnect", "--yes"]).ok();
        assert!(!copies.exists(), "{changed:?}");
        assert_eq!(fs::read_to_string(&path).ok(), changed);
    }
    // A folder in which nothing can be created, by any user.
    #[cfg(target_os = "linux")]
    {
        let output = hfs.command(&["connect", "codex", "--yes"]).env("CODEX_HOME", "/proc/none").run();
        assert!(output.stderr.contains("cannot change /proc/none/config.toml"), "{}", output.describe());
        assert!(!copies.exists());
    }
}

#[test]
fn what_an_agent_could_not_use_is_not_entered() {
    let hfs = hfs();
    let refused = hfs.run(&["--store", "memory:", "connect", "cursor", "--yes"]).fails_with(6);
    assert!(refused.stderr.contains("store in memory"), "{}", refused.stderr);
    symlink("/nonexistent/of-hfs", hfs.home().join(".cursor")).unwrap();
    let refused = hfs.run(&["connect", "cursor", "--yes"]).fails_with(6);
    assert!(refused.stderr.contains("symbolic link to a folder that does not exist"), "{}", refused.stderr);
    assert!(!Path::new("/nonexistent/of-hfs").exists());
}
