//! One classification of failure for every crate, so that a front end can give each its exit code and hint.

/// What kind of thing went wrong, whoever it went wrong for.
///
/// The command line maps each kind to an exit code; the JSON form of an error names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// Somebody else changed the same thing, or the name is taken or ambiguous.
    Conflict,
    /// What was given cannot be understood.
    Invalid,
    /// It is understood, but this version cannot do it (usually: it comes from a newer one).
    Unsupported,
    /// It was refused: a permission, a key, a file mode.
    Denied,
    /// What was stored is damaged.
    Corrupt,
    /// It may work later: disk full, connection lost, server overloaded.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The name that scripts see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows its kind.
pub trait ErrorExt: std::error::Error {
    /// Which kind of failure this is.
    fn kind(&self) -> ErrorKind;

    /// What a person can do about it, where that is known. One line.
    fn hint(&self) -> Option<String> {
        None
    }
}
