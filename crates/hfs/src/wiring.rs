//! Chooses and connects the adapters: the store, the agent, the plugins.

pub mod agent;
pub mod agent_sessions;
pub mod document;
pub mod install;
pub mod interpreters;
pub mod mcp;
pub mod plugins;
pub mod programs;
pub mod triads;

use std::sync::Arc;

use hfs_core::{Agent, Hooks, Problem, Store};
use hfs_engine::{Engine, Settings as EngineSettings};
use hfs_postgres::{PostgresOptions, PostgresStore};
use hfs_store::{SqliteOptions, StoreUrl};

use crate::config::Settings;
use crate::context::Context;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::error::CliError;

/// The address of the store.
///
/// # Errors
/// `Invalid` if the configured address cannot be parsed.
pub fn store_url(home: &Home, settings: &Settings) -> Result<StoreUrl, CliError> {
    Ok(match &settings.store_url {
        Some(text) => text.parse()?,
        None => StoreUrl::Sqlite(home.default_store()),
    })
}

/// Opens the store. The default store is created if it is missing.
///
/// # Errors
/// If the store cannot be opened.
pub fn open_store(
    home: &Home,
    settings: &Settings,
    environment: &Environment,
) -> Result<Arc<dyn Store>, CliError> {
    let url = store_url(home, settings)?;
    match &url {
        StoreUrl::Postgres(address) => {
            let variables = environment.clone();
            let variable = move |name: &str| variables.get(name).map(str::to_owned);
            let options = PostgresOptions {
                durability: settings.durability,
                all_owners: settings.all_owners,
                environment: hfs_postgres::Environment::new(variable, environment.user_home.clone()),
                ..PostgresOptions::default()
            };
            Ok(Arc::new(PostgresStore::open(address, &options)?))
        }
        _ if settings.all_owners => Err(CliError::Usage {
            message: format!("--all-owners does not apply to {url}"),
            hint: "only a store on PostgreSQL has owners; leave the option out".into(),
        }),
        _ => Ok(hfs_store::open(&url, sqlite_options(home, settings)?)?),
    }
}

/// Opens another store than that of the settings.
///
/// # Errors
/// If the address is not valid or the store cannot be opened.
pub fn open_store_at(url: &str, context: &Context) -> Result<Arc<dyn Store>, CliError> {
    let settings = Settings { store_url: Some(url.to_owned()), ..context.settings.clone() };
    open_store(&context.home, &settings, &context.environment)
}

/// Like [`open_store`], with little memory for each connection: for a process that runs all the time and mostly waits.
///
/// # Errors
/// If the store cannot be opened.
pub fn open_small_store(
    home: &Home,
    settings: &Settings,
    environment: &Environment,
) -> Result<Arc<dyn Store>, CliError> {
    /// A quarter of the default. Imports of small changes are not slower with it.
    const CACHE_BYTES: u64 = 2 * 1024 * 1024;
    let url = store_url(home, settings)?;
    match &url {
        StoreUrl::Postgres(_) => open_store(home, settings, environment),
        _ => {
            let options = sqlite_options(home, settings)?;
            Ok(hfs_store::open(&url, SqliteOptions { cache_bytes: CACHE_BYTES, ..options })?)
        }
    }
}

/// Repairs the store, also if it cannot be opened. Returns what was changed, recovered and lost.
///
/// # Errors
/// If the store cannot be repaired.
pub fn repair_store(
    home: &Home,
    settings: &Settings,
    environment: &Environment,
) -> Result<Vec<Problem>, CliError> {
    let url = store_url(home, settings)?;
    match &url {
        StoreUrl::Postgres(_) => Ok(open_store(home, settings, environment)?.repair()?),
        _ => Ok(hfs_store::repair(&url, sqlite_options(home, settings)?)?),
    }
}

/// Creates the home directory if it holds the store.
fn sqlite_options(home: &Home, settings: &Settings) -> Result<SqliteOptions, CliError> {
    if settings.store_url.is_none() {
        home.create()?;
    }
    Ok(SqliteOptions { durability: settings.durability, ..SqliteOptions::default() })
}

/// An engine with this agent, store and hooks, and the settings of the context.
pub fn engine(
    context: &Context,
    agent: Arc<dyn Agent>,
    store: Arc<dyn Store>,
    hooks: Arc<dyn Hooks>,
) -> Engine {
    let settings = EngineSettings::default()
        .with_context_chars(context.settings.context_chars)
        .with_compaction(context.settings.compaction)
        .with_checkpoint_on(context.settings.checkpoint_on.clone())
        .with_checkpoint_retention(context.settings.checkpoint_retention);
    Engine::builder(store, agent).hooks(hooks).settings(settings).build()
}

/// A tokio runtime on the current thread.
///
/// # Errors
/// If the operating system refuses the runtime's resources.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("start the asynchronous runtime", error))
}
