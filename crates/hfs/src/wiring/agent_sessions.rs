//! The sessions that agents have of their own: which branch they belong to, and transcripts that hfs writes for them.
//!
//! The list of these sessions is a file in the home directory of hfs, one JSON text a line. An import of an agent's transcripts
//! needs it to find the session in which hfs has recorded them, and `hfs agents clean` to remove what hfs wrote.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind as IoErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hfs_acp::AgentSessions;
use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, Clock as _, ContentHash, MAIN_BRANCH,
    Message, MessageFlag, MessageRange, NotPersisted, PassthroughFields, Project, Run, RunId, Seq, Session,
    SessionId, Store, StoreError, StoreResult, SystemClock, error_chain,
};
use hfs_exchange::{
    DocumentSource, Format, InstallPath, OpenCalls, TranscriptOptions, install_path, write_transcript,
};
use hfs_files::{Durability, TemporaryFile};
use serde::{Deserialize, Serialize};

use super::programs::SessionKeeping;
use crate::commands::handoff::opencode_model;
use crate::commands::start::location_overrides;
use crate::config::TranscriptFormat;
use crate::environment::Environment;
use crate::home::{Home, create_private_dir};
use crate::output::error::CliError;

const FILE: &str = "agent-sessions.jsonl";
/// Size limit of that file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// How long `opencode import` may take.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// A session that an agent has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSession {
    /// Name of the agent.
    pub agent: String,
    /// The agent's id of the session.
    pub id: String,
    /// The branch that it began with; empty for one in which triads have asked the agent.
    pub branch: String,
    /// The transcript, if hfs wrote one that the agent reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<PathBuf>,
    /// Time of its beginning, in RFC 3339.
    pub began_at: String,
}

/// The list of the sessions that agents have of their own.
#[derive(Debug, Clone)]
pub struct AgentSessionList {
    path: PathBuf,
}

impl AgentSessionList {
    pub fn new(home: &Home) -> Self {
        Self { path: home.root().join(FILE) }
    }

    /// All sessions, oldest first. A damaged line is left out.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn read(&self) -> Result<Vec<AgentSession>, CliError> {
        let mut bytes = Vec::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CliError::io(format!("read {}", self.path.display()), error)),
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The branch of each session, by the agent's id of the session. One in which triads have asked the agent has none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn branches(&self) -> Result<HashMap<String, Option<BranchId>>, CliError> {
        let sessions = self.read()?.into_iter();
        Ok(sessions.map(|session| (session.id, session.branch.parse().ok())).collect())
    }

    /// Adds a session.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn add(&self, session: AgentSession) -> Result<(), CliError> {
        self.update(|sessions| sessions.push(session))
    }

    /// Forgets the transcripts of these sessions. What hfs knows of the sessions themselves stays, for imports.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn forget_transcripts(&self, ids: &[&str]) -> Result<(), CliError> {
        self.update(|sessions| {
            for session in sessions.iter_mut().filter(|session| ids.contains(&session.id.as_str())) {
                session.transcript = None;
            }
        })
    }

    /// Changes the file under a lock, so that sessions of several processes are all kept.
    fn update(&self, change: impl FnOnce(&mut Vec<AgentSession>)) -> Result<(), CliError> {
        let failed = |error| CliError::io(format!("write {}", self.path.display()), error);
        let _lock = hfs_files::lock_for_replacing(&self.path).map_err(failed)?;
        let mut sessions = self.read()?;
        change(&mut sessions);
        let mut text = String::new();
        for session in &sessions {
            text.push_str(&serde_json::to_string(session).unwrap_or_default());
            text.push('\n');
        }
        hfs_files::replace(&self.path, text.as_bytes(), Durability::Synced).map_err(failed)
    }
}

/// The transcripts that hfs wrote for sessions in the store. They are listed before a purge, which has to remove those of the purged
/// sessions.
pub struct WrittenTranscripts {
    list: AgentSessionList,
    of_store: Vec<AgentSession>,
}

impl WrittenTranscripts {
    /// # Errors
    /// If the list or the store cannot be read.
    pub fn of_store(home: &Home, store: &dyn Store) -> Result<Self, CliError> {
        let list = AgentSessionList::new(home);
        let mut of_store = Vec::new();
        for session in list.read()?.into_iter().filter(|session| session.transcript.is_some()) {
            if has_branch(store, &session)? {
                of_store.push(session);
            }
        }
        Ok(Self { list, of_store })
    }

