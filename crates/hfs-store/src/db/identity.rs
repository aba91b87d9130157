//! What a database file says about itself: the version of its schema and the path of the store.
//!
//! The header has the version too, but a damaged byte there makes a store look newer, or older, than it is. The table
//! `store_identity` repeats it, so that such damage is recognized and repaired.
//!
//! SQLite names the write-ahead log after the path. Two names of one file, as a hard link or a bind mount of the file makes
//! them, would have two logs, each of which lacks the other's commits. So the file has the path of its store, and a store that
//! is opened under another name of the same file uses that path.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use hfs_core::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::db::paths::Paths;
use crate::db::schema;
use crate::error::Result;

/// Size of SQLite's smallest page.
const MIN_DATABASE: u64 = 512;

/// The row of `store_identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    version: u32,
    path: Option<String>,
}

/// Rejects a file that is not a database of hfs, or that has a newer schema. Runs before the store creates any file.
/// Returns the paths of the store to which the file belongs.
pub(crate) fn check_file(paths: Paths) -> Result<Paths> {
    let Some(conn) = open_unlocked(&paths.database)? else { return Ok(paths) };
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    let (application, found) = match (number("application_id"), number("user_version")) {
        (Ok(application), Ok(version)) => (application, version),
        (Err(error), _) | (_, Err(error)) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(error.into());
        }
        // Without its log, the file of a killed process may be half of a checkpoint. SQLite completes it when the store is
        // opened, and finds real damage then.
        (Err(_), _) | (_, Err(_)) => return Ok(paths),
    };
    if application != schema::APPLICATION_ID {
        // Empty, or of another program, which `schema::migrate` rejects.
        return Ok(paths);
    }
    let supported = schema::newest(schema::MIGRATIONS);
    // Without this table, or if it cannot be read, only the header counts.
    let identity = read(&conn).unwrap_or_default();
    if found > supported {
        let store = paths.database.display().to_string();
        let may_be_damage = identity.is_some_and(|identity| identity.version <= supported);
        return Err(StoreError::Newer { store, found, supported, may_be_damage }.into());
    }
    Ok(identity.and_then(|identity| other_name(&paths, &identity)).unwrap_or(paths))
}

/// The paths of the store, if `paths` is another name of its file.
fn other_name(paths: &Paths, identity: &Identity) -> Option<Paths> {
    let original = Paths::new(Path::new(identity.path.as_ref()?)).ok()?;
    let is_same = original.database != paths.database && original.file_id().ok()? == paths.file_id().ok()?;
    is_same.then_some(original)
}

