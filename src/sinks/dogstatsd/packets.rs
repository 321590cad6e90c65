//! Lines in datagrams on a socket, within a cycle.

use super::SINK;
use super::address::Destination;
use cadence::{BufferedUdpMetricSink, BufferedUnixMetricSink, MetricSink};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Datagram sizes that Datadog's own clients use: a UDP packet that is not fragmented, and the agent's default buffer.
/// <https://docs.datadoghq.com/developers/dogstatsd/high_throughput/>
const UDP_PACKET: usize = 1432;
const UNIX_PACKET: usize = 8192;

/// UDP loses silently when the agent is not scheduled in time; 200 µs after every 32 packets let it catch up.
const UDP_BURST: u64 = 32;
const UDP_REST: Duration = Duration::from_micros(200);

/// An agent that keeps its socket open but stopped reading holds us up this long in a cycle, not longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same once the program wants to stop, for the cycle under way; the last cycle may take as long as [`LAST_CYCLE`].
/// Together with a slice for each they stay below a second.
const LAST_PATIENCE: Duration = Duration::from_millis(200);
const LAST_CYCLE: Duration = Duration::from_millis(500);
/// A write blocks this long before it looks at the clock and at the stop signal.
const SLICE: Duration = Duration::from_millis(100);

/// Lines on their way into datagrams, for one cycle. Every cycle opens its socket anew: that costs microseconds,
/// and no error or half-sent buffer of the cycle before is left.
pub(super) struct Packets {
    sink: Box<dyn MetricSink>,
    /// The same socket as the sink's.
    socket: Socket,
    /// Lines in the buffer, not yet sent.
    pending: u64,
    /// Datagrams that went out.
    gone: u64,
    /// Lines that went out.
    pub(super) sent: u64,
    /// Lines that did not.
    pub(super) dropped: u64,
    broken: Option<io::Error>,
    /// The end of the cycle, nearer once `stop` was seen.
    deadline: Instant,
    stop: CancellationToken,
    hurried: bool,
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Packets {
    /// Opens a socket; fails when nobody listens at a Unix socket. The cycle ends after `longest` at the latest.
    pub(super) fn open(to: &Destination, longest: Duration, stop: &CancellationToken) -> io::Result<Self> {
        let (sink, socket): (Box<dyn MetricSink>, _) = match to {
            Destination::Unix(path) => {
                // Only asks whether somebody listens: the datagrams are addressed by path, one by one.
                UnixDatagram::unbound()?.connect(path)?;
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(SLICE))?;
                let sink = BufferedUnixMetricSink::with_capacity(path, socket.try_clone()?, UNIX_PACKET);
                (Box::new(sink), Socket::Unix(socket))
            }
            Destination::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                // A connected socket is told that its port is closed.
                socket.connect(address)?;
                socket.set_write_timeout(Some(SLICE))?;
                let sink = BufferedUdpMetricSink::with_capacity(address, socket.try_clone()?, UDP_PACKET)
                    .map_err(io::Error::other)?;
                (Box::new(sink), Socket::Udp(socket))
            }
        };
        let last = stop.is_cancelled();
        let longest = if last { longest.min(LAST_CYCLE) } else { longest };
        Ok(Self {
            sink,
            socket,
            pending: 0,
            gone: 0,
            sent: 0,
            dropped: 0,
            broken: None,
            deadline: Instant::now() + longest,
            stop: stop.clone(),
            hurried: last,
        })
    }

    /// Takes a line. Blocks while the agent does not read, up to [`PATIENCE`].
    pub(super) fn add(&mut self, line: &str) {
        let (fits, before) = (line.len() < self.socket.packet(), self.gone);
        if !fits || self.broken.is_some() || !self.persist(|sink| sink.emit(line)) {
            self.dropped += 1;
            return;
        }
        self.pending += 1;
        if self.gone > before && self.late() {
            self.give_up(io::ErrorKind::TimedOut.into());
        }
    }

    /// Sends what is left in the buffer. After an error nothing is left.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.broken.is_none() && self.persist(|sink| sink.flush().map(|()| 0)) {
            // A closed UDP port answers after the packet has gone.
            self.broken = self.socket.late_error();
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Tries until it works or time is up. Neither a failed `emit` nor a failed `flush` has taken anything out of the buffer.
    fn persist(&mut self, write: impl Fn(&dyn MetricSink) -> io::Result<usize>) -> bool {
        let began = Instant::now();
        loop {
            let Err(error) = write(&*self.sink) else {
                self.settle();
                return true;
            };
            let busy = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            if !busy || began.elapsed() >= PATIENCE || self.late() {
                self.give_up(error);
                return false;
            }
        }
    }

    /// Looks at what a successful call has sent: `emit` sends what was in the buffer before it takes the line.
    fn settle(&mut self) {
        let packets = self.sink.stats().packets_sent;
        if packets == self.gone {
            return;
        }
        self.gone = packets;
        self.sent += self.pending;
        self.pending = 0;
        if matches!(self.socket, Socket::Udp(_)) && packets.is_multiple_of(UDP_BURST) {
            #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
            std::thread::sleep(UDP_REST);
        }
    }

    fn late(&mut self) -> bool {
        let now = Instant::now();
        if self.stop.is_cancelled() && !self.hurried {
            self.hurried = true;
            self.deadline = self.deadline.min(now + LAST_PATIENCE);
        }
        now >= self.deadline
    }

    fn give_up(&mut self, error: io::Error) {
        self.dropped += self.pending;
        self.pending = 0;
        self.broken = Some(error);
        // Dropping the sink writes its buffer once more: that must not block.
        self.socket.stop_blocking();
    }
}

impl Socket {
    /// What a datagram holds, a line with its line end at least.
    fn packet(&self) -> usize {
        match self {
            Self::Unix(_) => UNIX_PACKET,
            Self::Udp(_) => UDP_PACKET,
        }
    }

    fn late_error(&self) -> Option<io::Error> {
        match self {
            Self::Unix(_) => None,
            Self::Udp(socket) => socket.take_error().unwrap_or_else(Some),
        }
    }

    fn stop_blocking(&self) {
        let result = match self {
            Self::Unix(socket) => socket.set_nonblocking(true),
            Self::Udp(socket) => socket.set_nonblocking(true),
        };
        if let Err(error) = result {
            tracing::debug!(sink = SINK, %error, "the socket still blocks");
        }
    }
}
