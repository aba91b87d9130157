//! What a user can do about an error.

use crate::SessionId;

/// A step that may resolve an error.
///
/// Libraries name the step; the front end words it, since only the front end knows its own commands and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suggestion {
    /// List all sessions.
    ListSessions,
    /// Type more of an id.
    LengthenId,
    /// Reload the session to see what was added, or fork and send the message there.
    ReloadOrFork,
    /// Wait until the other process has finished its reply, or fork.
    WaitOrFork,
    /// Verify the store, then repair it.
    VerifyAndRepairStore,
    /// Update hfs, because a newer version wrote the store. The store was not changed.
    UpdateForStore,
    /// Update hfs, or export again with the older version.
    UpdateForDocument,
    /// Send the message again when the provider is available; it is saved.
    SendAgainLater,
    /// Set the API key of a provider.
    SetApiKey {
        /// Name of the provider, for people.
        provider: String,
        /// Environment variable that holds the key, where the provider has one.
        variable: Option<String>,
    },
    /// Check the plan and billing of a provider.
    CheckBilling {
        /// Name of the provider, for people.
        provider: String,
    },
    /// Name the format of an import.
    NameFormat,
    /// Run the same import again; it continues where it stopped.
    RepeatImport,
    /// Restore a session from the trash.
    RestoreSession(SessionId),
    /// Give the message a text.
    EnterPrompt,
    /// Change the message, or disable the plugin that rejected it.
    ChangeMessageOrDisablePlugin {
        /// Name of the plugin.
        plugin: String,
    },
    /// List the plugins.
    ListPlugins,
    /// Review what a plugin may do, then approve it.
    ReviewPlugin {
        /// Name of the plugin.
        plugin: String,
    },
    /// Approve a plugin.
    ApprovePlugin {
        /// Name of the plugin.
        plugin: String,
    },
    /// Enable a plugin again.
    EnablePlugin {
        /// Name of the plugin.
        plugin: String,
    },
    /// Read what a plugin logged.
    ShowPluginLog {
        /// Name of the plugin.
        plugin: String,
    },
    /// Use the command line, since there is no terminal.
    UseChatCommand,
    /// Move a session to the trash, since its creation cannot be undone.
    TrashSession(SessionId),
}
