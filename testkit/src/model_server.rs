//! A model provider on loopback with scripted answers.
//!
//! It supports the streaming protocols of OpenAI (chat completions), Anthropic (messages), Gemini
//! (streamGenerateContent) and Ollama (chat), and recognizes them by the path of the request. It runs on its own
//! thread, so that blocking tests of the binary can use it too, and stops when it is dropped.
//!
//! [`RawServer`] sends exact bytes instead, and [`TlsServer`] has a certificate.

mod protocol;
mod raw;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use hfs_core::Usage;
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub use protocol::Protocol;
pub use raw::{RawRequest, RawResponse, RawServer};
pub use tls::TlsServer;

/// A received request.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Path and query.
    pub path: String,
    /// Protocol, recognized by the path.
    pub protocol: Protocol,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Value,
    /// Time at which the whole request was received.
    pub at: Instant,
}

impl RecordedRequest {
    /// All texts in the body, from the system prompt to the last message.
    #[must_use]
    pub fn prompt(&self) -> String {
        protocol::texts(&self.body).join("\n")
    }

    /// The last text in the body, which is the current prompt.
    #[must_use]
    pub fn last_turn(&self) -> String {
        protocol::texts(&self.body).last().map(|text| (*text).to_owned()).unwrap_or_default()
    }

    /// Name of the requested model.
    #[must_use]
    pub fn model(&self) -> String {
        protocol::model(self.protocol, &self.path, &self.body)
    }
}

type Fallback = Arc<dyn Fn(&RecordedRequest) -> Script + Send + Sync>;

#[derive(Default)]
struct ServerState {
    queue: VecDeque<Script>,
    fallback: Option<Fallback>,
    models: Vec<String>,
    requests: Vec<RecordedRequest>,
    usage: Usage,
    complete_replies: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<ServerState>,
    request_received: Condvar,
    open_streams: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_usage(&self, usage: Usage) {
        let mut state = self.lock();
        state.usage += usage;
        state.complete_replies += 1;
    }
}

