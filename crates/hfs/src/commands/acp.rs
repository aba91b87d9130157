//! `hfs acp`: hfs as the agent of an editor, over the Agent Client Protocol on standard input and output.
//!
//! The editor's sessions are sessions of hfs. What is said in them goes through the engine, like in the app: it is durable
//! when the editor shows it as sent, and searched, branched and checkpointed like everything else. An agent that is a program
//! works behind hfs: its updates are recorded and passed on.

mod commands;
mod front_end;
mod listing;
mod options;
mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, join_all};
use hfs_acp::wire::{
    AgentCapabilities, CancelNotification, ClientCapabilities, CloseSessionRequest, DeleteSessionRequest,
    Implementation, InitializeRequest, InitializeResponse, ListSessionsRequest, LoadSessionRequest,
    LoadSessionResponse, McpCapabilities, McpServer, NewSessionRequest, NewSessionResponse,
    PromptCapabilities, PromptRequest, ResumeSessionRequest, ResumeSessionResponse, SessionCapabilities,
    SessionCloseCapabilities, SessionConfigOption, SessionDeleteCapabilities, SessionListCapabilities,
    SessionResumeCapabilities, SetSessionConfigOptionRequest,
};
use hfs_acp::{EditorConnection, EditorInput, EditorMessage, ProtocolVersion, RpcError, RpcErrorCode};
use hfs_core::{Clock as _, ErrorKind, SessionId, Store, SystemClock};
use hfs_plugins::Plugins;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

use crate::args::{AgentArgs, GlobalArgs};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::{CliError, Outcome};
use crate::wiring::agent::check_agent_option;
use crate::{interrupt, wiring};
use front_end::EditorFeatures;
use session::{EditorSession, Opening};

const EXAMPLES: &str = "\
Editors start this command; they are configured with the program and its arguments. In Zed, for example:

  \"agent_servers\": {\"hfs\": {\"command\": \"hfs\", \"args\": [\"acp\"]}}
  \"agent_servers\": {\"Claude\": {\"command\": \"hfs\", \"args\": [\"acp\", \"--agent\", \"claude\"]}}

With an agent that is a program, hfs records what it says and does, and passes everything on: the editor gets a history that \
lasts, search and rewind. The agent's questions go to the editor. docs/agents.md has the settings for other editors.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AcpArgs {
    #[command(flatten)]
    pub agent_args: AgentArgs,
}

/// Requests that are answered at the same time. The editor waits if there are more.
const MAX_REQUESTS: usize = 1_000;
/// How long turns and agents may take to end after the editor has closed the connection.
const END_LIMIT: Duration = Duration::from_secs(8);
/// How long the editor may take to read the last answers.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

pub fn run(context: &Context) -> Result<Outcome, CliError> {
    let interrupted = interrupt::install()?;
    check_agent_option(context)?;
    // Opened before the first message: an editor shows what a program that ends at once has written to standard error.
    let store = Arc::clone(context.store()?);
    let (connection, input) = EditorConnection::start(io::stdin(), io::stdout())
        .map_err(|error| CliError::io("start a thread", error))?;
    let server = Rc::new(Server {
        connection: connection.clone(),
        // The sessions have directories of their own, which do not change where the home directory is. Projects are trusted
        // on a terminal.
        global: GlobalArgs {
            home: Some(context.home.root().to_path_buf()),
            trust: false,
            ..context.global.clone()
        },
        environment: context.environment.clone(),
        store,
        features: Cell::default(),
        plugins: RefCell::default(),
        sessions: RefCell::default(),
        prompts: RefCell::default(),
    });
    let (serving, runtime) = (LocalSet::new(), wiring::runtime()?);
    runtime.block_on(serving.run_until(server.serve(input, interrupted)));
    runtime.block_on(connection.finish(WRITE_LIMIT));
    Ok(Outcome::Done)
}

