//! HTTP/1.1 and the two protocols of AWS by hand, for the fakes: a bounded listener, and requests as a client sends them.

use crate::stage::LIMIT;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Not moto's default, so that a request without a region is noticed: moto looks for it in another place.
pub(crate) const REGION: &str = "eu-west-1";
/// The account that moto plays.
pub(crate) const ACCOUNT: &str = "123456789012";
/// The key that the stage itself signs with.
pub(crate) const ACCESS_KEY: &str = "AKIASTAGE";
/// More than any test opens; a client that leaks connections meets it.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// Of a head and of a body.
const MAX_HEAD: u64 = 64 << 10;
const MAX_BODY: usize = 16 << 20;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Without those that concern the connection alone.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What a server said, or shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// What it says of who signs it, for which region and service; `None` without a signature of version 4.
    pub(crate) fn signature(&self) -> Option<Signature> {
        let parts = self.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name| parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let (scope, _, _) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        let words: Vec<&str> = scope.split('/').collect();
        let [key, _date, region, service, "aws4_request"] = words[..] else { return None };
        let [access_key, region, service] = [key, region, service].map(str::to_owned);
        let session_token = self.header("x-amz-security-token").is_some();
        Some(Signature { access_key, region, service, session_token })
    }
}

/// Who signed a request. The signature itself is not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) access_key: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// Whether `X-Amz-Security-Token` came with it, as with every temporary key.
    pub(crate) session_token: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// As services with JSON answer.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/x-amz-json-1.1", body.to_string())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of an answer that must be good; an empty one is `null`.
    pub(crate) fn value(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// The type in the body of an error.
    pub(crate) fn error(&self) -> String {
        assert!(self.status >= 400, "{}: {}", self.status, self.text());
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["__type"].as_str().unwrap().to_owned()
    }

    /// Sends it; `length` overrides what it says of the length of its body.
    pub(crate) fn write(&self, mut stream: &TcpStream, length: usize) -> Result<()> {
        let mut head = format!("HTTP/1.1 {} stage\r\nContent-Length: {length}\r\n", self.status);
        for (name, value) in self.headers.iter().filter(|(name, _)| !about_the_connection(name)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body)
    }
}

/// Whether the connection may be used again.
pub(crate) type Again = bool;

/// A server on a free port of 127.0.0.1, a thread for each connection. Dropping it closes all of them.
#[derive(Debug)]
pub(crate) struct Listener {
    port: u16,
    open: Arc<Connections>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Connections = Mutex<BTreeMap<u64, Arc<TcpStream>>>;

impl Listener {
    /// `serve` answers one request. What it does beyond [`MAX_CONNECTIONS`] is to close at once.
    pub(crate) fn start(
        serve: impl Fn(&Request, &TcpStream) -> Result<Again> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, stopped) = (Arc::new(Connections::default()), Arc::new(AtomicBool::new(false)));
        let (all, end, serve) = (Arc::clone(&open), Arc::clone(&stopped), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            let mut threads: Vec<JoinHandle<()>> = Vec::new();
            for (id, stream) in (0..).zip(listener.incoming()) {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream.map(Arc::new) else { continue };
                threads.retain(|thread| !thread.is_finished());
                if all.lock().unwrap().len() >= MAX_CONNECTIONS {
                    continue;
                }
                all.lock().unwrap().insert(id, Arc::clone(&stream));
                let (all, serve) = (Arc::clone(&all), Arc::clone(&serve));
                threads.push(std::thread::spawn(move || {
                    // A client that goes away is no fault of ours.
                    converse(&stream, &*serve).ok();
                    all.lock().unwrap().remove(&id);
                }));
            }
            for stream in all.lock().unwrap().values() {
                stream.shutdown(Shutdown::Both).ok();
            }
            for thread in threads {
                thread.join().ok();
            }
        });
        Self { port, open, stopped, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.lock().unwrap().len()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // It stops at the next connection.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

fn converse(stream: &TcpStream, serve: &impl Fn(&Request, &TcpStream) -> Result<Again>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some((request, last)) = read_request(&mut reader)? {
        if !serve(&request, stream)? || last {
            break;
        }
    }
    Ok(())
}

/// The next request, and whether the client wants it to be the last; `None` when it has closed.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Result<Option<(Request, bool)>> {
    let Some((line, headers)) = read_head(reader)? else { return Ok(None) };
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(bad("no request line")) };
    let length = find(&headers, "content-length").map_or(Ok(0), str::parse);
    let length: usize = length.ok().filter(|length| *length <= MAX_BODY).ok_or_else(|| bad("its length"))?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let last = find(&headers, "connection").is_some_and(|word| word.eq_ignore_ascii_case("close"));
    let headers = headers.into_iter().filter(|(name, _)| !about_the_connection(name)).collect();
    Ok(Some((Request { method, path, headers, body }, last)))
}

