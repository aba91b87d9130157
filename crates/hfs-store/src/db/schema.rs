//! The schema and its migrations.

use hfs_core::StoreError;
use rusqlite::{Connection, OptionalExtension};

use crate::db::paths::Paths;
use crate::db::{backup, identity};
use crate::error::{Error, Result};

/// The migrations: the n-th leads from version n - 1 to version n. Version 0 is an empty database.
pub(crate) const MIGRATIONS: &[&str] = &[
    concat!(include_str!("schema/0001.sql"), include_str!("schema/text_index_0001.sql")),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
    include_str!("schema/0007.sql"),
    include_str!("schema/0008.sql"),
    include_str!("schema/0009.sql"),
    concat!(
        include_str!("schema/0010.sql"),
        include_str!("schema/indexed_text_0010.sql"),
        include_str!("schema/text_index.sql")
    ),
    include_str!("schema/0011.sql"),
];

/// Replaces the text index by an empty one, as it is after all migrations.
pub(crate) const NEW_TEXT_INDEX: &str =
    concat!("DROP TABLE message_text;", include_str!("schema/text_index.sql"));

/// "hfs1", in the database's header.
pub(crate) const APPLICATION_ID: u32 = 0x6866_7331;

/// The version that `migrations` lead to.
pub(crate) fn newest(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// The version of the database; 0 if it is empty. Returns an error for a database of another program.
pub(crate) fn version(conn: &Connection, paths: &Paths) -> Result<u32> {
    let application: u32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application == APPLICATION_ID {
        return Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?);
    }
    let first_table = conn.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |_| Ok(())).optional()?;
    if application == 0 && first_table.is_none() {
        return Ok(0);
    }
    let path = paths.database.display();
    Err(StoreError::Invalid { message: format!("{path} is a database of another program") }.into())
}

/// Migrates the database to the newest version. Copies it first, unless it is empty. The caller must hold the write
/// lock.
pub(crate) fn migrate(conn: &Connection, paths: &Paths, migrations: &[&str]) -> Result<()> {
    let (found, supported) = (version(conn, paths)?, newest(migrations));
    if found > supported {
        let store = paths.database.display().to_string();
        return Err(StoreError::Newer { store, found, supported, may_be_damage: false }.into());
    }
    identity::check_version(conn, paths, found)?;
    if found == supported {
        return Ok(());
    }
    if found == 0 {
        // These can be set only before the first table is created.
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    } else {
        copy_before_migration(conn, paths, found)?;
    }
    for (step, sql) in (1_u32..).zip(migrations).filter(|(step, _)| *step > found) {
        apply(conn, step, sql)?;
    }
    Ok(())
}

fn apply(conn: &Connection, step: u32, sql: &str) -> Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let result = conn
        .execute_batch(sql)
        .and_then(|()| conn.pragma_update(None, "application_id", APPLICATION_ID))
        .and_then(|()| conn.pragma_update(None, "user_version", step))
        .and_then(|()| identity::set_version(conn, step))
        .and_then(|()| conn.execute_batch("COMMIT"));
    if result.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    result.map_err(Error::from)
}

/// Copies the database to `<db>.v<version>.bak`.
fn copy_before_migration(conn: &Connection, paths: &Paths, version: u32) -> Result<()> {
    let to = paths.unused_path(&format!(".v{version}.bak"));
    backup::copy(conn, &to)?;
    tracing::info!(copy = %to.display(), version, "the database was copied before its migration");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::db::connection::DbConnection;

    const FIRST: &str = "CREATE TABLE note (no INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;";
    const SECOND: &str = "ALTER TABLE note ADD COLUMN length INTEGER NOT NULL DEFAULT 0;
        UPDATE note SET length = length(text);";
    const BROKEN: &str = "CREATE TABLE other (no INTEGER PRIMARY KEY); INSERT INTO nowhere VALUES (1);";

    fn paths(directory: &Path) -> Arc<Paths> {
        let paths = Paths::new(&directory.join("a.db")).unwrap();
        paths.create_directories().unwrap();
        paths.create_database().unwrap();
        Arc::new(paths)
    }

    fn at_version(paths: &Arc<Paths>, migrations: &[&str]) -> DbConnection {
        let connection = DbConnection::open(paths).unwrap();
        migrate(&connection.conn, paths, migrations).unwrap();
        connection
    }

    #[test]
    fn an_old_database_is_copied_and_migrated() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let old = at_version(&paths, &[FIRST]);
        old.conn.execute("INSERT INTO note (text) VALUES ('hello')", []).unwrap();
        drop(old);

        let new = at_version(&paths, &[FIRST, SECOND]);
        let length: i64 = new.conn.query_row("SELECT length FROM note", [], |row| row.get(0)).unwrap();
        assert_eq!((length, version(&new.conn, &paths).unwrap()), (5, 2));

        let copy = Connection::open(directory.path().join("a.db.v1.bak")).unwrap();
        let text: String = copy.query_row("SELECT text FROM note", [], |row| row.get(0)).unwrap();
        assert_eq!((text.as_str(), version(&copy, &paths).unwrap()), ("hello", 1));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        drop(at_version(&paths, &[FIRST]));
        let connection = DbConnection::open(&paths).unwrap();
        assert!(migrate(&connection.conn, &paths, &[FIRST, SECOND, BROKEN]).is_err());
        assert_eq!(version(&connection.conn, &paths).unwrap(), 2);
        assert!(connection.conn.execute("INSERT INTO other VALUES (1)", []).is_err());
        migrate(&connection.conn, &paths, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_newer_database_is_rejected_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        drop(at_version(&paths, &[FIRST, SECOND]));
        let before = std::fs::read(&paths.database).unwrap();
        let rejected = migrate(&DbConnection::open(&paths).unwrap().conn, &paths, &[FIRST]);
        assert!(matches!(rejected, Err(Error::Rejected(StoreError::Newer { found: 2, supported: 1, .. }))));
        assert_eq!(std::fs::read(&paths.database).unwrap(), before);
    }

    #[test]
    fn every_real_migration_applies_and_leads_to_the_newest_version() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        for count in 1..=MIGRATIONS.len() {
            let connection = at_version(&paths, &MIGRATIONS[..count]);
            let check: String =
                connection.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(check, "ok");
        }
    }
}
