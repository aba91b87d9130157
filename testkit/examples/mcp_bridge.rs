//! Serves a Model Context Protocol server on stdio over streamable HTTP on loopback, for test suites that speak HTTP only.
//!
//! `cargo run -p testkit --example mcp_bridge -- PROGRAM ARGUMENTS...` prints the address. Each session is a process.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a tool for tests")]

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

const SESSION: &str = "mcp-session-id";

/// The process of a session.
struct Session {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped.
    _child: Child,
}

#[derive(Default)]
struct Bridge {
    command: Vec<String>,
    /// Number of sessions so far, including those that have ended.
    started: AtomicUsize,
    sessions: Mutex<HashMap<String, Arc<Mutex<Session>>>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let bridge = Arc::new(Bridge { command, ..Bridge::default() });
    let router = Router::new().route("/mcp", post(receive).delete(end)).with_state(bridge);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/mcp", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn receive(State(bridge): State<Arc<Bridge>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let is_first = message.get("method").is_some_and(|method| method == "initialize");
    let (id, session) = if is_first {
        let session = Arc::new(Mutex::new(start(&bridge.command)));
        let id = format!("session-{}", bridge.started.fetch_add(1, Ordering::Relaxed));
        bridge.sessions.lock().await.insert(id.clone(), Arc::clone(&session));
        (id, session)
    } else {
        let id = headers.get(SESSION).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        match bridge.sessions.lock().await.get(&id) {
            Some(session) => (id, Arc::clone(session)),
            None => return StatusCode::NOT_FOUND.into_response(),
        }
    };
    let mut session = session.lock().await;
    let mut line = message.to_string();
    line.push('\n');
    session.input.write_all(line.as_bytes()).await.unwrap();
    if message.get("id").is_none() || message.get("method").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let answer = loop {
        let line = session.output.next_line().await.unwrap().expect("the server answers each request");
        let answer: Value = serde_json::from_str(&line).expect("the server writes only messages");
        if answer.get("id") == message.get("id") {
            break line;
        }
    };
    let headers = [(header::CONTENT_TYPE.as_str(), "application/json".to_owned()), (SESSION, id)];
    (headers, answer).into_response()
}

/// Ends a session and its process.
async fn end(State(bridge): State<Arc<Bridge>>, headers: HeaderMap) -> StatusCode {
    let id = headers.get(SESSION).and_then(|id| id.to_str().ok()).unwrap_or_default();
    bridge.sessions.lock().await.remove(id);
    StatusCode::OK
}

fn start(command: &[String]) -> Session {
    let (program, arguments) = command.split_first().expect("the command of the server");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start the server");
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    Session { input: child.stdin.take().unwrap(), output, _child: child }
}
