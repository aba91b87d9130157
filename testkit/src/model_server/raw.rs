//! A server on loopback that answers with exact bytes, for responses that no HTTP library would send.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// One step of a response.
#[derive(Debug, Clone)]
enum RawStep {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// Ends the connection with a reset instead of an orderly close.
    Reset,
    /// Keeps the connection open until the client closes it.
    Hang,
}

/// A response, from its status line to the end of the connection.
#[derive(Debug, Clone, Default)]
pub struct RawResponse {
    steps: Vec<RawStep>,
}

impl RawResponse {
    /// An empty response.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A successful response of this media type, whose body ends with the connection.
    #[must_use]
    pub fn ok(media_type: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nConnection: close\r\n\r\n");
        Self::new().bytes(head)
    }

    /// A stream of events with this body.
    #[must_use]
    pub fn events(body: impl Into<Vec<u8>>) -> Self {
        Self::ok("text/event-stream").bytes(body)
    }

    /// The head of a stream of events with chunked encoding; see [`chunk`](Self::chunk).
    #[must_use]
    pub fn chunked() -> Self {
        Self::new()
            .bytes("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    }

    /// A whole response. `headers` end with a line end each.
    #[must_use]
    pub fn status(status: u16, media_type: &str, headers: &str, body: &str) -> Self {
        Self::new().bytes(format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: {media_type}\r\n{headers}Content-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// A response with an error status and a JSON body.
    #[must_use]
    pub fn error(status: u16, body: &Value) -> Self {
        Self::status(status, "application/json", "", &body.to_string())
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(RawStep::Bytes(bytes.into()))
    }

    /// Adds a chunk of the chunked encoding.
    #[must_use]
    pub fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.bytes(chunk)
    }

    /// Adds bytes, each in a packet of its own.
    #[must_use]
    pub fn byte_by_byte(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |response, byte| response.bytes([*byte]).wait(Duration::from_micros(200)))
    }

    /// Adds a pause.
    #[must_use]
    pub fn wait(self, pause: Duration) -> Self {
        self.step(RawStep::Wait(pause))
    }

    /// Ends the connection with a reset.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(RawStep::Wait(Duration::from_millis(50))).step(RawStep::Reset)
    }

    /// Sends nothing more and keeps the connection open.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(RawStep::Hang)
    }

    fn step(mut self, step: RawStep) -> Self {
        self.steps.push(step);
        self
    }
}

/// A request that a [`RawServer`] received.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body; null if it is not JSON.
    pub body: Value,
}

type Responder = dyn Fn(usize, &RawRequest) -> RawResponse + Send + Sync;

/// The server. Dropping it stops the server.
pub struct RawServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<RawRequest>>>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawServer {
    /// Starts a server that answers each request with the next response, and all later ones with the last.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    #[must_use]
    pub fn with_responses(responses: Vec<RawResponse>) -> Self {
        Self::start(move |index, _| responses.get(index).or(responses.last()).cloned().unwrap_or_default())
    }

    /// Starts a server that answers with the result of `respond`, which gets the number of earlier requests.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test cannot run without its server")]
    pub fn start(respond: impl Fn(usize, &RawRequest) -> RawResponse + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let respond: Arc<Responder> = Arc::new(respond);
        let thread = std::thread::spawn({
            let (requests, is_stopped) = (Arc::clone(&requests), Arc::clone(&is_stopped));
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if is_stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let (requests, respond) = (Arc::clone(&requests), Arc::clone(&respond));
                    // A failed read or write means that the client has gone.
                    std::thread::spawn(move || serve(stream, &requests, respond.as_ref()).ok());
                }
            }
        });
        Self { address, requests, is_stopped, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests received so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<RawRequest>>,
    respond: &Responder,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    let index = {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request.clone());
        requests.len() - 1
    };
    for step in respond(index, &request).steps {
        match step {
            RawStep::Bytes(bytes) => stream.write_all(&bytes)?,
            RawStep::Wait(pause) => std::thread::sleep(pause),
            // Closing a socket with unread input resets the connection.
            RawStep::Reset => return reset(&stream),
            RawStep::Hang => {
                stream.read_to_end(&mut Vec::new())?;
            }
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn reset(stream: &TcpStream) -> std::io::Result<()> {
    // With a linger time of zero, closing the socket resets the connection.
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

pub(super) fn read_request(stream: &mut impl Read) -> std::io::Result<Option<RawRequest>> {
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let head_end = loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            length => received.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    };
    let (head, rest) = received.split_at(head_end);
    let head = String::from_utf8_lossy(head).into_owned();
    let mut body = rest.get(4..).unwrap_or_default().to_owned();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (request_line.next().unwrap_or_default(), request_line.next().unwrap_or_default());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while body.len() < length {
        match stream.read(&mut buffer)? {
            0 => break,
            read => body.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    Ok(Some(RawRequest { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() }))
}
