//! Write plugins for hfs in Rust.
//!
//! A plugin is a type that implements some of the traits in this crate, and one line that lists them:
//!
//! ```ignore
//! use hfs_plugin::{Error, Message, OnMessage, Verdict};
//!
//! struct Shout;
//!
//! impl OnMessage for Shout {
//!     fn handle(message: Message) -> Result<Verdict, Error> {
//!         Ok(Verdict::Replace(message.text.to_uppercase()))
//!     }
//! }
//!
//! hfs_plugin::plugin!(Shout: on_message);
//! ```
//!
//! Its crate is a `cdylib` for `wasm32-unknown-unknown`, which `hfs plugin build` compiles and turns into a component. The
//! functions of hfs are in the modules [`log`], [`config`], [`clock`] and [`ui`], and, with a permission in the manifest,
//! [`kv`], [`session`], [`http`] and [`files`]. There is no other access to time, files and network.
//!
//! After a panic or an exceeded limit the next call gets a new instance, and the values of all `static`s are lost. Store
//! values that have to last in [`kv`].

#[doc(hidden)]
pub mod bindings;

pub use bindings::commands::exports::hfs::plugin::commands::{Command, Guest as Commands, Invocation, Outcome};
pub use bindings::imports::hfs::plugin::types::{Error, Message, SessionInfo};
pub use bindings::imports::hfs::plugin::{clock, config, files, http, kv, log, session, ui};
pub use bindings::on_event::exports::hfs::plugin::on_event::Guest as OnEvent;
pub use bindings::on_exit::exports::hfs::plugin::on_exit::Guest as OnExit;
pub use bindings::on_message::exports::hfs::plugin::on_message::{Guest as OnMessage, Verdict};
pub use bindings::on_run_complete::exports::hfs::plugin::on_run_complete::Guest as OnRunComplete;
pub use bindings::on_start::exports::hfs::plugin::on_start::Guest as OnStart;
pub use bindings::widgets::exports::hfs::plugin::widgets::{
    Gauge, Guest as Widgets, Node, Span, Table, Tone, Widget,
};

impl Error {
    /// An error with a message for people, on one line.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: "failed".into(), message: message.into() }
    }

    /// Whether the plugin lacks a permission.
    pub fn is_denied(&self) -> bool {
        self.code == "denied"
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::failed(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::failed(message)
    }
}

impl Node {
    /// A line of plain text.
    pub fn line(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// A line of text in one tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self::Text(vec![Span { text: text.into(), tone }])
    }
}

/// Writes panics to the plugin's log, which `hfs plugin logs` shows. [`plugin!`] calls this for every plugin.
#[doc(hidden)]
pub fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
}

/// Exports a type as a plugin. After the colon follow the exports: any of `on_start`, `on_message`, `on_event`,
/// `on_run_complete`, `on_exit`, `commands` and `widgets`. The type implements the trait of the same name for each.
#[macro_export]
macro_rules! plugin {
    ($plugin:ident: $($has:ident),+ $(,)?) => {
        $( $crate::plugin!(@ $has $plugin); )+

        // Called when an instance is created.
        #[unsafe(export_name = "_initialize")]
        extern "C" fn initialize() {
            $crate::explain_panics();
        }
    };
    (@ on_start $plugin:ident) => { $crate::bindings::on_start::export_on_start!($plugin with_types_in $crate::bindings::on_start); };
    (@ on_message $plugin:ident) => { $crate::bindings::on_message::export_on_message!($plugin with_types_in $crate::bindings::on_message); };
    (@ on_event $plugin:ident) => { $crate::bindings::on_event::export_on_event!($plugin with_types_in $crate::bindings::on_event); };
    (@ on_run_complete $plugin:ident) => { $crate::bindings::on_run_complete::export_on_run_complete!($plugin with_types_in $crate::bindings::on_run_complete); };
    (@ on_exit $plugin:ident) => { $crate::bindings::on_exit::export_on_exit!($plugin with_types_in $crate::bindings::on_exit); };
    (@ commands $plugin:ident) => { $crate::bindings::commands::export_commands!($plugin with_types_in $crate::bindings::commands); };
    (@ widgets $plugin:ident) => { $crate::bindings::widgets::export_widgets!($plugin with_types_in $crate::bindings::widgets); };
}
