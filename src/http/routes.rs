//! Which path answers what. Nothing of a request is ever repeated in an answer.

use super::deadline::{Pieces, Pulse};
use super::door::{Door, Pass, Receipt};
use super::live::{Live, Stream};
use super::metrics::Wish;
use super::web_config::Settings;
use super::{Asked, Inner, MOST_HELD, Query, Reload, TEXT};
use crate::net::gzip;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use metrics::exposition;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A request to this server has nothing to say in its body; what is sent anyway is read up to here.
const LARGEST_BODY: usize = 64 * 1024;

/// Room for deliveries is counted in pieces of so many bytes: the semaphore counts in 32 bits.
pub(super) const HELD_IN: usize = 1024;

/// A page shorter than this is not worth compressing.
const SHORT: usize = 1024;

impl Inner {
    /// The answer to a request; its body ends the request in `pulse`.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        pulse: Arc<Pulse>,
        stop: CancellationToken,
    ) -> Response<Pieces> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let settings = self.web.current().await;
        let reply = self.guarded(request, &settings, stop).await;
        let until = Instant::now() + self.limits.response;
        let length = reply.stream.is_none().then_some(reply.body.len());
        let body = match reply.stream {
            Some(stream) => Pieces::live(stream, pulse),
            None => Pieces::new(reply.body, until, pulse),
        };
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        *headers = reply.headers;
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, value) in &settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        response
    }

    async fn guarded(
        &self,
        request: Request<Incoming>,
        settings: &Settings,
        stop: CancellationToken,
    ) -> Reply {
        let door = self.site.doors.iter().find(|door| door.path == request.uri().path());
        if let Some(door) = door {
            match (door.admits)(request.headers().clone()).await {
                Pass::Common => {}
                Pass::Granted => return self.deliver(door, request).await,
                Pass::Refused(receipt) => {
                    self.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
                    return Reply::receipt(receipt);
                }
            }
        }
        let users = &settings.users;
        if !users.is_empty() && !self.gate.admits(users, request.headers().get(AUTHORIZATION)).await {
            self.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
            return Reply::text(StatusCode::UNAUTHORIZED, "Unauthorized\n")
                .with(WWW_AUTHENTICATE, "Basic realm=\"datapulse\", charset=\"UTF-8\"");
        }
        match door {
            Some(door) => self.deliver(door, request).await,
            None => self.route(request, stop).await,
        }
    }

    /// Hands a delivery to its door, once there is room for it.
    async fn deliver(&self, door: &Door, request: Request<Incoming>) -> Reply {
        if *request.method() != Method::POST {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Only POST requests allowed\n")
                .with(ALLOW, "POST");
        }
        let too_large = || Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
        let length = request.body().size_hint();
        if length.lower() > door.largest as u64 {
            return too_large();
        }
        let upper = length.upper().and_then(|upper| usize::try_from(upper).ok());
        let held = upper.unwrap_or(door.largest).min(door.largest).min(MOST_HELD) / HELD_IN + 1;
        let room = self.held.acquire_many(u32::try_from(held).unwrap_or(u32::MAX));
        let Ok(Ok(_room)) = timeout(self.limits.delivery, room).await else {
            return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many deliveries at once\n")
                .with(RETRY_AFTER, "5");
        };
        let (parts, body) = request.into_parts();
        match timeout(self.limits.delivery, Limited::new(body, door.largest).collect()).await {
            Ok(Ok(body)) => Reply::receipt((door.take)(parts.headers, body.to_bytes()).await),
            Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
            Ok(Err(_)) => Reply::text(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => Reply::text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        }
    }

    async fn route(&self, request: Request<Incoming>, stop: CancellationToken) -> Reply {
        let path = request.uri().path();
        if path == "/-/reload" {
            return self.reload(request).await;
        }
        let page = self.site.pages.iter().find_map(|page| Some((page, page.below(path)?)));
        let live = self.site.live.as_ref().filter(|live| live.path == path);
        let known = page.is_some()
            || live.is_some()
            || path == self.site.telemetry_path
            || matches!(path, "/-/healthy" | "/-/ready");
        if !known {
            return Reply::not_found();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Only GET or HEAD requests allowed\n")
                .with(ALLOW, "GET, HEAD");
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if path == self.site.telemetry_path {
            return self.metrics(Wish::of(request.headers(), &query)).await;
        }
        if let Some(live) = live {
            return self.live(live, &query, stop);
        }
        match (page, path) {
            (Some((page, below)), _) => {
                let gzip = super::negotiate::gzip(request.headers());
                let Some(body) = (page.body)(&Asked { below, query }) else { return Reply::not_found() };
                Reply::page(page.content_type, body, gzip).with(CONTENT_SECURITY_POLICY, page.policy)
            }
            (None, "/-/ready") if !(self.site.ready)() => {
                Reply::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n")
            }
            (None, "/-/ready") => Reply::text(StatusCode::OK, "datapulse is Ready.\n"),
            (None, _) => Reply::text(StatusCode::OK, "datapulse is Healthy.\n"),
        }
    }

    fn live(&self, live: &Live, query: &Query, stop: CancellationToken) -> Reply {
        let Some(view) = (live.view)(query) else { return Reply::not_found() };
        let Ok(slot) = Arc::clone(&self.lives).try_acquire_owned() else {
            return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are looked at\n")
                .with(RETRY_AFTER, "30");
        };
        let mut reply = Reply::new(StatusCode::OK, "text/event-stream", Bytes::new());
        reply.stream = Some(Stream::new(live, view, stop, slot));
        reply.with(CACHE_CONTROL, "no-store")
    }

    async fn metrics(&self, wish: Wish) -> Reply {
        let (dialect, gzip) = (wish.dialect, wish.gzip);
        let Some(body) = self.bodies.body(&self.site.snapshots, wish).await else {
            return Reply::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "could not make the metrics; see the log\n",
            );
        };
        let mut reply = Reply::new(StatusCode::OK, exposition::content_type(dialect), body);
        reply = reply.with(VARY, "Accept, Accept-Encoding");
        if gzip { reply.with(CONTENT_ENCODING, "gzip") } else { reply }
    }

    async fn reload(&self, request: Request<Incoming>) -> Reply {
        if !matches!(*request.method(), Method::POST | Method::PUT) {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed\n")
                .with(ALLOW, "POST, PUT");
        }
        let Some(reload) = &self.site.reload else {
            return Reply::text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n");
        };
        let too_large = || Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
        if request.body().size_hint().lower() > LARGEST_BODY as u64 {
            return too_large();
        }
        // Left unread, the body would let the system reset the connection before the answer is there.
        let body = Limited::new(request.into_body(), LARGEST_BODY).collect();
        match timeout(self.limits.body, body).await {
            Ok(Ok(_)) => run(reload).await,
            Ok(Err(_)) => too_large(),
            Err(_) => Reply::text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        }
    }
}

