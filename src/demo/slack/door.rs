//! The workspace over HTTP: its API, the place for uploads, and its page.

use super::api::Answer;
use super::{Workspace, page};
use crate::task::{self, Task};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// A picture has some hundred kB.
const LARGEST_BODY: usize = 8 * 1024 * 1024;
const HEAD: Duration = Duration::from_secs(10);
/// Pictures come from here.
/// The page of the demo shows this one beside itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; script-src 'self'; connect-src 'self'; \
     frame-ancestors http://127.0.0.1:* http://localhost:*";

/// Serves the workspace until `stop`.
pub async fn serve(listener: TcpListener, workspace: Arc<Workspace>, stop: CancellationToken) {
    let own = listener.local_addr().map(|address| format!("http://{address}")).unwrap_or_default();
    let mut connections: FuturesUnordered<_> = FuturesUnordered::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = connections.next() => continue,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted
            && connections.len() < CONNECTIONS
        {
            connections.push(end_of(task::spawn(talk(stream, Arc::clone(&workspace), own.clone()))));
        }
    }
}

async fn end_of(mut connection: Task<()>) {
    // A panic was logged where it happened; the others go on.
    drop(connection.join().await);
}

async fn talk(stream: TcpStream, workspace: Arc<Workspace>, own: String) {
    let service = service_fn(move |request| {
        let (workspace, own) = (Arc::clone(&workspace), own.clone());
        async move { answer(&workspace, &own, request).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the demo's Slack ended");
    }
}

/// An error closes the connection without an answer.
async fn answer(
    workspace: &Workspace,
    own: &str,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    if *request.method() == Method::GET {
        return Ok(match path.strip_prefix("/files/") {
            Some(id) => file(workspace, id),
            None if path == "/" => page(workspace),
            None if path == super::super::site::SCRIPT.0 => script(),
            None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        });
    }
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = Limited::new(request.into_body(), LARGEST_BODY).collect().await;
    let Ok(body) = body else { return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "too large\n")) };
    let body = body.to_bytes();
    let seconds = Timestamp::now().as_second();
    if let Some(id) = path.strip_prefix("/upload/") {
        let status = workspace.receive(id, body.to_vec());
        return Ok(text(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), "OK\n"));
    }
    if path.starts_with("/services/") {
        workspace.hook(&serde_json::from_slice(&body).unwrap_or_default(), seconds);
        return Ok(text(StatusCode::OK, "ok"));
    }
    let Some(method) = path.strip_prefix("/api/") else {
        return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
    };
    let fields =
        if kind.contains("json") { serde_json::from_slice(&body).unwrap_or_default() } else { form(&body) };
    match workspace.call(method, bearer.as_deref(), &fields, own, seconds) {
        Answer::Silence => Err(io::Error::other("lost on request")),
        Answer::Say(status, value, patience) => {
            let mut answer = text(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), &value.to_string());
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, json);
            if let Ok(scopes) = HeaderValue::from_str(&workspace.scopes()) {
                answer.headers_mut().insert("x-oauth-scopes", scopes);
            }
            if let Some(patience) = patience {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(patience));
            }
            Ok(answer)
        }
    }
}

fn page(workspace: &Workspace) -> Response<Full<Bytes>> {
    let mut answer = text(StatusCode::OK, &page::html(workspace));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

fn script() -> Response<Full<Bytes>> {
    let mut answer = text(StatusCode::OK, super::super::site::SCRIPT.1);
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn file(workspace: &Workspace, id: &str) -> Response<Full<Bytes>> {
    let Some(bytes) = workspace.file(id).and_then(|file| file.bytes) else {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let kind = if bytes.starts_with(b"\x89PNG") { "image/png" } else { "text/plain; charset=utf-8" };
    let mut answer = text(StatusCode::OK, "");
    *answer.body_mut() = Full::new(Bytes::from(bytes));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_owned())));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// `a=1&b=%20` as an object of texts.
fn form(body: &[u8]) -> Map<String, Value> {
    let text = String::from_utf8_lossy(body).into_owned();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), Value::from(decoded(value)))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let pair = if byte == b'%' { rest.next().zip(rest.next()) } else { None };
        let code = pair.and_then(|(a, b)| u8::from_str_radix(std::str::from_utf8(&[a, b]).ok()?, 16).ok());
        bytes.push(code.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