/// The first line, and the headers.
type Head = (String, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> Result<Option<Head>> {
    let mut lines = reader.take(MAX_HEAD).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok(Some((first, headers)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Err(bad("an end in the head"))
}

fn about_the_connection(name: &str) -> bool {
    ["connection", "content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// One request on a connection of its own. The body of the answer is what came until the server closed.
pub(crate) fn send(port: u16, request: &Request) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    // HTTP/1.0, so that the answer comes in one piece and its end is the end of the connection.
    let mut head = format!("{} {} HTTP/1.0\r\nConnection: close\r\n", request.method, request.path);
    if request.header("host").is_none() {
        head.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", request.body.len()).as_bytes())?;
    stream.write_all(&request.body)?;
    let mut reader = BufReader::new(stream);
    let (line, headers) = read_head(&mut reader)?.ok_or_else(|| bad("closed without an answer"))?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut body = Vec::new();
    reader.take(MAX_BODY as u64).read_to_end(&mut body)?;
    Ok(Answer { status: status.ok_or_else(|| bad("no status"))?, headers, body })
}

/// A call to a service with JSON, such as `("athena", "AmazonAthena.StartQueryExecution")`, that looks signed.
pub(crate) fn json_call(service: &str, target: &str, body: &Value) -> Request {
    let mut request = signed(service, "application/x-amz-json-1.1", body.to_string());
    request.headers.push(("X-Amz-Target".to_owned(), target.to_owned()));
    request
}

/// A call to a service of the query protocol: `("rds", "2014-10-31", "DescribeDBClusters", ..)`.
pub(crate) fn form_call(service: &str, version: &str, action: &str, fields: &[(&str, &str)]) -> Request {
    let own = [("Action", action), ("Version", version)];
    let pairs: Vec<String> =
        own.iter().chain(fields).map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    signed(service, "application/x-www-form-urlencoded", pairs.join("&"))
}

/// POST / with a signature that is only good for fakes: it names the key, the region and the service.
fn signed(service: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", content_type)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Request { method: "POST".to_owned(), path: "/".to_owned(), headers, body: body.into() }
}

/// For a form (RFC 3986: everything but the unreserved characters).
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_used_again_and_the_one_too_many_is_closed() {
        let listener = Listener::start(|request, stream| {
            let answer = Answer::new(200, "text/plain", request.body.clone());
            answer.write(stream, answer.body.len()).map(|()| true)
        });
        let connect = || {
            let stream = TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
        };
        // Gives what was answered; nothing when the server has closed.
        let ask = |mut stream: &TcpStream, body: &str| {
            let length = body.len();
            stream
                .write_all(format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
                .ok();
            let mut reader = BufReader::new(stream);
            let (_, headers) = read_head(&mut reader).ok().flatten()?;
            let mut answer = vec![0; find(&headers, "content-length").unwrap().parse().unwrap()];
            reader.read_exact(&mut answer).unwrap();
            Some(String::from_utf8(answer).unwrap())
        };
        let streams: Vec<TcpStream> = (0..MAX_CONNECTIONS).map(|_| connect()).collect();
        for (stream, body) in streams.iter().zip(["one", "two"].iter().cycle()) {
            assert_eq!(ask(stream, body).as_deref(), Some(*body));
            assert_eq!(ask(stream, "again").as_deref(), Some("again"));
        }
        assert_eq!(listener.open(), MAX_CONNECTIONS);
        assert_eq!(ask(&connect(), "one too many"), None);
        drop(listener);
        assert_eq!(ask(&streams[0], "after the end"), None);
    }

    #[test]
    fn a_signature_is_read_only_when_it_is_whole() {
        let mut request = json_call("logs", "Logs_20140328.StartQuery", &Value::Null);
        let signature = Signature {
            access_key: ACCESS_KEY.to_owned(),
            region: REGION.to_owned(),
            service: "logs".to_owned(),
            session_token: false,
        };
        assert_eq!(request.signature(), Some(signature.clone()));
        request.headers.push(("x-amz-security-token".to_owned(), "t".to_owned()));
        assert_eq!(request.signature(), Some(Signature { session_token: true, ..signature }));
        for wrong in ["Basic eDp5", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request", "AWS4-HMAC-SHA256 "] {
            request.headers = vec![("Authorization".to_owned(), wrong.to_owned())];
            assert_eq!(request.signature(), None, "{wrong}");
        }
    }
}
