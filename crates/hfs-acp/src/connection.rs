//! A connection to an agent: requests and their answers, and the updates and questions of the turns in progress.
//!
//! One task reads the agent's output, one writes its input. Neither waits for the other, for a disk, or for the user, so an
//! agent is never blocked by hfs, and hfs is never blocked by an agent.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hfs_core::lock_unpoisoned;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};

use crate::AcpError;
use crate::launch::{EnvironmentSecrets, Launch};
use crate::log::AgentLog;
use crate::process::{AgentProcess, Pipes};
use crate::rpc::{
    Incoming, LineError, MAX_LINE_BYTES, ReadEnd, RpcError, RpcErrorCode, RpcMessage, UnreadableHead,
    error_line, head_of_unreadable, invalid_params_line, method_not_found_line, notification_line,
    parse_line, read_line, request_line, result_line,
};

/// Updates of a turn that may wait to be recorded.
pub const MAX_WAITING: usize = 100_000;
/// Bytes of updates that may wait, in all turns together.
pub const MAX_WAITING_BYTES: usize = 256 << 20;
/// Updates that arrive between two turns and are kept for the next one, and their bytes, for all sessions together. More are
/// counted only.
const MAX_BETWEEN_TURNS: usize = 1_000;
const MAX_BYTES_BETWEEN_TURNS: usize = 16 << 20;
/// How long an agent that has closed its output may take to end, so that the error says how it ended.
const STATUS_WAIT: Duration = Duration::from_secs(1);
/// Characters of a line that the log quotes.
const MAX_QUOTED: usize = 200;

/// What an agent sends during a turn.
#[derive(Debug)]
pub enum TurnInput {
    /// A session update, as it came.
    Update(Value),
    /// A request for a permission.
    Permission {
        /// Id of the request.
        id: Value,
        /// The request, as it came.
        params: Value,
    },
    /// Another request, which the front end answers.
    Request {
        /// Id of the request.
        id: Value,
        /// What is requested.
        method: String,
        /// The request, as it came.
        params: Value,
    },
}

/// Receives what an agent sends for a session during a turn.
#[derive(Debug)]
pub struct TurnQueue {
    session: String,
    receiver: mpsc::Receiver<(TurnInput, usize)>,
    shared: Arc<Shared>,
}

impl TurnQueue {
    /// The next input; `None` if the connection has ended.
    pub async fn next(&mut self) -> Option<TurnInput> {
        let (input, bytes) = self.receiver.recv().await?;
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(input)
    }

    /// The next input if there is one.
    pub fn try_next(&mut self) -> Option<TurnInput> {
        let (input, bytes) = self.receiver.try_recv().ok()?;
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(input)
    }
}

impl Drop for TurnQueue {
    fn drop(&mut self) {
        lock_unpoisoned(&self.shared.state).routes.remove(&self.session);
        while self.try_next().is_some() {}
    }
}

/// The time in which an agent replays a session; see [`Connection::begin_replay`].
#[derive(Debug)]
pub struct IgnoredReplay {
    session: String,
    shared: Arc<Shared>,
}

impl Drop for IgnoredReplay {
    fn drop(&mut self) {
        let mut state = lock_unpoisoned(&self.shared.state);
        if matches!(state.routes.get(&self.session), Some(Route::Replay)) {
            state.routes.remove(&self.session);
        }
    }
}

/// Is called with the session and the update when an update arrives between two turns. Must not block.
pub type BetweenTurnsListener = Box<dyn Fn(&str, &Value) + Send + Sync>;

/// Which messages of an agent are forwarded to a front end, beside being recorded.
#[derive(Default)]
pub struct Forwarding {
    /// The requests that the front end answers during a turn.
    pub methods: Vec<&'static str>,
    /// Gets the updates between two turns at once. They are also kept for the next turn.
    pub listener: Option<BetweenTurnsListener>,
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding").field("methods", &self.methods).finish_non_exhaustive()
    }
}

/// Updates that arrived between two turns, of all sessions.
#[derive(Debug, Default)]
struct BetweenTurns {
    /// Session, update, and the bytes of the update, oldest first.
    updates: Vec<(String, Value, usize)>,
    bytes: usize,
    /// Number of updates that were not kept.
    dropped: usize,
}

