//! A role sees and changes its own sessions only, whatever it sends to the server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use hfs_core::{
    AttachmentStore as _, CandidateQuery, CompleteImport, CopyStore as _, ErrorExt as _, ErrorKind,
    ImportStore as _, ImportedSource, Maintenance as _, MessageStore as _, PageRequest, Position, ReplyDelta,
    RunStore as _, SearchIndex as _, SearchQuery, SessionFilter, SessionId, SessionStore as _, StoreError,
    SystemClock,
};
use hfs_postgres::{PostgresOptions, PostgresStore};
use testkit::builders::{Drafts, at, attachment, state_of};
use testkit::postgres::{Client, PostgresServer, TestDatabase};
use uuid::Uuid;

const SCHEMA: &str = "hfs";
const PASSWORD: &str = "secret";

/// Tables without rows of sessions.
const COMMON_TABLES: [&str; 2] = ["administrator", "schema_version"];

/// A database whose schema belongs to one role, with application roles that the page `postgresql.md` describes.
struct Team {
    database: TestDatabase,
    /// Makes the names of the page unique on the server, because roles belong to all databases.
    suffix: String,
}

impl Team {
    fn new(server: &PostgresServer) -> Self {
        let team = Self { database: server.new_database(), suffix: Uuid::now_v7().simple().to_string() };
        let admin = Client::connect(&team.database.url());
        let [owner, user, administrator] = ["owner", "user", "admin"].map(|name| team.role(name));
        admin.execute(&format!(
            "CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'; GRANT ALL ON DATABASE {} TO {owner};
            CREATE ROLE {user} NOLOGIN; CREATE ROLE {administrator} NOLOGIN",
            team.database.name(),
        ));
        for (name, groups) in
            [("ann", user.clone()), ("bob", user.clone()), ("carla", format!("{user}, {administrator}"))]
        {
            let name = team.role(name);
            admin.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE {groups}"));
        }
        team
    }

    /// Creates the schema, and gives the application roles their rights.
    fn migrate(&self) {
        drop(self.open("owner").unwrap());
        let (user, administrator) = (self.role("user"), self.role("admin"));
        self.client("owner").execute(&format!(
            "GRANT USAGE ON SCHEMA hfs TO {user};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA hfs TO {user};
            REVOKE INSERT, UPDATE, DELETE ON hfs.schema_version, hfs.administrator FROM {user};
            INSERT INTO hfs.administrator VALUES ('{administrator}')"
        ));
    }

    fn role(&self, name: &str) -> String {
        format!("{name}_{}", self.suffix)
    }

    fn url(&self, name: &str) -> String {
        self.database.url_of(&format!("{}:{PASSWORD}", self.role(name)))
    }

    fn client(&self, name: &str) -> Client {
        Client::connect(&self.url(name))
    }

    fn open(&self, name: &str) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(
            &self.url(name),
            &PostgresOptions { clock: Arc::new(SystemClock), ..PostgresOptions::default() },
        )
    }

    fn open_for_all_owners(&self, name: &str) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(
            &self.url(name),
            &PostgresOptions { all_owners: true, ..PostgresOptions::default() },
        )
    }
}

/// What one role has stored: at least one row in every table of a session.
struct Stored {
    session: SessionId,
    position: Position,
}

fn fill(store: &PostgresStore, make: &Drafts) -> Stored {
    let shared = attachment(b"picture");
    let session = store.create_session(&make.session("secret plan")).unwrap();
    store.put_attachment(&shared).unwrap();
    let here = at(session.current_branch, 0);
    let here =
        store.append(here, &[make.user("the hidden zeppelin"), make.full_message(&shared)]).unwrap().position;
    hfs_core::CheckpointStore::create_checkpoint(store, &make.checkpoint(here, state_of(&["secret"])), 10)
        .unwrap();
    store.save_run(&make.run(here.branch)).unwrap();
    let source = ImportedSource { fingerprint: [1; 32], sessions: vec![session.id] };
    store
        .save_imported_sources(&[CompleteImport { path: "/home/ann/a".into(), source, resume_point: None }])
        .unwrap();
    let purged = store.create_session(&make.session("purged")).unwrap();
    store.purge_session(purged.id).unwrap();
    let reply = store.begin_reply(here, &make.assistant("")).unwrap();
    store.extend_reply(reply, &[ReplyDelta::text("half")]).unwrap();
    Stored { session: session.id, position: here }
}

fn error<T>(result: Result<T, StoreError>) -> (ErrorKind, String) {
    let Err(error) = result else { panic!("it succeeded") };
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    (error.kind(), format!("{error}: {cause}"))
}

