//! A small HTTP/1.1 client: one connection, one deadline around everything, capped answers, no redirects.

#[cfg(test)]
pub(crate) mod double;

use super::stream::{self, Capped, Limit};
use super::tls;
use crate::check::{Problem, Reason};
use crate::config::target::Tls;
use crate::task::{self, Task};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use serde::de::{self, Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// An endless answer must not fill our memory: bytes on the wire, head and TLS records included.
pub const LARGEST_ANSWER: u64 = 4 * 1024 * 1024;
/// How much of a foreign text is repeated in our own words.
const LONGEST_QUOTE: usize = 200;

/// An address `http://host:port/path` or `https://host:port/path`, without user, query and fragment: those carry secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// As in the header `Host`, an IPv6 address in brackets, the port when it is not the scheme's own.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status; never a redirect.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, up to [`LARGEST_ANSWER`].
    pub body: Bytes,
}

/// A client of one server. It keeps one connection and opens a new one when that was closed while idle.
#[derive(Debug)]
pub struct Client {
    url: Url,
    ca: Option<PathBuf>,
    idle: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    limit: Limit,
    /// Moves the bytes; the connection is closed when it goes.
    _driver: Task<Result<(), hyper::Error>>,
}

impl Client {
    /// A client of the server that `url` names; no traffic yet. With `https` the certificate has to carry the host name and to
    /// come from an authority in the PEM file `ca` (read again for each connection), or from one that the system trusts.
    pub fn new(url: &Url, ca: Option<PathBuf>) -> Self {
        Self { url: url.clone(), ca, idle: None }
    }

    /// Posts `body` to `path` and reads the answer, all of it before `deadline`.
    ///
    /// A request goes out once: only when the kept connection turns out closed before anything was written is it written to a new one.
    /// Errors: everything that keeps the answer away, and redirects (they are not followed). Other statuses are answers.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
        deadline: Instant,
    ) -> Result<Reply, Problem> {
        let request = self.request(path, headers, body.into())?;
        let began = Instant::now();
        match timeout_at(deadline, self.exchange(request, deadline)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let waited = began.elapsed().as_secs_f64();
                Err(Problem::new(
                    Reason::Timeout,
                    format!("no answer from {} within {waited:.1} s", self.url),
                ))
            }
        }
    }

    fn request(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_str(path).map_err(|error| {
            Problem::new(Reason::Protocol, format!("{path:?} is not a path to post to")).because(error)
        })?;
        *request.headers_mut() = headers.clone();
        let agent = concat!("datapulse/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
        let host = HeaderValue::from_str(&self.url.authority).map_err(|error| {
            Problem::new(Reason::Protocol, format!("{} is not a host", self.url.authority)).because(error)
        })?;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }

    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Reply, Problem> {
        // Taken out, so that a request dropped half-way takes its connection along.
        if let Some(mut kept) = self.idle.take() {
            kept.limit.reset(LARGEST_ANSWER);
            match kept.sender.try_send_request(request).await {
                Ok(response) => return self.read(kept, response).await,
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(refused.into_error(), &kept.limit)),
                },
            }
        }
        let mut fresh = match timeout_at(deadline, self.connect(deadline)).await {
            Ok(result) => result?,
            Err(elapsed) => {
                let what = format!("could not connect to {}", self.url);
                return Err(Problem::new(Reason::ConnectTimeout, what).because(elapsed));
            }
        };
        match fresh.sender.send_request(request).await {
            Ok(response) => self.read(fresh, response).await,
            Err(error) => Err(self.broken(error, &fresh.limit)),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Problem> {
        let limit = Limit::new(LARGEST_ANSWER);
        let stream = stream::connect(&self.url.host, self.url.port, deadline).await?;
        let stream = Capped::new(stream, limit.clone());
        if !self.url.secure {
            return self.open(stream, limit).await;
        }
        let problem = || Problem::new(Reason::Tls, format!("could not agree on TLS with {}", self.url));
        let ca = self.ca.clone();
        let rules = task::blocking(move || tls::client(Tls::VerifyFull, ca.as_deref())).await;
        let rules = rules.map_err(|error| problem().because(error))??;
        let name = ServerName::try_from(self.url.host.clone()).map_err(|error| problem().because(error))?;
        let stream = TlsConnector::from(rules).connect(name, stream).await.map_err(|error| {
            problem()
                .because(error)
                .hint("the certificate has to carry this host name and come from an authority in ca")
        })?;
        self.open(stream, limit).await
    }

    async fn open<S>(&self, stream: S, limit: Limit) -> Result<Connection, Problem>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = opened.map_err(|error| self.broken(error, &limit))?;
        Ok(Connection { sender, limit, _driver: task::spawn(driver) })
    }

    async fn read(&mut self, from: Connection, response: Response<Incoming>) -> Result<Reply, Problem> {
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            let to = head.headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            // What follows `?` may be a token.
            let to = to.as_deref().and_then(|to| to.split('?').next()).map(quoted).unwrap_or_default();
            let what = format!("{} answered {} and points to {to}", self.url, head.status.as_u16());
            return Err(Problem::new(Reason::Protocol, what)
                .hint("redirects are not followed: write the address that answers itself"));
        }
        let body = body.collect().await.map_err(|error| self.broken(error, &from.limit))?.to_bytes();
        if !from.sender.is_closed() {
            self.idle = Some(from);
        }
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    fn broken(&self, error: hyper::Error, limit: &Limit) -> Problem {
        let reason = match () {
            () if limit.exceeded() => Reason::TooLarge,
            () if error.is_parse() => Reason::Protocol,
            () => Reason::Io,
        };
        Problem::new(reason, format!("could not get an answer from {}", self.url)).because(error)
    }
}

