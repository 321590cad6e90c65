//! Connections that cannot hang and streams that cannot flood: one deadline around name, address and handshake, and a byte limit on what comes in.

use super::names::look_up;
use crate::check::{Problem, Reason};
use socket2::{SockRef, TcpKeepalive};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Without probes a peer that lost its power looks idle for two hours; AWS load balancers forget a quiet connection after 350 s and say nothing.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Where the user timeout is not known, the second unanswered probe ends the connection.
const KEEPALIVE_RETRIES: u32 = 2;
/// Without it the kernel repeats a request into a dead network for about 15 minutes, and the check hangs with it.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds the host and connects to the first of its addresses that answers, all before `deadline`.
///
/// # Errors
/// `dns` when the name gives no address, `connect` when every address refuses, `connect_timeout` when time is up.
pub async fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Problem> {
    let unknown = || Problem::new(Reason::Dns, format!("could not find the host {host}"));
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, look_up(host, port)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return Err(unknown()
                .because(error)
                .hint("check the host name and the name servers of this machine"));
        }
        Err(_) => {
            return Err(unknown()
                .because("the name server did not answer in time")
                .hint("check the name servers of this machine"));
        }
    };
    let mut refusals = Vec::new();
    let mut reason = Reason::ConnectTimeout;
    for (tried, address) in addresses.iter().enumerate() {
        // Each address has its share of the time: a dead first one must not use up what the second one needs.
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout_at(Instant::now() + share, open(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                reason = Reason::Connect;
                refusals.push(format!("{}: {error}", address.ip()));
            }
            Err(_) => refusals.push(format!("{}: no answer in time", address.ip())),
        }
    }
    if refusals.is_empty() {
        return Err(unknown().because("the name has no address"));
    }
    let hint = match reason {
        Reason::Connect => "is the server running, and is this its port",
        _ => "something on the way drops the packets: check firewall, security group and route",
    };
    Err(Problem::new(reason, format!("could not connect to {host}:{port}"))
        .because(refusals.join("; "))
        .hint(hint))
}

/// Connects to one address. Dead peers are noticed within about 10 s, whether we wait for them or send to them.
pub async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let probes =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

/// A second handle of the same connection: what is closed through one is still seen through the other.
pub fn twin(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(SockRef::from(stream).try_clone()?.into())
}

/// How many bytes may still come in, shared by a [`Capped`] stream and its owner, who starts the count anew for each question.
#[derive(Clone, Debug)]
pub struct Limit(Arc<Count>);

#[derive(Debug)]
struct Count {
    seen: AtomicU64,
    most: AtomicU64,
}

impl Limit {
    /// At most `most` bytes.
    pub fn new(most: u64) -> Self {
        Self(Arc::new(Count { seen: AtomicU64::new(0), most: AtomicU64::new(most) }))
    }

    /// From now on at most `most` bytes more.
    pub fn reset(&self, most: u64) {
        self.0.most.store(most, Ordering::Relaxed);
        self.0.seen.store(0, Ordering::Relaxed);
    }

    /// Whether more came in than allowed: tells this end of a connection from all others.
    pub fn exceeded(&self) -> bool {
        self.0.seen.load(Ordering::Relaxed) > self.0.most.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.0.seen.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The error of a read beyond the limit.
#[derive(Debug)]
pub struct TooLarge {
    /// The limit, in bytes.
    pub most: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} bytes came in", self.most)
    }
}

impl Error for TooLarge {}

/// A stream whose reads fail with [`TooLarge`] once its [`Limit`] is used up; it stays failed until the limit is reset.
#[derive(Debug)]
pub struct Capped<S> {
    inner: S,
    limit: Limit,
}

impl<S> Capped<S> {
    /// Puts a limit on a stream.
    pub fn new(inner: S, limit: Limit) -> Self {
        Self { inner, limit }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.limit.exceeded() {
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            self.limit.count(buf.filled().len() - before);
        }
        if self.limit.exceeded() {
            let most = self.limit.0.most.load(Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other(TooLarge { most })));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn reads_fail_beyond_the_limit_and_go_on_after_a_reset() {
        let limit = Limit::new(4);
        let mut stream = Capped::new(&b"abcdefgh"[..], limit.clone());
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        assert!(!limit.exceeded());
        let error = stream.read(&mut four[..1]).await.unwrap_err();
        assert!(matches!(error.get_ref(), Some(inner) if inner.is::<TooLarge>()), "{error}");
        assert!(limit.exceeded());
        assert!(stream.read(&mut four).await.is_err(), "it stays failed");
        limit.reset(3);
        stream.read_exact(&mut four[..3]).await.unwrap();
        assert_eq!(&four[..3], b"fgh");
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_with_its_address() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let problem = connect("127.0.0.1", port, soon()).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Connect);
        assert!(
            problem.to_string().starts_with(&format!("could not connect to 127.0.0.1:{port}: 127.0.0.1: ")),
            "{problem}"
        );
    }

    #[tokio::test]
    async fn a_name_without_address_is_a_dns_problem() {
        let problem = connect("no host has this name", 1, soon()).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Dns);
        assert!(
            problem.to_string().starts_with("could not find the host no host has this name: "),
            "{problem}"
        );
    }

    #[tokio::test]
    async fn a_connection_probes_its_peer_and_does_not_wait_to_send() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port(), soon()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_twin_sees_the_end_of_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = open(listener.local_addr().unwrap()).await.unwrap();
        let mut twin = twin(&stream).unwrap();
        drop(stream);
        drop(listener.accept().await.unwrap());
        assert_eq!(twin.read(&mut [0]).await.unwrap(), 0);
    }
}