/// The server. Dropping it stops the server and closes all connections.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Starts a server on a free port of 127.0.0.1. It answers requests without a script with `ok`.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test cannot run without its server")]
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let app = Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(state);
                let listener = tokio::net::TcpListener::from_std(listener).expect("an async listener");
                tokio::select! {
                    _ = stopped => {}
                    _ = axum::serve(listener, app) => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`, the base URL for clients of Ollama.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL for clients of the given protocol.
    #[must_use]
    pub fn url(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::OpenAi | Protocol::Anthropic => format!("{}/v1", self.base_url()),
            Protocol::Gemini => format!("{}/v1beta", self.base_url()),
            Protocol::Ollama => self.base_url(),
        }
    }

    /// Adds a script to the queue. Each request takes the next one.
    pub fn then(&self, script: Script) -> &Self {
        self.shared.lock().queue.push_back(script);
        self
    }

    /// Sets how requests are answered when the queue is empty.
    pub fn otherwise(&self, decide: impl Fn(&RecordedRequest) -> Script + Send + Sync + 'static) -> &Self {
        self.shared.lock().fallback = Some(Arc::new(decide));
        self
    }

    /// Sets the models in the lists of the server: `GET /api/tags` of Ollama, and `GET /v1/models`.
    pub fn models<T: Into<String>>(&self, names: impl IntoIterator<Item = T>) -> &Self {
        self.shared.lock().models = names.into_iter().map(Into::into).collect();
        self
    }

    /// All requests received so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// The total usage reported to clients, and the number of replies that reported it.
    #[must_use]
    pub fn usage(&self) -> (Usage, u64) {
        let state = self.shared.lock();
        (state.usage, state.complete_replies)
    }

    /// Number of replies that are being streamed. A stream ends when its client disconnects.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared.open_streams.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests were received. Returns `false` on timeout.
    #[must_use]
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self
            .shared
            .request_received
            .wait_timeout_while(state, timeout, |state| state.requests.len() < count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<axum::body::Body> {
    let path = uri.to_string();
    if ["/api/tags", "/v1/models"].contains(&uri.path()) {
        let models = shared.lock().models.clone();
        // Only Ollama always has a list.
        if !models.is_empty() || uri.path() == "/api/tags" {
            return protocol::model_list(&models);
        }
    }
    let Some(protocol) = Protocol::of_path(uri.path()) else {
        return protocol::plain_text(404, "no such path");
    };
    let request = RecordedRequest {
        path,
        protocol,
        headers: headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        at: Instant::now(),
    };
    let script = {
        let mut state = shared.lock();
        state.requests.push(request.clone());
        shared.request_received.notify_all();
        match state.queue.pop_front() {
            Some(script) => script,
            None => {
                let fallback = state.fallback.clone();
                drop(state);
                fallback.map_or_else(|| Script::text("ok"), |decide| decide(&request))
            }
        }
    };
    protocol::respond(shared, request, script).await
}

/// Guard that counts an open stream.
struct OpenStream(Arc<Shared>);

impl OpenStream {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open_streams.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One step of a streamed reply.
#[derive(Debug, Clone)]
enum Step {
    Wait(Duration),
    Text(String),
    Thinking(String),
    /// A chunk with this invalid payload.
    Raw(String),
    /// Breaks the connection.
    Break,
    /// Ends the body without the protocol's end marker.
    Stop,
    /// Sends nothing more and keeps the connection open.
    Hang,
}

/// A scripted answer to one request.
#[derive(Debug, Clone)]
pub struct Script {
    delay: Duration,
    error: Option<ErrorResponse>,
    steps: Vec<Step>,
    usage: Option<Usage>,
    stop_reason: Option<String>,
}

#[derive(Debug, Clone)]
struct ErrorResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Script {
    const fn empty() -> Self {
        Self { delay: Duration::ZERO, error: None, steps: Vec::new(), usage: None, stop_reason: None }
    }

    /// A reply with this text in one chunk.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::empty().then_text(text)
    }

    /// A reply with one chunk for each text.
    #[must_use]
    pub fn chunks<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        texts.into_iter().fold(Self::empty(), Self::then_text)
    }

    /// An error response with this status and message.
    #[must_use]
    pub fn status(status: u16, message: &str) -> Self {
        let body = json!({
            "type": "error", "error": {"type": "api_error", "message": message, "code": status}
        });
        let error = ErrorResponse { status, headers: Vec::new(), body: body.to_string() };
        Self { error: Some(error), ..Self::empty() }
    }

    /// Never answers the request.
    #[must_use]
    pub fn silence() -> Self {
        Self { delay: Duration::MAX, ..Self::empty() }
    }

    /// Adds a header to an error response.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(error) = &mut self.error {
            error.headers.push((name.to_owned(), value.into()));
        }
        self
    }

    /// Sets the time before the response starts.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a pause.
    #[must_use]
    pub fn then_wait(self, wait: Duration) -> Self {
        self.step(Step::Wait(wait))
    }

    /// Adds a chunk of text.
    #[must_use]
    pub fn then_text(self, text: impl Into<String>) -> Self {
        self.step(Step::Text(text.into()))
    }

    /// Adds a chunk of thinking.
    #[must_use]
    pub fn then_thinking(self, text: impl Into<String>) -> Self {
        self.step(Step::Thinking(text.into()))
    }

    /// Adds a chunk that is not valid JSON.
    #[must_use]
    pub fn then_garbage(self) -> Self {
        self.step(Step::Raw("{\"choices\": [{\"delta\": ".into()))
    }

    /// Breaks the connection at this point.
    #[must_use]
    pub fn then_break(self) -> Self {
        self.step(Step::Break)
    }

    /// Ends the body at this point without the protocol's end marker.
    #[must_use]
    pub fn then_stop(self) -> Self {
        self.step(Step::Stop)
    }

    /// Sends nothing more from this point on and keeps the connection open.
    #[must_use]
    pub fn then_hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Sets the reported usage. By default, words are counted as tokens.
    #[must_use]
    pub const fn usage(mut self, prompt_tokens: u64, completion_tokens: u64) -> Self {
        self.usage = Some(Usage::new(prompt_tokens, completion_tokens));
        self
    }

    /// Sets the stop reason, in the terms of the protocol.
    #[must_use]
    pub fn stop_reason(mut self, reason: &str) -> Self {
        self.stop_reason = Some(reason.to_owned());
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A well-formed answer of an agent in a triad: it claims all sections that it may claim, and holds them. The arbiter
/// gives sections to the last claimant.
#[must_use]
pub fn well_formed_answer(request: &RecordedRequest) -> Script {
    Script::text(well_formed_text(&request.last_turn()))
}

/// The text of [`well_formed_answer`] to a prompt.
#[must_use]
pub fn well_formed_text(prompt: &str) -> String {
    let items_with = |marker: &str| -> Vec<String> {
        let lines = prompt.lines().filter(|line| line.contains(marker));
        lines
            .filter_map(|line| Some(line.strip_prefix("- ")?.split([':', '(']).next()?.trim().to_owned()))
            .collect()
    };
    if prompt.contains(r#"{"tasks""#) {
        r#"{"tasks": ["find the answer", "find the catch"]}"#.into()
    } else if prompt.contains(r#"{"position""#) {
        let claims = items_with("(your triad");
        json!({"position": "We hold that.", "claims": claims, "proposals": ["Say so."]}).to_string()
    } else if prompt.contains(r#"{"vote""#) {
        r#"I vote: {"vote": 2}"#.into()
    } else if prompt.contains(r#"{"decisions""#) {
        let decisions: Vec<_> = items_with("also claimed by")
            .into_iter()
            .map(|section| json!({"section": section, "decision": "hold"}))
            .collect();
        json!({"decisions": decisions}).to_string()
    } else if prompt.contains(r#"{"decision""#) {
        let claimants = prompt.split("is claimed by ").nth(1).and_then(|rest| rest.split('.').next());
        let owner = claimants.and_then(|claimants| claimants.rsplit(", ").next());
        json!({"decision": "assign", "owner": owner, "reason": "it is last"}).to_string()
    } else if prompt.contains("Make one coherent reply") {
        "The whole reply.".into()
    } else {
        "Some words about it.".into()
    }
}
