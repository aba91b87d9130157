//! A disk that is full.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hfs_core::{DeltaKind, ErrorExt, ErrorKind, MessageDraft, MessageStore, ReplyDelta, SessionStore, Store};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, growing_state};

use crate::{assert_well, head, history, open, refused, session};

const FULL: &[ErrorKind] = &[ErrorKind::Unavailable];
const LIMITED: &str = "HFS_STORE_TEST_LIMITED";

/// Writes until there is no space left, and checks that nothing that was acknowledged is harmed by that. Returns
/// the message that found no space.
fn fill_up(store: &dyn Store) -> MessageDraft {
    let make = Drafts::new(1);
    let spoken = session(store, &make, "spoken", 3);
    let replied = session(store, &make, "replied", 1);
    let checkpoint =
        store.create_checkpoint(&make.checkpoint(head(store, &spoken), growing_state(1)), 9).unwrap();
    let reply = store.begin_reply(head(store, &replied), &make.assistant("")).unwrap();
    let piece = [ReplyDelta { kind: DeltaKind::Text, text: "0123456789".repeat(500) }];
    let mut pieces = 0;
    let mut said = history(store, &spoken).len();
    let unsaid = loop {
        let message = make.user(&"something long enough to fill a disk. ".repeat(400));
        match store.append(head(store, &spoken), std::slice::from_ref(&message)) {
            Ok(_) => said += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                break message;
            }
        }
        match store.extend_reply(reply, &piece) {
            Ok(()) => pieces += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                break message;
            }
        }
        assert!(said < 100_000, "the disk is never full");
    };

    // What is left may still hold something small, but not this, however often it is tried.
    let large = make.user(&"x".repeat(20_000_000));
    for _ in 0..3 {
        refused(store.append(head(store, &spoken), std::slice::from_ref(&large)), FULL);
    }
    assert_eq!(history(store, &spoken).len(), said);
    let arrived = store.get_message(reply.message).unwrap().content.text();
    assert_eq!(arrived.len(), pieces * piece[0].text.len());
    assert_eq!(store.load_state(checkpoint.id).unwrap(), growing_state(1));
    assert_eq!(store.get_session(spoken.id).unwrap().messages, said as u64);
    assert_well(store);
    unsaid
}

#[test]
fn a_store_that_may_grow_no_more_keeps_what_it_has_and_goes_on_with_more_space() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let limited = SqliteOptions { max_bytes: Some(1_000_000), ..SqliteOptions::default() };
    let store = SqliteStore::open(&path, limited).unwrap();
    let unsaid = fill_up(&store);
    drop(store);

    let store = open(&path);
    let spoken = crate::all_sessions(&store).unwrap().into_iter().find(|one| one.name == "spoken").unwrap();
    if store.get_message(unsaid.id).is_err() {
        store.append(head(&store, &spoken), &[unsaid]).unwrap();
    }
    assert_well(&store);
}

/// A small file system of its own; only the administrator can make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(at);
        mount.output().ok().filter(|done| done.status.success()).map(|_| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Ok(done) = Command::new("umount").arg(&self.0).output()
            && !done.status.success()
        {
            println!("a small disk is left mounted at {}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_with_it_and_the_store_goes_on_when_there_is_space() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path()) else {
        println!("skipped: no small disk can be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 1_000_000]).unwrap();
    let store = open(&disk.0.join("hfs.db"));
    let unsaid = fill_up(&store);
    fs::remove_file(&ballast).unwrap();
    let spoken = crate::all_sessions(&store).unwrap().into_iter().find(|one| one.name == "spoken").unwrap();
    if store.get_message(unsaid.id).is_err() {
        store.append(head(&store, &spoken), &[unsaid]).unwrap();
    }
    store.rename_session(spoken.id, "renamed", false, Drafts::new(2).now()).unwrap();
    assert_well(&store);
}

#[test]
fn files_that_may_grow_no_more_take_nothing_with_them() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    // A signal that is ignored stays ignored, and so the write fails instead of the process. Blocks of 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 2000 || exit 77; exec \"$0\" disk::limited --exact --ignored";
    let shell =
        Command::new("sh").args(["-c", script]).arg(env::current_exe().unwrap()).env(LIMITED, &path).output();
    let Ok(done) = shell else {
        println!("skipped: there is no shell");
        return;
    };
    if done.status.code() == Some(77) {
        println!("skipped: the size of files cannot be limited here");
        return;
    }
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let store = open(&path);
    assert_well(&store);
    assert_eq!(crate::all_sessions(&store).unwrap().len(), 2);
}

/// The other side of the test above, with the limit on it.
#[test]
#[ignore = "it is started by the test above"]
fn limited() {
    if let Some(path) = env::var_os(LIMITED) {
        fill_up(&open(Path::new(&path)));
    }
}
