//! A connection to an editor that uses hfs as its agent: the editor's requests and their answers, and requests to the editor.
//!
//! One thread reads the editor's output and one writes its input, because standard input and output may be pipes, sockets,
//! files or terminals. Neither waits for a turn: a request to cancel one always arrives. What waits to be written is bounded,
//! so an editor that does not read ends the connection and not the memory.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hfs_core::lock_unpoisoned;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::rpc::{
    Incoming, LineError, MAX_LINE_BYTES, RpcError, RpcErrorCode, RpcMessage, error_line, head_of_unreadable,
    notification_line, parse_line, request_line, result_line,
};

/// Messages of the editor that may wait. The editor waits if there are more.
const MAX_MESSAGES: usize = 256;
/// Bytes that may wait to be written. An editor that reads so little is taken for one that hangs.
const MAX_WAITING_BYTES: usize = 256 << 20;
/// Bytes that may wait before a replay of a session waits.
const MAX_REPLAYED_BYTES: usize = 4 << 20;
/// Bytes of a line that is too long in which its id is looked for.
const LINE_BEGINNING: usize = 64 << 10;

/// Receives the messages of an editor.
#[derive(Debug)]
pub struct EditorInput(mpsc::Receiver<RpcMessage>);

impl EditorInput {
    /// The next message; `None` after the editor has closed the connection.
    pub async fn next(&mut self) -> Option<RpcMessage> {
        self.0.recv().await
    }
}

/// A connection to an editor. All clones are the same connection.
#[derive(Debug, Clone)]
pub struct EditorConnection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Bytes that wait to be written.
    waiting: watch::Sender<usize>,
    /// Cancelled when nothing can be sent any more.
    closed: CancellationToken,
    /// Cancelled when everything is written and the writer has ended.
    written: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// Requests to the editor that it has not answered.
    waiting_calls: HashMap<u64, oneshot::Sender<Result<Value, RpcError>>>,
    /// Ids of the editor's requests that are not answered.
    unanswered: HashSet<String>,
    output: Option<Sender<Vec<u8>>>,
    is_input_closed: bool,
}

/// A request to the editor has no answer, because the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the editor has closed the connection")]
pub struct EditorClosed;

impl EditorConnection {
    /// Starts to read from and to write to an editor.
    ///
    /// # Errors
    /// If the system refuses the threads.
    pub fn start(
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> io::Result<(Self, EditorInput)> {
        let (lines, waiting_lines) = channel();
        let (messages, received) = mpsc::channel(MAX_MESSAGES);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { output: Some(lines), ..State::default() }),
            waiting: watch::Sender::new(0),
            closed: CancellationToken::new(),
            written: CancellationToken::new(),
        });
        let (reading, writing) = (Arc::clone(&shared), Arc::clone(&shared));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("editor output").spawn(move || writing.write_lines(output, &waiting_lines))?;
        thread("editor input").spawn(move || reading.read_lines(input, &messages))?;
        Ok((Self(shared), EditorInput(received)))
    }

    /// Answers a request.
    pub fn answer(&self, id: &Value, result: &impl Serialize) {
        self.0.answered(id);
        match result_line(id, result) {
            Ok(line) => self.0.send(line),
            Err(error) => self.0.refuse(id, RpcErrorCode::Internal, &error.to_string()),
        }
    }

    /// Answers a request with an error.
    pub fn refuse(&self, id: &Value, error: &RpcError) {
        self.0.answered(id);
        self.0.refuse(id, error.code, &error.to_string());
    }

    /// Sends an update of a session.
    pub fn update(&self, session: &str, update: &Value) {
        // An update is a JSON value, so it can be written.
        if let Ok(line) =
            notification_line("session/update", &json!({"sessionId": session, "update": update}))
        {
            self.0.send(line);
        }
    }

    /// Sends a request, and waits for its answer.
    ///
    /// # Errors
    /// If the connection is closed before. The inner error is that of the editor.
    pub async fn call(&self, method: &str, params: &Value) -> Result<Result<Value, RpcError>, EditorClosed> {
        let (sender, receiver) = oneshot::channel();
        let call = {
            let mut state = lock_unpoisoned(&self.0.state);
            if state.output.is_none() || state.is_input_closed {
                return Err(EditorClosed);
            }
            state.last_id += 1;
            let id = state.last_id;
            state.waiting_calls.insert(id, sender);
            WaitingCall { id, shared: &self.0 }
        };
        let line = request_line(call.id, method, params).map_err(|_| EditorClosed)?;
        self.0.send(line);
        let answer = receiver.await;
        drop(call);
        answer.map_err(|_| EditorClosed)
    }

    /// Waits while much is waiting to be written.
    pub async fn room(&self) {
        let mut waiting = self.0.waiting.subscribe();
        tokio::select! {
            _ = waiting.wait_for(|bytes| *bytes <= MAX_REPLAYED_BYTES) => {}
            () = self.0.closed.cancelled() => {}
        }
    }

    /// Waits until nothing can be sent any more: the editor has closed its input, or does not read.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Ends the connection after everything is written, or after the limit.
    pub async fn finish(&self, limit: Duration) {
        lock_unpoisoned(&self.0.state).output = None;
        let _ = tokio::time::timeout(limit, self.0.written.cancelled()).await;
    }
}

