//! The server over real sockets.

use super::*;
use ::metrics::{Answer, Metric, Part, Unit};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

static LEVEL: Metric<1> = Metric::gauge("test.level", Unit::None, &["row"], "A level.");

/// A server on a port of its own.
pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<HttpCounters>,
    server: Server,
    board: Arc<Mutex<Arc<Snapshot>>>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    run: Task<()>,
}

pub(super) async fn stage(web: WebConfig, limits: Limits, reload: Option<Reload>) -> Stage {
    let board = Arc::new(Mutex::new(Arc::new(snapshot(1, 3, None))));
    let ready = Arc::new(AtomicBool::new(false));
    let (shown, is_ready) = (Arc::clone(&board), Arc::clone(&ready));
    let page = Page {
        path: "/",
        content_type: "text/html; charset=utf-8",
        policy: POLICY,
        body: Arc::new(|asked| {
            Some(Bytes::from(format!(
                "<p>{}</p>",
                "x".repeat(if asked.query.first("long").is_some() { 5000 } else { 1 })
            )))
        }),
    };
    // Says how much came; nobody is asked.
    let door = Door {
        path: "/door",
        largest: 1000,
        admits: Arc::new(|_head| Box::pin(async { door::Pass::Common })),
        take: Arc::new(|_head, body| {
            let words = format!("{} bytes", body.len());
            Box::pin(async move { door::Receipt::text(hyper::StatusCode::OK, words) })
        }),
    };
    let site = Site {
        telemetry_path: "/metrics".to_owned(),
        snapshots: Arc::new(move || Arc::clone(&shown.lock().unwrap())),
        pages: vec![page],
        live: None,
        doors: vec![door],
        ready: Arc::new(move || is_ready.load(Ordering::Relaxed)),
        reload,
    };
    let counters = Arc::new(HttpCounters::default());
    let server = Server::new(site, web, limits, Arc::clone(&counters));
    let listeners = bind(&["127.0.0.1:0".to_owned()]).await.unwrap();
    let address = listeners[0].local_addr().unwrap();
    let stop = CancellationToken::new();
    let (running, stopping) = (server.clone(), stop.clone());
    let run = task::spawn(async move { running.run(listeners, stopping).await });
    Stage { address, counters, server, board, ready, stop, run }
}

async fn plain() -> Stage {
    stage(WebConfig::none(), Limits::default(), None).await
}

fn snapshot(generation: u64, rows: usize, until: Option<Instant>) -> Snapshot {
    let part = |check: &str| {
        let mut answer = Answer::new();
        for row in 0..rows {
            answer.set(&LEVEL, [&format!("{row:06}")], row as f64);
        }
        let labels = [("check".to_owned(), check.to_owned())].into();
        let until = until.map(Instant::into_std);
        Arc::new(Part { labels, answer, from: None, until, counting_since: SystemTime::UNIX_EPOCH })
    };
    Snapshot { generation, parts: vec![part("one"), part("two words")] }
}

impl Stage {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str, headers: &[&str]) -> Got {
        ask(self.connect().await, request, headers).await
    }

    fn show(&self, snapshot: Snapshot) {
        *self.board.lock().unwrap() = Arc::new(snapshot);
    }
}

/// Sends one request and reads to the end of the connection.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &str,
    headers: &[&str],
) -> Got {
    let lines = [&["Host: a", "Connection: close"], headers, &["", ""]].concat().join("\r\n");
    let head = format!("{request} HTTP/1.1\r\n{lines}");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .expect("an answer in time")
        .unwrap();
    Got::read(&bytes)
}

#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) head: String,
    body: Vec<u8>,
}

