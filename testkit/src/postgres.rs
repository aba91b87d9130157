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
        let Some(programs) = programs() else {
            println!("skipped: no PostgreSQL server is installed (Debian: postgresql)");
            return None;
        };
        let template = template(&programs, cache);
        let folder = new_folder().keep();
        let data = folder.join("data");
        run(Command::new("cp").arg("-a").arg(&template).arg(&data));
        give_away(&folder);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = File::create(folder.join("log")).unwrap();
        // The shell ends the server and removes its folder when its input ends, which is also when this process is killed.
        let process = unprivileged("sh")
            .args(["-c", "folder=$1; shift; \"$@\" & server=$!; read -r _; kill -QUIT $server; wait $server; rm -rf \"$folder\"", "sh"])
            .arg(&folder)
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=16MB", "-c", "max_wal_size=64MB"])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { port, process, folder };
        server.wait_until_ready();
        Some(server)
    }

    fn wait_until_ready(&self) {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(self.folder.join("log")).unwrap();
            if log.contains("database system is ready to accept connections") {
                return;
            }
            assert!(started.elapsed() < START_TIMEOUT, "the server has not started:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
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

/// The folder of the newest server that is installed.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
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
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    command
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