/// Forgets a request to the editor whose answer is not waited for any more.
struct WaitingCall<'a> {
    id: u64,
    shared: &'a Shared,
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        lock_unpoisoned(&self.shared.state).waiting_calls.remove(&self.id);
    }
}

impl Shared {
    fn send(&self, line: Vec<u8>) {
        let length = line.len();
        let mut waiting = 0;
        self.waiting.send_modify(|bytes| {
            *bytes += length;
            waiting = *bytes;
        });
        let mut state = lock_unpoisoned(&self.state);
        // A single line may be larger than the bound.
        let is_flooded = waiting > MAX_WAITING_BYTES.max(length);
        let sent = state.output.as_ref().is_some_and(|output| !is_flooded && output.send(line).is_ok());
        if !sent {
            state.output = None;
            drop(state);
            self.closed.cancel();
        }
    }

    fn refuse(&self, id: &Value, code: RpcErrorCode, message: &str) {
        if let Ok(line) = error_line(id, code, message) {
            self.send(line);
        }
    }

    fn answered(&self, id: &Value) {
        lock_unpoisoned(&self.state).unanswered.remove(&id.to_string());
    }

    fn write_lines(&self, mut output: impl Write, lines: &Receiver<Vec<u8>>) {
        while let Ok(line) = lines.recv() {
            if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                break;
            }
            self.waiting.send_modify(|bytes| *bytes -= line.len());
        }
        lock_unpoisoned(&self.state).output = None;
        self.closed.cancel();
        self.written.cancel();
    }

    /// Reads until the end of the input. The editor's death closes it, too.
    fn read_lines(&self, input: impl Read, messages: &mpsc::Sender<RpcMessage>) {
        let mut input = BufReader::with_capacity(64 << 10, input);
        let mut line = Vec::new();
        loop {
            match read_line(&mut input, &mut line) {
                Line::Whole => {}
                Line::TooLong => {
                    let message = format!("the line has more than {} MiB", MAX_LINE_BYTES >> 20);
                    self.refuse(&head_of_unreadable(&line).id, RpcErrorCode::InvalidRequest, &message);
                    line = Vec::new();
                    continue;
                }
                Line::End => break,
            }
            let received = match parse_line(&line) {
                Ok(received) => received,
                Err(LineError::NotJson) if line.trim_ascii().is_empty() => continue,
                Err(error) => {
                    let message = format!("the line is not a message: {error}");
                    self.refuse(&head_of_unreadable(&line).id, RpcErrorCode::ParseError, &message);
                    continue;
                }
            };
            for message in received.into_iter().filter_map(|message| self.receive(message)) {
                if messages.blocking_send(message).is_err() {
                    return;
                }
            }
            // A picture would otherwise keep its memory.
            if line.capacity() > MAX_LINE_BYTES / 64 {
                line = Vec::new();
            }
        }
        // Calls that wait for an answer of the editor get none.
        let mut state = lock_unpoisoned(&self.state);
        state.is_input_closed = true;
        state.waiting_calls.clear();
    }

    fn receive(&self, message: Incoming) -> Option<RpcMessage> {
        let message = match message {
            Incoming::Message(message) => message,
            Incoming::Response { id, result } => {
                let call = id.as_u64().and_then(|id| lock_unpoisoned(&self.state).waiting_calls.remove(&id));
                // An answer that nothing waits for any more is ignored.
                let _ = call.map(|call| call.send(result));
                return None;
            }
        };
        if let RpcMessage::Request { id, .. } = &message {
            let problem = if !(id.is_string() || id.is_number()) {
                "the id of a request is a string or a number".to_owned()
            } else if !lock_unpoisoned(&self.state).unanswered.insert(id.to_string()) {
                format!("the id {id} belongs to a request that is not answered yet")
            } else {
                return Some(message);
            };
            // With its id, the answer would be taken for that of the other request.
            self.refuse(&Value::Null, RpcErrorCode::InvalidRequest, &problem);
            return None;
        }
        Some(message)
    }
}

enum Line {
    Whole,
    /// Only its beginning was kept.
    TooLong,
    End,
}

