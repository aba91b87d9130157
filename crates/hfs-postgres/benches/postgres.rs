//! Throughput beside pgbench, which inserts the same rows over as many connections to the same server, and the cost of operations
//! in a database of a million messages beside a nearly empty one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

#[path = "../tests/support/many_sessions.rs"]
mod many_sessions;
#[path = "../tests/support/test_server.rs"]
mod test_server;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchStore as _, CheckpointStore as _, Clock as _, MessageRange, MessageStore as _, OperationKind,
    PageRequest, Position, SearchIndex as _, SearchQuery, SessionFilter, SessionId, SessionStore as _,
    SystemClock,
};
use hfs_postgres::PostgresStore;
use many_sessions::{MESSAGES, multiply, original};
use testkit::bench::{Bench, Target, Unit};
use testkit::builders::{Drafts, at};
use testkit::postgres::{Client, PostgresServer};

/// Number of connections that write at the same time.
const CLIENTS: u64 = 8;
/// Sessions of the large database, and of the small one: as many as a list shows.
const SESSIONS: usize = 20_000;
const FEW_SESSIONS: u32 = 60;

const TEXT: &str = "The connection is refused because the server listens on the loopback interface only. Set listen_addresses \
    in postgresql.conf, allow the network in pg_hba.conf, and restart it; then psql connects from the other host as well.";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("postgres");
    // As an installed server: commits wait for the disk.
    let settings = ["fsync=on", "full_page_writes=on", "shared_buffers=128MB", "max_wal_size=1GB"];
    let Some(server) = PostgresServer::start(Path::new(env!("CARGO_TARGET_TMPDIR")), &settings) else {
        return bench.skip("no PostgreSQL server is installed");
    };
    throughput(&mut bench, &server);
    sizes(&mut bench, &server);
    bench.finish()
}

/// A session and the end of its branch.
fn new_session(store: &PostgresStore, make: &Drafts) -> (SessionId, Position) {
    let session = store.create_session(&make.session("s")).unwrap();
    (session.id, at(session.current_branch, 0))
}

/// Appends by threads with a store each, and transactions of pgbench that write the same rows, in turns.
fn throughput(bench: &mut Bench, server: &PostgresServer) {
    const ROW: &str = "durable appends by 8 clients";
    let Some(_) = PostgresServer::program("pgbench").filter(|_| bench.wants(ROW)) else { return };
    let schema = PostgresServer::new_schema();
    let open = || test_server::open(&server.url(), &schema, Arc::new(SystemClock));
    let stores: Vec<PostgresStore> = (0..CLIENTS).map(|_| open()).collect();
    let mut places: Vec<(Drafts, Position)> = Vec::new();
    let mut sessions = Vec::new();
    for (number, store) in (0..).zip(&stores) {
        let make = Drafts::new(100 + number);
        places.push((make, new_session(store, &Drafts::new(200 + number)).1));
        sessions.push(new_session(store, &Drafts::new(300 + number)).0.as_uuid().to_string());
    }
    // The rows of one message, which pgbench inserts with other keys.
    let make = Drafts::new(400);
    let (template, here) = new_session(&stores[0], &make);
    stores[0].append(here, &[make.user(TEXT)]).unwrap();
    let script = script(&Client::connect(&server.url()), &schema, &template, &sessions);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("append.sql");
    std::fs::write(&path, script).unwrap();
    // pgbench runs as another user.
    let mut process = std::process::Command::new("chmod");
    assert!(process.args(["-R", "a+rX"]).arg(folder.path()).status().unwrap().success());

    let seconds = bench.size(5, 1);
    let (mut ours, mut peer, mut seq) = (0.0, 0.0, 0);
    for _ in 0..bench.size(3, 1) {
        ours += appends(&stores, &mut places, Duration::from_secs(seconds as u64));
        // Each run of pgbench continues with other keys.
        seq += 1_000_000;
        peer += transactions(server, &path, seconds, seq);
    }
    bench.amounts(ROW, ours, peer, Unit::PerSecond, Target::AtLeast(0.5));
}