/// The state of `hfs acp`. It is used by one thread.
struct Server {
    connection: EditorConnection,
    global: GlobalArgs,
    environment: Environment,
    store: Arc<dyn Store>,
    /// What the editor can show; `None` before the connection is initialized.
    features: Cell<Option<EditorFeatures>>,
    /// The plugins of each directory.
    plugins: RefCell<HashMap<PathBuf, Option<Plugins>>>,
    /// The sessions that the editor has opened.
    sessions: RefCell<HashMap<SessionId, Rc<EditorSession>>>,
    /// The prompts in progress, by the ids of their requests.
    prompts: RefCell<HashMap<String, CancellationToken>>,
}

/// The answer to a request.
type Answer = LocalBoxFuture<'static, Result<Value, RpcError>>;

impl Server {
    /// Serves the editor until it closes the connection, or until hfs is interrupted.
    async fn serve(self: Rc<Self>, mut input: EditorInput, interrupted: CancellationToken) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                () = interrupted.cancelled() => break,
                () = self.connection.closed() => break,
                message = input.next(), if requests.len() < MAX_REQUESTS => match message {
                    Some(message) => self.receive(message, &mut requests),
                    None => break,
                },
                Some(_) = requests.join_next() => {}
            }
        }
        // What the agents have said so far is saved, and they end.
        for session in self.sessions.borrow().values() {
            session.cancel();
        }
        let ending = async {
            while requests.join_next().await.is_some() {}
            let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
            join_all(sessions.values().map(|session| session.close())).await;
        };
        let _ = tokio::time::timeout(END_LIMIT, ending).await;
    }

    /// Begins to process a message. A turn is registered at once, so that the next message can cancel it.
    fn receive(self: &Rc<Self>, message: EditorMessage, requests: &mut JoinSet<()>) {
        match message {
            EditorMessage::Notification { method, params } => self.notified(&method, params),
            EditorMessage::Request { id, method, params } => match self.begin(&id, &method, params) {
                Err(error) => self.connection.refuse(&id, &error),
                Ok(answer) => {
                    let server = Rc::clone(self);
                    requests.spawn_local(async move {
                        // The panic hook has reported it.
                        let answer = AssertUnwindSafe(answer).catch_unwind().await;
                        server.prompts.borrow_mut().remove(&id.to_string());
                        match answer.unwrap_or_else(|_| Err(RpcError::new("hfs failed; see its log"))) {
                            Ok(result) => server.connection.answer(&id, &result),
                            Err(error) => server.connection.refuse(&id, &error),
                        }
                    });
                }
            },
        }
    }

    fn notified(&self, method: &str, params: Value) {
        match method {
            "session/cancel" => {
                let session = read::<CancelNotification>(params).ok();
                if let Some(session) = session.and_then(|cancel| self.session(&cancel.session_id.0).ok()) {
                    session.cancel();
                }
            }
            "$/cancel_request" => {
                let id = params.get("requestId").map(ToString::to_string).unwrap_or_default();
                if let Some(prompt) = self.prompts.borrow().get(&id) {
                    prompt.cancel();
                }
            }
            // Others are extensions, which may be ignored.
            _ => tracing::debug!(method, "a notification of the editor is ignored"),
        }
    }

    /// Begins to answer a request.
    fn begin(self: &Rc<Self>, id: &Value, method: &str, params: Value) -> Result<Answer, RpcError> {
        if method == "initialize" {
            let answer = self.initialize(&read(params)?);
            return Ok(async move { answer }.boxed_local());
        }
        if self.features.get().is_none() {
            return Err(invalid_request("the connection is not initialized: send initialize first"));
        }
        let server = Rc::clone(self);
        Ok(match method {
            "session/new" => server.new_session(read(params)?).boxed_local(),
            "session/load" => {
                let LoadSessionRequest { session_id, cwd, mcp_servers, .. } = read(params)?;
                let opening =
                    server.open_session(session_id.to_string(), cwd, mcp_servers, Opening::Replayed);
                async move { to_value(&LoadSessionResponse::new().config_options(opening.await?)) }
                    .boxed_local()
            }
            "session/resume" => {
                let ResumeSessionRequest { session_id, cwd, mcp_servers, .. } = read(params)?;
                let opening = server.open_session(session_id.to_string(), cwd, mcp_servers, Opening::Silent);
                async move { to_value(&ResumeSessionResponse::new().config_options(opening.await?)) }
                    .boxed_local()
            }
            "session/list" => {
                let request: ListSessionsRequest = read(params)?;
                async move { to_value(&listing::list(&server, request).await?) }.boxed_local()
            }
            "session/close" => {
                let CloseSessionRequest { session_id, .. } = read(params)?;
                let session = self.session(&session_id.0)?;
                server.close_session(session).boxed_local()
            }
            "session/delete" => {
                let DeleteSessionRequest { session_id, .. } = read(params)?;
                server.delete_session(session_id.to_string()).boxed_local()
            }
            "session/prompt" => {
                let PromptRequest { session_id, prompt, .. } = read(params)?;
                let session = self.session(&session_id.0)?;
                let turn = session.begin_turn()?;
                self.prompts.borrow_mut().insert(id.to_string(), turn.cancel.clone());
                async move { to_value(&session.prompt(&server, prompt, &turn).await?) }.boxed_local()
            }
            "session/set_config_option" => {
                let request: SetSessionConfigOptionRequest = read(params)?;
                let session = self.session(&request.session_id.0)?;
                async move { to_value(&options::set(&server, &session, request).await?) }.boxed_local()
            }
            "authenticate" => {
                return Err(invalid_request("hfs has no login; log in to the agent itself, as without hfs"));
            }
            other => {
                let message = format!("hfs does not offer {other}");
                return Err(rpc_error(RpcErrorCode::MethodNotFound, message));
            }
        })
    }

    /// Version 1 is offered to an editor that wants another one; it ends the connection if it does not speak it.
    fn initialize(&self, request: &InitializeRequest) -> Result<Value, RpcError> {
        let ClientCapabilities { fs, session, .. } = &request.client_capabilities;
        self.features.set(Some(EditorFeatures::new(fs, session.as_ref())));
        let sessions = SessionCapabilities::new()
            .list(SessionListCapabilities::new())
            .resume(SessionResumeCapabilities::new())
            .close(SessionCloseCapabilities::new())
            .delete(SessionDeleteCapabilities::new());
        let capabilities = AgentCapabilities::new()
            .load_session(true)
            .prompt_capabilities(PromptCapabilities::new().image(true).embedded_context(true))
            .mcp_capabilities(McpCapabilities::new().http(true).sse(true))
            .session_capabilities(sessions);
        let info = Implementation::new("hfs", env!("CARGO_PKG_VERSION")).title("hfs".to_owned());
        let response =
            InitializeResponse::new(ProtocolVersion::V1).agent_capabilities(capabilities).agent_info(info);
        to_value(&response)
    }

    async fn new_session(self: Rc<Self>, request: NewSessionRequest) -> Result<Value, RpcError> {
        let directory = directory(&request.cwd)?;
        let session = EditorSession::create(&self, directory, request.mcp_servers).await?;
        self.sessions.borrow_mut().insert(session.id, Rc::clone(&session));
        let response = NewSessionResponse::new(session.id.to_string()).config_options(options::of(&session));
        // Sent after the answer: an editor knows the session only then.
        spawn_local(Rc::clone(&session).announce(true));
        to_value(&response)
    }

    /// Opens a session of the store. Returns its options.
    async fn open_session(
        self: Rc<Self>,
        id: String,
        cwd: PathBuf,
        servers: Vec<McpServer>,
        opening: Opening,
    ) -> Result<Vec<SessionConfigOption>, RpcError> {
        let directory = directory(&cwd)?;
        let id = session_id(&id)?;
        let open = self.sessions.borrow().get(&id).cloned();
        if let Some(open) = open {
            // The turn would be answered on a view that the editor has discarded.
            let _turn = open.begin_turn()?;
            self.sessions.borrow_mut().remove(&id);
            open.close().await;
        }
        let session = EditorSession::open(&self, id, directory, servers, opening).await?;
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        spawn_local(Rc::clone(&session).announce(false));
        Ok(options::of(&session))
    }

    async fn close_session(self: Rc<Self>, session: Rc<EditorSession>) -> Result<Value, RpcError> {
        self.sessions.borrow_mut().remove(&session.id);
        session.cancel();
        session.close().await;
        Ok(json!({}))
    }

    /// Moves a session to the trash.
    async fn delete_session(self: Rc<Self>, id: String) -> Result<Value, RpcError> {
        let id = session_id(&id)?;
        let open = self.sessions.borrow_mut().remove(&id);
        if let Some(open) = &open {
            open.cancel();
            open.close().await;
        }
        let store = Arc::clone(&self.store);
        let trashed = in_background(move || {
            let is_trashed = store.get_session(id)?.session.trashed_at.is_some();
            if is_trashed { Ok(()) } else { Ok(store.trash_session(id, SystemClock.now())?) }
        });
        match trashed.await {
            // A session without messages was never stored.
            Err(error) if error.kind() == ErrorKind::NotFound && open.is_some() => {}
            result => result.map_err(|error| wire_error(&error))?,
        }
        Ok(json!({}))
    }

    fn session(&self, id: &str) -> Result<Rc<EditorSession>, RpcError> {
        let open = session_id(id).ok().and_then(|id| self.sessions.borrow().get(&id).cloned());
        open.ok_or_else(|| {
            rpc_error(RpcErrorCode::NotFound, format!("the session {id} is not open: load it first"))
        })
    }

    /// The context of a session in this directory, with its own project and with shared plugins.
    fn context(&self, directory: &Path) -> Result<Context, CliError> {
        let environment = self.environment.in_directory(directory.to_owned());
        let mut context =
            Context::new(self.global.clone(), environment, false)?.with_store(Arc::clone(&self.store));
        if let Some(error) = context.config_error.take() {
            return Err(error.into());
        }
        let running = self.plugins.borrow().get(directory).cloned();
        if let Some(plugins) = running {
            return Ok(context.with_plugins(plugins));
        }
        let plugins = context.plugins()?.cloned();
        self.plugins.borrow_mut().insert(directory.to_owned(), plugins);
        Ok(context)
    }

    fn features(&self) -> EditorFeatures {
        self.features.get().unwrap_or_default()
    }
}

