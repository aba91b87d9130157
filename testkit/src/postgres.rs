//! PostgreSQL servers for tests, on free ports of the loopback interface, as an unprivileged user, with their data in
//! temporary folders.
//!
//! Most tests share one server ([`PostgresServer::shared`]) and use a schema or a database of their own. Tests that stop their
//! server, or that need other settings, start one of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test fails"
)]

mod client;
mod pgbouncer;
mod programs;
mod proxy;

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use client::Client;
pub use pgbouncer::PgBouncer;
use programs::{
    folder_name, free_port, give_away, is_executable, new_folder, programs, run, template, unprivileged,
    until_dropped, until_unused,
};
pub use proxy::{Fault, Proxy};

/// The role that owns everything. It needs no password.
pub const ROLE: &str = "tester";
/// A role without rights, which exists on the shared server. It needs no password.
pub const APPLICATION_ROLE: &str = "application";
/// A role that needs [`PASSWORD`].
pub const GUARDED_ROLE: &str = "guarded";
/// The password of [`GUARDED_ROLE`].
pub const PASSWORD: &str = "se same";

/// Maximum time until a server accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    folder: PathBuf,
    lifetime: Lifetime,
}

/// When a server ends. It also removes its folder then.
#[derive(Debug)]
enum Lifetime {
    /// When this process drops it or ends. The process is the shell that waits for that.
    Own(Child),
    /// Soon after no process has a lock on this file any more. The system releases the lock of a process that is killed.
    Shared { users: File },
}

impl PostgresServer {
    /// Joins the server that all processes with this folder share, or starts it. `cache` is a folder that keeps the new
    /// cluster that each server begins with, and the address of the shared one. Returns `None` and prints a line if no server
    /// is installed.
    #[must_use]
    #[allow(clippy::zombie_processes, reason = "the server may live longer than this process")]
    pub fn shared(cache: &Path) -> Option<Self> {
        let cache = &cache.join(programs().map_or_else(String::new, |programs| folder_name(&programs)));
        fs::create_dir_all(cache).unwrap();
        let [users_path, start_path, record] =
            ["postgres-users.lock", "postgres-start.lock", "postgres-server"].map(|name| cache.join(name));
        let users = File::create(&users_path).unwrap();
        // From here on, the server does not end.
        users.lock_shared().unwrap();
        let start = File::create(start_path).unwrap();
        start.lock().unwrap();
        if let Some((port, folder)) = recorded(&record) {
            return Some(Self { port, folder, lifetime: Lifetime::Shared { users } });
        }
        let programs = installed()?;
        let folder = new_data(&template(&programs, cache), &[]);
        let port = free_port();
        let log = File::create(folder.join("log")).unwrap();
        until_unused(&folder, &users_path, &record)
            .args(arguments(&programs, &folder, port, &[]))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { port, folder, lifetime: Lifetime::Shared { users } };
        server.wait_until_ready();
        Client::connect(&server.url()).execute(&format!("CREATE ROLE {APPLICATION_ROLE} LOGIN"));
        fs::write(&record, format!("{port}\n{}\n", server.folder.display())).unwrap();
        Some(server)
    }

    /// Starts a server for the caller alone, with further settings: `NAME=VALUE`. It ends when it is dropped, or with this
    /// process. `cache` is as for [`shared`](Self::shared).
    #[must_use]
    pub fn start(cache: &Path, settings: &[&str]) -> Option<Self> {
        Self::start_with_files(cache, settings, &[])
    }

    /// Like [`start`](Self::start), with further files in the folder of its data: names and contents.
    #[must_use]
    pub fn start_with_files(cache: &Path, settings: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        let programs = installed()?;
        let folder = new_data(&template(&programs, cache), files);
        Some(Self::run(&programs, folder, free_port(), settings))
    }

