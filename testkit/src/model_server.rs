//! A model provider on loopback that says what a test tells it to.
//!
//! It speaks the streaming protocols of OpenAI (chat completions), Anthropic (messages), Gemini
//! (streamGenerateContent) and Ollama (chat), told apart by the path. It runs on a thread of its own, so that
//! blocking tests of the binary can use it too, and ends when it is dropped.

mod script;
mod wire;

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
use serde_json::Value;
use tokio::sync::oneshot;

pub use script::Script;
pub use wire::Protocol;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The path with its query.
    pub path: String,
    /// Which protocol it is of.
    pub protocol: Protocol,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Value,
    /// When it had arrived whole.
    pub at: Instant,
}

impl Recorded {
    /// Every text in the body, system prompt and all turns, one after another.
    #[must_use]
    pub fn prompt(&self) -> String {
        wire::texts(&self.body).join("\n")
    }

    /// The text of its last turn, which is what is asked now.
    #[must_use]
    pub fn last_turn(&self) -> String {
        wire::texts(&self.body).last().map(|text| (*text).to_owned()).unwrap_or_default()
    }

    /// The model asked for.
    #[must_use]
    pub fn model(&self) -> String {
        wire::model(self.protocol, &self.path, &self.body)
    }
}

type Fallback = Arc<dyn Fn(&Recorded) -> Script + Send + Sync>;

#[derive(Default)]
struct Told {
    queue: VecDeque<Script>,
    fallback: Option<Fallback>,
    models: Vec<String>,
    requests: Vec<Recorded>,
    usage: Usage,
    calls_counted: u64,
}

#[derive(Default)]
struct Shared {
    told: Mutex<Told>,
    arrival: Condvar,
    open: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, usage: Usage) {
        let mut told = self.lock();
        told.usage += usage;
        told.calls_counted += 1;
    }
}

/// The server. Dropping it closes every connection.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Starts a server on a free port of 127.0.0.1. Without a script it answers every request with `ok`.
    ///
    /// # Panics
    /// When no port of the loopback interface can be had.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test without its server cannot go on")]
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

    /// `http://127.0.0.1:PORT`, which is what Ollama's clients take.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base address for clients of the given protocol.
    #[must_use]
    pub fn url(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::OpenAi | Protocol::Anthropic => format!("{}/v1", self.base_url()),
            Protocol::Gemini => format!("{}/v1beta", self.base_url()),
            Protocol::Ollama => self.base_url(),
        }
    }

    /// Answers the next request that has no script yet with this one.
    pub fn then(&self, script: Script) -> &Self {
        self.shared.lock().queue.push_back(script);
        self
    }

    /// Answers requests beyond the queue with what `decide` says.
    pub fn otherwise(&self, decide: impl Fn(&Recorded) -> Script + Send + Sync + 'static) -> &Self {
        self.shared.lock().fallback = Some(Arc::new(decide));
        self
    }

    /// What `GET /api/tags` lists, as Ollama does.
    pub fn models<T: Into<String>>(&self, names: impl IntoIterator<Item = T>) -> &Self {
        self.shared.lock().models = names.into_iter().map(Into::into).collect();
        self
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// The tokens that were reported to clients, and in how many answers.
    #[must_use]
    pub fn usage(&self) -> (Usage, u64) {
        let told = self.shared.lock();
        (told.usage, told.calls_counted)
    }

    /// How many answers are being streamed right now. A client that leaves ends its stream.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have arrived; `false` when they do not come in time.
    #[must_use]
    pub fn wait_for_requests(&self, count: usize, at_most: Duration) -> bool {
        let told = self.shared.lock();
        let waited =
            self.shared.arrival.wait_timeout_while(told, at_most, |told| told.requests.len() < count);
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
    if uri.path() == "/api/tags" {
        return wire::tags(&shared.lock().models);
    }
    let Some(protocol) = Protocol::of_path(uri.path()) else {
        return wire::plain(404, "no such path");
    };
    let request = Recorded {
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
        let mut told = shared.lock();
        told.requests.push(request.clone());
        shared.arrival.notify_all();
        match told.queue.pop_front() {
            Some(script) => script,
            None => {
                let fallback = told.fallback.clone();
                drop(told);
                fallback.map_or_else(|| Script::text("ok"), |decide| decide(&request))
            }
        }
    };
    wire::respond(shared, request, script).await
}

/// Counts a stream as open while it lives.
struct OpenStream(Arc<Shared>);

impl OpenStream {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