impl Reply {
    /// How long the server wants to be left alone: the header `Retry-After`, in seconds or as a date.
    /// <https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after>
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
    }

    /// The beginning of the body as text, for an error message.
    pub fn excerpt(&self) -> String {
        quoted(&String::from_utf8_lossy(self.body.get(..LONGEST_QUOTE * 4).unwrap_or(&self.body)))
    }
}

impl Url {
    /// The path, never empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether both name the same server.
    pub fn is_at(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether it is a server of one of these domains, reached by TLS.
    pub fn is_below(&self, domains: &[&str]) -> bool {
        let below = |domain: &&str| self.host == **domain || self.host.ends_with(&format!(".{domain}"));
        self.secure && domains.iter().any(below)
    }

    /// A server that is reached by TLS at its usual port.
    pub fn of_host(host: &str, path: &str) -> Self {
        Self {
            secure: true,
            authority: host.to_owned(),
            host: host.to_owned(),
            port: 443,
            path: path.to_owned(),
        }
    }

    /// The same server with another path.
    #[must_use]
    pub fn with_path(&self, path: String) -> Self {
        Self { path, ..self.clone() }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.secure { "https" } else { "http" }, self.authority, self.path)
    }
}

impl FromStr for Url {
    type Err = String;

    /// The text is not repeated in the error: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable = || {
            "not an address: write http://host:port or https://host:port, with or without a path".to_owned()
        };
        let uri = Uri::from_str(text).map_err(|_not_a_uri| unreadable())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(unreadable()),
        };
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return Err(unreadable()) };
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return Err("an address has no user, password, query or fragment here: send credentials in a header that is \
                        kept in env:NAME or file:/path"
                .to_owned());
        }
        let own_port = if secure { 443 } else { 80 };
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse().map_err(|_no_port| unreadable())?,
            _ => own_port,
        };
        if host.is_empty() || port == 0 {
            return Err(unreadable());
        }
        let authority = if port == own_port { host.to_owned() } else { format!("{host}:{port}") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { secure, authority, host, port, path: uri.path().to_owned() })
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Url {
    fn schema_name() -> Cow<'static, str> {
        "Url".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^https?://[^@?#]+$",
            "description": "http://host:port or https://host:port, with or without a path; no user, query or fragment"
        })
    }
}