impl BetweenTurns {
    fn add(&mut self, session: String, update: Value, bytes: usize) {
        let all = self.bytes.saturating_add(bytes);
        if self.updates.len() < MAX_BETWEEN_TURNS && all <= MAX_BYTES_BETWEEN_TURNS {
            self.updates.push((session, update, bytes));
            self.bytes = all;
        } else {
            self.dropped += 1;
        }
    }

    /// Takes the updates of a session.
    fn take(&mut self, session: &str) -> Vec<Value> {
        let (taken, kept) = std::mem::take(&mut self.updates).into_iter().partition(|(of, ..)| of == session);
        self.updates = kept;
        let taken: Vec<(String, Value, usize)> = taken;
        self.bytes -= taken.iter().map(|(.., bytes)| bytes).sum::<usize>();
        taken.into_iter().map(|(_, update, _)| update).collect()
    }
}

/// Lines of an agent's output that are no messages. Programs print such lines by mistake.
#[derive(Debug, Default)]
pub struct UnreadableLines {
    count: usize,
    /// The beginning of the first one.
    first: String,
}

impl fmt::Display for UnreadableLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, first } = self;
        let (lines, was) = if *count == 1 { ("line", "was") } else { ("lines", "were") };
        write!(f, "{count} {lines} of its output could not be read and {was} left out: {first}")
    }
}

/// Where the updates of a session go.
#[derive(Debug)]
enum Route {
    Turn(mpsc::Sender<(TurnInput, usize)>),
    /// The agent replays the conversation of a session that it loads. hfs has these messages already.
    Replay,
}

/// A connection to a running agent. Dropping it ends the agent.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    process: Arc<AgentProcess>,
}

#[derive(Debug)]
struct Shared {
    agent: String,
    log: AgentLog,
    forwarding: Forwarding,
    /// Size of the inputs that wait in all turns.
    waiting_bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting_calls: HashMap<u64, oneshot::Sender<Result<Value, CallEnd>>>,
    routes: HashMap<String, Route>,
    between_turns: BetweenTurns,
    unreadable: UnreadableLines,
    /// Lines for the agent; `None` after the connection was closed.
    output: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Why the connection has ended.
    ended: Option<AcpError>,
}

/// Why a call has no result.
#[derive(Debug)]
enum CallEnd {
    Refused(RpcError),
    Connection(AcpError),
}

impl Connection {
    /// Starts an agent. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Start` if its program cannot be run.
    pub fn start(launch: &Launch, forwarding: Forwarding) -> Result<Self, AcpError> {
        let failed = |error: std::io::Error| AcpError::Start {
            agent: launch.agent.clone(),
            program: launch.program.display().to_string(),
            message: error.to_string(),
        };
        let log = AgentLog::open(&launch.log).map_err(failed)?;
        let (process, Pipes { input, output, errors }) = AgentProcess::start(launch)?;
        let process = Arc::new(process);
        let secrets = EnvironmentSecrets::new(&launch.environment);
        let (lines, waiting_lines) = mpsc::unbounded_channel();
        let state = State { output: Some(lines), ..State::default() };
        let shared = Arc::new(Shared {
            agent: launch.agent.clone(),
            log: log.clone(),
            forwarding,
            waiting_bytes: AtomicUsize::new(0),
            state: Mutex::new(state),
        });
        tokio::spawn(log.copy(errors, secrets.clone()));
        tokio::spawn(write_lines(input, waiting_lines));
        tokio::spawn(read_lines(output, Arc::clone(&shared), Arc::clone(&process), secrets));
        Ok(Self { shared, process })
    }

