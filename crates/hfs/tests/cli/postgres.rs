//! A store on PostgreSQL, from the command line.

use std::path::Path;

use testkit::cli::Hfs;
use testkit::postgres::{GUARDED_ROLE, PostgresServer, TestDatabase};

use crate::hfs;

/// A database of its own for each test.
fn database() -> Option<TestDatabase> {
    let server = PostgresServer::shared(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    Some(server.new_database())
}

#[test]
fn two_machines_share_a_store_on_postgresql() {
    let Some(database) = database() else { return };
    let [here, there]: [Hfs; 2] = [0, 1].map(|_| hfs().env("HFS_STORE", database.url()));
    let _ = here.run(&["chat", "the weather in Lisbon"]).ok();
    let _ = there.run(&["chat", "-c", "and in Porto"]).ok();
    let info = there.run(&["store", "info", "--json"]).ok().json();
    assert_eq!((info["backend"].as_str(), info["sessions"].as_u64()), (Some("postgres"), Some(1)));
    assert_eq!(info["messages"], 4);
    let found = here.run(&["search", "porto", "--json"]).ok().json();
    assert_eq!(found["hits"].as_array().unwrap().len(), 1, "{found}");
    let _ = here.run(&["branch", "create", "@", "other"]).ok();
    let _ = there.run(&["undo", "@"]).ok();
    let _ = there.run(&["doctor"]);
    assert_eq!(there.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
    let _ = there.run(&["store", "vacuum"]).ok();
    assert_eq!(here.run(&["store", "repair", "--json"]).ok().json()["repaired"], serde_json::json!([]));
    let _ = here.run(&["store", "backup", "copy.db"]).ok();
    let _ = here.run(&["store", "backup", "copy.db"]).fails_with(4);
    let copy = here.run(&["--store", "copy.db", "store", "info", "--json"]).ok().json();
    assert_eq!((copy["backend"].as_str(), copy["messages"].as_u64()), (Some("sqlite"), Some(4)));
    assert_eq!(here.run(&["--store", "copy.db", "store", "verify", "--json"]).ok().json()["ok"], true);
    let purged = here.run(&["session", "delete", "--purge", "@"]).ok();
    assert!(purged.stderr.contains("vacuumed"), "{}", purged.describe());
    assert!(!here.hfs_home().join("hfs.db").exists());
}

#[test]
fn errors_of_a_server_say_what_to_do_and_show_no_password() {
    let Some(database) = database() else { return };
    let port = database.port();
    let guarded = format!("postgres://{GUARDED_ROLE}:wrongword@127.0.0.1:{port}/postgres");
    let missing = database.url().replace(database.name(), "missing");
    for (url, code, hint) in [
        (guarded.as_str(), 5, "PGPASSWORD"),
        (&missing, 8, "createdb"),
        ("postgres://me@127.0.0.1:1/x", 8, "check that it is running"),
        ("postgres://me:wrongword@127.0.0.1:1/x?colour=red", 6, "sslmode"),
    ] {
        for format in [&["session", "list", "--json"][..], &["session", "list"]] {
            let output = hfs().env("HFS_STORE", url).run(format).fails_with(code);
            assert!(output.stderr.contains(hint), "{}", output.describe());
            assert!(!output.stderr.contains("wrongword"), "{}", output.describe());
        }
    }
}

#[test]
fn a_password_comes_from_the_environment_and_is_not_saved() {
    let Some(database) = database() else { return };
    let url = format!("postgres://127.0.0.1:{}/{}", database.port(), database.name());
    let hfs = hfs().env("PGUSER", testkit::postgres::ROLE).env("PGPASSWORD", "sesameword");
    let _ = hfs.run(&["config", "set", "store.url", &url]).ok();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let info = hfs.run(&["store", "info"]).ok();
    assert!(info.stdout.contains("127.0.0.1") && !info.stdout.contains("sesameword"), "{}", info.describe());
    let log = std::fs::read_dir(hfs.hfs_home().join("logs")).into_iter().flatten().flatten();
    for file in log {
        assert!(!std::fs::read_to_string(file.path()).unwrap_or_default().contains("sesameword"));
    }
}
