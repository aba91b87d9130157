//! Files that cannot be written: missing permissions, moved directories, full disks.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hfs_core::{
    ErrorExt, ErrorKind, MessageDraft, MessageStore, Position, ReplyDelta, SessionStore, Store, StoreResult,
};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, growing_state};

use crate::{all_sessions, assert_fails, assert_intact, create_session, head, history, open, try_open};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_writable(path: &Path) -> bool {
    fs::OpenOptions::new().append(true).open(path).is_ok()
}

#[test]
fn only_the_owner_may_read_and_write_the_files() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("home/.hfs");
    let store = open(&directory.join("hfs.db"));
    create_session(&store, &Drafts::new(1), "secret", 5);
    assert_eq!(mode(&directory), 0o700);
    let mut pending = vec![directory];
    let mut files = 0;
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{}", path.display());
                pending.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 1, "the database and its WAL");
}

/// Runs a test again as an unprivileged user, because root can write to read-only files.
fn run_unprivileged(test: &str) {
    const UNPRIVILEGED: u32 = 65_534;
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact"]).env("TMPDIR", "/tmp").uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    match command.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => println!("skipped: another user cannot run this here: {error}"),
    }
}

/// Renames all sessions. Opening a read-only store may succeed; its first write must fail.
fn rename_all_sessions(store: &SqliteStore) -> StoreResult<()> {
    let now = Drafts::new(2).now();
    all_sessions(store)?.iter().try_for_each(|session| store.rename_session(session.id, "lost", false, now))
}

#[test]
fn a_store_without_write_permission_is_rejected_and_not_changed() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("locked");
    let path = directory.join("hfs.db");
    create_session(&open(&path), &Drafts::new(1), "kept", 5);
    let before = fs::read(&path).unwrap();
    for (directory_mode, file_mode) in [(0o500, 0o400), (0o700, 0o400), (0o700, 0o000), (0o000, 0o600)] {
        set_mode(&path, file_mode);
        set_mode(&directory, directory_mode);
        let result =
            (!is_writable(&path)).then(|| try_open(&path).and_then(|store| rename_all_sessions(&store)));
        set_mode(&directory, 0o700);
        set_mode(&path, 0o600);
        match result {
            // The file can be written in spite of its mode, because the user is root.
            None => {
                return run_unprivileged(
                    "files::a_store_without_write_permission_is_rejected_and_not_changed",
                );
            }
            Some(result) => assert_fails(result, &[ErrorKind::Denied]),
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    assert_intact(&open(&path));
}

#[test]
fn a_moved_directory_is_an_error_and_no_new_store_is_created_in_its_place() {
    let home = tempfile::tempdir().unwrap();
    let (directory, elsewhere) = (home.path().join("here"), home.path().join("elsewhere"));
    let path = directory.join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let kept = create_session(&store, &make, "kept", 5);
    let here = head(&store, &kept);

    fs::rename(&directory, &elsewhere).unwrap();
    let message = make.user("sent while it was elsewhere");
    for _ in 0..3 {
        let kinds = [ErrorKind::Unavailable, ErrorKind::NotFound];
        assert_fails(store.append(here, std::slice::from_ref(&message)), &kinds);
    }
    assert!(!path.exists(), "a new store would hide the moved one");

    // The failed appends may have created the directory again, but not the database.
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    fs::rename(&elsewhere, &directory).unwrap();
    store.append(here, std::slice::from_ref(&message)).unwrap();
    assert_eq!(history(&store, &kept).len(), 6);
    assert_intact(&store);

    fs::remove_dir_all(&directory).unwrap();
    let late = make.user("sent after it was deleted");
    let appended = store.append(Position { head: 6, ..here }, &[late]);
    assert_fails(appended, &[ErrorKind::Unavailable, ErrorKind::NotFound]);
    assert!(!path.exists());
}

#[test]
fn a_replaced_file_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (path, other) = (home.path().join("a/hfs.db"), home.path().join("b/hfs.db"));
    let make = Drafts::new(1);
    let store = open(&path);
    let moved = create_session(&store, &make, "moved", 2);
    let kept = create_session(&open(&other), &make, "kept", 2);
    fs::rename(home.path().join("a"), home.path().join("c")).unwrap();
    fs::rename(home.path().join("b"), home.path().join("a")).unwrap();
    assert_fails(store.get_session(moved.id), &[ErrorKind::NotFound]);
    store.append(head(&store, &kept), &[make.user("to the new file")]).unwrap();
    assert_eq!(history(&store, &kept).len(), 3);
    assert_intact(&store);
    let moved_store = open(&home.path().join("c/hfs.db"));
    assert_eq!(history(&moved_store, &moved).len(), 2);
    assert_intact(&moved_store);
}