#[test]
fn another_role_sees_and_writes_no_row_of_any_table() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    team.migrate();
    let ann = team.open("ann").unwrap();
    let _ = fill(&ann, &Drafts::new(1));
    let (admin, bob) = (Client::connect(&team.database.url()), team.client("bob"));
    let tables = admin.query("SELECT tablename FROM pg_tables WHERE schemaname = 'hfs' ORDER BY 1");
    assert!(tables.len() > 15, "{tables:?}");
    for table in tables.iter().flatten().filter(|table| !COMMON_TABLES.contains(&table.as_str())) {
        let row = admin.query(&format!("SELECT row_to_json({table}) FROM hfs.{table} LIMIT 1"));
        let row = row.first().unwrap_or_else(|| panic!("{table} has no row")).first().unwrap();
        let row = row.replace('\'', "''");
        let count =
            |client: &Client| client.query(&format!("SELECT count(*) FROM hfs.{table}")).remove(0).remove(0);
        let before = count(&admin);
        // Bob's own start has written nothing yet.
        assert_eq!(count(&bob), "0", "{table}");
        let column = bob.query(&format!(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'hfs.{table}'::regclass AND attnum > 0
                AND attidentity = '' AND NOT attisdropped LIMIT 1"
        ));
        let column = &column[0][0];
        bob.execute(&format!("UPDATE hfs.{table} SET {column} = {column}"));
        bob.execute(&format!("DELETE FROM hfs.{table}"));
        let inserted = bob.try_execute(&format!(
            "INSERT INTO hfs.{table} OVERRIDING SYSTEM VALUE
                SELECT * FROM json_populate_record(NULL::hfs.{table}, '{row}')"
        ));
        let rejected = inserted.expect_err(table);
        assert!(rejected.contains("row-level security"), "{table}: {rejected}");
        assert_eq!(count(&admin), before, "{table}");
    }
    for table in COMMON_TABLES {
        assert!(
            bob.try_execute(&format!("DELETE FROM hfs.{table}")).unwrap_err().contains("42501"),
            "{table}"
        );
    }
    for statement in ["CREATE TABLE hfs.mine ()", "CREATE TABLE public.mine ()", "DROP TABLE hfs.message"] {
        assert!(bob.try_execute(statement).unwrap_err().contains("42501"), "{statement}");
    }
    // The function that searches on behalf of roles also hides what is not theirs.
    let found = "SELECT count(*) FROM hfs.entries_with('''wzeppelin'''::tsquery)";
    assert_eq!((bob.query(found)[0][0].as_str(), team.client("ann").query(found)[0][0].as_str()), ("0", "1"));
    bob.execute("SET hfs.all_owners = on");
    assert_eq!(bob.query(found)[0][0], "0");
    assert_eq!(bob.query("SELECT count(*) FROM hfs.message")[0][0], "0");
    assert!(ann.verify().unwrap().is_ok());
}

#[test]
fn a_store_shows_and_changes_the_sessions_of_its_role_only() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    team.migrate();
    let [ann, bob] = ["ann", "bob"].map(|name| team.open(name).unwrap());
    let make = Drafts::new(1);
    let of_ann = fill(&ann, &make);
    let of_bob = fill(&bob, &Drafts::new(2));
    let hidden = SearchQuery { text: "zeppelin".into(), limit: 10, ..SearchQuery::default() };
    for (store, own, other) in [(&ann, &of_ann, &of_bob), (&bob, &of_bob, &of_ann)] {
        let listed = store.list_sessions(&SessionFilter::default(), &PageRequest::first(10)).unwrap();
        assert_eq!(listed.items.iter().map(|item| item.session.id).collect::<Vec<_>>(), [own.session]);
        let found = store.search(&hidden).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.session).collect::<Vec<_>>(), [own.session]);
        let candidates =
            CandidateQuery { terms: hidden.terms(), sessions: SessionFilter::default(), except: None };
        assert_eq!(store.find_candidates(&candidates).unwrap().found.len(), 1);
        let info = store.info().unwrap();
        assert_eq!((info.sessions, info.messages), (1, 3));
        assert_eq!(error(store.get_session(other.session)).0, ErrorKind::NotFound);
        assert_eq!(error(store.append(other.position, &[make.user("intruder")])).0, ErrorKind::NotFound);
        assert_eq!(error(store.purge_session(other.session)).0, ErrorKind::NotFound);
        // Equal attachments and states of both are stored for each.
        assert_eq!(store.get_attachment(attachment(b"picture").hash).unwrap(), b"picture");
        assert_eq!(store.list_purged_sources().unwrap().len(), 2);
        let verification = store.verify().unwrap();
        assert!(verification.is_ok(), "{:?}", verification.problems);
    }
    bob.purge_session(of_bob.session).unwrap();
    assert_eq!(ann.get_attachment(attachment(b"picture").hash).unwrap(), b"picture");
    assert_eq!(error(bob.get_attachment(attachment(b"picture").hash)).0, ErrorKind::NotFound);
    let (kind, text) = error(ann.vacuum());
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains(&team.role("owner")), "{text}");
}

