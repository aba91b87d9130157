//! Where the adapters are chosen: which store, which agent.

mod agent;
mod document;
mod models;
pub mod plugins;
pub mod triads;

use std::sync::Arc;

use hfs_core::{Agent, Hooks, Store, SystemClock};
use hfs_engine::{Engine, EngineParts, Settings as EngineSettings};
use hfs_store::{Durability, SqliteOptions, StoreUrl};

pub use agent::{Answering, Who, choose, decision};
pub use document::StoreDocument;
pub use triads::to_write_down;

use crate::config::Settings;
use crate::context::Context;
use crate::failure::Failure;
use crate::home::Home;

/// The address of the store in use.
///
/// # Errors
/// `Invalid` for what is no address.
pub fn store_url(home: &Home, settings: &Settings) -> Result<StoreUrl, Failure> {
    Ok(match &settings.store_url {
        Some(text) => text.parse()?,
        None => StoreUrl::Sqlite(home.default_store()),
    })
}

/// Opens the store; the default one is made where there is none.
///
/// # Errors
/// As the store has it.
pub fn open_store(home: &Home, settings: &Settings) -> Result<Arc<dyn Store>, Failure> {
    let durability = if settings.full_durability { Durability::Full } else { Durability::Fast };
    let url = store_url(home, settings)?;
    if settings.store_url.is_none() {
        home.create()?;
    }
    Ok(hfs_store::open(&url, SqliteOptions { durability, ..SqliteOptions::default() })?)
}

/// An engine of this agent over this store.
pub fn engine(
    context: &Context,
    agent: Arc<dyn Agent>,
    store: Arc<dyn Store>,
    hooks: Arc<dyn Hooks>,
) -> Engine {
    Engine::new(EngineParts {
        store,
        agent,
        hooks,
        clock: Arc::new(SystemClock),
        settings: EngineSettings {
            context_chars: context.settings.context_chars,
            checkpoint_on: context.settings.checkpoint_on.clone(),
            checkpoint_retention: context.settings.checkpoint_retention,
            ..EngineSettings::default()
        },
    })
}
