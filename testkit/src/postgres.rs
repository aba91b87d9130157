//! A PostgreSQL server for tests: started by each test process on a free port of the loopback interface, as an unprivileged
//! user, with its data in a temporary folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test fails"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The role that owns everything. It needs no password.
pub const ROLE: &str = "tester";
/// A role that needs [`PASSWORD`].
pub const GUARDED_ROLE: &str = "guarded";
/// The password of [`GUARDED_ROLE`].
pub const PASSWORD: &str = "se same";

/// Maximum time until a server accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server, which ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    process: Child,
    /// Removed after the server has ended.
    folder: PathBuf,
}

impl PostgresServer {
    /// Starts a server. `cache` is a folder that keeps the new cluster that each server begins with. Returns `None` and
    /// prints a line if no server is installed.
    #[must_use]
    pub fn start(cache: &Path) -> Option<Self> {
        Self::start_with(cache, &[])
    }

    /// Like [`start`](Self::start), with further settings: `NAME=VALUE`.
    #[must_use]
    pub fn start_with(cache: &Path, settings: &[&str]) -> Option<Self> {
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
        let template = template(&programs, cache);
        let folder = new_folder().keep();
        let data = folder.join("data");
        run(Command::new("cp").arg("-a").arg(&template).arg(&data));
        give_away(&folder);
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

    /// Runs the server whose data is in a folder.
    fn run(programs: &Path, folder: PathBuf, port: u16, settings: &[&str]) -> Self {
        let log = File::create(folder.join("log")).unwrap();
        let process = until_dropped(&folder, "QUIT")
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=16MB", "-c", "max_wal_size=64MB"])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .current_dir("/")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { port, process, folder };
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

    /// Like [`url`](Self::url), by way of another port.
    #[must_use]
    pub fn url_at(port: u16) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{port}/postgres")
    }

    /// A new name for a schema.
    #[must_use]
    pub fn new_schema() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Folder with programs that `cargo xtask test` has unpacked because they are not installed.
const UNPACKED: &str = "HFS_POSTGRES";

/// Where packages are installed or unpacked.
fn roots() -> Vec<PathBuf> {
    [PathBuf::from("/")].into_iter().chain(std::env::var_os(UNPACKED).map(PathBuf::from)).collect()
}

/// The folder of the newest server that is installed.
fn programs() -> Option<PathBuf> {
    let versions = roots().into_iter().flat_map(|root| fs::read_dir(root.join("usr/lib/postgresql")));
    let versions = versions.flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("postgres").exists() && folder.join("initdb").exists())
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.pop().map(|(_, folder)| folder).or(in_path)
}

/// A shell that runs a program until the shell's input ends, which is also when this process is killed. It then sends a signal to
/// the program, and removes the folder.
fn until_dropped(folder: &Path, signal: &str) -> Command {
    const SCRIPT: &str = "folder=$1; signal=$2; shift 2; \"$@\" & child=$!; read -r _; kill -$signal $child; wait $child; rm -rf \"$folder\"";
    let mut command = unprivileged("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(folder).arg(signal).stdin(Stdio::piped());
    command
}

/// A running pgbouncer, which gives each transaction another connection to a server.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    process: Child,
}

impl PgBouncer {
    /// Starts pgbouncer in transaction mode, with few connections to the server. Returns `None` and prints a line if it is not
    /// installed.
    #[must_use]
    pub fn start(server: &PostgresServer) -> Option<Self> {
        let program =
            roots().into_iter().map(|root| root.join("usr/sbin/pgbouncer")).find(|path| path.exists());
        let Some(program) = program else {
            println!(
                "skipped: stores on PostgreSQL behind pgbouncer: it is not installed (Debian: pgbouncer)"
            );
            return None;
        };
        let folder = new_folder().keep();
        let port = free_port();
        let (log, users) = (folder.join("log"), folder.join("users"));
        fs::write(&users, format!("\"{ROLE}\" \"\"\n")).unwrap();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 6\n\
             max_client_conn = 200\nserver_login_retry = 0.1\n",
            server.port(),
            users.display()
        );
        fs::write(folder.join("pgbouncer.ini"), configuration).unwrap();
        give_away(&folder);
        let output = File::create(&log).unwrap();
        let process = until_dropped(&folder, "TERM")
            .arg(program)
            .arg(folder.join("pgbouncer.ini"))
            .current_dir("/")
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(&log).unwrap();
            assert!(started.elapsed() < START_TIMEOUT, "pgbouncer has not started:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self { port, process })
    }