    /// Sends a request and waits for its result, at most for `limit`.
    ///
    /// # Errors
    /// `Refused` if the agent answers with an error, `NoAnswer` after the limit, and why the connection has ended if it has.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        limit: Option<Duration>,
    ) -> Result<R, AcpError> {
        let pending = self.begin_call(method, params)?;
        let result = match limit {
            None => pending.result().await,
            Some(limit) => tokio::time::timeout(limit, pending.result()).await.unwrap_or_else(|_| {
                let (agent, output) = (self.shared.agent.clone(), self.shared.log.tail());
                let error = AcpError::NoAnswer { agent, method, limit, output };
                // It would not answer the next request either.
                self.shared.end(error.clone());
                self.process.end();
                Err(error)
            }),
        }?;
        serde_json::from_value(result).map_err(|error| AcpError::Malformed {
            agent: self.shared.agent.clone(),
            message: format!("its answer to {method} cannot be read: {error}"),
        })
    }

    /// Sends a request, whose result is waited for later.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn begin_call(&self, method: &'static str, params: &impl Serialize) -> Result<PendingCall, AcpError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock_unpoisoned(&self.shared.state);
        state.last_id += 1;
        let id = state.last_id;
        let line = request_line(id, method, params).map_err(|error| self.shared.unwritable(&error))?;
        self.shared.write(&state, line)?;
        state.waiting_calls.insert(id, sender);
        drop(state);
        Ok(PendingCall { id, method, receiver: Some(receiver), shared: Arc::clone(&self.shared) })
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn notify(&self, method: &str, params: &impl Serialize) -> Result<(), AcpError> {
        let line = notification_line(method, params).map_err(|error| self.shared.unwritable(&error))?;
        self.shared.write(&lock_unpoisoned(&self.shared.state), line)
    }

    /// Answers a request of the agent.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn answer(&self, id: &Value, result: &impl Serialize) -> Result<(), AcpError> {
        let line = result_line(id, result).map_err(|error| self.shared.unwritable(&error))?;
        self.shared.write(&lock_unpoisoned(&self.shared.state), line)
    }

    /// Answers a request of the agent with an error.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn refuse(&self, id: &Value, error: &RpcError) -> Result<(), AcpError> {
        let line =
            error_line(id, error.code, &error.to_string()).map_err(|error| self.shared.unwritable(&error))?;
        self.shared.write(&lock_unpoisoned(&self.shared.state), line)
    }

    /// Says that the arguments of a request of the agent cannot be read.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn answer_invalid(&self, id: &Value, reason: &str) -> Result<(), AcpError> {
        let line = invalid_params_line(id, reason).map_err(|error| self.shared.unwritable(&error))?;
        self.shared.write(&lock_unpoisoned(&self.shared.state), line)
    }

    /// Begins a turn of a session: its updates and questions go to the queue until that is dropped.
    pub fn begin_turn(&self, session: &str) -> TurnQueue {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let mut state = lock_unpoisoned(&self.shared.state);
        // Lines that an agent prints while it starts are only logged.
        state.unreadable = UnreadableLines::default();
        state.routes.insert(session.to_owned(), Route::Turn(sender));
        drop(state);
        TurnQueue { session: session.to_owned(), receiver, shared: Arc::clone(&self.shared) }
    }

    /// Ignores the updates of a session, which its agent replays, until the result is dropped.
    pub fn begin_replay(&self, session: &str) -> IgnoredReplay {
        let mut state = lock_unpoisoned(&self.shared.state);
        // The rest of an earlier replay, which was cancelled.
        state.between_turns.take(session);
        state.routes.insert(session.to_owned(), Route::Replay);
        drop(state);
        IgnoredReplay { session: session.to_owned(), shared: Arc::clone(&self.shared) }
    }

    /// Takes the updates of a session that arrived between two turns, and the number of updates that were not kept.
    pub fn take_between_turns(&self, session: &str) -> (Vec<Value>, usize) {
        let between = &mut lock_unpoisoned(&self.shared.state).between_turns;
        (between.take(session), std::mem::take(&mut between.dropped))
    }

    /// Takes the lines that could not be read since the turn began; `None` if there are none.
    pub fn take_unreadable_lines(&self) -> Option<UnreadableLines> {
        let lines = std::mem::take(&mut lock_unpoisoned(&self.shared.state).unreadable);
        (lines.count > 0).then_some(lines)
    }

    /// Why the connection has ended; `None` if it has not.
    pub fn end_reason(&self) -> Option<AcpError> {
        lock_unpoisoned(&self.shared.state).ended.clone()
    }

    /// Name of the agent.
    pub fn agent(&self) -> &str {
        &self.shared.agent
    }

    /// The agent's log.
    pub fn log(&self) -> &AgentLog {
        &self.shared.log
    }

    /// Ends the agent and everything that it has started. Does not wait for it.
    pub fn kill(&self) {
        self.shared.end(AcpError::Closed { agent: self.shared.agent.clone() });
        self.process.end();
    }

    /// Closes the agent's input, so that it ends in its own time, but at most after `limit`.
    pub async fn close(&self, limit: Duration) {
        self.shared.end(AcpError::Closed { agent: self.shared.agent.clone() });
        if tokio::time::timeout(limit, self.process.ended()).await.is_err() {
            self.process.end();
            self.process.ended().await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A request that was sent. Dropping it forgets its answer.
#[derive(Debug)]
pub struct PendingCall {
    id: u64,
    method: &'static str,
    receiver: Option<oneshot::Receiver<Result<Value, CallEnd>>>,
    shared: Arc<Shared>,
}

impl PendingCall {
    /// Waits for the result. Cancel safe.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn wait(&mut self) -> Result<Value, AcpError> {
        let Some(receiver) = self.receiver.as_mut() else { return Err(self.shared.ended()) };
        let result = receiver.await;
        self.receiver = None;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(CallEnd::Connection(error))) => Err(error),
            Ok(Err(CallEnd::Refused(error))) => {
                Err(AcpError::Refused { agent: self.shared.agent.clone(), method: self.method, error })
            }
            Err(_) => Err(self.shared.ended()),
        }
    }

    async fn result(mut self) -> Result<Value, AcpError> {
        self.wait().await
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        lock_unpoisoned(&self.shared.state).waiting_calls.remove(&self.id);
    }
}

