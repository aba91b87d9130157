//! The server that tests share lives as long as a process uses it, also if processes are killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::postgres::{Client, PostgresServer};

/// Variable with the folder of the server, for a process that uses it until it is killed.
const USER: &str = "HFS_TEST_SERVER_USER";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A process that has joined the server, and its port.
fn user(cache: &Path) -> (Child, u16) {
    let name = "a_shared_server_ends_after_its_last_user_even_if_that_is_killed";
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(USER, cache)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("port ")?.parse().ok());
    (process, port.unwrap())
}

fn is_running(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The folder of a server's data.
fn data_of(port: u16) -> String {
    Client::connect(&PostgresServer::url_at(port)).query("SHOW data_directory").remove(0).remove(0)
}

fn wait_for_end(port: u16, data: &str) {
    let started = Instant::now();
    while is_running(port) || Path::new(data).exists() {
        assert!(started.elapsed() < TIMEOUT, "the server is still running");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_shared_server_ends_after_its_last_user_even_if_that_is_killed() {
    if let Some(cache) = std::env::var_os(USER).map(PathBuf::from) {
        let server = PostgresServer::shared(&cache).unwrap();
        println!("port {}", server.port());
        thread::sleep(TIMEOUT);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = PostgresServer::shared(folder.path()) else { return };
    let (mut other, port) = user(folder.path());
    assert_eq!(port, server.port(), "both use the same server");
    drop(server);
    // Longer than a server without users lives.
    thread::sleep(Duration::from_secs(5));
    let data = data_of(port);
    other.kill().unwrap();
    other.wait().unwrap();
    wait_for_end(port, &data);
    let again = PostgresServer::shared(folder.path()).unwrap();
    assert!(is_running(again.port()));
    // As `cargo clean` does, while the server is running.
    drop(folder);
    let (port, data) = (again.port(), data_of(again.port()));
    drop(again);
    wait_for_end(port, &data);
}
