//! An HTTP server for tests: does with each request what a script says, and remembers what came.

use crate::task::{self, Task};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What the server does with a request.
pub(crate) enum Act {
    /// Writes these bytes and goes on with the connection.
    Say(Vec<u8>),
    /// Writes these bytes and closes the connection.
    SayAndClose(Vec<u8>),
    /// Writes the first, then the second without end.
    Flood(&'static [u8], &'static [u8]),
    /// Closes the connection without a word.
    Close,
    /// Says nothing for ever.
    Hang,
}

/// A request that came.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    /// Request line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// The running server.
pub(crate) struct Double {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: Task<()>,
}

/// An answer with a status, headers (each with its line end) and a body.
pub(crate) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut text =
        format!("HTTP/1.1 {status} Word\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    text.extend_from_slice(body);
    text
}

impl Double {
    /// Starts a server; `script` is asked with the number of the request, from 0.
    pub(crate) async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(script, None).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_with(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Record { seen: Arc::clone(&seen), script: Arc::new(script) };
        let task = task::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, tls, connection) = (record.clone(), tls.clone(), connections.len());
                connections.push(task::spawn(async move {
                    match tls {
                        None => record.serve(stream, connection).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => record.serve(stream, connection).await,
                            Err(_refused) => None,
                        },
                    }
                }));
            }
        });
        Self { port, seen, _task: task }
    }

    /// What has come so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Record {
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<dyn Fn(usize) -> Act + Send + Sync>,
}

impl Record {
    /// Until the connection ends; what it gives means nothing.
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, connection: usize) -> Option<()> {
        loop {
            let mut bytes = Vec::new();
            let end = loop {
                if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            };
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            let mut body = bytes.split_off(end);
            while body.len() < length {
                stream.read_buf(&mut body).await.ok().filter(|read| *read > 0)?;
            }
            let number = {
                let mut seen = self.seen.lock().unwrap();
                seen.push(Seen { connection, head, body, at: Instant::now() });
                seen.len() - 1
            };
            match (self.script)(number) {
                Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
                Act::SayAndClose(bytes) => {
                    stream.write_all(&bytes).await.ok()?;
                    return stream.shutdown().await.ok();
                }
                Act::Flood(first, again) => {
                    stream.write_all(first).await.ok()?;
                    loop {
                        stream.write_all(again).await.ok()?;
                    }
                }
                Act::Close => return None,
                Act::Hang => std::future::pending().await,
            }
        }
    }
}
