//! A client for what an administrator does.

use std::fmt;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// A connection of its own to a database.
pub struct Client {
    runtime: Runtime,
    client: tokio_postgres::Client,
}

impl Client {
    /// Connects to the database at an address.
    #[must_use]
    pub fn connect(url: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    /// Executes statements.
    pub fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Executes statements. Returns the server's message if it rejects one.
    ///
    /// # Errors
    /// The message of the server, with its code.
    pub fn try_execute(&self, sql: &str) -> Result<(), String> {
        self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| match error.as_db_error() {
            Some(answer) => format!("{} ({})", answer.message(), answer.code().code()),
            None => error.to_string(),
        })
    }

    /// The rows of a query as text, with NULL as an empty text.
    #[must_use]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = self.runtime.block_on(self.client.simple_query(sql));
        let messages = messages.unwrap_or_else(|error| panic!("{error}: {sql}"));
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// Ends the connections of stores to this database, in the middle of whatever they do.
    pub fn terminate_stores(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'hfs' AND datname = current_database()",
        );
    }

    /// Ends one connection of a store to this database, in the middle of whatever it does. Returns how many it has ended: 0
    /// or 1.
    #[must_use]
    pub fn terminate_one(&self) -> u32 {
        let ended = self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'hfs' AND datname = current_database() ORDER BY random() LIMIT 1",
        );
        u32::try_from(ended.len()).unwrap()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
