//! What goes wrong inside, before it is told to anybody.

use std::io;
use std::path::Path;

use hfs_core::StoreError;
use rusqlite::ErrorCode;

/// A failure on its way to the door, where [`Error::told`] adds what was tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The answer is no; nothing is broken.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// The database says so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is stored cannot be read.
    #[error("{0}")]
    Corrupt(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

/// What inner functions return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error for a caller who tried `action` (such as `save the message`) on the store at `path`.
    pub(crate) fn into_store_error(self, action: &str, path: &Path) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Corrupt(message) => StoreError::Corrupt { message },
            Self::Internal(message) => {
                StoreError::Internal { action: place(action, path), source: message.into() }
            }
            Self::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    StoreError::Denied { action: place(action, path), source: error.into() }
                }
                _ => StoreError::Unavailable { action: place(action, path), source: error.into() },
            },
            Self::Sqlite(error) => from_sqlite(error, action, path),
        }
    }

    /// Whether the caller was merely refused.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether the connection itself may be unusable after this.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::NotADatabase
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::ReadOnly
                )
            ),
            Self::Io(_) => true,
            Self::Refused(_) | Self::Corrupt(_) | Self::Internal(_) => false,
        }
    }

    /// Whether something that is stored is not as it should be.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Refused(StoreError::Corrupt { .. }) => true,
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
                None => is_unreadable(error),
            },
            Self::Refused(_) | Self::Io(_) | Self::Internal(_) => false,
        }
    }

    /// Whether a unique key was taken.
    pub(crate) fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => {
                matches!(
                    failure.extended_code,
                    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                )
            }
            _ => false,
        }
    }
}

fn place(action: &str, path: &Path) -> String {
    format!("{action} ({})", path.display())
}

fn from_sqlite(error: rusqlite::Error, action: &str, path: &Path) -> StoreError {
    let place = || place(action, path);
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::Corrupt { message: format!("{} is not a database of hfs", path.display()) }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { message: format!("{} has damaged pages ({error})", path.display()) }
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => StoreError::Denied { action: place(), source: error.into() },
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted,
        ) => StoreError::Unavailable { action: place(), source: error.into() },
        _ if is_unreadable(&error) => {
            StoreError::Corrupt { message: format!("a row of {} cannot be read: {error}", path.display()) }
        }
        _ => StoreError::Internal { action: place(), source: error.into() },
    }
}

/// Whether a value is not of the kind that its column has.
const fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

/// Something that was named is not there.
pub(crate) fn not_found(what: &'static str, reference: &(impl ToString + ?Sized)) -> Error {
    StoreError::NotFound { what, reference: reference.to_string() }.into()
}

/// Something else stands in the way.
pub(crate) fn conflict(message: impl Into<String>) -> Error {
    StoreError::Conflict { message: message.into() }.into()
}

/// What was asked for makes no sense.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    StoreError::Invalid { message: message.into() }.into()
}
