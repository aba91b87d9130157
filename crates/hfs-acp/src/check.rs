//! Finds out what an installed agent can do, and whether it can be used.

use std::path::Path;
use std::time::Duration;

use agent_client_protocol_schema::v1::{AuthMethod, InitializeResponse, NewSessionRequest, SessionModeState};
use serde::Deserialize as _;
use serde_json::Value;

use crate::AcpError;
use crate::agent::{check_mode, initialize};
use crate::connection::Connection;
use crate::front_end::FileAccess;
use crate::launch::Launch;

/// How long an agent that was only asked may take to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long an agent that is only asked may take to start, and to open a session. A turn waits longer.
pub const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// How a user logs in to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginMethod {
    /// Its name.
    pub name: String,
    /// What to do, in the agent's words.
    pub description: Option<String>,
    /// Arguments of the agent's program that log in on a terminal, if it has such.
    pub arguments: Option<Vec<String>>,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentReport {
    /// Its own name and version.
    pub version: Option<String>,
    /// Whether it loads its earlier sessions.
    pub loads: bool,
    /// Whether it lists its sessions.
    pub lists: bool,
    /// Whether it resumes its earlier sessions without replaying them.
    pub resumes: bool,
    /// Whether it looks at pictures.
    pub sees_images: bool,
    /// How a user logs in.
    pub logins: Vec<LoginMethod>,
}

impl AgentReport {
    fn new(initialized: &InitializeResponse) -> Self {
        let capabilities = &initialized.agent_capabilities;
        let logins = initialized.auth_methods.iter().map(|method| LoginMethod {
            name: method.name().to_owned(),
            description: method.description().map(str::to_owned),
            arguments: match method {
                AuthMethod::Terminal(terminal) => Some(terminal.args.clone()),
                _ => None,
            },
        });
        Self {
            version: initialized.agent_info.as_ref().map(|info| info.version.clone()),
            loads: capabilities.load_session,
            lists: capabilities.session_capabilities.list.is_some(),
            resumes: capabilities.session_capabilities.resume.is_some(),
            sees_images: capabilities.prompt_capabilities.image,
            logins: logins.collect(),
        }
    }
}

/// Starts an agent, asks what it can do, and ends it.
///
/// # Errors
/// See [`AcpError`].
pub async fn report(launch: &Launch) -> Result<AgentReport, AcpError> {
    let (connection, initialized) = initialize(launch, FileAccess::default(), None, CHECK_LIMIT).await?;
    connection.close(CLOSE_LIMIT).await;
    Ok(AgentReport::new(&initialized))
}

/// Like [`report`], and opens a session in a directory: only then do most agents notice that the user has not logged in. The
/// session must have the mode `mode`, if it has modes.
///
/// # Errors
/// See [`AcpError`]. The report is returned even if no session can be opened, with the error.
pub async fn check(
    launch: &Launch,
    directory: &Path,
    mode: Option<&str>,
) -> Result<(AgentReport, Option<AcpError>), AcpError> {
    let (connection, initialized) = initialize(launch, FileAccess::default(), None, CHECK_LIMIT).await?;
    let failure = open_session(&connection, directory, mode).await.err();
    connection.close(CLOSE_LIMIT).await;
    Ok((AgentReport::new(&initialized), failure))
}

async fn open_session(connection: &Connection, directory: &Path, mode: Option<&str>) -> Result<(), AcpError> {
    let request = NewSessionRequest::new(directory);
    let opened: Value = connection.call("session/new", &request, Some(CHECK_LIMIT)).await?;
    let modes = opened.get("modes").and_then(|modes| SessionModeState::deserialize(modes).ok());
    match (mode, modes) {
        (Some(mode), Some(modes)) => check_mode(connection.agent(), mode, &modes),
        _ => Ok(()),
    }
}
