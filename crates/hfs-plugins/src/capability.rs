//! What plugins add, and through which parts of the contract.

/// The version of the contract that this host speaks.
pub const API_VERSION: &str = "0.1";
/// The package of the contract, as binaries name it.
pub(crate) const PACKAGE: &str = "hfs:plugin";

/// What a plugin adds, as its manifest says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Commands of its own.
    Commands,
    /// Something to see.
    Widgets,
    /// It is called at certain moments.
    Hooks,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Commands, Self::Widgets, Self::Hooks];

    /// Its name in a manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Widgets => "widgets",
            Self::Hooks => "hooks",
        }
    }
}

/// A part of the contract that a plugin may export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Export {
    /// A session was opened or begun.
    OnStart,
    /// A message is about to be saved.
    OnMessage,
    /// Something happened during a run.
    OnEvent,
    /// A run ended.
    OnRunComplete,
    /// A session is being left.
    OnExit,
    /// Commands.
    Commands,
    /// Widgets.
    Widgets,
}

impl Export {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OnStart,
        Self::OnMessage,
        Self::OnEvent,
        Self::OnRunComplete,
        Self::OnExit,
        Self::Commands,
        Self::Widgets,
    ];

    /// The interface's name in the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnStart => "on-start",
            Self::OnMessage => "on-message",
            Self::OnEvent => "on-event",
            Self::OnRunComplete => "on-run-complete",
            Self::OnExit => "on-exit",
            Self::Commands => "commands",
            Self::Widgets => "widgets",
        }
    }

    /// Which capability of a manifest it belongs to.
    #[must_use]
    pub const fn capability(self) -> Capability {
        match self {
            Self::Commands => Capability::Commands,
            Self::Widgets => Capability::Widgets,
            _ => Capability::Hooks,
        }
    }

    /// A person's words for what it lets the plugin do.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::OnStart => "notice when a session is opened",
            Self::OnMessage => "see every message, and change or stop it before it is saved",
            Self::OnEvent => "see what happens during a run",
            Self::OnRunComplete => "see what came of a run",
            Self::OnExit => "notice when a session is left",
            Self::Commands => "add commands",
            Self::Widgets => "show something beside the conversation",
        }
    }
}

/// A part of the contract that a plugin may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Import {
    Log,
    Config,
    Clock,
    Kv,
    Session,
    Http,
    Files,
    Ui,
}

impl Import {
    pub(crate) const ALL: [Self; 8] =
        [Self::Log, Self::Config, Self::Clock, Self::Kv, Self::Session, Self::Http, Self::Files, Self::Ui];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Config => "config",
            Self::Clock => "clock",
            Self::Kv => "kv",
            Self::Session => "session",
            Self::Http => "http",
            Self::Files => "files",
            Self::Ui => "ui",
        }
    }

    /// What a manifest must name for it under `permissions`, where it must.
    pub(crate) const fn permission(self) -> Option<&'static str> {
        match self {
            Self::Log | Self::Config | Self::Clock | Self::Ui => None,
            Self::Kv => Some("storage"),
            Self::Session => Some("session"),
            Self::Http => Some("network"),
            Self::Files => Some("filesystem"),
        }
    }
}
