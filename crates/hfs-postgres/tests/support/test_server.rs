//! The server of a test process.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hfs_core::Clock;
use hfs_postgres::{PostgresOptions, PostgresStore};
use testkit::postgres::PostgresServer;

/// The server that all tests of this process share; `None` if no server is installed.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start(Path::new(env!("CARGO_TARGET_TMPDIR")))).as_ref()
}

/// Opens the store in a schema.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn open(url: &str, schema: &str, clock: Arc<dyn Clock>) -> PostgresStore {
    let options = PostgresOptions { schema: schema.to_owned(), clock, ..PostgresOptions::default() };
    PostgresStore::open(url, &options).unwrap()
}

/// A client of its own, for what an administrator does.
#[allow(dead_code, reason = "not every test file uses it")]
pub struct Admin {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

#[allow(dead_code, reason = "not every test file uses it")]
impl Admin {
    pub fn connect(server: &PostgresServer) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
            let (client, connection) = connected.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    pub fn execute(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    /// Ends the connections of stores, in the middle of whatever they do.
    pub fn terminate_stores(&self) {
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hfs'");
    }

    /// Ends one connection of a store, in the middle of whatever it does. Returns how many it has ended: 0 or 1.
    pub fn terminate_one(&self) -> u32 {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hfs'
            ORDER BY random() LIMIT 1";
        self.runtime
            .block_on(self.client.query(sql, &[]))
            .map_or(0, |rows| rows.len().try_into().unwrap_or(u32::MAX))
    }
}