#[test]
fn a_path_that_cannot_be_a_store_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let kinds = [ErrorKind::Invalid, ErrorKind::Unavailable];
    assert_fails(try_open(home.path()).map(|_| ()), &kinds);
    assert_fails(try_open(&file.join("hfs.db")).map(|_| ()), &kinds);
    assert_fails(try_open(Path::new("")).map(|_| ()), &kinds);
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    let unusual = home.path().join("new/ü \u{1f980}/deep/hfs ?mode=ro#.db");
    create_session(&open(&unusual), &Drafts::new(1), "kept", 2);
    assert_eq!(all_sessions(&open(&unusual)).unwrap().len(), 1);
    assert!(unusual.exists());
}

/// Writes until there is no space left, and checks that all acknowledged data is intact. Returns the last message. It
/// is stored only if there was no space left for the next delta of the reply instead.
fn fill_disk(store: &dyn Store) -> MessageDraft {
    let make = Drafts::new(1);
    let appended = create_session(store, &make, "appended", 3);
    let streamed = create_session(store, &make, "streamed", 1);
    let checkpoint =
        store.create_checkpoint(&make.checkpoint(head(store, &appended), growing_state(1)), 9).unwrap();
    let reply = store.begin_reply(head(store, &streamed), &make.assistant("")).unwrap();
    let delta = [ReplyDelta::text("0123456789".repeat(500))];
    let mut deltas = 0;
    let mut messages = history(store, &appended).len();
    let failed = loop {
        let message = make.user(&"something long enough to fill a disk. ".repeat(400));
        match store.append(head(store, &appended), std::slice::from_ref(&message)) {
            Ok(_) => messages += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                break message;
            }
        }
        match store.extend_reply(reply, &delta) {
            Ok(()) => deltas += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                break message;
            }
        }
        assert!(messages < 100_000, "the disk does not become full");
    };

    // A small message may still fit. This one never does.
    let large = make.user(&"x".repeat(20_000_000));
    for _ in 0..3 {
        let result = store.append(head(store, &appended), std::slice::from_ref(&large));
        assert_fails(result, &[ErrorKind::Unavailable]);
    }
    assert_eq!(history(store, &appended).len(), messages);
    let text = store.get_message(reply.message).unwrap().content.text();
    assert_eq!(text.len(), deltas * 5_000);
    assert_eq!(store.load_state(checkpoint.id).unwrap(), growing_state(1));
    assert_eq!(store.get_session(appended.id).unwrap().messages, messages as u64);
    assert_intact(store);
    failed
}

/// Appends the message of [`fill_disk`] if it is not stored.
fn append_again(store: &dyn Store, failed: MessageDraft) {
    let sessions = all_sessions(store).unwrap();
    let session = sessions.into_iter().find(|session| session.name == "appended").unwrap();
    if store.get_message(failed.id).is_err() {
        store.append(head(store, &session), &[failed]).unwrap();
    }
    store.rename_session(session.id, "renamed", false, Drafts::new(2).now()).unwrap();
    assert_intact(store);
}

#[test]
fn a_store_at_its_size_limit_keeps_its_data_and_works_with_a_larger_limit() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let limited = SqliteOptions { max_bytes: Some(1_000_000), ..SqliteOptions::default() };
    let store = SqliteStore::open(&path, limited).unwrap();
    let failed = fill_disk(&store);
    drop(store);
    append_again(&open(&path), failed);
}

