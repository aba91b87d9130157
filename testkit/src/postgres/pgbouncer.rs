//! pgbouncer in front of a server.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::programs::{free_port, give_away, new_folder, roots, until_dropped};
use super::{PostgresServer, ROLE, START_TIMEOUT};

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
        let server = server.port();
        let configuration = |port: u16, users: &Path| {
            format!(
                "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 6\n\
                 max_client_conn = 200\nserver_login_retry = 0.1\n",
                users.display()
            )
        };
        Self::start_with(configuration, &format!("\"{ROLE}\" \"\"\n"))
    }

    /// Starts pgbouncer with the configuration that a function returns for a port and a file of users, and with the content of
    /// that file. Returns `None` as [`start`](Self::start) does.
    #[must_use]
    pub fn start_with(configuration: impl FnOnce(u16, &Path) -> String, users: &str) -> Option<Self> {
        let program =
            roots().into_iter().map(|root| root.join("usr/sbin/pgbouncer")).find(|path| path.exists());
        let Some(program) = program else {
            println!(
                "skipped: stores on PostgreSQL behind pgbouncer: it is not installed (Debian: pgbouncer)"
            );
            return None;
        };
        let (folder, port) = (new_folder().keep(), free_port());
        let (log, users_file) = (folder.join("log"), folder.join("users"));
        fs::write(&users_file, users).unwrap();
        let configuration = configuration(port, &users_file);
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

    /// The port of pgbouncer.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
