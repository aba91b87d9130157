//! A store on PostgreSQL, from the command line.

use std::path::Path;

use testkit::cli::Hfs;
use testkit::postgres::{Client, GUARDED_ROLE, PgBouncer, PostgresServer, TestDatabase};

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

/// The block of a kind in the page about PostgreSQL.
fn block(kind: &str) -> String {
    let page = include_str!("../../../../docs/postgresql.md");
    let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// Executes the statements of a block one after the other, since some of them must not be in a transaction.
fn execute(client: &Client, kind: &str) {
    for statement in block(kind).split(";\n") {
        client.execute(statement);
    }
}

/// The names of the sessions that a command lists.
fn listed(hfs: &Hfs, options: &[&str]) -> Vec<String> {
    let listed = hfs.run(&[&["session", "list", "--all", "--json"], options].concat()).ok().json();
    let names = listed["sessions"].as_array().unwrap().iter();
    names.map(|session| session["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_recipe_for_a_team_gives_each_role_its_own_sessions_and_survives_the_loss_of_the_primary() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(primary) = PostgresServer::start(cache, &[]) else { return };
    let admin = Client::connect(&primary.url());
    execute(&admin, "sql superuser");
    let address = |role: &str, port: u16| format!("postgres://{role}@127.0.0.1:{port}/hfs");
    let at = |role: &str, password: &str, url: String| {
        hfs().env("HFS_STORE", url.replace(role, &format!("{role}:{password}")))
    };
    let direct = |role, password| at(role, password, address(role, primary.port()));
    let early = direct("ann", "choose-2").run(&["session", "list"]).fails_with(5);
    assert!(early.stderr.contains("store info"), "{}", early.describe());
    let _ = direct("hfs_owner", "choose-1").run(&["store", "info"]).ok();
    execute(&Client::connect(&address("hfs_owner:choose-1", primary.port())), "sql owner");
    execute(&admin, "sql primary");
    let standby = primary.start_standby(None);

    let users = admin.query(&block("sql userlist")).concat().join("\n");
    let configuration = |port: u16, users: &Path| {
        block("ini pgbouncer")
            .replace("db1.example port=5432", &format!("127.0.0.1 port={}", primary.port()))
            .replace("listen_addr = *", "listen_addr = 127.0.0.1\nunix_socket_dir =")
            .replace("6432", &port.to_string())
            .replace("/etc/pgbouncer/userlist.txt", &users.display().to_string())
    };
    let Some(proxy) = PgBouncer::start_with(configuration, &users) else { return };
    let [ann, carla] = [("ann", "choose-2"), ("carla", "choose-3")]
        .map(|(role, password)| at(role, password, address(role, proxy.port())));
    let _ = ann.run(&["chat", "the weather in Lisbon"]).ok();
    let _ = carla.run(&["chat", "the weather in Porto"]).ok();
    assert_eq!((listed(&ann, &[]).len(), listed(&carla, &[]).len()), (1, 1));
    assert_eq!(listed(&carla, &["--all-owners"]).len(), 2);
    let hits = |hfs: &Hfs, options: &[&str]| {
        let found = hfs.run(&[&["search", "lisbon", "--json"], options].concat()).ok().json();
        found["hits"].as_array().unwrap().len()
    };
    assert_eq!((hits(&carla, &[]), hits(&carla, &["--all-owners"])), (0, 1));
    let denied = ann.run(&["session", "list", "--all-owners"]).fails_with(5);
    assert!(denied.stderr.contains("ann") && !denied.stderr.contains("choose-2"), "{}", denied.describe());

    let both = format!("127.0.0.1:{},127.0.0.1", primary.port());
    let ann = at("ann", "choose-2", address("ann", standby.port()).replace("127.0.0.1", &both));
    drop(primary);
    execute(&Client::connect(&standby.url()), "sql promotion");
    assert_eq!(listed(&ann, &[]).len(), 1);
    let _ = ann.run(&["chat", "-c", "and in Faro"]).ok();
    assert_eq!(ann.run(&["store", "info", "--json"]).ok().json()["messages"], 4);
}

#[test]
fn a_file_has_no_owners() {
    let output = hfs().run(&["session", "list", "--all-owners"]).fails_with(2);
    assert!(output.stderr.contains("--all-owners"), "{}", output.describe());
}
