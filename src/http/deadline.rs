//! A stream under deadlines, and the body that goes through it: no client can hold a connection or a body for long.
//!
//! hyper's own header timeout also runs while a kept connection is idle, and nothing in it bounds a slow reader.

use super::Limits;
use super::live::Stream;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What is given to the socket at once: the write deadline is for one piece.
const PIECE: usize = 64 * 1024;

/// How many requests of a connection have begun and ended: tells its stream whether it is idle.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    begun: AtomicU64,
    ended: AtomicU64,
    /// The connection, when it waited to read during a request: it has to look again to start the clock of the next one.
    waiting: AtomicWaker,
}

impl Pulse {
    /// A request's head is complete.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.waiting.wake();
    }

    fn busy(&self) -> bool {
        self.begun.load(Ordering::Relaxed) != self.ended.load(Ordering::Relaxed)
    }
}

/// A stream that fails with `TimedOut` when a head, the next request, or the reading of a response takes too long.
pub(super) struct Deadlines<S> {
    inner: S,
    limits: Limits,
    pulse: Arc<Pulse>,
    /// Requests that had ended when `reading` was started.
    turn: u64,
    /// Whether bytes of the next head have come. A new connection owes one at once.
    head: bool,
    /// Whether bytes came while a request was being answered: they may be the start of the next head.
    early: bool,
    reading: Timer,
    writing: Timer,
}

impl<S> Deadlines<S> {
    /// Guards a new connection.
    pub(super) fn new(inner: S, limits: Limits, pulse: Arc<Pulse>) -> Self {
        let (reading, writing) = (Timer::default(), Timer::default());
        Self { inner, limits, pulse, turn: 0, head: true, early: false, reading, writing }
    }

    /// Notices that requests have ended since the last look.
    fn turn(&mut self) {
        let ended = self.pulse.ended.load(Ordering::Relaxed);
        if ended != self.turn {
            self.turn = ended;
            self.head = std::mem::take(&mut self.early);
            self.reading.stop();
        }
    }

    fn received(&mut self) {
        if self.pulse.busy() {
            self.early = true;
            return;
        }
        self.turn();
        if !self.head {
            self.head = true;
            self.reading.stop();
        }
    }

    fn waits_to_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pulse.busy() {
            self.reading.stop();
            self.pulse.waiting.register(cx.waker());
            return Poll::Pending;
        }
        self.turn();
        let limit = if self.head { self.limits.head } else { self.limits.idle };
        self.reading.poll(limit, cx)
    }

    /// Passes a write on; what does not become ready by the deadline fails. Only a complete flush resets it, so that
    /// reading byte by byte does not help.
    fn write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                self.writing.poll(self.limits.write, cx).map(|result| result.and_then(|()| Err(late())))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before {
                    self.received();
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.waits_to_read(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if result.is_ready() {
            self.writing.stop();
        }
        self.write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.write(cx, result)
    }
}

/// A deadline that is started by the first wait.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn stop(&mut self) {
        self.0 = None;
    }

    /// Ready, with an error, when `limit` has passed since the first call after a stop.
    fn poll(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(cx).map(|()| Err(late()))
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client took too long")
}

/// A response's bytes, shared with the cache, given out in pieces until the response's deadline.
pub(super) struct Pieces {
    rest: Bytes,
    /// What comes after that, of a page that goes on.
    more: Option<Box<Stream>>,
    until: Instant,
    pulse: Arc<Pulse>,
}

impl Pieces {
    /// The body of the request that `pulse` saw begin; dropping it ends that request.
    pub(super) fn new(bytes: Bytes, until: Instant, pulse: Arc<Pulse>) -> Self {
        Self { rest: bytes, more: None, until, pulse }
    }

    /// A body that goes on.
    pub(super) fn live(stream: Stream, pulse: Arc<Pulse>) -> Self {
        Self { rest: Bytes::new(), more: Some(Box::new(stream)), until: Instant::now(), pulse }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(stream) = &mut self.more {
            return stream.poll(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if Instant::now() > self.until {
            return Poll::Ready(Some(Err(late())));
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.more.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.more.is_some() { SizeHint::default() } else { SizeHint::with_exact(self.rest.len() as u64) }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.pulse.end();
    }
}