impl Got {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Self { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A folder of its own, gone at the end.
pub(super) struct Folder(pub(super) std::path::PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("datapulse-http-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file by rename, so that a reader sees the old one or the new one.
    pub(super) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let (new, path) = (self.0.join(".new"), self.0.join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits until a claim holds.
pub(super) async fn until(what: &str, claim: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !claim() {
        assert!(Instant::now() < end, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_scrape_gives_the_dialect_and_the_encoding_that_were_asked_for() {
    let stage = plain().await;
    let text = stage.ask("GET /metrics", &[]).await;
    assert_eq!(text.status, 200);
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(text.header("content-encoding"), None);
    assert_eq!(text.header("vary"), Some("Accept, Accept-Encoding"));
    assert_eq!(text.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(text.header("content-length"), Some(text.body.len().to_string().as_str()));
    assert!(text.text().contains("test_level{check=\"one\",row=\"000002\"} 2\n"), "{}", text.text());

    let open = stage.ask("GET /metrics", &["Accept: application/openmetrics-text"]).await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"));

    let gzip = stage.ask("GET /metrics", &["Accept-Encoding: gzip"]).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.body, crate::net::gzip::compress(&text.body));

    let head = stage.ask("HEAD /metrics", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), text.header("content-length"));
}

#[tokio::test]
async fn a_filter_shows_these_checks_only() {
    let stage = plain().await;
    let two = stage.ask("GET /metrics?check=two%20words", &[]).await;
    assert!(two.text().contains("two words") && !two.text().contains("one"));
    let both = stage.ask("GET /metrics?check=two+words&check=one", &[]).await;
    assert_eq!(both.body, stage.ask("GET /metrics", &[]).await.body);
    assert_eq!(stage.ask("GET /metrics?check=none", &[]).await.text(), "");
    assert_eq!(stage.server.0.bodies.renders(), 4, "a filtered body is not kept");
}

#[tokio::test]
async fn a_body_is_made_once_per_change_and_shared() {
    let stage = plain().await;
    let scrapes = (0..20).map(|_| stage.ask("GET /metrics", &["Accept-Encoding: gzip"]));
    let bodies = futures_util::future::join_all(scrapes).await;
    assert!(bodies.iter().all(|got| got.body == bodies[0].body));
    assert_eq!(stage.server.0.bodies.renders(), 1);
    stage.ask("GET /metrics", &[]).await;
    assert_eq!(stage.server.0.bodies.renders(), 2, "another encoding is another body");

    stage.show(snapshot(2, 4, Some(Instant::now() + Duration::from_millis(200))));
    assert!(stage.ask("GET /metrics", &[]).await.text().contains("000003"));
    stage.ask("GET /metrics", &[]).await;
    assert_eq!(stage.server.0.bodies.renders(), 3);
    sleep(Duration::from_millis(210)).await;
    assert_eq!(
        stage.ask("GET /metrics", &[]).await.text(),
        "",
        "what has expired is not shown from the cache"
    );
    assert_eq!(stage.server.0.bodies.renders(), 4);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_a_large_body_is_made_costs_one_render() {
    let stage = plain().await;
    stage.show(snapshot(2, 20_000, None));
    let snapshots = Arc::clone(&stage.server.0.site.snapshots);
    let wish =
        metrics::Wish { dialect: ::metrics::exposition::Dialect::Text, gzip: true, checks: Vec::new() };
    for _ in 0..5 {
        let asked = stage.server.0.bodies.body(&snapshots, wish.clone());
        drop(timeout(Duration::ZERO, asked).await);
    }
    assert!(stage.server.0.bodies.body(&snapshots, wish).await.is_some());
    assert_eq!(stage.server.0.bodies.renders(), 1);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_without_an_echo() {
    let stage = plain().await;
    for (request, status, allow) in [
        ("GET /", 200, None),
        ("GET /?x=%3Cscript%3E", 200, None),
        ("GET /%3Cscript%3E", 404, None),
        ("GET /<script>", 400, None),
        ("GET /metrics/", 404, None),
        ("GET //metrics", 404, None),
        ("POST /nowhere", 404, None),
        ("POST /metrics", 405, Some("GET, HEAD")),
        ("OPTIONS /", 405, Some("GET, HEAD")),
        ("DELETE /-/healthy", 405, Some("GET, HEAD")),
        ("GET /-/reload", 405, Some("POST, PUT")),
        ("<SCRIPT> /", 400, None),
    ] {
        let got = stage.ask(request, &["X-Script: <script>"]).await;
        assert_eq!((got.status, got.header("allow")), (status, allow), "{request}");
        // The policy has the word by itself.
        let head = got.head.replace(POLICY, "");
        assert!(!head.contains("cript") && !got.text().contains("cript"), "{request}: {got:?}");
    }
    let page = stage.ask("GET /?long", &["Accept-Encoding: gzip"]).await;
    assert_eq!(page.header("content-encoding"), Some("gzip"));
    assert_eq!(page.header("content-security-policy"), Some(POLICY));
}

#[tokio::test]
async fn the_lifecycle_answers_as_that_of_prometheus() {
    let stage = plain().await;
    assert_eq!(stage.ask("GET /-/healthy", &[]).await.text(), "datapulse is Healthy.\n");
    let early = stage.ask("GET /-/ready", &[]).await;
    assert_eq!((early.status, early.text()), (503, "Service Unavailable\n"));
    stage.ready.store(true, Ordering::Relaxed);
    let ready = stage.ask("GET /-/ready", &[]).await;
    assert_eq!((ready.status, ready.text()), (200, "datapulse is Ready.\n"));
    let off = stage.ask("POST /-/reload", &["Content-Length: 0"]).await;
    assert_eq!((off.status, off.text()), (403, "Lifecycle API is not enabled.\n"));
}

#[tokio::test]
async fn a_reload_tells_its_fault_and_reads_a_body_up_to_its_cap() {
    let good = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&good);
    let reload: Reload = Arc::new(move || {
        let good = answer.load(Ordering::Relaxed);
        Box::pin(async move { if good { Ok(()) } else { Err("a.yml:1:1: broken".to_owned()) } })
    });
    let limits = Limits { body: Duration::from_millis(100), ..Limits::default() };
    let stage = stage(WebConfig::none(), limits, Some(reload)).await;
    assert_eq!(stage.ask("POST /-/reload", &["Content-Length: 0"]).await.status, 200);
    assert_eq!(stage.ask("PUT /-/reload", &["Content-Length: 0"]).await.status, 200);
    good.store(false, Ordering::Relaxed);
    let bad = stage.ask("POST /-/reload", &["Content-Length: 0"]).await;
    assert_eq!((bad.status, bad.text()), (500, "failed to reload config: a.yml:1:1: broken\n"));
    assert_eq!(stage.ask("POST /-/reload", &["Content-Length: 70000"]).await.status, 413);
    assert_eq!(stage.ask("POST /-/reload", &["Content-Length: 5"]).await.status, 408, "the body never comes");
}

#[tokio::test]
async fn a_head_beyond_its_cap_is_refused() {
    let stage = plain().await;
    let filler = format!("X-Filler: {}", "x".repeat(7000));
    assert_eq!(stage.ask("GET /metrics", &[&filler]).await.status, 200);
    let filler = format!("X-Filler: {}", "x".repeat(9000));
    assert_eq!(stage.ask("GET /metrics", &[&filler]).await.status, 431);
    until("closed", || count(&stage.counters.connections) == 0).await;
}

#[tokio::test]
async fn a_slow_head_is_closed_at_its_deadline_however_it_dribbles() {
    let limits =
        Limits { head: Duration::from_millis(150), idle: Duration::from_mins(1), ..Limits::default() };
    let stage = stage(WebConfig::none(), limits, None).await;
    let began = Instant::now();
    let (mut read, mut write) = stage.connect().await.into_split();
    let dribble = task::spawn(async move {
        while write.write_all(b"GET /x").await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let mut rest = Vec::new();
    drop(timeout(Duration::from_secs(10), read.read_to_end(&mut rest)).await.expect("closed by the server"));
    assert!(began.elapsed() >= Duration::from_millis(150) && began.elapsed() < Duration::from_secs(3));
    assert!(rest.is_empty());
    drop(dribble);

    let mut silent = stage.connect().await;
    assert_eq!(
        timeout(Duration::from_secs(10), silent.read(&mut [0; 9])).await.unwrap().unwrap(),
        0,
        "silent from the start"
    );
}

#[tokio::test]
async fn a_kept_connection_may_idle_beyond_the_deadline_of_a_head_but_not_for_ever() {
    let limits =
        Limits { head: Duration::from_millis(100), idle: Duration::from_millis(400), ..Limits::default() };
    let stage = stage(WebConfig::none(), limits, None).await;
    let mut stream = stage.connect().await;
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let length = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200"));
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(count(&stage.counters.accepted), 1);
    stream.write_all(b"GET /").await.unwrap();
    let began = Instant::now();
    assert_eq!(timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_millis(350), "half a head has the deadline of a head");

    let mut stream = stage.connect().await;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut all)).await.expect("closed when idle").unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_reader_that_stops_or_dribbles_is_cut_off() {
    let (short, long) = (Duration::from_millis(300), Duration::from_mins(1));
    for (dribbles, write, response) in [(false, short, long), (true, long, short)] {
        let stage = stage(WebConfig::none(), Limits { write, response, ..Limits::default() }, None).await;
        stage.show(snapshot(2, 200_000, None));
        let mut stream = stage.connect().await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until("asked", || count(&stage.counters.requests) == 1).await;
        let reader = task::spawn(async move {
            let mut piece = [0; 2048];
            while !dribbles || matches!(stream.read(&mut piece).await, Ok(1..)) {
                sleep(Duration::from_millis(2)).await;
            }
        });
        until("cut off", || count(&stage.counters.connections) == 0).await;
        drop(reader);
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_and_counted() {
    let stage = stage(WebConfig::none(), Limits { connections: 2, ..Limits::default() }, None).await;
    let held = (stage.connect().await, stage.connect().await);
    until("two open", || count(&stage.counters.connections) == 2).await;
    let mut third = stage.connect().await;
    let closed = timeout(Duration::from_secs(10), third.read(&mut [0; 9])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!(count(&stage.counters.rejected), 1);
    drop(held);
    until("room again", || count(&stage.counters.connections) == 0).await;
    assert_eq!(stage.ask("GET /-/healthy", &[]).await.status, 200);
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_takes_nothing_new() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let reload: Reload = Arc::new(move || {
        let (begun, go) = (Arc::clone(&begins), Arc::clone(&goes));
        Box::pin(async move {
            begun.notify_one();
            go.notified().await;
            Ok(())
        })
    });
    let mut stage = stage(WebConfig::none(), Limits::default(), Some(reload)).await;
    let mut idle = stage.connect().await;
    let stream = stage.connect().await;
    let asked = task::spawn(async move { ask(stream, "POST /-/reload", &["Content-Length: 0"]).await });
    begun.notified().await;
    stage.stop.cancel();
    assert_eq!(
        timeout(Duration::from_secs(10), idle.read(&mut [0; 9])).await.unwrap().unwrap(),
        0,
        "idle ones end at once"
    );
    until("no listener", || std::net::TcpStream::connect(stage.address).is_err()).await;
    assert!(!stage.run.is_finished());
    go.notify_one();
    let mut asked = asked;
    assert_eq!(asked.join().await.unwrap().status, 200);
    timeout(Duration::from_secs(10), stage.run.join()).await.expect("drained").unwrap();
    assert_eq!(count(&stage.counters.connections), 0);
}

#[tokio::test]
async fn a_drain_ends_with_whoever_is_not_done() {
    let reload: Reload = Arc::new(|| Box::pin(std::future::pending()));
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let mut stage = stage(WebConfig::none(), limits, Some(reload)).await;
    let mut stream = stage.connect().await;
    stream.write_all(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    until("in flight", || count(&stage.counters.requests) == 1).await;
    stage.stop.cancel();
    timeout(Duration::from_secs(10), stage.run.join()).await.expect("ended").unwrap();
    until("aborted", || count(&stage.counters.connections) == 0).await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let stage = plain().await;
    let taken = stage.address.to_string();
    let error = bind(std::slice::from_ref(&taken)).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("could not listen on {taken}: Address already in use")),
        "{error}"
    );
    assert!(bind(&["nonsense".to_owned()]).await.is_err());
    assert!(bind(&[":0".to_owned()]).await.is_ok());
}

#[tokio::test]
async fn a_door_takes_whole_bodies_up_to_its_size_by_post_alone() {
    let stage = plain().await;
    let post = async |head: &str, body: &str| {
        let mut stream = stage.connect().await;
        let head = format!("POST /door HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        Got::read(&bytes)
    };
    let got = post("Content-Length: 5\r\n", "hello").await;
    assert_eq!((got.status, got.text()), (200, "5 bytes\n"));
    let got = post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!((got.status, got.text()), (200, "5 bytes\n"));
    assert_eq!(post("Content-Length: 1001\r\n", "").await.status, 413);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    assert_eq!(post("Transfer-Encoding: chunked\r\n", &chunk).await.status, 413);
    assert_eq!(stage.ask("GET /door", &[]).await.status, 405);
}
