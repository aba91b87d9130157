//! The crate's internal error, and its conversion to the port's [`StoreError`].

use std::io;
use std::path::Path;

use hfs_core::StoreError;
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use crate::codec::CodecError;

/// An error without the name of the failed operation, which [`Error::into_store_error`] adds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request is rejected. Neither the store nor the connection has failed.
    #[error(transparent)]
    Rejected(#[from] StoreError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Stored data cannot be read.
    #[error("{0}")]
    Corrupt(String),
    /// A bug in this crate.
    #[error("{0}")]
    Internal(String),
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Invalid(message) => invalid(message),
            CodecError::Corrupt(message) => Self::Corrupt(message),
            CodecError::Internal(message) => Self::Internal(message),
        }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Converts to the port's error for the operation `action` (such as `save the message`) on the store at `path`.
    pub(crate) fn into_store_error(self, action: &str, path: &Path) -> StoreError {
        match self {
            Self::Rejected(error) => error,
            Self::Corrupt(message) => StoreError::Corrupt { message },
            Self::Internal(message) => {
                StoreError::Internal { action: with_path(action, path), source: message.into() }
            }
            Self::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    StoreError::Denied { action: with_path(action, path), source: error.into() }
                }
                _ => StoreError::Unavailable { action: with_path(action, path), source: error.into() },
            },
            Self::Sqlite(error) => from_sqlite(error, action, path),
        }
    }

    pub(crate) const fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether the connection must be opened again after this error.
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
            // The lock files may have failed. They are opened again together with the connection.
            Self::Io(_) => true,
            Self::Rejected(_) | Self::Corrupt(_) | Self::Internal(_) => false,
        }
    }

    /// Whether the error means that stored data is damaged.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Rejected(StoreError::Corrupt { .. }) => true,
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase),
                None => is_conversion_failure(error),
            },
            Self::Rejected(_) | Self::Io(_) | Self::Internal(_) => false,
        }
    }

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

fn with_path(action: &str, path: &Path) -> String {
    format!("{action} ({})", path.display())
}

fn from_sqlite(error: rusqlite::Error, action: &str, path: &Path) -> StoreError {
    let action = || with_path(action, path);
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::Corrupt { message: format!("{} is not a database of hfs", path.display()) }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { message: format!("{} has damaged pages ({error})", path.display()) }
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => StoreError::Denied { action: action(), source: error.into() },
        // SQLite cannot extend the index of the log, and reports an I/O error instead of a full disk.
        Some(ErrorCode::SystemIoFailure)
            if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) =>
        {
            let source = io::Error::new(io::ErrorKind::StorageFull, "there is no space left on the disk");
            StoreError::Unavailable { action: action(), source: source.into() }
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted,
        ) => StoreError::Unavailable { action: action(), source: error.into() },
        _ if is_conversion_failure(&error) => {
            StoreError::Corrupt { message: format!("a row of {} cannot be read: {error}", path.display()) }
        }
        _ => StoreError::Internal { action: action(), source: error.into() },
    }
}

/// Whether a column holds a value of the wrong type. The tables are STRICT, so only damage can cause this.
const fn is_conversion_failure(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

pub(crate) fn not_found(what: &'static str, reference: &(impl ToString + ?Sized)) -> Error {
    StoreError::NotFound { what, reference: reference.to_string() }.into()
}

pub(crate) fn conflict(message: impl Into<String>) -> Error {
    StoreError::Conflict { message: message.into() }.into()
}

/// The message of the error when a turn is continued without the final message of its reply.
pub(crate) const NO_FINAL_MESSAGE: &str =
    "a turn continues after the final message of its reply, and there is none";

/// The message of the conflict when a branch that is undone would be continued.
pub(crate) fn undone_branch(name: &str) -> String {
    format!("branch {name:?} is undone; switch to it to continue it")
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    StoreError::Invalid { message: message.into() }.into()
}
