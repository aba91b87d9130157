//! The schema and its migrations.
//!
//! A migration has the number of the version of SQLite's schema that it corresponds to, or a number that SQLite leaves out. The
//! first one creates what SQLite's first ten have led to; SQLite has no owners.

use hfs_core::StoreError;

use crate::db::value::{Columns as _, values};
use crate::db::{Access, Database, Flush, Pace, Tx};
use crate::error::{Error, Result};

/// The migrations, each with the version that it leads to.
const MIGRATIONS: &[(u32, &str)] =
    &[(10, include_str!("schema/0010.sql")), (12, include_str!("schema/0012.sql"))];

/// Oldest version of PostgreSQL on which the store is tested, as the server writes it.
const OLDEST_SERVER: i64 = 15_00_00;

/// Lets only one process migrate the schema at a time: "hfs1" as a number.
const MIGRATION_LOCK: i64 = 0x6866_7331;

/// The version that the migrations lead to.
pub(crate) const fn newest() -> u32 {
    match MIGRATIONS.last() {
        Some((version, _)) => *version,
        None => 0,
    }
}

/// Checks that the server can hold a store, and migrates the schema to the newest version.
pub(crate) fn migrate(db: &Database) -> Result<()> {
    let schema = db.options().schema.clone();
    // A server that is not running is reported at once. One that is restarting, or that has lost the connection, is not.
    let may_pass = |error: &Error| error.is_transient() && !error.is_unreachable();
    let found = db.retry_if(may_pass, || {
        let tx = db.server.begin(Access::Read, Pace::Short, Flush::Durable, None)?;
        let found = check_server(db, &tx).and_then(|()| version(&tx, &schema));
        tx.end(found)
    })?;
    if found == Some(newest()) {
        return check_role(db, &schema);
    }
    check_version(db, found)?;
    check_may_migrate(db, &schema, found)?;
    db.try_write_without_id(|tx| {
        tx.rows("SELECT pg_advisory_xact_lock($1)", &values![MIGRATION_LOCK])?;
        let known = tx.one("SELECT to_regnamespace($1) IS NOT NULL", &values![schema.as_str()])?;
        if !known.flag(0)? {
            tx.batch(&format!("CREATE SCHEMA {schema}"))?;
        }
        let found = version(tx, &schema)?;
        check_version(db, found)?;
        if found.is_none() {
            tx.batch("CREATE TABLE schema_version (version integer NOT NULL)")?;
            tx.batch("INSERT INTO schema_version VALUES (0)")?;
        }
        for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| Some(*version) > found) {
            tx.batch(sql)?;
            tx.execute("UPDATE schema_version SET version = $1", &values![*version])?;
        }
        Ok(())
    })?;
    check_role(db, &schema)
}

/// Returns an error with the way out if this role may not create or migrate the schema. Application roles have no such right.
fn check_may_migrate(db: &Database, schema: &str, found: Option<u32>) -> Result<()> {
    let (owner, database, may_migrate) = db.retry(|| {
        let tx = db.server.begin(Access::Read, Pace::Short, Flush::Durable, None)?;
        let row = tx.one(
            "SELECT pg_get_userbyid(pg_namespace.nspowner)::text, current_database()::text,
                coalesce(pg_has_role(pg_namespace.nspowner, 'USAGE'),
                    has_database_privilege(current_database(), 'CREATE'))
                FROM (VALUES ($1)) AS schema (name) LEFT JOIN pg_namespace ON nspname = schema.name",
            &values![schema],
        );
        let facts = row.and_then(|row| Ok((row.opt_text(0)?, row.text(1)?, row.flag(2)?)));
        tx.end(facts)
    })?;
    if may_migrate {
        return Ok(());
    }
    let newest = newest();
    let state = match found {
        Some(found) => {
            format!("the schema {schema} has version {found}, and this version of hfs needs {newest}")
        }
        None => format!("the schema {schema} has no tables of hfs yet"),
    };
    let owner = owner.unwrap_or_else(|| "OWNER".into());
    let message = format!(
        "{state}, and this role must not change it: let its owner run hfs --store postgres://{owner}@HOST/{database} store \
         info, then grant the rights on new tables as docs/postgresql.md shows"
    );
    Err(StoreError::Denied { action: format!("migrate {}", db.address()), source: message.into() }.into())
}

/// Notes whether the server hides the sessions of other owners from this role, and checks that it may see what it asks for.
fn check_role(db: &Database, schema: &str) -> Result<()> {
    let all_owners = db.options().all_owners;
    let (has_row_security, is_administrator, user, session_user) = db.retry(|| {
        let tx = db.server.begin(Access::Read, Pace::Short, Flush::Durable, None)?;
        let sql = format!(
            "SELECT row_security_active('{schema}.activity'), is_administrator(current_user), current_user::text, session_user::text"
        );
        let row = tx.one(&sql, &[]);
        let facts = row.and_then(|row| Ok((row.flag(0)?, row.flag(1)?, row.text(2)?, row.text(3)?)));
        tx.end(facts)
    })?;
    db.set_row_security(has_row_security);
    let denied = |message: String| {
        Err(StoreError::Denied { action: format!("use {}", db.address()), source: message.into() }.into())
    };
    if !has_row_security {
        return Ok(());
    }
    if user != session_user {
        return denied(format!(
            "the role is {user}, and the connection was opened by {session_user}: connect as the role itself, without SET ROLE"
        ));
    }
    if all_owners && !is_administrator {
        return denied(format!(
            "the role {user} sees its own sessions only: leave out --all-owners, or let the owner of the schema run INSERT \
             INTO {schema}.administrator VALUES ('{user}')"
        ));
    }
    Ok(())
}

fn check_server(db: &Database, tx: &Tx) -> Result<()> {
    let row = tx.one(
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'),
            current_setting('server_encoding'), current_setting('synchronous_commit')",
        &[],
    )?;
    let (number, version, encoding) = (row.int(0)?, row.text(1)?, row.text(2)?);
    if number < OLDEST_SERVER {
        let message = format!(
            "{} is PostgreSQL {version}, and hfs needs 15 or later: upgrade the server",
            db.address()
        );
        return Err(StoreError::Unsupported { message }.into());
    }
    if encoding != "UTF8" {
        let message = format!(
            "the database of {} has the encoding {encoding}, and hfs needs UTF8: create one with \
             createdb --encoding=UTF8 --template=template0",
            db.address()
        );
        return Err(StoreError::Unsupported { message }.into());
    }
    db.set_asynchronous(row.text(3)? == "off");
    Ok(())
}

/// The version of the schema; `None` if it does not exist.
fn version(tx: &Tx, schema: &str) -> Result<Option<u32>> {
    let table = format!("{schema}.schema_version");
    if !tx.one("SELECT to_regclass($1) IS NOT NULL", &values![table.as_str()])?.flag(0)? {
        return Ok(None);
    }
    let version = tx.one("SELECT max(version) FROM schema_version", &[])?.opt_int(0)?;
    Ok(version.and_then(|version| u32::try_from(version).ok()))
}

fn check_version(db: &Database, found: Option<u32>) -> Result<()> {
    match found {
        Some(found) if found > newest() => {
            let store = db.address().to_owned();
            Err(StoreError::Newer { store, found, supported: newest(), may_be_damage: false }.into())
        }
        _ => Ok(()),
    }
}
