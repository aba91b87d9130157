//! Checks that the tables, indexes, views and triggers are those that the migrations create.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::check::ProblemKind;
use crate::check::verify::Report;
use crate::db::schema;
use crate::error::Result;

/// Type, table and definition of an object of the schema, by name.
type Objects = BTreeMap<String, (String, String, String)>;

/// Reports objects that are missing or changed, and foreign ones that change what hfs writes. Foreign tables and views
/// do not.
pub(super) fn schema(conn: &Connection, report: &mut Report) -> Result<()> {
    let new = Connection::open_in_memory()?;
    schema::MIGRATIONS.iter().try_for_each(|sql| new.execute_batch(sql))?;
    let (mut found, expected) = (objects(conn)?, objects(&new)?);
    for (name, (kind, table, sql)) in expected {
        let place = format!("{kind} {name}");
        match found.remove(&name) {
            None => report.problem(ProblemKind::Schema, place, "it is missing"),
            Some((found_kind, found_table, found_sql)) => {
                if (found_kind, found_table, found_sql) != (kind, table, sql) {
                    report.problem(ProblemKind::Schema, place, "its definition was changed");
                }
            }
        }
    }
    for (name, (kind, table, _)) in found {
        if matches!(kind.as_str(), "trigger" | "index") {
            let detail = format!("another program created it on the table {table}");
            report.problem(ProblemKind::Schema, format!("{kind} {name}"), detail);
        }
    }
    Ok(())
}

fn objects(conn: &Connection) -> Result<Objects> {
    let mut statement = conn.prepare(
        "SELECT name, type, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*'",
    )?;
    let objects = statement.query_map([], |row| {
        let (name, sql): (String, String) = (row.get(0)?, row.get(3)?);
        let sql = if name.starts_with("message_text_") {
            // Another version of SQLite may create the tables of the text index in another way.
            String::new()
        } else {
            // An earlier hfs created the object with other comments and spaces.
            let lines = sql.lines().filter_map(|line| line.split("--").next());
            lines.flat_map(str::split_whitespace).collect()
        };
        Ok((name, (row.get(1)?, row.get(2)?, sql)))
    })?;
    Ok(objects.collect::<rusqlite::Result<_>>()?)
}