async fn run(reload: &Reload) -> Reply {
    match reload().await {
        Ok(()) => Reply::text(StatusCode::OK, ""),
        Err(fault) => {
            let text = format!("failed to reload config: {fault}\n");
            Reply::new(StatusCode::INTERNAL_SERVER_ERROR, TEXT, Bytes::from(text))
        }
    }
}

/// An answer before it is given its common headers.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// What goes on instead of the body.
    stream: Option<Stream>,
}

impl Reply {
    fn new(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        Self { status, headers: HeaderMap::new(), body, stream: None }.with(CONTENT_TYPE, content_type)
    }

    fn text(status: StatusCode, text: &'static str) -> Self {
        Self::new(status, TEXT, Bytes::from_static(text.as_bytes()))
    }

    fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    fn receipt(receipt: Receipt) -> Self {
        let mut reply = Self::new(receipt.status, receipt.content_type, receipt.body);
        if let Some(after) = receipt.retry_after {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        reply
    }

    fn page(content_type: &'static str, body: Bytes, gzip: bool) -> Self {
        if !gzip || body.len() < SHORT {
            return Self::new(StatusCode::OK, content_type, body).with(VARY, "Accept-Encoding");
        }
        let packed = Bytes::from(gzip::compress(&body));
        Self::new(StatusCode::OK, content_type, packed)
            .with(VARY, "Accept-Encoding")
            .with(CONTENT_ENCODING, "gzip")
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}
