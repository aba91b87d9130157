//! JSON-RPC messages as lines.
//!
//! The transport of the library drops a line that is not JSON or too long, and answers a malformed request without its
//! id, so a client waits for an answer that never comes. It also ends the connection if a client begins with anything but
//! a request. This one answers each line that can be answered, and survives the others.

use std::io;
use std::sync::Arc;

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::RoleServer;
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

/// Maximum size of a line, in bytes. Arguments of tools are short.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Messages that are read ahead.
const QUEUE: usize = 32;

type Output = Arc<Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>>;

/// A client that sends and receives lines.
pub struct LineTransport {
    incoming: mpsc::Receiver<ClientJsonRpcMessage>,
    output: Output,
    /// Ends the stream of messages.
    reading: AbortHandle,
}

impl LineTransport {
    /// Starts to read. The stream of messages ends with the input, or when the output fails.
    pub fn new(
        input: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let output: Output = Arc::new(Mutex::new(Some(Box::new(output))));
        let (sender, incoming) = mpsc::channel(QUEUE);
        // Its own task, because a read that a dropped future had begun would lose a part of its line.
        let reading = tokio::spawn(read_lines(BufReader::new(input), sender, Arc::clone(&output)));
        Self { incoming, output, reading: reading.abort_handle() }
    }
}

impl Transport<RoleServer> for LineTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (output, reading) = (Arc::clone(&self.output), self.reading.clone());
        async move {
            let written = write_line(&output, &message).await;
            if written.is_err() {
                // A client that reads no answers has left, even if it still holds its end of the input.
                reading.abort();
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        self.incoming.recv().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.incoming.close();
        self.output.lock().await.take();
        Ok(())
    }
}

async fn write_line(output: &Output, message: &ServerJsonRpcMessage) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut output = output.lock().await;
    let Some(output) = output.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
    output.write_all(&line).await?;
    output.flush().await
}

/// Passes on the messages until the input ends, and answers lines that are not messages.
async fn read_lines(
    mut input: impl AsyncBufRead + Unpin,
    sender: mpsc::Sender<ClientJsonRpcMessage>,
    output: Output,
) {
    let mut has_begun = false;
    loop {
        let parsed = match read_line(&mut input).await {
            Ok(Line::Complete(line)) => parse(&line),
            Ok(Line::TooLong) => {
                let message = format!("a message has at most {MAX_LINE_BYTES} bytes");
                Parsed::Invalid(ErrorData::invalid_request(message, None), None)
            }
            Ok(Line::End) | Err(_) => return,
        };
        match parsed {
            // Before the first request there is nothing that a notification or a response could belong to.
            Parsed::Message(message) if has_begun || matches!(*message, ClientJsonRpcMessage::Request(_)) => {
                has_begun = true;
                if sender.send(*message).await.is_err() {
                    return;
                }
            }
            Parsed::Message(_) | Parsed::Ignored => {}
            Parsed::Invalid(error, id) => {
                let answer = ServerJsonRpcMessage::error(error, id);
                if write_line(&output, &answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

enum Line {
    Complete(Vec<u8>),
    TooLong,
    End,
}

/// Reads a line without keeping more than the maximum in memory. An unfinished line at the end of the input is a line.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(match (is_too_long, line.is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Complete(line),
            });
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let length = newline.unwrap_or(available.len());
        if line.len().saturating_add(length) > MAX_LINE_BYTES {
            is_too_long = true;
            line = Vec::new();
        } else if !is_too_long {
            line.extend_from_slice(available.get(..length).unwrap_or_default());
        }
        input.consume(newline.map_or(length, |newline| newline + 1));
        if newline.is_some() {
            return Ok(if is_too_long { Line::TooLong } else { Line::Complete(line) });
        }
    }
}

enum Parsed {
    Message(Box<ClientJsonRpcMessage>),
    /// A notification that is not known, or an empty line.
    Ignored,
    /// The answer, with the id of the request if it has one.
    Invalid(ErrorData, Option<RequestId>),
}

fn parse(line: &[u8]) -> Parsed {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Parsed::Ignored;
    }
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            return Parsed::Invalid(ErrorData::parse_error(format!("not JSON: {error}"), None), None);
        }
    };
    let id = value.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
    let is_notification = value.get("method").is_some() && value.get("id").is_none();
    match serde_json::from_value(value) {
        Ok(message) => Parsed::Message(Box::new(message)),
        Err(_) if is_notification => Parsed::Ignored,
        Err(error) => {
            let message = format!("not a message of the Model Context Protocol: {error}");
            Parsed::Invalid(ErrorData::invalid_request(message, None), id)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    /// What is passed on from these lines, and what is answered.
    async fn exchange(input: &[u8]) -> (Vec<ClientJsonRpcMessage>, Vec<Value>) {
        let (client, server) = duplex(1024);
        let (reader, mut writer) = tokio::io::split(client);
        let (server_reader, server_writer) = tokio::io::split(server);
        let mut transport = LineTransport::new(server_reader, server_writer);
        let input = input.to_vec();
        let write = tokio::spawn(async move {
            writer.write_all(&input).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        while let Some(message) = transport.receive().await {
            received.push(message);
        }
        write.await.unwrap();
        transport.close().await.unwrap();
        drop(transport);
        let mut answered = String::new();
        let mut reader = BufReader::new(reader);
        reader.read_to_string(&mut answered).await.unwrap();
        let answers = answered.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (received, answers)
    }

    #[tokio::test]
    async fn lines_that_are_not_messages_are_answered() {
        let lines = [
            "not json",
            "",
            r#"{"jsonrpc":"2.0","method":"notifications/unknown"}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#,
            r#"[1,2]"#,
        ];
        let (received, answers) = exchange(lines.join("\n").as_bytes()).await;
        assert_eq!(received.len(), 1, "{received:?}");
        let codes: Vec<_> = answers.iter().map(|answer| (&answer["error"]["code"], &answer["id"])).collect();
        assert_eq!(
            codes,
            [
                (&(-32700).into(), &Value::Null),
                (&(-32600).into(), &7.into()),
                (&(-32600).into(), &Value::Null)
            ]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_not_kept() {
        let mut input = vec![b'x'; MAX_LINE_BYTES + 1];
        input.extend_from_slice(b"\n{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"ping\"}\n");
        let (received, answers) = exchange(&input).await;
        assert_eq!((received.len(), answers.len()), (1, 1));
        assert!(answers[0]["error"]["message"].as_str().unwrap().contains("at most"));
    }

    #[tokio::test]
    async fn the_messages_end_when_the_client_reads_no_answers() {
        let (client, server) = duplex(1024);
        let (server_reader, _) = tokio::io::split(server);
        let (closed, output) = duplex(1024);
        drop(closed);
        let mut transport = LineTransport::new(server_reader, output);
        let answer = ServerJsonRpcMessage::error(ErrorData::invalid_request("x", None), None);
        assert!(transport.send(answer).await.is_err());
        assert!(transport.receive().await.is_none());
        drop(client);
    }

    #[tokio::test]
    async fn nothing_is_passed_on_before_the_first_request() {
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let (received, _) = exchange(format!("{initialized}\n{ping}\n{initialized}\n").as_bytes()).await;
        assert!(matches!(
            received[..],
            [ClientJsonRpcMessage::Request(_), ClientJsonRpcMessage::Notification(_)]
        ));
    }
}