/// A small file system. Mounting one needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(at);
        mount.output().ok().filter(|output| output.status.success()).map(|_| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Ok(output) = Command::new("umount").arg(&self.0).output()
            && !output.status.success()
        {
            println!("a small disk is still mounted at {}", self.0.display());
        }
    }
}

#[test]
fn a_store_on_a_full_disk_keeps_its_data_and_works_when_there_is_space_again() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path()) else {
        println!("skipped: a small disk cannot be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 1_000_000]).unwrap();
    let store = open(&disk.0.join("hfs.db"));
    let failed = fill_disk(&store);
    fs::remove_file(&ballast).unwrap();
    append_again(&store, failed);
}

/// Environment variable with the store's path for [`in_a_process_with_a_file_size_limit`].
const LIMITED_STORE: &str = "HFS_STORE_TEST_LIMITED";

#[test]
fn a_store_at_the_file_size_limit_of_its_process_keeps_its_data() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    // The child ignores SIGXFSZ, so that a write beyond the limit returns an error instead of ending the process. The
    // unit of the limit is 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 2000 || exit 77; \
        exec \"$0\" files::in_a_process_with_a_file_size_limit --exact --ignored";
    let shell = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .env(LIMITED_STORE, &path)
        .output();
    let Ok(output) = shell else {
        println!("skipped: there is no shell");
        return;
    };
    if output.status.code() == Some(77) {
        println!("skipped: the size of files cannot be limited here");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let store = open(&path);
    assert_intact(&store);
    assert_eq!(all_sessions(&store).unwrap().len(), 2);
}

#[test]
#[ignore = "the test above starts it in a child process"]
fn in_a_process_with_a_file_size_limit() {
    if let Some(path) = env::var_os(LIMITED_STORE) {
        fill_disk(&open(Path::new(&path)));
    }
}

#[test]
fn a_store_is_the_same_store_through_a_link() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("real/hfs.db");
    let store = open(&path);
    let session = create_session(&store, &Drafts::new(1), "linked", 3);
    let make = Drafts::new(2);
    let reply = store.begin_reply(head(&store, &session), &make.assistant("")).unwrap();
    std::os::unix::fs::symlink(home.path().join("real"), home.path().join("directory")).unwrap();
    std::os::unix::fs::symlink(&path, home.path().join("file.db")).unwrap();
    for link in ["directory/hfs.db", "file.db", "real/../real/hfs.db"] {
        let linked = open(&home.path().join(link));
        let newest = history(&linked, &session).pop().unwrap();
        assert_eq!(newest.content.status, hfs_core::MessageStatus::Streaming, "{link}");
        assert_fails(linked.append(head(&linked, &session), &[make.user("now")]), &[ErrorKind::Conflict]);
        assert_eq!(linked.recover_abandoned_replies(None, make.now()).unwrap(), 0, "{link}");
    }
    store.finish_reply(reply, &make.assistant("done")).unwrap();
    assert!(!home.path().join("file.db-live").exists());
    // A hard link is another name of the file, and the file knows the path of its store.
    let link = home.path().join("hard.db");
    fs::hard_link(&path, &link).unwrap();
    let linked = open(&link);
    assert_eq!(history(&linked, &session).len(), 4);
    linked.append(head(&linked, &session), &[make.user("through the link")]).unwrap();
    store.append(head(&store, &session), &[make.user("directly")]).unwrap();
    assert_eq!(history(&linked, &session).len(), 6);
    assert!(!home.path().join("hard.db-live").exists() && !home.path().join("hard.db-wal").exists());
    // Under a name that the file does not know, a link is refused.
    drop((store, linked));
    fs::rename(&path, home.path().join("moved.db")).unwrap();
    assert_fails(try_open(&link).map(drop), &[ErrorKind::Conflict]);
}

#[test]
fn a_lock_file_that_cannot_be_deleted_fails_no_command() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    create_session(&open(&path), &Drafts::new(1), "kept", 1);
    // A directory with the name of a presence lock: it is not locked, and it is not a file that can be deleted.
    fs::create_dir(home.path().join("hfs.db-live/0192f0c17e1a7cc09b1e0123456789af")).unwrap();
    assert_eq!(all_sessions(&open(&path)).unwrap().len(), 1);
}
