//! A small HTTP/1.1 client: one connection, one deadline around everything, capped answers, no redirects.

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