/// Reads the next line. A reading error ends the input as well.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Line {
    line.clear();
    let mut is_too_long = false;
    let mut is_empty = true;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Line::End,
        };
        let (taken, is_whole) = match memchr::memchr(b'\n', available) {
            Some(end) => (end + 1, true),
            None => (available.len(), available.is_empty()),
        };
        is_empty &= taken == 0;
        if line.len() + taken > MAX_LINE_BYTES {
            line.truncate(LINE_BEGINNING);
            is_too_long = true;
        }
        if !is_too_long {
            line.extend_from_slice(available.get(..taken).unwrap_or_default());
        }
        input.consume(taken);
        if is_whole {
            return match (is_empty, is_too_long) {
                (true, _) => Line::End,
                (false, true) => Line::TooLong,
                (false, false) => Line::Whole,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A connection, what it receives, and the editor's ends of it.
    fn connected() -> (EditorConnection, EditorInput, UnixStream, BufReader<UnixStream>) {
        let (input, to_hfs) = UnixStream::pair().unwrap();
        let (output, from_hfs) = UnixStream::pair().unwrap();
        let (connection, received) = EditorConnection::start(input, output).unwrap();
        (connection, received, to_hfs, BufReader::new(from_hfs))
    }

    fn read(from_hfs: &mut BufReader<UnixStream>) -> Value {
        let mut line = String::new();
        from_hfs.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_read_costs_itself_alone() {
        let (_connection, mut received, mut to_hfs, mut from_hfs) = connected();
        let mut long = br#"{"jsonrpc":"2.0","id":3,"method":"m","params":""#.to_vec();
        long.resize(MAX_LINE_BYTES + 10, b'x');
        let writing = std::thread::spawn(move || {
            to_hfs.write_all(b"no json\n\n{\"id\":\"a\",\"method\":\n").unwrap();
            to_hfs.write_all(&long).unwrap();
            to_hfs.write_all(b"\"}\n[{\"id\":4,\"method\":\"one\"},{\"method\":\"two\"}]").unwrap();
        });
        for (id, code) in [(Value::Null, -32700), ("a".into(), -32700), (3.into(), -32600)] {
            let answer = read(&mut from_hfs);
            assert_eq!((&answer["id"], answer["error"]["code"].as_i64()), (&id, Some(code)), "{answer}");
        }
        writing.join().unwrap();
        let params = Value::Null;
        assert_eq!(
            received.next().await,
            Some(RpcMessage::Request { id: 4.into(), method: "one".into(), params: params.clone() })
        );
        let two = Some(RpcMessage::Notification { method: "two".into(), params });
        assert_eq!(received.next().await, two);
        assert_eq!(received.next().await, None);
    }

    #[tokio::test]
    async fn the_id_of_an_unanswered_request_is_refused_until_it_is_answered() {
        let (connection, mut received, mut to_hfs, mut from_hfs) = connected();
        to_hfs.write_all(b"{\"id\":1,\"method\":\"a\"}\n{\"id\":1,\"method\":\"b\"}\n").unwrap();
        assert!(received.next().await.is_some());
        let refused = read(&mut from_hfs);
        assert_eq!(refused["id"], Value::Null);
        assert!(refused["error"]["message"].as_str().unwrap().contains("the id 1"), "{refused}");
        connection.answer(&1.into(), &json!({"done": true}));
        assert_eq!(read(&mut from_hfs)["result"]["done"], true);
        to_hfs.write_all(b"{\"id\":1,\"method\":\"c\"}\n").unwrap();
        assert!(matches!(received.next().await, Some(RpcMessage::Request { method, .. }) if method == "c"));
    }

    #[tokio::test]
    async fn a_call_ends_with_the_connection() {
        let (connection, mut received, mut to_hfs, mut from_hfs) = connected();
        let answered = {
            let connection = connection.clone();
            tokio::spawn(async move { connection.call("ask", &json!({})).await })
        };
        let ask = tokio::task::spawn_blocking(move || (read(&mut from_hfs), from_hfs));
        let (ask, from_hfs) = ask.await.unwrap();
        let error = json!({"id": ask["id"], "error": {"code": -32601, "message": "no"}});
        to_hfs.write_all(format!("{error}\n{{\"id\":77,\"result\":1}}\n").as_bytes()).unwrap();
        assert_eq!(answered.await.unwrap().unwrap().unwrap_err().code, RpcErrorCode::MethodNotFound);
        let unanswered = {
            let connection = connection.clone();
            tokio::spawn(async move { connection.call("ask", &json!({})).await })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(to_hfs);
        assert_eq!(unanswered.await.unwrap(), Err(EditorClosed));
        assert_eq!(received.next().await, None);
        drop(from_hfs);
        connection.update("s", &json!({}));
        connection.closed().await;
        assert_eq!(connection.call("ask", &json!({})).await, Err(EditorClosed));
    }
}