impl Shared {
    fn unwritable(&self, error: &serde_json::Error) -> AcpError {
        AcpError::Malformed {
            agent: self.agent.clone(),
            message: format!("a message for it cannot be written: {error}"),
        }
    }

    fn ended(&self) -> AcpError {
        let ended = lock_unpoisoned(&self.state).ended.clone();
        ended.unwrap_or_else(|| AcpError::Closed { agent: self.agent.clone() })
    }

    fn write(&self, state: &State, line: Vec<u8>) -> Result<(), AcpError> {
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        let sent = state.output.as_ref().is_some_and(|output| output.send(line).is_ok());
        if sent { Ok(()) } else { Err(AcpError::Closed { agent: self.agent.clone() }) }
    }

    /// Ends the connection: all calls fail, and all turns get no more input. The first reason is kept.
    fn end(&self, reason: AcpError) {
        let mut state = lock_unpoisoned(&self.state);
        let reason = state.ended.get_or_insert(reason).clone();
        // The writer then closes the agent's input.
        state.output = None;
        state.routes.clear();
        for (_, call) in state.waiting_calls.drain() {
            let _ = call.send(Err(CallEnd::Connection(reason.clone())));
        }
    }

    fn receive(&self, message: Incoming, bytes: usize) -> Result<(), AcpError> {
        let message = match message {
            Incoming::Message(message) => message,
            Incoming::Response { id, result } => {
                self.receive_response(&id, result);
                return Ok(());
            }
        };
        match message {
            RpcMessage::Notification { method, params } if method == SESSION_UPDATE => {
                return self.receive_update(params, bytes);
            }
            // Other notifications are extensions, which may be ignored.
            RpcMessage::Notification { method, .. } => self.log.note(&format!("ignored {}", quoted(&method))),
            RpcMessage::Request { id, method, params } if method == REQUEST_PERMISSION => {
                let session = session_of(&params).unwrap_or_default();
                return self.receive_for(&session, TurnInput::Permission { id, params }, bytes);
            }
            RpcMessage::Request { id, method, params }
                if self.forwarding.methods.contains(&method.as_str()) =>
            {
                let session = session_of(&params).unwrap_or_default();
                return self.receive_for(&session, TurnInput::Request { id, method, params }, bytes);
            }
            RpcMessage::Request { id, method, .. } => {
                self.log.note(&format!("refused {}", quoted(&method)));
                let line = method_not_found_line(&id, &method).map_err(|error| self.unwritable(&error))?;
                // The connection may be ending.
                let _ = self.write(&lock_unpoisoned(&self.state), line);
            }
        }
        Ok(())
    }