/// A foreign text for our own words: without line breaks and control characters, cut.
pub fn quoted(text: &str) -> String {
    let clean = text.chars().take(LONGEST_QUOTE).map(|c| if c.is_control() { ' ' } else { c });
    clean.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::double::{Act, Double, answer};
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    fn client(server: &Double) -> Client {
        Client::new(&format!("http://127.0.0.1:{}/base", server.port).parse().unwrap(), None)
    }

    async fn post(client: &mut Client) -> Result<Reply, Problem> {
        let deadline = Instant::now() + Duration::from_secs(10);
        client.post("/path?q=1", &HeaderMap::new(), "question", deadline).await
    }

    #[tokio::test]
    async fn a_post_carries_headers_and_body_and_the_connection_is_kept() {
        let server = Double::start(|_| Act::Say(OK.into())).await;
        let mut client = client(&server);
        let headers =
            HeaderMap::from_iter([(hyper::header::AUTHORIZATION, HeaderValue::from_static("word"))]);
        let deadline = Instant::now() + Duration::from_secs(10);
        for _ in 0..2 {
            let reply = client.post("/path?q=1", &headers, "question", deadline).await.unwrap();
            assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"hi"[..]));
        }
        let seen = server.seen();
        assert_eq!(seen.iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0]);
        assert!(seen[0].head.starts_with("post /path?q=1 http/1.1\r\n"), "{}", seen[0].head);
        assert!(seen[0].head.contains(&format!("host: 127.0.0.1:{}\r\n", server.port)));
        assert!(
            seen[0].head.contains("authorization: word\r\n")
                && seen[0].head.contains("user-agent: datapulse/")
        );
        assert_eq!(seen[0].body, b"question");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_replaced() {
        let server = Double::start(|_| Act::SayAndClose(OK.into())).await;
        let mut client = client(&server);
        for _ in 0..3 {
            assert_eq!(post(&mut client).await.unwrap().status, StatusCode::OK);
        }
        assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_request_that_has_arrived_is_not_sent_twice() {
        let script = |number| if number == 0 { Act::Say(OK.into()) } else { Act::Close };
        let server = Double::start(script).await;
        let mut client = client(&server);
        post(&mut client).await.unwrap();
        assert_eq!(post(&mut client).await.unwrap_err().reason, Reason::Io);
        assert_eq!(server.seen().len(), 2);
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_at_the_cap() {
        const CHUNK: &[u8] = b"4000\r\n";
        for (head, again) in [
            ("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 0x4000][..]),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", &[b'x'; 0x4000][..]),
        ] {
            let server = Double::start(move |_| Act::Flood(head.as_bytes(), again)).await;
            let problem = post(&mut client(&server)).await.unwrap_err();
            assert_eq!(problem.reason, Reason::TooLarge, "{problem}");
        }
        let server =
            Double::start(|_| Act::Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK))
                .await;
        assert!(post(&mut client(&server)).await.is_err());
        let server = Double::start(|_| Act::Flood(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n")).await;
        assert!(post(&mut client(&server)).await.is_err(), "headers without end");
    }

    #[tokio::test]
    async fn a_redirect_is_reported_without_its_query_and_not_followed() {
        let server =
            Double::start(|_| Act::Say(answer(307, "Location: http://127.0.0.1:1/x?token=canary\r\n", b"")))
                .await;
        let words = post(&mut client(&server)).await.unwrap_err().to_string();
        assert!(
            words.contains("answered 307 and points to http://127.0.0.1:1/x") && !words.contains("canary"),
            "{words}"
        );
        assert_eq!(server.seen().len(), 1);
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_garbage_is_a_protocol_problem() {
        let server = Double::start(|_| Act::Hang).await;
        let began = Instant::now();
        let deadline = began + Duration::from_millis(200);
        let problem = client(&server).post("/", &HeaderMap::new(), "", deadline).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Timeout);
        assert!(began.elapsed() < Duration::from_secs(2));
        let server = Double::start(|_| Act::SayAndClose(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())).await;
        assert_eq!(post(&mut client(&server)).await.unwrap_err().reason, Reason::Protocol);
    }

    #[tokio::test]
    async fn the_certificate_has_to_carry_the_host_and_come_from_the_authority() {
        let signed = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        for (name, trusted) in [("127.0.0.1", true), ("127.0.0.1", false), ("db.example", true)] {
            let paper = signed(name);
            let key = rustls::pki_types::PrivatePkcs8KeyDer::from(paper.signing_key.serialize_der());
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![paper.cert.der().clone()], key.into())
                .unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
            let server = Double::start_with(|_| Act::Say(OK.into()), Some(acceptor)).await;
            let ca = if trusted { paper.cert.pem() } else { signed(name).cert.pem() };
            let path =
                std::env::temp_dir().join(format!("datapulse-https-{}-{}", std::process::id(), server.port));
            std::fs::write(&path, ca).unwrap();
            let url = format!("https://127.0.0.1:{}", server.port).parse().unwrap();
            let result = post(&mut Client::new(&url, Some(path.clone()))).await;
            std::fs::remove_file(&path).unwrap();
            match result {
                Ok(reply) => assert!(trusted && name == "127.0.0.1" && reply.status == StatusCode::OK),
                Err(problem) => {
                    assert!(!trusted || name != "127.0.0.1", "{problem}");
                    assert_eq!(problem.reason, Reason::Tls, "{problem}");
                }
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            let reply = Reply { status: StatusCode::OK, headers, body: Bytes::new() };
            assert_eq!(reply.retry_after(now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn addresses_are_read_or_refused_without_repeating_them() {
        for (text, shown, host, port) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/", "127.0.0.1", 4318),
            ("https://h.example", "https://h.example/", "h.example", 443),
            ("http://h:80/a/b", "http://h/a/b", "h", 80),
            ("http://[::1]:4318/", "http://[::1]:4318/", "::1", 4318),
            ("https://[::1]", "https://[::1]/", "::1", 443),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host.as_str(), url.port), (shown, host, port));
        }
        for text in [
            "canary",
            "canary:4318",
            "ftp://canary",
            "http://",
            "http://canary:0",
            "http://canary:99999",
            "http://user:canary@h",
            "http://h?key=canary",
            "http://h/#canary",
            "unix:///canary",
        ] {
            let fault = text.parse::<Url>().unwrap_err();
            assert!(!fault.contains("canary"), "{fault}");
        }
    }
}