/// Runs store calls, which block, on another thread.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(CliError::new(ErrorKind::Internal, format!("a background task of hfs failed: {error}")))
    })
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params).map_err(|error| {
        rpc_error(RpcErrorCode::InvalidParams, format!("the arguments are not valid: {error}"))
    })
}

fn to_value(response: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(response).map_err(|error| RpcError::new(error.to_string()))
}

fn session_id(text: &str) -> Result<SessionId, RpcError> {
    text.parse().map_err(|_| rpc_error(RpcErrorCode::NotFound, format!("there is no session {text:?}")))
}

/// The directory that an editor names.
fn directory(path: &Path) -> Result<PathBuf, RpcError> {
    let invalid = |reason| rpc_error(RpcErrorCode::InvalidParams, format!("cwd {} {reason}", path.display()));
    if !path.is_absolute() {
        return Err(invalid("is not an absolute path"));
    }
    let directory = path.canonicalize().map_err(|_| invalid("does not exist"))?;
    if directory.is_dir() { Ok(directory) } else { Err(invalid("is not a directory")) }
}

fn rpc_error(code: RpcErrorCode, message: impl Into<String>) -> RpcError {
    RpcError { code, ..RpcError::new(message) }
}

fn invalid_request(message: impl Into<String>) -> RpcError {
    rpc_error(RpcErrorCode::Other(-32600), message)
}

/// An error with its causes and its hint, as one line.
fn explanation(error: &CliError) -> String {
    let document = error.document();
    match &document.hint {
        Some(hint) => format!("{}; {hint}", document.one_line()),
        None => document.one_line(),
    }
}

/// An error in the words of the protocol.
fn wire_error(error: &CliError) -> RpcError {
    let message = explanation(error);
    let code = match error.kind() {
        ErrorKind::NotFound => RpcErrorCode::NotFound,
        ErrorKind::Invalid => RpcErrorCode::InvalidParams,
        // An editor would offer a login for other kinds.
        _ => RpcErrorCode::Other(-32603),
    };
    rpc_error(code, message)
}
