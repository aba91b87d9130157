//! A Model Context Protocol server over the store: the way for agents to find what was said in other sessions.
//!
//! [`serve`] answers one client on a pair of streams until the client closes its end. Tools search, read and summarize
//! the saved sessions; with [`Options::write`] they also save. Sessions are resources too, and a prompt continues where a
//! session ended. [`Host`] supplies what the server needs from the program that runs it.
//!
//! An answer is read by a model and paid for by its user, so it is plain text of at most [`MAX_ANSWER_BYTES`] that says
//! how to continue. Each excerpt has a citation that the tool `read` and the command line resolve. Secrets in
//! answers are masked by the scanner that exports use. Store calls block and run on blocking threads.

mod answer;
mod error;
mod host;
mod library;
mod place;
mod prompts;
mod rendering;
mod resources;
mod server;
mod tools;
mod transport;

pub use answer::MAX_ANSWER_BYTES;
pub use error::McpError;
pub use host::Host;
pub use server::{Options, serve};
