//! The crate's internal error, and its conversion to the port's [`StoreError`].

use std::error::Error as _;
use std::io;
use std::time::Duration;

use hfs_core::StoreError;
use hfs_store::codec::CodecError;
use tokio_postgres::error::SqlState;

/// An error without the name of the failed operation, which [`Error::into_store_error`] adds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request is rejected. Neither the store nor the connection has failed.
    #[error(transparent)]
    Rejected(#[from] StoreError),
    /// A statement failed, or its connection was lost.
    #[error("{}", explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A connection could not be made.
    #[error("{}", explain_connection(.0))]
    Connection(tokio_postgres::Error),
    /// The server has not answered.
    #[error("the server has not answered for {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// All connections were in use.
    #[error("all {0} connections of this process to the server are in use")]
    NoConnection(usize),
    /// The connection was lost during COMMIT, and the server could not be asked since.
    #[error(
        "the connection was lost while the server saved this, so it may be saved or not; look before you try again ({0})"
    )]
    InDoubt(Box<Error>),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Stored data cannot be read.
    #[error("{0}")]
    Corrupt(String),
    /// A bug in this crate.
    #[error("{0}")]
    Internal(String),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Invalid(message) => invalid(message),
            CodecError::Corrupt(message) => Self::Corrupt(message),
            CodecError::Internal(message) => Self::Internal(message),
        }
    }
}

/// What failed, in words for the user. It replaces the texts of the server's and the library's errors, which name neither
/// the server nor a way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explanation(String);

impl Error {
    /// Converts to the port's error for the operation `action` (such as `save the message`) on the store at `address`.
    pub(crate) fn into_store_error(self, action: &str, address: &str) -> StoreError {
        let action = format!("{action} ({address})");
        match self {
            Self::Rejected(error) => error,
            Self::Corrupt(message) => StoreError::Corrupt { message },
            Self::Internal(message) => StoreError::Internal { action, source: message.into() },
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                StoreError::Denied { action, source: error.into() }
            }
            Self::TimedOut(_) | Self::NoConnection(_) | Self::InDoubt(_) | Self::Io(_) => {
                StoreError::Unavailable { action, source: self.into() }
            }
            Self::Postgres(error) => from_postgres(&error, explain(&error), action),
            Self::Connection(error) if error.code().is_some() => {
                from_postgres(&error, explain(&error), action)
            }
            Self::Connection(_) => StoreError::Unavailable { action, source: self.into() },
        }
    }

    /// Whether the same write may succeed on another connection or at another time.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::NoConnection(_) | Self::InDoubt(_) => true,
            Self::Postgres(error) | Self::Connection(error) => match error.code() {
                Some(code) => is_transient(code),
                None => is_connection_error(error),
            },
            Self::Rejected(_) | Self::Io(_) | Self::Corrupt(_) | Self::Internal(_) => false,
        }
    }

    /// Whether there is no server at the address, or none that this process can talk to.
    pub(crate) fn is_unreachable(&self) -> bool {
        let Self::Connection(error) = self else { return false };
        let was_lost = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            )
        };
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        error.code().is_none() && !error.is_closed() && !cause.is_some_and(was_lost)
    }

    /// Whether there is no connection, as opposed to a conflict with another transaction.
    pub(crate) fn is_connection_lost(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::InDoubt(error) => error.is_connection_lost(),
            Self::Postgres(error) | Self::Connection(error) => error.code().is_none_or(ends_connection),
            Self::NoConnection(_)
            | Self::Rejected(_)
            | Self::Io(_)
            | Self::Corrupt(_)
            | Self::Internal(_) => false,
        }
    }

    /// Whether the server has answered with this error, so that the transaction is certainly not committed.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code().is_some_and(|code| !ends_connection(code)))
    }

    pub(crate) fn has_code(&self, code: &SqlState) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(code))
    }

    /// Whether the error means that stored data is damaged.
    pub(crate) const fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Rejected(StoreError::Corrupt { .. }))
    }
}

/// Whether the server closes the connection after this error.
fn ends_connection(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::IDLE_SESSION_TIMEOUT,
    ]
    .contains(code)
        || code.code().starts_with("08")
}

