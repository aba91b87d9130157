use hfs_core::{ErrorExt, ErrorKind, Suggestion};

/// Why the app could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuiError {
    /// Input or output is not a terminal.
    #[error("the terminal app needs a terminal, and {what} is not one")]
    NoTerminal {
        /// `standard input` or `standard output`.
        what: &'static str,
    },
    /// The terminal does not do what it is asked to.
    #[error("cannot {action} the terminal")]
    Terminal {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl ErrorExt for TuiError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTerminal { .. } => ErrorKind::Invalid,
            Self::Terminal { .. } => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::NoTerminal { .. } => Some(Suggestion::UseChatCommand),
            Self::Terminal { .. } => None,
        }
    }
}
