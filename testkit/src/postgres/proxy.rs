//! A proxy that loses connections.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a [`Proxy`] does with the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Closes the connection before the server gets it.
    BeforeCommit,
    /// Closes the connection after the server has executed it, before the client gets the answer.
    AfterCommit,
}

/// A proxy between a client and a server, which loses connections during COMMIT.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    next: Arc<Mutex<Vec<Fault>>>,
}

impl Proxy {
    /// Starts a proxy for the server on this port.
    #[must_use]
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(Mutex::new(Vec::new()));
        let faults = Arc::clone(&next);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let faults = Arc::clone(&faults);
                thread::spawn(move || forward(client, server, &faults));
            }
        });
        Self { port, next }
    }

    /// The port of the proxy.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Loses the next connections that send COMMIT, the last fault first.
    pub fn lose(&self, faults: &[Fault]) {
        self.next.lock().unwrap().extend(faults);
    }

    /// Number of faults that have not happened yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.next.lock().unwrap().len()
    }
}

/// Forwards both directions until one ends.
fn forward(mut client: TcpStream, mut server: TcpStream, faults: &Mutex<Vec<Fault>>) {
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    // Set while the answer to a COMMIT must not reach the client.
    let muted = Arc::new(Mutex::new(false));
    let is_muted = Arc::clone(&muted);
    let backwards = thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(read @ 1..) = answers.read(&mut buffer) {
            if *is_muted.lock().unwrap() || to_client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = answers.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        // A simple query of this text only.
        let is_commit = buffer[..read].ends_with(b"COMMIT\0");
        let fault = if is_commit { faults.lock().unwrap().pop() } else { None };
        match fault {
            Some(Fault::BeforeCommit) => break,
            Some(Fault::AfterCommit) => *muted.lock().unwrap() = true,
            None => {}
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if !*muted.lock().unwrap() {
        let _ = server.shutdown(Shutdown::Both);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = backwards.join();
}
