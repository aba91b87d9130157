//! What a user can do about an error.

use serde::{Deserialize, Serialize};

use crate::SessionId;

/// What a request to a model waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStage {
    /// A connection to the server.
    Connection,
    /// The first token of the reply.
    FirstToken,
    /// The next token of the reply.
    NextToken,
}

/// A step that may resolve an error.
///
/// It has no text. The front end describes the step to the user in terms of its own commands and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suggestion {
    /// List all sessions.
    ListSessions,
    /// List the checkpoints of the session.
    ListCheckpoints,
    /// List the branches of the session.
    ListBranches,
    /// List the runs of the session.
    ListRuns,
    /// Type a longer prefix of the id.
    LengthenId,
    /// Reload the session to see what was added, or fork and send the message there.
    ReloadOrFork,
    /// Wait until the other process has finished its reply, or fork.
    WaitOrFork,
    /// Name a store in a place where files can be created.
    NameWritableStore,
    /// Repair the store.
    RepairStore,
    /// Update hfs, because a newer version wrote the store. The store was not changed.
    UpdateForStore,
    /// Update hfs, because a newer version wrote the store; or repair the store, if none did. The store was not changed.
    UpdateOrRepairStore,
    /// Update hfs, or export again with the older version.
    UpdateForDocument,
    /// Send the message again when the provider is available; it is saved.
    SendAgainLater,
    /// Send the message again, if it may be paid for twice; it is saved.
    SendAgainAtACost,
    /// Set the API key of a provider.
    SetApiKey {
        /// Display name of the provider.
        provider: String,
        /// Environment variable that holds the key, where the provider has one.
        variable: Option<String>,
    },
    /// Check the plan and billing of a provider.
    CheckBilling {
        /// Display name of the provider.
        provider: String,
    },
    /// Raise the maximum length of a reply, or ask the model to continue.
    RaiseMaxTokens,
    /// Ask in other words, or another model.
    RephraseMessage,
    /// Send less of the conversation, or start a new session.
    ReduceContext,
    /// Check the base URL of the provider.
    CheckBaseUrl,
    /// Check the name of the model at the provider.
    CheckModel,
    /// Trust the server's certificate.
    TrustCertificate,
    /// Have the proxy let the request through, or do not use the proxy for it.
    AllowInProxy {
        /// The host that the proxy does not connect to.
        host: String,
    },
    /// Wait longer for the provider.
    RaiseTimeout(WaitStage),
    /// Look at the run for what its agents did.
    ShowRun,
    /// State the format of the imported file.
    NameFormat,
    /// Import the file by its name, although its session was purged.
    ImportPurged,
    /// Convert the conversations of another program into messages that can be imported.
    ConvertTranscript {
        /// Name of the program.
        tool: String,
        /// How to get at its conversations, where that is known.
        export: Option<String>,
    },
    /// Run the same import again; it continues where it stopped.
    RepeatImport,
    /// Restore a session from the trash.
    RestoreSession(SessionId),
    /// Enter a text; the message was empty.
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
    /// Read the log of a plugin.
    ShowPluginLog {
        /// Name of the plugin.
        plugin: String,
    },
    /// Find out what is wrong with an agent that runs as a program of its own.
    CheckAgent {
        /// Name of the agent.
        agent: String,
    },
    /// Read the log of an agent that runs as a program of its own.
    ReadAgentLog {
        /// Name of the agent.
        agent: String,
    },
    /// Use the command line, since there is no terminal.
    UseChatCommand,
    /// Move a session to the trash instead of undoing its creation.
    TrashSession(SessionId),
}