#[test]
fn an_administrator_sees_and_deletes_the_sessions_of_all_owners_when_asked_to() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    team.migrate();
    let ann = team.open("ann").unwrap();
    let make = Drafts::new(1);
    let of_ann = fill(&ann, &make);
    let listed = |store: &PostgresStore| {
        store.list_sessions(&SessionFilter::default(), &PageRequest::first(10)).unwrap().items.len()
    };
    let hidden = SearchQuery { text: "zeppelin".into(), limit: 10, ..SearchQuery::default() };
    for administrator in ["carla", "owner"] {
        let own_only = team.open(administrator).unwrap();
        assert_eq!((listed(&own_only), own_only.search(&hidden).unwrap().total), (0, 0), "{administrator}");
        let store = team.open_for_all_owners(administrator).unwrap();
        assert_eq!((listed(&store), store.search(&hidden).unwrap().total), (1, 1), "{administrator}");
        assert_eq!(store.get_session(of_ann.session).unwrap().messages, 3);
        let (kind, text) = error(store.append(of_ann.position, &[make.user("intruder")]));
        assert_eq!(kind, ErrorKind::Denied);
        assert!(text.contains(&team.role("ann")), "{text}");
        assert!(store.verify().unwrap().is_ok());
    }
    let (kind, text) = error(team.open_for_all_owners("bob"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("--all-owners") && text.contains("hfs.administrator"), "{text}");
    let store = team.open_for_all_owners("carla").unwrap();
    store.purge_session(of_ann.session).unwrap();
    assert_eq!((listed(&ann), ann.info().unwrap().messages), (0, 0));
    // Three sources of the purged session: its id, its branch and its origin, or what it had of them.
    assert!(ann.list_purged_sources().unwrap().len() > 2);
    let admin = Client::connect(&team.database.url());
    for table in [
        "activity",
        "session",
        "branch",
        "message",
        "message_text",
        "checkpoint",
        "operation",
        "run",
        "reply",
        "reply_piece",
        "state",
        "attachment",
        "attachment_use",
    ] {
        let count = admin.query(&format!("SELECT count(*) FROM {SCHEMA}.{table}"));
        assert_eq!(count[0][0], "0", "{table}");
    }
}

#[test]
fn a_role_without_rights_is_told_who_must_create_the_schema() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    let (kind, text) = error(team.open("ann"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains("store info") && text.contains("no tables of hfs yet"), "{text}");
    team.migrate();
    team.client("owner").execute("UPDATE hfs.schema_version SET version = 10");
    let (kind, text) = error(team.open("ann"));
    assert_eq!(kind, ErrorKind::Denied);
    assert!(text.contains(&team.role("owner")) && text.contains("has version 10"), "{text}");
}

#[test]
fn a_temporary_table_does_not_stand_in_for_one_that_policies_read() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    team.migrate();
    let of_ann = fill(&team.open("ann").unwrap(), &Drafts::new(1));
    let bob = team.client("bob");
    bob.execute(&format!(
        "CREATE TEMPORARY TABLE administrator AS SELECT current_user::text AS role;
        CREATE TEMPORARY TABLE activity AS SELECT '{}'::uuid AS session, current_user::text AS owner;
        SET hfs.all_owners = on",
        of_ann.session.as_uuid()
    ));
    assert_eq!(bob.query("SELECT hfs.sees_all_owners()::text")[0][0], "false");
    assert_eq!(bob.query("SELECT count(*) FROM hfs.message")[0][0], "0");
    let found = "SELECT count(*) FROM hfs.entries_with('''wzeppelin'''::tsquery)";
    assert_eq!(bob.query(found)[0][0], "0", "where words of others are");
}

#[test]
fn a_role_cannot_refer_to_the_content_of_another() {
    let Some(server) = test_server::server() else { return };
    let team = Team::new(server);
    team.migrate();
    for (name, make) in [("ann", Drafts::new(1)), ("bob", Drafts::new(2))] {
        let _ = fill(&team.open(name).unwrap(), &make);
    }
    let bob = team.client("bob");
    // Whether that succeeds would tell what others have, and it would keep them from deleting it.
    for table in ["attachment_use", "checkpoint", "branch"] {
        let changed = bob.try_execute(&format!("UPDATE hfs.{table} SET owner = '{}'", team.role("ann")));
        let rejected = changed.expect_err(table);
        assert!(rejected.contains("row-level security"), "{table}: {rejected}");
    }
}