/// Appends messages until the time is over. Returns how many per second.
fn appends(stores: &[PostgresStore], places: &mut [(Drafts, Position)], time: Duration) -> f64 {
    let started = Instant::now();
    let count: u32 = thread::scope(|scope| {
        let writers = stores.iter().zip(places).map(|(store, (make, here))| {
            scope.spawn(move || {
                let mut count = 0;
                while started.elapsed() < time {
                    *here = store.append(*here, &[make.user(TEXT)]).unwrap().position;
                    count += 1;
                }
                count
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    f64::from(count) / started.elapsed().as_secs_f64()
}

/// A transaction of pgbench with the rows that an append writes.
fn script(client: &Client, schema: &str, template: &SessionId, sessions: &[String]) -> String {
    let session = template.as_uuid();
    let row = |sql: &str| client.query(sql).remove(0).remove(0);
    let body = row(&format!("SELECT encode(body, 'hex') FROM {schema}.message WHERE session = '{session}'"));
    let terms = row(&format!("SELECT terms FROM {schema}.message_text WHERE session = '{session}'"));
    let terms = terms.replace('\'', "''");
    let sessions = sessions.join("','");
    format!(
        "\\set seq :seq + 1
BEGIN;
INSERT INTO {schema}.write_log (id) VALUES (gen_random_uuid());
INSERT INTO {schema}.message (session, branch, seq, id, role, status, created_at, body) VALUES ((ARRAY['{sessions}'])[:client_id + 1]::uuid, 0, :seq, gen_random_uuid(), 0, 0, 1, '\\x{body}');
INSERT INTO {schema}.message_text (session, branch, seq, words, terms) VALUES ((ARRAY['{sessions}'])[:client_id + 1]::uuid, 0, :seq, 30, '{terms}');
UPDATE {schema}.activity SET updated_at = greatest(updated_at, :seq), messages = messages + 1, words = words + 30 WHERE session = (ARRAY['{sessions}'])[:client_id + 1]::uuid;
COMMIT;
"
    )
}

/// Runs pgbench. Returns the number of transactions per second.
fn transactions(server: &PostgresServer, script: &Path, seconds: usize, seq: usize) -> f64 {
    let clients = CLIENTS.to_string();
    let output = PostgresServer::program("pgbench")
        .unwrap()
        .args(["--no-vacuum", "--client", &clients, "--jobs", &clients, "--time", &seconds.to_string()])
        .args(["--define", &format!("seq={seq}"), "--protocol=extended", "--file"])
        .arg(script)
        .args([
            "--host=127.0.0.1",
            "--username",
            testkit::postgres::ROLE,
            "--port",
            &server.port().to_string(),
        ])
        .arg("postgres")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| unreachable!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A database with sessions of 50 messages each, one of which has a word of its own.
struct Sized {
    store: PostgresStore,
    make: Drafts,
    session: SessionId,
    place: Position,
}

impl Sized {
    fn new(server: &PostgresServer, sessions: u32) -> Self {
        let schema = PostgresServer::new_schema();
        let store = test_server::open(&server.url(), &schema, Arc::new(SystemClock));
        let make = Drafts::new(1);
        original(&store, &make);
        multiply(&Client::connect(&server.url()), &schema, sessions);
        let listed = store.list_sessions(&SessionFilter::default(), &PageRequest::first(50)).unwrap();
        let session = &listed.items[25].session;
        let (session, branch) = (session.id, session.current_branch);
        let place = store.append(at(branch, MESSAGES as u64), &[make.user("needle")]).unwrap().position;
        Self { store, make, session, place }
    }

    fn list(&self) {
        let listed = self.store.list_sessions(&SessionFilter::default(), &PageRequest::first(50)).unwrap();
        assert_eq!(listed.items.len(), 50);
    }

    fn open(&self) {
        self.store.get_session(self.session).unwrap();
        self.store.list_branches(self.session).unwrap();
        self.store.get_branch(self.place.branch).unwrap();
        self.store.read_messages(self.place.branch, MessageRange::Newest(100)).unwrap();
        self.store.list_checkpoints(self.session).unwrap();
    }

    fn search(&self) {
        let query = SearchQuery { text: "needle".into(), limit: 10, ..SearchQuery::default() };
        assert_eq!(self.store.search(&query).unwrap().total, 1);
    }

    fn rewind(&self) {
        let checkpoint = self.store.list_checkpoints(self.session).unwrap().remove(0);
        let name = format!("rewound-{}", uuid::Uuid::now_v7());
        let branch = self.make.branch(&name, at(self.place.branch, checkpoint.seq));
        let (kind, now) = (OperationKind::Rewind, self.make.clock.now());
        let _ = self.store.create_branch(&branch, kind, Some(checkpoint.id), now).unwrap();
    }
}

/// Operations on one session, and a search, among many sessions and among few.
fn sizes(bench: &mut Bench, server: &PostgresServer) {
    type Step = fn(&Sized);
    const ROWS: [(&str, Step); 4] = [
        ("list 50 of 20,000 sessions vs. 50 of 60", Sized::list),
        ("open one of 20,000 sessions vs. one of 60", Sized::open),
        ("search a rare word in 1,000,000 messages vs. in 3,000", Sized::search),
        ("rewind one of 20,000 sessions vs. one of 60", Sized::rewind),
    ];
    if !ROWS.iter().any(|(row, _)| bench.wants(row)) {
        return;
    }
    let many = u32::try_from(bench.size(SESSIONS, 100)).unwrap();
    let (large, small) = (Sized::new(server, many), Sized::new(server, FEW_SESSIONS));
    for (row, step) in ROWS {
        bench.pair(row).rounds(200).median(Target::AtMost(2.0)).run(|| step(&large), || step(&small));
    }
}
