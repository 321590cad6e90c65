//! The link against a server of a few lines that does one thing wrong, over a real socket.

use super::*;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server of a test does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Answers `select` with one row and everything else with `SET`.
    Good,
    /// Reads the first message of a connection and says nothing.
    Silent,
    /// Answers the first message of a connection, the request for TLS or the startup, with these bytes.
    First(&'static [u8]),
    /// Refuses the login with this code; a cleartext password `new` is accepted.
    Refuse(&'static str),
    /// Answers the first message of a connection with these bytes and closes.
    Cut(&'static [u8]),
    /// Asks for a password that we do not have.
    Password,
    /// Answers a `select` with these bytes and closes.
    Answer(&'static [u8]),
    /// Starts a row of 2 GB and sends on without end.
    Huge,
    /// Sends rows without end.
    Endless,
    /// Says one row, then an error.
    ErrorAfterRow,
    /// Says nothing to a `select`; hangs up on a cancel request.
    Hang,
    /// Says nothing to a `select` and nothing to a cancel request.
    HangCancel,
    /// Sends notices without end instead of ending the login.
    Notices,
    /// Answers, and closes after each answer as a server does that shuts down.
    Restart,
}

#[derive(Debug, Default)]
struct Count {
    live: AtomicUsize,
    most: AtomicUsize,
    logins: AtomicUsize,
    cancels: AtomicUsize,
}

/// Counts a connection for as long as it is kept.
struct Living(Arc<Count>);

impl Living {
    fn new(count: &Arc<Count>) -> Self {
        let live = count.live.fetch_add(1, Ordering::SeqCst) + 1;
        count.most.fetch_max(live, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Stage {
    link: Link,
    count: Arc<Count>,
    _server: crate::task::Task<()>,
}

async fn stage(mode: Mode, extra: &[(&str, &str)]) -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut target = serde_json::json!({
        "host": "127.0.0.1", "port": port, "user": "datapulse", "database": "orders", "tls": "disable",
    });
    for (key, value) in extra {
        target[*key] = serde_json::json!(value);
    }
    let server = Server { name: "orders-db".to_owned(), target: serde_json::from_value(target).unwrap() };
    let vault =
        Vault::new(Arc::new(|name| (name == "PASSWORD").then(|| "canary".to_owned())), Path::new("/"));
    let count = Arc::new(Count::default());
    let counted = Arc::clone(&count);
    let server_task = crate::task::spawn(async move {
        let mut sessions = Vec::new();
        loop {
            let Ok((socket, _)) = listener.accept().await else { return };
            let count = Arc::clone(&counted);
            sessions.push(crate::task::spawn(async move {
                // An error here is the client hanging up.
                serve(socket, mode, count).await.ok();
            }));
        }
    });
    let link = Link::new(Arc::new(server), Arc::new(vault), Duration::from_secs(10), Duration::ZERO);
    Stage { link, count, _server: server_task }
}

async fn serve(mut socket: TcpStream, mode: Mode, count: Arc<Count>) -> std::io::Result<()> {
    let startup = message(&mut socket, false).await?;
    if startup.starts_with(&80_877_102_u32.to_be_bytes()) {
        count.cancels.fetch_add(1, Ordering::SeqCst);
        if mode == Mode::HangCancel {
            // The client shuts its half down after the request: that is no reason to stop hanging.
            std::future::pending::<()>().await;
        }
        return Ok(());
    }
    let _living = Living::new(&count);
    count.logins.fetch_add(1, Ordering::SeqCst);
    match mode {
        Mode::Silent => hang(&mut socket).await,
        Mode::First(bytes) => {
            socket.write_all(bytes).await?;
            hang(&mut socket).await;
        }
        Mode::Cut(bytes) => socket.write_all(bytes).await?,
        Mode::Refuse(code) => {
            if startup.windows(4).any(|word| word == b"user") {
                socket.write_all(&framed(b'R', &3_u32.to_be_bytes())).await?;
                if message(&mut socket, true).await?.starts_with(b"new\0") {
                    return session(socket, Mode::Good).await;
                }
            }
            socket.write_all(&error("FATAL", code, "the words of the server")).await?;
            return Ok(());
        }
        Mode::Password => {
            socket.write_all(&framed(b'R', &3_u32.to_be_bytes())).await?;
            hang(&mut socket).await;
        }
        Mode::Notices => {
            socket.write_all(&framed(b'R', &0_u32.to_be_bytes())).await?;
            loop {
                socket.write_all(&framed(b'N', b"SNOTICE\0C00000\0Mhello\0\0")).await?;
            }
        }
        _ => return session(socket, mode).await,
    }
    Ok(())
}

async fn session(mut socket: TcpStream, mode: Mode) -> std::io::Result<()> {
    let mut hello = framed(b'R', &0_u32.to_be_bytes());
    hello.extend(framed(b'S', b"server_version\x0015.4\0"));
    hello.extend(framed(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]));
    hello.extend(framed(b'Z', b"I"));
    socket.write_all(&hello).await?;
    loop {
        let question = message(&mut socket, true).await?;
        if question.is_empty() {
            return Ok(());
        }
        if question.starts_with(b"set ") {
            socket.write_all(&[framed(b'C', b"SET\0"), framed(b'Z', b"I")].concat()).await?;
            continue;
        }
        match mode {
            Mode::Answer(bytes) => {
                socket.write_all(bytes).await?;
                return Ok(());
            }
            Mode::Huge => {
                socket.write_all(&columns()).await?;
                socket.write_all(&[b'D', 0x7f, 0xff, 0xff, 0xff, 0, 1, 0x7f, 0xff, 0xff, 0xf0]).await?;
                loop {
                    socket.write_all(&[b'0'; 8192]).await?;
                }
            }
            Mode::Endless => {
                socket.write_all(&columns()).await?;
                loop {
                    socket.write_all(&row("x").repeat(1000)).await?;
                }
            }
            Mode::ErrorAfterRow => {
                let end = error("ERROR", "42501", "permission denied for table canary_table");
                socket.write_all(&[columns(), row("x"), end, framed(b'Z', b"I")].concat()).await?;
            }
            Mode::Hang | Mode::HangCancel => hang(&mut socket).await,
            _ => socket.write_all(&good()).await?,
        }
        if mode == Mode::Restart {
            let end = error("FATAL", "57P01", "terminating connection due to administrator command");
            return socket.write_all(&end).await;
        }
    }
}

/// Until the other end hangs up.
async fn hang(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// The next message without its head; empty at the end of the connection or at Terminate.
async fn message(socket: &mut TcpStream, tagged: bool) -> std::io::Result<Vec<u8>> {
    if tagged && socket.read_u8().await? == b'X' {
        return Ok(Vec::new());
    }
    let mut body = vec![0; socket.read_u32().await? as usize - 4];
    socket.read_exact(&mut body).await?;
    Ok(body)
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn error(severity: &str, code: &str, words: &str) -> Vec<u8> {
    framed(b'E', format!("S{severity}\0V{severity}\0C{code}\0M{words}\0\0").as_bytes())
}

fn columns() -> Vec<u8> {
    framed(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")
}

fn row(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    framed(b'D', &[&[0, 1], length.to_be_bytes().as_slice(), value.as_bytes()].concat())
}

fn good() -> Vec<u8> {
    [columns(), row("fine"), framed(b'C', b"SELECT 1\0"), framed(b'Z', b"I")].concat()
}

fn soon(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

/// Asks the server of `mode` and wants this reason, these words, an end in good time, and no connection left.
async fn check(mode: Mode, extra: &[(&str, &str)], reason: Reason, words: &[&str]) {
    let mut stage = stage(mode, extra).await;
    let deadline = match reason {
        Reason::Timeout | Reason::ConnectTimeout => soon(400),
        _ => soon(20_000),
    };
    let problem = stage.link.ask("select secret_column from canary", deadline).await.unwrap_err();
    let text = problem.to_string();
    assert_eq!(problem.reason, reason, "{mode:?}: {text}");
    let late = Instant::now().saturating_duration_since(deadline);
    assert!(late < Duration::from_secs(1), "{mode:?} ended {late:?} after its deadline");
    for word in words.iter().chain(&["orders-db"]) {
        assert!(text.contains(word), "{mode:?}: no {word} in: {text}");
    }
    for secret in ["canary\"", "secret_column", "select"] {
        assert!(!text.contains(secret), "{mode:?}: {secret} in: {text}");
    }
    stage.link.give_up().await.ok();
    poll(|| stage.count.live.load(Ordering::SeqCst) == 0).await;
    assert!(stage.count.most.load(Ordering::SeqCst) <= 1, "{mode:?}");
}

async fn poll(done: impl Fn() -> bool) {
    let end = soon(5000);
    while !done() {
        assert!(Instant::now() < end, "still not after 5 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_fault_before_the_session_has_its_reason() {
    let tls = [("tls", "require")];
    let password = [("password", "env:PASSWORD")];
    check(Mode::Silent, &[], Reason::ConnectTimeout, &["could not log in", "did not end in time"]).await;
    check(Mode::Silent, &tls, Reason::ConnectTimeout, &[]).await;
    check(Mode::First(b"N"), &tls, Reason::Tls, &["tls: disable"]).await;
    check(Mode::First(b"Z"), &tls, Reason::Tls, &[]).await;
    check(Mode::First(b"Sgarbage garbage garbage"), &tls, Reason::Tls, &[]).await;
    check(Mode::Cut(b"S"), &tls, Reason::Io, &[]).await;
    check(Mode::Cut(b""), &tls, Reason::Io, &[]).await;
    check(Mode::Cut(b""), &[], Reason::Io, &["closed the connection"]).await;
    check(Mode::First(b"HTTP/1.1 400 Bad Request\r\n\r\n"), &[], Reason::ConnectTimeout, &[]).await;
    check(Mode::First(b"R\0\0\0\x01"), &[], Reason::Protocol, &["PostgreSQL"]).await;
    check(Mode::First(b"R\0\0\0\x08\0\0\0\x07"), &[], Reason::Auth, &["scram"]).await;
    check(Mode::Password, &[], Reason::Auth, &["password:"]).await;
    check(Mode::Notices, &[], Reason::TooLarge, &[]).await;
    for (code, reason) in [
        ("28P01", Reason::Auth),
        ("28000", Reason::Auth),
        ("57P03", Reason::Starting),
        ("53300", Reason::TooMany),
        ("3D000", Reason::Query),
    ] {
        check(Mode::Refuse(code), &password, reason, &["could not log in", "the words of the server", code])
            .await;
    }
    check(Mode::Good, &[("password", "env:MISSING")], Reason::Secret, &[]).await;
}

#[tokio::test]
async fn each_fault_of_an_answer_has_its_reason() {
    check(Mode::Hang, &[], Reason::Timeout, &["in time"]).await;
    check(Mode::Huge, &[], Reason::TooLarge, &["16777216"]).await;
    check(Mode::Endless, &[], Reason::RowLimit, &["100000"]).await;
    check(Mode::ErrorAfterRow, &[], Reason::Permission, &["could not read", "(42501)", "grant"]).await;
    check(Mode::Answer(b""), &[], Reason::Io, &["closed the connection"]).await;
    check(Mode::Answer(b"T\0\0\0\x20half"), &[], Reason::Io, &["in the middle of a message"]).await;
    check(Mode::Answer(b"C\0\0\0\x01garbage"), &[], Reason::Protocol, &[]).await;
    check(Mode::Answer(b"?\0\0\0\x05x"), &[], Reason::Protocol, &[]).await;
    let fatal: &'static [u8] =
        Box::leak(error("FATAL", "57P01", "terminating connection").into_boxed_slice());
    check(Mode::Answer(fatal), &[], Reason::Shutdown, &["(57P01)"]).await;
}

#[tokio::test]
async fn a_good_link_logs_in_once_and_asks_again_and_again() {
    let mut stage = stage(Mode::Good, &[]).await;
    for _ in 0..3 {
        let tables = stage.link.ask("select 1", soon(2000)).await.unwrap();
        let names: Vec<_> =
            tables.iter().flat_map(Table::rows).map(|row| row.text("name").unwrap()).collect();
        assert_eq!(names, [Some("fine")]);
    }
    let session = stage.link.session(soon(2000)).await.unwrap();
    assert_eq!((session.number, session.version_num), (1, 150_004));
    assert_eq!(stage.count.logins.load(Ordering::SeqCst), 1);
    assert!(stage.link.ask("set x = 1", soon(2000)).await.unwrap().is_empty(), "no rows, no table");
    drop(stage.link);
    poll(|| stage.count.live.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_session_that_ended_while_idle_is_replaced_within_the_next_question() {
    let mut stage = stage(Mode::Restart, &[]).await;
    for number in 1..=3 {
        assert_eq!(stage.link.ask("select 1", soon(2000)).await.unwrap().len(), 1);
        assert_eq!(stage.link.ready.as_ref().unwrap().session.number, number);
        poll(|| stage.link.ready.as_ref().unwrap().client.is_closed()).await;
    }
    assert_eq!(stage.count.most.load(Ordering::SeqCst), 1);
}

/// A future that is dropped while the server is silent, as the actor does after its grace.
async fn drop_midway(link: &mut Link) {
    let question = link.ask("select 1", soon(60_000));
    assert!(tokio::time::timeout(Duration::from_millis(200), question).await.is_err());
}

#[tokio::test]
async fn a_dropped_question_is_cancelled_and_its_connection_never_used_again() {
    let mut stage = stage(Mode::Hang, &[]).await;
    drop_midway(&mut stage.link).await;
    assert!(stage.link.ready.is_none());
    stage.link.give_up().await.unwrap();
    assert_eq!(stage.count.cancels.load(Ordering::SeqCst), 1);
    poll(|| stage.count.live.load(Ordering::SeqCst) == 0).await;
    stage.link.give_up().await.unwrap();
    assert_eq!(stage.count.cancels.load(Ordering::SeqCst), 1, "nothing is left to cancel");
}

#[tokio::test]
async fn without_give_up_the_next_question_cancels_first() {
    let mut stage = stage(Mode::Hang, &[]).await;
    for _ in 0..3 {
        drop_midway(&mut stage.link).await;
    }
    assert_eq!(stage.count.cancels.load(Ordering::SeqCst), 2);
    assert_eq!(stage.count.most.load(Ordering::SeqCst), 1, "never two sessions");
}

#[tokio::test]
async fn a_cancel_that_hangs_ends_by_itself_and_says_so() {
    let mut stage = stage(Mode::HangCancel, &[]).await;
    drop_midway(&mut stage.link).await;
    let begin = Instant::now();
    let problem = stage.link.give_up().await.unwrap_err();
    assert_eq!(problem.reason, Reason::CancelTimeout);
    assert!(begin.elapsed() < CANCEL_TIMEOUT + Duration::from_millis(500));
    assert!(problem.to_string().contains("orders-db"), "{problem}");
    poll(|| stage.count.live.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_dropped_login_leaves_no_connection() {
    let mut stage = stage(Mode::Silent, &[]).await;
    drop_midway(&mut stage.link).await;
    poll(|| stage.count.live.load(Ordering::SeqCst) == 0).await;
    stage.link.give_up().await.unwrap();
    assert_eq!(stage.count.cancels.load(Ordering::SeqCst), 0, "nothing was asked");
}

#[tokio::test]
async fn a_rotated_password_is_read_again_after_a_refusal_and_tried_once() {
    let path = std::env::temp_dir().join(format!("datapulse-rotated-{}", std::process::id()));
    std::fs::write(&path, "old").unwrap();
    let reference = format!("file:{}", path.display());
    let mut stage = stage(Mode::Refuse("28P01"), &[("password", &reference)]).await;
    assert_eq!(stage.link.ask("select 1", soon(2000)).await.unwrap_err().reason, Reason::Auth);
    assert_eq!(
        stage.count.logins.load(Ordering::SeqCst),
        1,
        "an old secret is not tried twice: accounts lock"
    );
    std::fs::write(&path, "new").unwrap();
    // The vault reads again a minute after its last read.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(stage.link.ask("select 1", soon(2000)).await.unwrap().len(), 1);
    assert_eq!(stage.count.logins.load(Ordering::SeqCst), 3);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn questions_can_be_asked_from_any_thread() {
    fn sendable<F: Future + Send>(_: impl FnOnce(&'static mut Link) -> F) {}
    sendable(|link| link.ask("", soon(0)));
    sendable(Link::give_up);
    sendable(|link| link.session(soon(0)));
}