/// Opens the file without its log and without locks. Returns `None` if it does not exist.
//
// Reading the header with `File` instead would release the locks of all connections that this process has to the file:
// POSIX locks belong to the process and end when it closes any descriptor of the file. SQLite defers such a close.
fn open_unlocked(path: &Path) -> Result<Option<Connection>> {
    match std::fs::metadata(path) {
        // SQLite takes a file that is too short for a database for an empty one.
        Ok(file) if file.is_file() && (1..MIN_DATABASE).contains(&file.len()) => {
            let message = format!("{} is not a database of hfs", path.display());
            return Err(StoreError::Corrupt { message }.into());
        }
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                uri.push(char::from(*byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(uri, "%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match Connection::open_with_flags(uri, flags) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            // The operating system's error tells why.
            File::open(path)?;
            Err(error.into())
        }
        opened => Ok(Some(opened?)),
    }
}

fn has_table(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'store_identity'")?.exists([])
}

fn read(conn: &Connection) -> Result<Option<Identity>> {
    if !has_table(conn)? {
        return Ok(None);
    }
    let row = conn.query_row("SELECT version, path FROM store_identity WHERE no = 1", [], |row| {
        Ok(Identity { version: row.get(0)?, path: row.get(1)? })
    });
    Ok(row.optional()?)
}

/// Returns an error if the header and the tables have different versions. `found` is that of the header.
pub(crate) fn check_version(conn: &Connection, paths: &Paths, found: u32) -> Result<()> {
    match read(conn)? {
        Some(Identity { version, .. }) if version != found => {
            let store = paths.database.display();
            let message = format!("the header of {store} has version {found}, but its tables have {version}");
            Err(StoreError::Corrupt { message }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Repeats the version of the header. Part of the transaction that migrates to it.
pub(crate) fn set_version(conn: &Connection, version: u32) -> rusqlite::Result<()> {
    if has_table(conn)? {
        conn.execute(
            "INSERT INTO store_identity (no, version) VALUES (1, ?1)
                ON CONFLICT (no) DO UPDATE SET version = excluded.version",
            [version],
        )?;
    }
    Ok(())
}

/// Stores the path of a new database, or of one that has just been migrated. The caller holds the write lock.
pub(crate) fn add_path(conn: &Connection, paths: &Paths) -> Result<()> {
    if read(conn)?.is_some_and(|identity| identity.path.is_none()) { set_path(conn, paths) } else { Ok(()) }
}

/// Stores the path of the database, if the file was moved. The caller holds the write lock.
//
// Called before the first write and not when the store is opened, since a damaged store must not change before its repair.
pub(crate) fn set_path(conn: &Connection, paths: &Paths) -> Result<()> {
    // A path that is not UTF-8 cannot be stored, so other names of the file are not recognized.
    let path = paths.database.to_str();
    if read(conn)?.is_none_or(|identity| identity.path.as_deref() == path) {
        return Ok(());
    }
    conn.execute("UPDATE store_identity SET path = ?1 WHERE no = 1", params![path])?;
    // The path must be in the database itself, since another name of the file does not lead to the log.
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::db::Database;
    use crate::db::options::SqliteOptions;
    use crate::error::Error;

    fn open(path: &Path) -> Result<Database> {
        Database::open(path, SqliteOptions::default())
    }

    /// Sets the version in the header only.
    fn damage_version(path: &Path, version: u8) {
        let mut bytes = fs::read(path).unwrap();
        bytes[63] = version;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_damaged_version_is_not_taken_for_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(open(&path).unwrap());
        let supported = u8::try_from(schema::newest(schema::MIGRATIONS)).unwrap();
        for version in [supported - 1, 1] {
            damage_version(&path, version);
            let opened = open(&path).map(drop);
            assert!(
                matches!(opened, Err(Error::Rejected(StoreError::Corrupt { .. }))),
                "{version}: {opened:?}"
            );
        }
        for version in [supported + 1, 200] {
            damage_version(&path, version);
            let opened = open(&path).map(drop);
            assert!(
                matches!(opened, Err(Error::Rejected(StoreError::Newer { may_be_damage: true, .. }))),
                "{version}: {opened:?}"
            );
        }
        damage_version(&path, supported);
        let conn = Connection::open(&path).unwrap();
        conn.execute("UPDATE store_identity SET version = ?1", [supported + 1]).unwrap();
        conn.pragma_update(None, "user_version", supported + 1).unwrap();
        drop(conn);
        let opened = open(&path).map(drop);
        assert!(matches!(opened, Err(Error::Rejected(StoreError::Newer { may_be_damage: false, .. }))));
    }

    #[test]
    fn a_checkpoint_that_was_killed_is_not_taken_for_damage() {
        let directory = tempfile::tempdir().unwrap();
        let (path, killed) = (directory.path().join("a.db"), directory.path().join("killed.db"));
        let db = open(&path).unwrap();
        db.write("insert", |conn| {
            let insert =
                "INSERT INTO attachment (hash, stored_at, bytes) VALUES (x'01', 0, zeroblob(100000))";
            Ok(conn.execute(insert, [])?)
        })
        .unwrap();
        // The first page of the file already has the new number of pages, and the others are only in the log.
        let log = fs::read(directory.path().join("a.db-wal")).unwrap();
        let mut file = fs::read(&path).unwrap();
        let pages = u32::from_be_bytes(file[28..32].try_into().unwrap());
        file[28..32].copy_from_slice(&(pages + 25).to_be_bytes());
        fs::write(&killed, file).unwrap();
        fs::write(directory.path().join("killed.db-wal"), log).unwrap();
        let opened = open(&killed).unwrap();
        let count = "SELECT count(*) FROM attachment";
        let found: i64 =
            opened.read("count", |conn| Ok(conn.query_row(count, [], |row| row.get(0))?)).unwrap();
        assert_eq!(found, 1);
    }

    #[test]
    fn a_moved_store_has_its_new_path() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("a.db"), directory.path().join("b ü?.db"));
        drop(open(&old).unwrap());
        fs::rename(&old, &new).unwrap();
        let db = open(&new).unwrap();
        assert_eq!(db.paths.database, fs::canonicalize(&new).unwrap());
        db.write("nothing", |_| Ok(())).unwrap();
        let stored = db.read("read", read).unwrap();
        assert_eq!(stored.unwrap().path.as_deref(), new.canonicalize().unwrap().to_str());
        drop(db);
        // The old path is used again, for another store.
        fs::copy(&new, &old).unwrap();
        assert_eq!(open(&old).unwrap().paths.database, fs::canonicalize(&old).unwrap());
    }

    #[test]
    fn another_name_of_the_file_leads_to_the_same_store() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a.db"), directory.path().join("link.db"));
        let db = open(&path).unwrap();
        fs::hard_link(&path, &link).unwrap();
        let linked = open(&link).unwrap();
        assert_eq!((&linked.paths.database, &linked.paths.locks), (&db.paths.database, &db.paths.locks));
        let insert = "INSERT INTO attachment (hash, stored_at, bytes) VALUES (?1, 0, x'00')";
        for (db, hash) in [(&db, 1_u8), (&linked, 2)] {
            db.write("insert", move |conn| Ok(conn.execute(insert, params![vec![hash; 4]])?)).unwrap();
        }
        let count = "SELECT count(*) FROM attachment";
        for db in [&db, &linked] {
            let found: i64 =
                db.read("count", |conn| Ok(conn.query_row(count, [], |row| row.get(0))?)).unwrap();
            assert_eq!(found, 2);
        }
    }
}