    /// Starts a standby of this server on a port, or on any free one. It confirms the commits of this server if that is set
    /// to wait for it.
    #[must_use]
    pub fn start_standby(&self, port: Option<u16>) -> Self {
        let programs = programs().unwrap();
        let folder = new_folder().keep();
        give_away(&folder);
        run(unprivileged(&programs.join("pg_basebackup").display().to_string())
            .args(["--host=127.0.0.1", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .args(["--username", ROLE, "--port", &self.port.to_string(), "--pgdata"])
            .arg(folder.join("data"))
            .current_dir("/"));
        Self::run(&programs, folder, port.unwrap_or_else(free_port), &[])
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let program = programs().unwrap().join("pg_ctl").display().to_string();
        run(unprivileged(&program).args(["promote", "-D"]).arg(self.folder.join("data")).current_dir("/"));
    }

    /// Runs the server whose data is in a folder, until it is dropped.
    fn run(programs: &Path, folder: PathBuf, port: u16, settings: &[&str]) -> Self {
        let log = File::create(folder.join("log")).unwrap();
        let process = until_dropped(&folder, "QUIT")
            .args(arguments(programs, &folder, port, settings))
            .current_dir("/")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { port, folder, lifetime: Lifetime::Own(process) };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let started = Instant::now();
        loop {
            let log = self.log();
            // Or, for a standby, read-only connections.
            if log.contains("database system is ready to accept") {
                return;
            }
            assert!(started.elapsed() < START_TIMEOUT, "the server has not started:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A program of the server's version, such as `pgbench`; `None` if it is not installed.
    #[must_use]
    pub fn program(name: &str) -> Option<Command> {
        let program = programs()?.join(name);
        program.exists().then(|| unprivileged(&program.display().to_string()))
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// The port of the server.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address of the database `postgres` for [`ROLE`].
    #[must_use]
    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// Like [`url`](Self::url), for another role.
    #[must_use]
    pub fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres", self.port)
    }

    /// Like [`url`](Self::url), by way of another port.
    #[must_use]
    pub fn url_at(port: u16) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{port}/postgres")
    }

    /// A new name for a schema.
    #[must_use]
    pub fn new_schema() -> String {
        format!("test_{}", Uuid::now_v7().simple())
    }

    /// Creates a database that no other test uses.
    #[must_use]
    pub fn new_database(&self) -> TestDatabase {
        let name = format!("test_{}", Uuid::now_v7().simple());
        Client::connect(&self.url()).execute(&format!("CREATE DATABASE {name}"));
        let users = match &self.lifetime {
            Lifetime::Own(_) => None,
            Lifetime::Shared { users } => Some(users.try_clone().unwrap()),
        };
        TestDatabase { port: self.port, name, _users: users }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Lifetime::Own(process) = &mut self.lifetime {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }
}

/// A database, which is removed when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    port: u16,
    name: String,
    /// Keeps a shared server running.
    _users: Option<File>,
}

impl TestDatabase {
    /// Its address for [`ROLE`].
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(ROLE)
    }

    /// Its address for a role.
    #[must_use]
    pub fn url_of(&self, role: &str) -> String {
        self.url_at(role, self.port)
    }

    /// Its address for a role, by way of another port.
    #[must_use]
    pub fn url_at(&self, role: &str, port: u16) -> String {
        format!("postgres://{role}@127.0.0.1:{port}/{}", self.name)
    }

    /// The port of the server.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A panic here would hide that of the test.
        if !thread::panicking() {
            let admin = Client::connect(&PostgresServer::url_at(self.port));
            admin.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// The folder of the programs, if a server is installed and can be run.
fn installed() -> Option<PathBuf> {
    let Some(programs) = programs() else {
        println!("skipped: stores on PostgreSQL: no server is installed (Debian: postgresql)");
        return None;
    };
    if !is_executable(&programs.join("postgres")) {
        println!(
            "skipped: stores on PostgreSQL: the user nobody, as whom the server runs, cannot execute the programs in {}",
            programs.display()
        );
        return None;
    }
    Some(programs)
}

/// A folder with the data of a new server.
fn new_data(template: &Path, files: &[(&str, &str)]) -> PathBuf {
    let folder = new_folder().keep();
    let data = folder.join("data");
    run(Command::new("cp").arg("-a").arg(template).arg(&data));
    for (name, content) in files {
        let path = data.join(name);
        fs::write(&path, content).unwrap();
        // The server rejects the key of a certificate that others can read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    give_away(&folder);
    folder
}

/// The port and the folder of the shared server, if it is running.
fn recorded(record: &Path) -> Option<(u16, PathBuf)> {
    let text = fs::read_to_string(record).ok()?;
    let (port, folder) = text.trim_end().split_once('\n')?;
    let port = port.parse().ok()?;
    // The port of a server that was killed may belong to another program.
    let is_running =
        fs::exists(folder).is_ok_and(|exists| exists) && TcpStream::connect(("127.0.0.1", port)).is_ok();
    is_running.then(|| (port, folder.into()))
}

/// The command line of a server.
fn arguments(programs: &Path, folder: &Path, port: u16, settings: &[&str]) -> Vec<String> {
    let mut arguments = vec![programs.join("postgres").display().to_string(), "-D".into()];
    arguments.push(folder.join("data").display().to_string());
    arguments.extend(["-p".into(), port.to_string()]);
    let common = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "max_connections=400",
        "shared_buffers=16MB",
        "max_wal_size=64MB",
    ];
    let settings = common.iter().chain(settings);
    arguments.extend(settings.flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    arguments
}