    fn receive_response(&self, id: &Value, result: Result<Value, RpcError>) {
        let call = id.as_u64().and_then(|id| lock_unpoisoned(&self.state).waiting_calls.remove(&id));
        match call {
            // The caller may have stopped waiting.
            Some(call) => drop(call.send(result.map_err(CallEnd::Refused))),
            None => self
                .log
                .note(&format!("ignored an answer to {}, which waits for none", quoted(&id.to_string()))),
        }
    }

    fn receive_update(&self, mut params: Value, bytes: usize) -> Result<(), AcpError> {
        let session = session_of(&params);
        let update = params.get_mut("update").map(Value::take);
        let (Some(session), Some(update)) = (session, update) else {
            return self.leave_out("it is a session update without session or content", SESSION_UPDATE);
        };
        self.receive_for(&session, TurnInput::Update(update), bytes)
    }

    /// Passes an input to the turn of its session.
    fn receive_for(&self, session: &str, input: TurnInput, bytes: usize) -> Result<(), AcpError> {
        let mut state = lock_unpoisoned(&self.state);
        match (state.routes.get(session), input) {
            (Some(Route::Turn(turn)), input) => {
                let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
                if waiting > MAX_WAITING_BYTES {
                    return Err(self.flooded(format!("{} MiB", MAX_WAITING_BYTES >> 20)));
                }
                match turn.try_send((input, bytes)) {
                    Ok(()) => Ok(()),
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Err(self.flooded(format!("{MAX_WAITING} updates")))
                    }
                    // The turn has just ended.
                    Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                }
            }
            (Some(Route::Replay), TurnInput::Update(_)) => Ok(()),
            (None, TurnInput::Update(update)) => {
                let copy = self.forwarding.listener.as_ref().map(|listener| (listener, update.clone()));
                state.between_turns.add(session.to_owned(), update, bytes);
                drop(state);
                if let Some((listener, update)) = copy {
                    listener(session, &update);
                }
                Ok(())
            }
            (None | Some(Route::Replay), TurnInput::Request { id, method, .. }) => {
                let line = method_not_found_line(&id, &method).map_err(|error| self.unwritable(&error))?;
                let _ = self.write(&state, line);
                drop(state);
                self.log.note(&format!("refused {}, which belongs to no turn", quoted(&method)));
                Ok(())
            }
            (None | Some(Route::Replay), TurnInput::Permission { id, .. }) => {
                let line = result_line(&id, &serde_json::json!({"outcome": {"outcome": "cancelled"}}))
                    .map_err(|error| self.unwritable(&error))?;
                let _ = self.write(&state, line);
                drop(state);
                self.log.note("cancelled a question that belongs to no turn");
                Ok(())
            }
        }
    }

    /// Leaves out a line that is not a message. A request of the agent gets an error as its answer, and a call whose answer the
    /// line is fails, so that neither side waits for ever.
    fn receive_unreadable(&self, line: &[u8], error: &LineError) -> Result<(), AcpError> {
        let text =
            quoted(&String::from_utf8_lossy(line.get(..line.len().min(4 * MAX_QUOTED)).unwrap_or(line)));
        if text.trim().is_empty() {
            return Ok(());
        }
        match head_of_unreadable(line) {
            UnreadableHead { id: Value::Null, .. } => {}
            UnreadableHead { id, is_request: true } => {
                let answer = error_line(&id, RpcErrorCode::ParseError, &error.to_string());
                let answer = answer.map_err(|error| self.unwritable(&error))?;
                // The connection may be ending.
                let _ = self.write(&lock_unpoisoned(&self.state), answer);
            }
            UnreadableHead { id, is_request: false } => {
                let call = id.as_u64().and_then(|id| lock_unpoisoned(&self.state).waiting_calls.remove(&id));
                if let Some(call) = call {
                    let error = self.malformed(format!("an answer that is not valid: {error}"));
                    let _ = call.send(Err(CallEnd::Connection(error)));
                }
            }
        }
        self.leave_out(&error.to_string(), &text)
    }

    /// Logs and counts a line that is left out.
    fn leave_out(&self, reason: &str, text: &str) -> Result<(), AcpError> {
        self.log.note(&format!("left out a line of its output: {reason}: {text}"));
        let mut state = lock_unpoisoned(&self.state);
        let lines = &mut state.unreadable;
        if lines.count == 0 {
            text.clone_into(&mut lines.first);
        }
        lines.count += 1;
        if lines.count > MAX_WAITING {
            return Err(self.malformed(format!("more than {MAX_WAITING} lines of its output cannot be read")));
        }
        Ok(())
    }

    fn flooded(&self, bound: String) -> AcpError {
        AcpError::Flooded { agent: self.agent.clone(), bound }
    }

    fn malformed(&self, message: String) -> AcpError {
        AcpError::Malformed { agent: self.agent.clone(), message }
    }
}