fn is_transient(code: &SqlState) -> bool {
    ends_connection(code)
        || [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::TOO_MANY_CONNECTIONS,
            // A state or an attachment that another process has removed at the same time, because nothing used it.
            SqlState::FOREIGN_KEY_VIOLATION,
            // The server has become a standby. The next connection finds the new primary.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}

/// Whether the connection could not be made, or was lost.
fn is_connection_error(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || matches!(error.source(), Some(source) if source.is::<io::Error>())
}

fn from_postgres(error: &tokio_postgres::Error, explanation: String, action: String) -> StoreError {
    let source = Box::new(Explanation(explanation));
    let Some(code) = error.code() else {
        if is_connection_error(error) {
            return StoreError::Unavailable { action, source };
        }
        return StoreError::Internal { action, source };
    };
    if *code == SqlState::PROGRAM_LIMIT_EXCEEDED {
        let message = format!("cannot {action}: it is larger than what PostgreSQL stores in a row");
        return StoreError::Invalid { message };
    }
    if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        return StoreError::Corrupt { message: source.0 };
    }
    // Invalid authorization, insufficient privilege, read-only transaction.
    let is_denied = code.code().starts_with("28")
        || *code == SqlState::INSUFFICIENT_PRIVILEGE
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION;
    if is_denied {
        return StoreError::Denied { action, source };
    }
    // Insufficient resources, operator intervention, object state, connections, a missing database.
    let classes = ["53", "55", "57", "58", "08", "40", "3D"];
    if classes.iter().any(|class| code.code().starts_with(class)) {
        return StoreError::Unavailable { action, source };
    }
    StoreError::Internal { action, source }
}

/// The error of a connection that could not be made.
fn explain_connection(error: &tokio_postgres::Error) -> String {
    if error.as_db_error().is_some() {
        return explain(error);
    }
    match error.source() {
        Some(source) if is_tls_error(source) => format!(
            "the server's certificate is not accepted ({source}): check the host, sslmode and sslrootcert in the address of \
             the store"
        ),
        Some(source) if source.is::<io::Error>() => format!(
            "the server cannot be reached ({source}): check that it is running, and the host and port in the address of \
             the store"
        ),
        Some(source) => format!(
            "the connection to the server failed ({error}: {source}): check sslmode, sslrootcert and the password in the \
             address of the store"
        ),
        None => format!("the connection to the server failed ({error})"),
    }
}

/// Whether the handshake of TLS has failed, whose error comes inside one of the socket.
fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

fn explain(error: &tokio_postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        return match error.source() {
            Some(source) if source.is::<io::Error>() => {
                format!("the connection to the server was lost ({source})")
            }
            Some(source) => format!("{error}: {source}"),
            None if error.is_closed() => "the connection to the server was lost".into(),
            None => error.to_string(),
        };
    };
    let code = answer.code();
    // The server's message names objects, roles and databases, but no value of a row and no password.
    let message = answer.message();
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return format!(
            "{message}: check the user in the address of the store, and its password in the address, in PGPASSWORD \
             or in the password file"
        );
    }
    if *code == SqlState::INVALID_CATALOG_NAME {
        return format!("{message}: create it with createdb, or correct the address of the store");
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return format!(
            "{message}: the role needs the right to create a schema in the database, or the rights on the schema hfs"
        );
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS {
        return format!("{message}: the server has no free connection");
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return format!("{message}: the server is a standby; name the primary in the address of the store");
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return "another process has been writing to the same session for too long".into();
    }
    if *code == SqlState::QUERY_CANCELED {
        return "the server has ended the statement because it took too long".into();
    }
    format!("{message} (SQLSTATE {})", code.code())
}

pub(crate) fn not_found(what: &'static str, reference: &(impl ToString + ?Sized)) -> Error {
    StoreError::NotFound { what, reference: reference.to_string() }.into()
}

pub(crate) fn conflict(message: impl Into<String>) -> Error {
    StoreError::Conflict { message: message.into() }.into()
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    StoreError::Invalid { message: message.into() }.into()
}

/// The message of the error when a turn is continued without the final message of its reply.
pub(crate) const NO_FINAL_MESSAGE: &str =
    "a turn continues after the final message of its reply, and there is none";
