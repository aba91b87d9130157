//! Stores, documents and plugins that earlier versions wrote, from `tests/fixtures`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::cli::Hfs;

use crate::{hfs, shown, text};

/// The short ids of the sessions in the fixture: one was recorded by hfs, one was imported from another tool.
const CHAT: &str = "nnmxws";
const IMPORTED: &str = "rvvqys";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-4").join(name)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The binary with a home directory that an earlier version wrote.
fn hfs_with_earlier_home() -> Hfs {
    let hfs = hfs();
    let home = hfs.hfs_home();
    fs::create_dir_all(&home).unwrap();
    fs::copy(fixture("store.db"), home.join("hfs.db")).unwrap();
    fs::copy(fixture("plugin_permissions.yaml"), home.join("plugin_permissions.yaml")).unwrap();
    copy_folder(&fixture("plugins"), &home.join("plugins"));
    hfs
}

/// An exported document without its export time and version, which differ between exports.
fn document(json: &str) -> Value {
    let mut document: Value = serde_json::from_str(json).unwrap();
    let metadata = document["metadata"].as_object_mut().unwrap();
    metadata.remove("exported_at").unwrap();
    metadata.remove("hfs_version").unwrap();
    document
}

#[test]
fn a_store_of_an_earlier_version_exports_the_same_documents() {
    let hfs = hfs_with_earlier_home();
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
    for session in [CHAT, IMPORTED] {
        let exported = hfs.run(&["export", session, "--format", "json", "--all-branches", "-o", "-"]).ok();
        let expected = fs::read_to_string(fixture(&format!("{session}.json"))).unwrap();
        assert_eq!(document(&exported.stdout), document(&expected), "{session}");
    }
}

#[test]
fn a_session_of_an_earlier_version_can_be_searched_rewound_and_continued() {
    let hfs = hfs_with_earlier_home();
    let hits = hfs.run(&["search", "refused", "--json"]).ok().json();
    assert!(hits["total"].as_u64().unwrap() >= 2, "{hits}");
    // The checkpoint was created after message 4, so its state contains the memories of the six agents of two triads
    // and of the integrator.
    let label = "before the fork";
    let state = hfs.run(&["checkpoint", "show", CHAT, label, "--state", "--json"]).ok().json();
    assert_eq!(state["state"]["agents"].as_object().unwrap().len(), 7, "{}", state["state"]["agents"]);
    let _ = hfs.run(&["rewind", CHAT, label]).ok();
    let _ = hfs.run(&["chat", "-s", CHAT, "--triads", "small", "connection refused again"]).ok();
    let session = shown(&hfs, CHAT);
    let messages = session["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 6, "two exchanges before the rewind, one after it");
    assert_eq!(text(&messages[4]), "connection refused again");
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

#[test]
fn checkpoints_of_a_store_without_numbers_keep_the_numbers_of_their_list() {
    let hfs = hfs();
    let home = hfs.hfs_home();
    fs::create_dir_all(&home).unwrap();
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-6/store.db");
    fs::copy(store, home.join("hfs.db")).unwrap();
    let numbers = || -> Vec<(u64, u64)> {
        let list = hfs.run(&["checkpoint", "list", "numbered", "--json"]).ok().json();
        let list = list["checkpoints"].as_array().unwrap().iter();
        list.map(|one| (one["number"].as_u64().unwrap(), one["seq"].as_u64().unwrap())).collect()
    };
    assert_eq!(numbers(), [(1, 8), (2, 10), (3, 10), (4, 6)]);
    assert!(home.join("hfs.db.v6.bak").exists(), "the store was copied before its migration");
    let _ = hfs.run(&["checkpoint", "delete", "numbered", "4"]).ok();
    let _ = hfs.run(&["checkpoint", "delete", "numbered", "1"]).ok();
    let created = hfs.run(&["checkpoint", "create", "numbered", "--json"]).ok().json();
    assert_eq!(created["checkpoint"]["number"], 5);
    assert_eq!(numbers(), [(2, 10), (3, 10), (5, 10)]);
    // The branch that was undone is within reach.
    let branches = hfs.run(&["branch", "list", "numbered", "--json"]).ok().json();
    assert_eq!(
        (&branches["branches"][1]["name"], &branches["branches"][1]["undone"]),
        (&"aside".into(), &true.into())
    );
    let _ = hfs.run(&["branch", "switch", "numbered", "aside"]).ok();
    assert_eq!(text(&shown(&hfs, "numbered")["messages"][4]), "said aside");
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

#[test]
fn documents_of_an_earlier_version_survive_import_and_export() {
    let hfs = hfs();
    for session in [CHAT, IMPORTED] {
        let file = fixture(&format!("{session}.json"));
        let report = hfs.run(&["import", file.to_str().unwrap(), "--json"]).ok().json();
        assert_eq!(report["imported"].as_array().unwrap().len(), 1, "{report}");
        let exported = hfs.run(&["export", session, "--format", "json", "--all-branches", "-o", "-"]).ok();
        assert_eq!(document(&exported.stdout), document(&fs::read_to_string(file).unwrap()), "{session}");
    }
}

#[test]
fn a_plugin_approved_by_an_earlier_version_still_runs() {
    let hfs = hfs_with_earlier_home();
    let plugins = hfs.run(&["plugin", "list", "--json"]).ok().json();
    assert_eq!(plugins["plugins"][0]["name"], "secret-guard");
    assert_eq!(plugins["plugins"][0]["state"], "active", "{plugins}");
    let key = "AKIAIOSFODNN7EXAMPLE";
    let _ = hfs.run(&["chat", &format!("my key is {key}")]).ok();
    let message = &shown(&hfs, "@")["messages"][0];
    assert!(!text(message).contains(key), "the plugin masks the key: {message}");
}