const SESSION_UPDATE: &str = "session/update";
const REQUEST_PERMISSION: &str = "session/request_permission";

/// The agent's id of the session that a message is about.
fn session_of(params: &Value) -> Option<String> {
    params.get("sessionId").and_then(Value::as_str).map(str::to_owned)
}

/// Text of the agent for the log, without secrets and control characters.
fn quoted(text: &str) -> String {
    let short: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED).collect();
    hfs_secrets::mask(&short).into_owned()
}

/// Writes lines until all senders are dropped, or the agent closes its input. Ending closes the input.
async fn write_lines(mut input: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if input.write_all(&line).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

/// Reads the agent's output until its end, or until a line that is too long or more than hfs keeps.
async fn read_lines(
    output: ChildStdout,
    shared: Arc<Shared>,
    process: Arc<AgentProcess>,
    secrets: EnvironmentSecrets,
) {
    let mut output = BufReader::with_capacity(64 << 10, output);
    let mut line = Vec::new();
    let reason = loop {
        match read_line(&mut output, &mut line).await {
            Ok(()) => {}
            Err(ReadEnd::TooLong) => break AcpError::LineTooLong { agent: shared.agent.clone() },
            Err(ReadEnd::Closed) => {
                let status = tokio::time::timeout(STATUS_WAIT, process.ended()).await;
                let status = status.unwrap_or_else(|_| "it has closed its output".to_owned());
                break AcpError::Ended { agent: shared.agent.clone(), status, output: shared.log.tail() };
            }
        }
        secrets.mask(&mut line);
        let received = match parse_line(&line) {
            Ok(messages) => {
                let bytes = line.len();
                messages.into_iter().try_for_each(|message| shared.receive(message, bytes))
            }
            Err(error) => shared.receive_unreadable(&line, &error),
        };
        if let Err(reason) = received {
            break reason;
        }
        // A picture would otherwise keep its memory.
        if line.capacity() > MAX_LINE_BYTES / 64 {
            line = Vec::new();
        }
    };
    // An agent that hfs has told to end has no reason of its own.
    let is_expected = lock_unpoisoned(&shared.state).ended.is_some();
    if !is_expected {
        shared.log.note(&reason.to_string());
    }
    shared.end(reason);
    process.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_between_turns_are_bounded_for_all_sessions_together() {
        let mut between = BetweenTurns::default();
        for number in 0..MAX_BETWEEN_TURNS + 5 {
            between.add(format!("s{}", number % 3), Value::from(number), 10);
        }
        assert_eq!((between.updates.len(), between.dropped), (MAX_BETWEEN_TURNS, 5));
        let first = between.take("s0");
        assert_eq!((first.first(), first.len()), (Some(&Value::from(0)), MAX_BETWEEN_TURNS.div_ceil(3)));
        assert_eq!(between.bytes, 10 * between.updates.len());
        between.add("s".into(), Value::Null, MAX_BYTES_BETWEEN_TURNS);
        assert_eq!(between.dropped, 6);
    }
}
