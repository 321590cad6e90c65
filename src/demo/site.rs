//! The demo's own page on 127.0.0.1: shows how things stand, and takes orders by POST from the page itself and from the
//! command line, never from a foreign page.

use super::Fault;
use super::crew::{Built, Desk, Order, Standing};
use super::diary::Diary;
use super::page::{self, View};
use super::watch::Alerts;
use crate::board::Board;
use crate::board::view::as_json;
use crate::task::{self, Task};
use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION, ORIGIN, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use metrics::{Snapshot, Values};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time; a few browsers reload every two seconds.
const CONNECTIONS: usize = 32;
/// For a whole connection; healing may have to start two servers.
const CONNECTION: Duration = Duration::from_mins(2);
const HEAD: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_millis(200);

/// What the page shows and whom it asks.
#[derive(Debug)]
pub struct Site {
    /// Takes the orders.
    pub desk: Desk,
    /// How the servers stand.
    pub standing: Arc<ArcSwap<Standing>>,
    /// The exporter's board.
    pub board: Arc<Board>,
    /// What Prometheus says.
    pub alerts: Alerts,
    /// What happened.
    pub diary: Arc<Diary>,
    /// What has been built.
    pub built: Built,
    /// The exporter's address, `http://host:port`.
    pub exporter: String,
}

/// What keeps the pages of the demo fresh.
pub(super) const SCRIPT: (&str, &str) = ("/fresh.js", include_str!("../web/fresh.js"));
/// The Slack of the demo stands in a frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src data:; \
     frame-src http://127.0.0.1:*; form-action 'self'; frame-ancestors 'none'";

/// Serves the page until `stop`.
pub async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) {
    let mut connections: FuturesUnordered<_> = FuturesUnordered::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = connections.next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS => {
                connections.push(end_of(task::spawn(talk(stream, Arc::clone(&site)))));
            }
            Ok(_one_too_many) => {}
            Err(error) => {
                tracing::warn!(%error, "the demo's page could not accept a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn end_of(mut connection: Task<()>) {
    // A panic was logged where it happened; the others go on.
    drop(connection.join().await);
}

async fn talk(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
    let served = timeout(CONNECTION, builder.serve_connection(TokioIo::new(stream), service)).await;
    if let Ok(Err(error)) = served {
        tracing::debug!(%error, "a connection to the demo's page ended");
    }
}

type Answer = Response<Full<Bytes>>;

impl Site {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let headers = request.headers();
        if !is_local(headers) || request.method() == Method::POST && !is_ours(headers) {
            return text(StatusCode::FORBIDDEN, "only the demo's own page may ask this\n".to_owned());
        }
        let path = request.uri().path();
        let order = match path {
            "/" => None,
            path if path == SCRIPT.0 => {
                return with(
                    text(StatusCode::OK, SCRIPT.1.to_owned()),
                    CONTENT_TYPE,
                    "text/javascript; charset=utf-8",
                );
            }
            "/heal" => Some(Order::Heal),
            _ => match path.strip_prefix("/break/").and_then(Fault::from_word) {
                Some(fault) => Some(Order::Break(fault)),
                None => return text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
            },
        };
        match (order, request.method()) {
            (None, &Method::GET | &Method::HEAD) => self.page(),
            (Some(order), &Method::POST) => self.obey(order, headers).await,
            (order, _) => {
                let allowed = if order.is_none() { "GET, HEAD" } else { "POST" };
                let answer =
                    text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} is allowed here\n"));
                with(answer, ALLOW, allowed)
            }
        }
    }

    fn page(&self) -> Answer {
        let now = Instant::now();
        let checks = self.board.view().iter().map(|(key, card)| as_json(key, card, now)).collect();
        let alerts = self.alerts.load_full();
        let html = page::html(&View {
            standing: &self.standing.load(),
            checks,
            alerts: (*alerts).as_deref(),
            events: self.diary.newest(),
            built: &self.built,
            exporter: &self.exporter,
            slow_queries: slow_queries(&self.board.snapshot()),
            now: Timestamp::now(),
        });
        with(text(StatusCode::OK, html), CONTENT_TYPE, "text/html; charset=utf-8")
    }

    /// A browser is led back to the page, which shows what became of the order; a program gets it in words.
    async fn obey(&self, order: Order, headers: &HeaderMap) -> Answer {
        let result = self.desk.give(order).await;
        let browser = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        if browser.is_some_and(|accept| accept.contains("text/html")) {
            return with(text(StatusCode::SEE_OTHER, String::new()), LOCATION, "/");
        }
        match result {
            Ok(done) => text(StatusCode::OK, done + "\n"),
            Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why + "\n"),
        }
    }
}

/// Whether the request was made for this machine: a foreign page that has given its own name our address keeps that name.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = header(headers, &HOST) else { return false };
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    matches!(name.map_or(host, |(name, _)| name), "127.0.0.1" | "localhost" | "[::1]")
}

/// Whether an order comes from our page or our command line. Browsers say which page has made them send it.
fn is_ours(headers: &HeaderMap) -> bool {
    let own = |origin: &str| origin.strip_prefix("http://") == header(headers, &HOST);
    let origin = headers.get(ORIGIN).is_none_or(|origin| origin.to_str().is_ok_and(own));
    origin && headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ] {
        answer = with(answer, name, value);
    }
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

/// Slow queries that came in so far; `None` before the first.
fn slow_queries(snapshot: &Snapshot) -> Option<f64> {
    let columns = snapshot.parts.iter().flat_map(|part| part.answer.columns());
    let ours = columns.filter(|column| column.family().name == "mysql.slow_queries");
    let sums = ours.filter_map(|column| match column.values() {
        Values::Numbers(numbers) => Some(numbers.iter().sum::<f64>()),
        Values::Histograms(..) => None,
    });
    sums.reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_the_page_itself_and_the_command_line_give_orders() {
        for (pairs, expected) in [
            (&[("host", "127.0.0.1:9894")][..], true),
            (
                &[
                    ("host", "localhost:1"),
                    ("origin", "http://localhost:1"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (&[("host", "127.0.0.1:9894"), ("origin", "http://127.0.0.1:3000")], false),
            (&[("host", "127.0.0.1:9894"), ("origin", "https://127.0.0.1:9894")], false),
            (&[("host", "127.0.0.1:9894"), ("origin", "null")], false),
            (&[("host", "127.0.0.1:9894"), ("origin", "http://a.example")], false),
            (&[("host", "127.0.0.1:9894"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "127.0.0.1:9894"), ("sec-fetch-site", "same-site")], false),
        ] {
            assert_eq!(is_ours(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:9894", true),
            ("localhost", true),
            ("[::1]:9894", true),
            ("rebound.example:9894", false),
            ("127.0.0.1.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(&headers(&[("host", host)])), expected, "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}