    /// Removes those whose branch is not in the store any more.
    ///
    /// # Errors
    /// If the store cannot be read, or a file cannot be removed.
    pub fn remove_of_purged(self, store: &dyn Store) -> Result<(), CliError> {
        let mut removed = Vec::new();
        for session in &self.of_store {
            if has_branch(store, session)? {
                continue;
            }
            if let Some(path) = &session.transcript {
                remove_transcript(path)?;
            }
            removed.push(session.id.as_str());
        }
        if removed.is_empty() { Ok(()) } else { self.list.forget_transcripts(&removed) }
    }
}

fn has_branch(store: &dyn Store, session: &AgentSession) -> Result<bool, CliError> {
    let Ok(branch) = session.branch.parse() else { return Ok(false) };
    match store.get_branch(branch) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes a transcript, unless the agent or the user has removed it.
///
/// # Errors
/// If the file cannot be removed.
pub fn remove_transcript(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(CliError::io(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Keeps the sessions of one agent, and writes branches as its transcripts.
pub struct StoredSessions {
    pub keeping: SessionKeeping,
    pub agent: String,
    pub transcript: TranscriptFormat,
    pub list: AgentSessionList,
    pub store: Arc<dyn Store>,
    pub environment: Environment,
    /// The directory that the agent works in.
    pub directory: PathBuf,
    /// Its program and environment, for agents that import transcripts by a command.
    pub program: PathBuf,
    pub variables: Vec<(String, String)>,
    /// A private folder for files that are imported.
    pub exports: PathBuf,
}

impl StoredSessions {
    fn add(&self, id: &str, branch: BranchId, transcript: Option<PathBuf>) -> Result<(), CliError> {
        self.list.add(AgentSession {
            agent: self.agent.clone(),
            id: id.to_owned(),
            branch: match self.keeping {
                SessionKeeping::OfBranches => branch.to_string(),
                SessionKeeping::OfTriads => String::new(),
            },
            transcript,
            began_at: SystemClock.now().to_jiff().to_string(),
        })
    }

    /// Writes a branch as a transcript of the agent under a new id.
    fn write_branch(
        &self,
        format: Format,
        session: SessionId,
        branch: BranchId,
        through: Seq,
    ) -> Result<String, CliError> {
        let copy = BranchCopy::new(self.store.as_ref(), session, branch, through, &self.directory)?;
        let home = self.environment.user_home.as_deref();
        let overrides = location_overrides(&self.environment);
        let install = home.and_then(|home| install_path(format, &copy.session, home, &overrides));
        let install = install.ok_or_else(|| {
            CliError::new(hfs_core::ErrorKind::NotFound, "there is no home directory with its sessions")
        })?;
        let folder = install.folder.clone().unwrap_or_else(|| self.exports.clone());
        let path = folder.join(&install.name);
        let failed = |error| CliError::io(format!("write {}", path.display()), error);
        create_private_dir(&folder).map_err(failed)?;
        let model = opencode_model(&self.environment, Some(&self.directory));
        // The agent is given exactly what the branch has, as it is given the messages of its own session.
        let open_calls = OpenCalls::LeftOut;
        let options = TranscriptOptions { opencode_model: model.as_deref(), is_resumed: true, open_calls };
        // Agents ignore this file, because of its name.
        let mut file = BufWriter::new(TemporaryFile::create_in(&folder).map_err(failed)?);
        write_transcript(&copy, format, options, &mut file).map_err(|error| {
            CliError::new(
                hfs_core::ErrorKind::Unavailable,
                format!("cannot write {}: {error}", path.display()),
            )
        })?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.persist(&path).map_err(failed)?;
        // The last argument of the command that continues a session is its id.
        let id = install.resume.last().cloned().unwrap_or_default();
        let transcript = match &install.import {
            Some(_) => {
                let imported = self.import(&install, &path);
                let _ = fs::remove_file(&path);
                imported?;
                None
            }
            None => Some(path),
        };
        self.add(&id, branch, transcript)?;
        Ok(id)
    }

    /// Lets the agent's own command import a transcript.
    fn import(&self, install: &InstallPath, path: &Path) -> Result<(), CliError> {
        let arguments = install.import.iter().flatten().skip(1);
        let name = self.program.display();
        let mut child = Command::new(&self.program)
            .args(arguments)
            .arg(path)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| CliError::io(format!("start {name}"), error))?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| CliError::io(format!("wait for {name}"), error))? {
                Some(status) => break status,
                None if started.elapsed() < IMPORT_LIMIT => std::thread::sleep(Duration::from_millis(20)),
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(CliError::new(
                        hfs_core::ErrorKind::Unavailable,
                        format!("{name} did not import the transcript within {} s", IMPORT_LIMIT.as_secs()),
                    ));
                }
            }
        };
        if status.success() {
            return Ok(());
        }
        let message = format!("{name} did not import the transcript: {status}");
        Err(CliError::new(hfs_core::ErrorKind::Unavailable, message))
    }
}