    /// The address of the database `postgres` for [`ROLE`], by way of pgbouncer.
    #[must_use]
    pub fn url(&self) -> String {
        PostgresServer::url_at(self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder that an unprivileged user can reach.
fn new_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("hfs-postgres-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The server refuses to run as root.
fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(if is_root() { "setpriv" } else { program });
    if is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    }
    let libraries = libraries();
    if !libraries.is_empty() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

fn is_executable(program: &Path) -> bool {
    unprivileged("test").arg("-x").arg(program).status().unwrap().success()
}

/// The libraries of unpacked packages.
fn libraries() -> String {
    let folders = roots().into_iter().skip(1).flat_map(|root| fs::read_dir(root.join("usr/lib")));
    let folders = folders.flatten().flatten().map(|folder| folder.path().display().to_string());
    folders.filter(|folder| folder.ends_with("-linux-gnu")).collect::<Vec<_>>().join(":")
}

fn give_away(path: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(path));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The data of a new cluster, which takes a second to create and little to copy.
fn template(programs: &Path, cache: &Path) -> PathBuf {
    let name: String = programs.display().to_string().replace('/', "-");
    let template = cache.join(format!("postgres-template{name}"));
    fs::create_dir_all(cache).unwrap();
    let lock = File::create(cache.join("postgres-template.lock")).unwrap();
    lock.lock().unwrap();
    if template.exists() {
        return template;
    }
    let folder = new_folder();
    let (data, password) = (folder.path().join("data"), folder.path().join("password"));
    fs::create_dir(&data).unwrap();
    fs::write(&password, PASSWORD).unwrap();
    give_away(&data);
    run(unprivileged(&programs.join("initdb").display().to_string())
        .args(["--username", ROLE, "--pwfile"])
        .arg(&password)
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "-D"])
        .arg(&data)
        .current_dir("/"));
    let rules = format!(
        "host all {ROLE} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n\
         host replication all 127.0.0.1/32 trust\n"
    );
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let copy = cache.join("postgres-template.new");
    run(Command::new("rm").arg("-rf").arg(&copy));
    run(Command::new("cp").arg("-a").arg(&data).arg(&copy));
    fs::rename(&copy, &template).unwrap();
    template
}

/// What a [`Proxy`] does with the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Closes the connection before the server gets it.
    BeforeCommit,
    /// Closes the connection after the server has executed it, before the client gets the answer.
    AfterCommit,
}

/// A proxy between a client and a server, which loses connections during COMMIT.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    next: Arc<Mutex<Vec<Fault>>>,
}

impl Proxy {
    /// Starts a proxy for the server on this port.
    #[must_use]
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(Mutex::new(Vec::new()));
        let faults = Arc::clone(&next);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let faults = Arc::clone(&faults);
                thread::spawn(move || forward(client, server, &faults));
            }
        });
        Self { port, next }
    }

    /// The port of the proxy.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Loses the next connections that send COMMIT, the last fault first.
    pub fn lose(&self, faults: &[Fault]) {
        self.next.lock().unwrap().extend(faults);
    }

    /// Number of faults that have not happened yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.next.lock().unwrap().len()
    }
}

/// Forwards both directions until one ends.
fn forward(mut client: TcpStream, mut server: TcpStream, faults: &Mutex<Vec<Fault>>) {
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    // Set while the answer to a COMMIT must not reach the client.
    let muted = Arc::new(Mutex::new(false));
    let is_muted = Arc::clone(&muted);
    let backwards = thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(read @ 1..) = answers.read(&mut buffer) {
            if *is_muted.lock().unwrap() || to_client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = answers.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        // A simple query of this text only.
        let is_commit = buffer[..read].ends_with(b"COMMIT\0");
        let fault = if is_commit { faults.lock().unwrap().pop() } else { None };
        match fault {
            Some(Fault::BeforeCommit) => break,
            Some(Fault::AfterCommit) => *muted.lock().unwrap() = true,
            None => {}
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if !*muted.lock().unwrap() {
        let _ = server.shutdown(Shutdown::Both);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = backwards.join();
}
