//! Statistics, and releasing space. Checks are in [`crate::store::verify`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{Maintenance, Problem, Store, StoreError, StoreInfo, StoreResult, Verification};

use crate::PostgresStore;
use crate::db::value::{Columns as _, values};
use crate::db::{Flush, Pace, Tx, migrations};
use crate::error::Result;
use crate::store::lookup::HIDDEN;
use crate::store::{messages, verify};

/// Minimum age at which an attachment without references is removed. A younger one may belong to a message that is not
/// yet saved.
const UNUSED_ATTACHMENT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl Maintenance for PostgresStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        self.db.read("read the store's statistics", |tx| {
            let counts = tx.one(
                &format!(
                    "SELECT count(*), coalesce(sum(messages), 0)::bigint, coalesce(sum(checkpoints), 0)::bigint
                    FROM activity WHERE {} AND state <> $1",
                    tx.owner_condition()
                ),
                &values![HIDDEN],
            )?;
            let sizes = tx.one(
                "SELECT (SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM state),
                    (SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
                        WHERE pg_class.relnamespace = to_regnamespace($1) AND pg_class.relkind = 'r')",
                &values![&self.db.options().schema],
            )?;
            Ok(StoreInfo {
                url: self.db.address().to_owned(),
                backend: "postgres",
                schema_version: migrations::newest(),
                sessions: counts.count(0)?,
                messages: counts.count(1)?,
                checkpoints: counts.count(2)?,
                bytes: sizes.count(1)?,
                checkpoint_bytes: sizes.count(0)?,
            })
        })
    }

    fn verify(&self) -> StoreResult<Verification> {
        self.db.read_at(Pace::Long, "check the store", verify::verify)
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        self.repair_rows()
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        let message = format!(
            "this version of hfs cannot copy a store on PostgreSQL to {}: use pg_dump for a backup",
            to.display()
        );
        Err(StoreError::Unsupported { message })
    }

    fn vacuum(&self) -> StoreResult<()> {
        self.remove_abandoned_imports()?;
        messages::finalize_abandoned(&self.db, None, None)?;
        let age = i64::try_from(UNUSED_ATTACHMENT_AGE.as_micros()).unwrap_or(i64::MAX);
        let before = self.db.options().clock.now().as_micros().saturating_sub(age);
        self.db.write_with(Pace::Long, Flush::Durable, "remove unused attachments", |tx| {
            tx.execute("DELETE FROM write_log WHERE written_at < now() - interval '1 hour'", &[])?;
            tx.execute(
                "DELETE FROM attachment WHERE stored_at < $1
                    AND NOT EXISTS (SELECT 1 FROM attachment_use
                        WHERE attachment_use.hash = attachment.hash AND attachment_use.owner = attachment.owner)",
                &values![before],
            )
        })?;
        let action = "vacuum the tables";
        let schema = &self.db.options().schema;
        let tables = self.db.read(action, |tx| {
            check_owns_tables(tx, schema)?;
            tables(tx, schema)
        })?;
        self.db.outside_transaction(action, |tx| {
            tables.iter().try_for_each(|table| tx.batch(&format!("VACUUM (ANALYZE) {schema}.{table}")))
        })
    }

    fn snapshot(&self) -> StoreResult<Arc<dyn Store>> {
        Ok(Arc::new(Self { db: Arc::new(self.db.snapshot()?) }))
    }

    fn is_reconnecting(&self) -> Option<bool> {
        Some(self.db.is_reconnecting())
    }
}

/// The names of all tables.
pub(crate) fn tables(tx: &Tx, schema: &str) -> Result<Vec<String>> {
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' ORDER BY 1";
    tx.rows(sql, &values![schema])?.iter().map(|row| row.text(0)).collect()
}

/// Returns an error unless this role owns the tables. The server would skip them in a VACUUM, and say so in a notice only.
pub(crate) fn check_owns_tables(tx: &Tx, schema: &str) -> Result<()> {
    let sql = "SELECT pg_has_role(relowner, 'USAGE'), pg_get_userbyid(relowner)::text FROM pg_class
        WHERE relnamespace = to_regnamespace($1) AND relname = 'session'";
    let row = tx.one(sql, &values![schema])?;
    if row.flag(0)? {
        return Ok(());
    }
    let owner = row.text(1)?;
    let source = format!(
        "the tables belong to the role {owner}, which alone can vacuum them; the server's autovacuum does it meanwhile"
    );
    Err(StoreError::Denied { action: "vacuum the tables".into(), source: source.into() }.into())
}