impl AgentSessions for StoredSessions {
    fn started(&self, id: &str, branch: BranchId) -> Result<(), NotPersisted> {
        self.add(id, branch, None).map_err(|error| NotPersisted { reason: error_chain(&error) })
    }

    fn write(
        &self,
        session: SessionId,
        branch: BranchId,
        through: Seq,
    ) -> Result<Option<String>, NotPersisted> {
        let format = match self.transcript {
            _ if self.keeping == SessionKeeping::OfTriads => return Ok(None),
            TranscriptFormat::ClaudeCode => Format::ClaudeCode,
            TranscriptFormat::Codex => Format::Codex,
            TranscriptFormat::Opencode => Format::OpenCode,
            TranscriptFormat::None => return Ok(None),
        };
        let written = self.write_branch(format, session, branch, through);
        written.map(Some).map_err(|error| NotPersisted { reason: error_chain(&error) })
    }
}

/// The history of a branch as a session of its own, with new ids: a transcript of it never takes the place of another one.
struct BranchCopy {
    store: Arc<dyn Store>,
    session: Session,
    branch: Branch,
    /// The branch whose history it is.
    original: BranchId,
}

impl BranchCopy {
    fn new(
        store: &dyn Store,
        session: SessionId,
        original: BranchId,
        through: Seq,
        directory: &Path,
    ) -> StoreResult<Self> {
        let store = store.snapshot()?;
        let named = store.get_session(session)?.session;
        let now = SystemClock.now();
        let directory = directory.to_string_lossy().into_owned();
        let session = Session {
            id: SessionId::generate(),
            current_branch: BranchId::generate(),
            project: Some(Project { directory, repository: None }),
            created_at: now,
            updated_at: now,
            origin: None,
            extra: PassthroughFields::new(),
            ..named
        };
        let branch = Branch {
            id: session.current_branch,
            session: session.id,
            name: MAIN_BRANCH.to_owned(),
            parent: None,
            forked_at: 0,
            head: through,
            created_at: now,
            undone: false,
        };
        Ok(Self { store, session, branch, original })
    }
}

/// The message as one that hfs wrote, also if it was imported from the same agent: records of another session cannot be used
/// again as they are.
fn written_by_hfs(mut message: Message) -> Message {
    let content = &mut message.content;
    let flags: Vec<MessageFlag> =
        MessageFlag::ALL.into_iter().filter(|flag| content.has_flag(*flag)).collect();
    content.source = None;
    content.extra = PassthroughFields::new();
    flags.into_iter().for_each(|flag| content.set_flag(flag));
    message
}

impl DocumentSource for BranchCopy {
    fn session(&self) -> StoreResult<Session> {
        Ok(self.session.clone())
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        Ok(vec![self.branch.clone()])
    }

    fn messages(&self, _: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let remaining = u32::try_from(self.branch.head.saturating_sub(after)).unwrap_or(u32::MAX);
        let count = remaining.min(limit);
        if count == 0 {
            return Ok(Vec::new());
        }
        let page = self.store.read_messages(self.original, MessageRange::From(after + 1, count))?;
        Ok(page.into_iter().map(written_by_hfs).collect())
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        Ok(Vec::new())
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        Err(StoreError::NotFound { what: "run", reference: id.to_string() })
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        Ok(Vec::new())
    }

    fn state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        Err(StoreError::NotFound { what: "checkpoint", reference: id.to_string() })
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.store.get_attachment(hash)
    }
}
