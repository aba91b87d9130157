//! Many clients on few sessions: conflicts are reported, and nothing interleaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "support/test_server.rs"]
mod test_server;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use hfs_core::{
    BranchId, Maintenance as _, MessageRange, MessageStore as _, PageRequest, SessionFilter,
    SessionStore as _, StoreError, SystemClock,
};
use testkit::builders::{Drafts, at};
use testkit::postgres::TestDatabase;

const SESSIONS: usize = 4;
const PROCESSES: u64 = 2;
const CLIENTS_PER_PROCESS: u64 = 8;
/// Number of exchanges that each client stores.
const EXCHANGES: usize = 15;

/// Variables of the processes that write: the address of the store, and the number of their first client.
const ADDRESS: &str = "HFS_TEST_CLIENTS_ADDRESS";
const FIRST: &str = "HFS_TEST_CLIENTS_FIRST";

const NAME: &str = "clients_of_two_processes_on_few_sessions_conflict_and_do_not_interleave";

/// Appends exchanges of two messages each at the newest position that the client knows. Prints the number that is stored, and
/// the number of conflicts.
fn write(url: &str, client: u64) {
    let store = test_server::open(url, "hfs", Arc::new(SystemClock));
    let sessions = store.list_sessions(&SessionFilter::default(), &PageRequest::first(10)).unwrap().items;
    let mut branches: Vec<BranchId> = sessions.iter().map(|item| item.session.current_branch).collect();
    branches.sort_unstable();
    let branch = branches[usize::try_from(client).unwrap() % SESSIONS];
    let make = Drafts::new(1000 + client);
    let (mut here, mut stored, mut conflicts) = (at(branch, 0), 0, 0);
    while stored < EXCHANGES {
        let exchange = ["question", "answer"].map(|what| make.user(&format!("{client} {stored} {what}")));
        match store.append(here, &exchange) {
            Ok(appended) => {
                here = appended.position;
                stored += 1;
            }
            Err(StoreError::HeadMismatch { expected, found }) => {
                assert_eq!(expected, here);
                assert!(found.head > here.head, "{found:?}");
                here = found;
                conflicts += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("client {client} {stored} {conflicts}");
}

fn start(database: &TestDatabase, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(ADDRESS, database.url())
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a client has stored, and its conflicts, by its number.
fn results(process: &mut Child) -> BTreeMap<u64, (usize, usize)> {
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let results = lines.filter_map(|line| {
        let mut numbers = line.strip_prefix("client ")?.split(' ').map(|number| number.parse().unwrap());
        let (client, stored, conflicts) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((u64::try_from(client).unwrap(), (stored, conflicts)))
    });
    let results = results.collect();
    assert!(process.wait().unwrap().success());
    results
}

#[test]
fn clients_of_two_processes_on_few_sessions_conflict_and_do_not_interleave() {
    if let (Ok(url), Ok(first)) = (std::env::var(ADDRESS), std::env::var(FIRST)) {
        let first: u64 = first.parse().unwrap();
        thread::scope(|scope| {
            for client in first..first + CLIENTS_PER_PROCESS {
                let url = url.as_str();
                scope.spawn(move || write(url, client));
            }
        });
        return;
    }
    let Some(server) = test_server::server() else { return };
    let database = server.new_database();
    let store = test_server::open(&database.url(), "hfs", Arc::new(SystemClock));
    let make = Drafts::new(1);
    let sessions: Vec<_> = (0..SESSIONS).map(|_| store.create_session(&make.session("s")).unwrap()).collect();
    let mut processes: Vec<Child> =
        (0..PROCESSES).map(|process| start(&database, process * CLIENTS_PER_PROCESS)).collect();
    let results: BTreeMap<u64, (usize, usize)> = processes.iter_mut().flat_map(results).collect();
    assert_eq!(results.len(), 16);
    let conflicts: usize = results.values().map(|(_, conflicts)| conflicts).sum();
    let stored: usize = results.values().map(|(stored, _)| stored).sum();
    println!("{stored} exchanges, {conflicts} conflicts");
    assert!(conflicts > 0, "all clients have written one after the other");
    let mut found: BTreeMap<u64, usize> = BTreeMap::new();
    for session in sessions {
        let messages = store.read_messages(session.current_branch, MessageRange::From(1, u32::MAX)).unwrap();
        let texts: Vec<String> = messages.iter().map(|message| message.content.text()).collect();
        for exchange in texts.chunks(2) {
            let start = exchange[0].strip_suffix(" question").unwrap();
            assert_eq!(exchange[1], format!("{start} answer"), "the messages of an exchange are adjacent");
            let (client, number) = start.split_once(' ').unwrap();
            let next = found.entry(client.parse().unwrap()).or_default();
            assert_eq!(number, next.to_string(), "each is stored once, and in order");
            *next += 1;
        }
    }
    let acknowledged: BTreeMap<u64, usize> =
        results.iter().map(|(client, (stored, _))| (*client, *stored)).collect();
    assert_eq!(found, acknowledged);
    assert!(store.verify().unwrap().is_ok());
}
