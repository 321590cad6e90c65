//! The snapshot as `DogStatsD` datagrams to a Datadog agent: a thread of its own writes, a task is its clock.

mod address;
mod packets;

pub use address::Address;

use super::{Newest, PushCounters, Standing, from_one_second};
use crate::check::{Problem, Reason};
use crate::config::scalar::Interval;
use crate::task::{self, Task};
use address::Destination;
use jiff::Timestamp;
use metrics::delta::Deltas;
use metrics::dogstatsd::{Options, render};
use packets::Packets;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// The value of the label `sink`.
const SINK: &str = "dogstatsd";

/// What a stop waits for: a last look-up of the name and the thread's last cycle together. A name server that does not
/// answer or a thread that is stuck must not hold up the end of the program.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where the Datadog agent listens and how lines are written.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DogStatsD")]
pub struct Config {
    /// The agent's socket: `unix:///var/run/datadog/dsd.socket` (loses nothing) or `udp://host:port`.
    pub address: Address,
    /// How often everything is sent; the agent flushes every 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "from_one_second")]
    pub every: Interval,
    /// Put before every name but a `datadog_name`.
    #[serde(default)]
    pub prefix: String,
    /// Tags put on every line.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Labels that are not sent: each combination of label values is a custom metric that costs money.
    #[serde(default)]
    pub drop_labels: Vec<String>,
}

/// Starts the sink. What the newest snapshot already counts is taken as told, so start it before the checks.
/// The task ends within a second after `stop`, after one last cycle. Fails only when no thread can be had.
pub fn start(
    config: Config,
    newest: Newest,
    counters: Arc<PushCounters>,
    stop: CancellationToken,
) -> io::Result<Task<()>> {
    let (wishes, inbox) = sync_channel(1);
    let (running, ended) = oneshot::channel::<()>();
    let (address, every) = (config.address.clone(), config.every.duration());
    let mut sink = Sink::new(config, newest, counters, stop.clone());
    task::thread(SINK, move || {
        sink.work(&inbox);
        drop(running);
    })?;
    Ok(task::spawn(beat(address, every, wishes, ended, stop)))
}

/// Wishes for cycles, each with the address of that moment.
async fn beat(
    address: Address,
    every: Duration,
    wishes: Wishes,
    ended: oneshot::Receiver<()>,
    stop: CancellationToken,
) {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = async { ticks.tick().await; wish(&address, &wishes).await } => {}
        }
    }
    let last = async {
        wish(&address, &wishes).await;
        drop(wishes);
        // Nothing is ever sent: the thread lets go of its end when it ends.
        drop(ended.await);
    };
    if timeout(LAST_WAIT, last).await.is_err() {
        tracing::warn!(sink = SINK, "the last push was given up");
    }
}

async fn wish(address: &Address, wishes: &Wishes) {
    if wishes.try_send(address.resolve().await).is_err() {
        tracing::debug!(sink = SINK, "the cycle before is not over");
    }
}

type Wishes = SyncSender<Result<Destination, Problem>>;

/// What the thread owns.
struct Sink {
    address: Address,
    every: Duration,
    options: Options,
    newest: Newest,
    counters: Arc<PushCounters>,
    stop: CancellationToken,
    deltas: Deltas,
    standing: Standing,
}

impl Sink {
    fn new(config: Config, newest: Newest, counters: Arc<PushCounters>, stop: CancellationToken) -> Self {
        let mut deltas = Deltas::new();
        deltas.remember(&newest(), Instant::now().into_std());
        let options = Options {
            prefix: config.prefix,
            tags: config.tags.into_iter().collect(),
            drop_labels: config.drop_labels,
        };
        let every = config.every.duration();
        Self {
            address: config.address,
            every,
            options,
            newest,
            counters,
            stop,
            deltas,
            standing: Standing::new(SINK),
        }
    }

    fn work(&mut self, inbox: &Receiver<Result<Destination, Problem>>) {
        while let Ok(destination) = inbox.recv() {
            let caught = catch_unwind(AssertUnwindSafe(|| destination.and_then(|to| self.cycle(&to))));
            let panicked = |_| Err(Problem::new(Reason::Panic, "could not write the snapshot as lines"));
            match caught.unwrap_or_else(panicked) {
                Ok(()) => {
                    self.counters.succeeded(Timestamp::now());
                    self.standing.works();
                }
                Err(problem) => {
                    self.counters.add_failed();
                    self.standing.fails(&problem);
                }
            }
        }
    }

    /// Sends everything once. While nobody listens nothing is rendered, so that differences go on adding up.
    fn cycle(&mut self, to: &Destination) -> Result<(), Problem> {
        let problem = |error: io::Error| self.address.problem(error);
        let mut packets = Packets::open(to, self.every, &self.stop).map_err(problem)?;
        let snapshot = (self.newest)();
        let now = Instant::now().into_std();
        render(&snapshot, now, &self.options, &mut self.deltas, &mut |line| packets.add(line));
        let result = packets.finish();
        self.counters.add_sent(packets.sent);
        self.counters.add_dropped(packets.dropped);
        result.map_err(|error| self.address.problem(error))
    }
}

fn ten_seconds() -> Interval {
    Interval::seconds(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::stage::{board, snapshot};
    use metrics::Snapshot;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;

    /// A socket of the test's own; its path goes with it.
    struct Agent {
        path: PathBuf,
        socket: UnixDatagram,
    }

    impl Agent {
        fn at(path: PathBuf) -> Self {
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            Self { path, socket }
        }

        fn new(name: &str) -> Self {
            Self::at(socket_path(name))
        }

        /// The lines of the next datagrams, until so many have come.
        fn lines(&self, count: usize) -> Vec<String> {
            lines(count, |buffer| self.socket.recv(buffer))
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            // A test may have removed it before.
            drop(std::fs::remove_file(&self.path));
        }
    }

    fn socket_path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("datapulse-dsd-{}-{name}", std::process::id()))
    }

    fn lines(count: usize, receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut buffer = vec![0; 65536];
        while lines.len() < count {
            let length =
                receive(&mut buffer).unwrap_or_else(|error| panic!("{} lines: {error}", lines.len()));
            assert!(length <= 8192, "a datagram of {length} bytes");
            lines.extend(std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned));
        }
        lines
    }

    fn config(address: &str, every: &str) -> Config {
        Config {
            address: address.parse().unwrap(),
            every: every.parse().unwrap(),
            prefix: String::new(),
            tags: BTreeMap::from([("env".to_owned(), "test".to_owned())]),
            drop_labels: Vec::new(),
        }
    }

    fn sink(address: &str, newest: Newest) -> (Sink, Arc<PushCounters>, CancellationToken) {
        let (counters, stop) = (Arc::new(PushCounters::default()), CancellationToken::new());
        (Sink::new(config(address, "10s"), newest, Arc::clone(&counters), stop.clone()), counters, stop)
    }

    fn destination(address: &Address) -> Destination {
        match address {
            Address::Unix(path) => Destination::Unix(path.clone()),
            Address::Udp { host, port } => {
                Destination::Udp((host.parse::<std::net::IpAddr>().unwrap(), *port).into())
            }
        }
    }

    fn cycle(sink: &mut Sink) -> Result<(), Problem> {
        let to = destination(&sink.address);
        sink.cycle(&to)
    }

    fn expected(snapshot: &Snapshot) -> Vec<String> {
        let options = Options { tags: vec![("env".to_owned(), "test".to_owned())], ..Options::default() };
        let mut lines = Vec::new();
        let now = Instant::now().into_std();
        render(snapshot, now, &options, &mut Deltas::new(), &mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn every_line_of_ten_thousand_gauges_arrives_once_and_in_order() {
        let agent = Agent::new("all");
        // The board is empty first, so that the counter's whole total is told.
        let (newest, show) = board(Arc::default());
        let (mut sink, counters, _) = sink(&format!("unix://{}", agent.path.display()), newest);
        show(snapshot(10_000, 3.0));
        let wanted = expected(&snapshot(10_000, 3.0));
        assert_eq!(wanted.len(), 10_001);
        let count = wanted.len();
        let reader = task::thread("reader", move || agent.lines(count)).unwrap();
        cycle(&mut sink).unwrap();
        assert!(reader.join().unwrap() == wanted);
        assert_eq!((counters.sent(), counters.dropped(), counters.failed()), (10_001, 0, 0));
    }

    #[test]
    fn a_socket_that_was_made_anew_is_found_by_the_next_cycle_with_all_that_was_counted_meanwhile() {
        let (newest, show) = board(snapshot(1, 5.0));
        let path = socket_path("anew");
        let (mut sink, counters, _) = sink(&format!("unix://{}", path.display()), newest);
        assert_eq!(cycle(&mut sink).unwrap_err().reason, Reason::Connect, "no socket");
        let agent = Agent::at(path.clone());
        cycle(&mut sink).unwrap();
        assert_eq!(
            agent.lines(1),
            ["test.depth:0|g|#env:test,check:orders,queue:queue-0"],
            "5 was told before the start"
        );
        std::fs::remove_file(&path).unwrap();
        show(snapshot(1, 7.0));
        assert_eq!(cycle(&mut sink).unwrap_err().reason, Reason::Connect, "removed");
        let next = Agent::at(path.clone());
        show(snapshot(1, 8.0));
        cycle(&mut sink).unwrap();
        assert_eq!(next.lines(2)[1], "test.events:3|c|#env:test,check:orders");
        assert_eq!(counters.dropped(), 0);
    }

    #[test]
    fn an_agent_that_does_not_read_holds_a_cycle_up_for_a_second_and_no_line_is_counted_twice() {
        let agent = Agent::new("stalled");
        let (newest, _) = board(snapshot(100_000, 0.0));
        let (mut sink, counters, _) = sink(&format!("unix://{}", agent.path.display()), newest);
        let began = Instant::now();
        assert_eq!(cycle(&mut sink).unwrap_err().reason, Reason::Timeout);
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
        assert!(counters.sent() > 0 && counters.dropped() > 0);
        assert_eq!(counters.sent() + counters.dropped(), 100_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_stops_within_a_second_while_the_agent_does_not_read() {
        let agent = Agent::new("stop");
        let (newest, _) = board(snapshot(100_000, 0.0));
        let (counters, stop) = (Arc::new(PushCounters::default()), CancellationToken::new());
        let config = config(&format!("unix://{}", agent.path.display()), "50ms");
        let mut task = start(config, newest, Arc::clone(&counters), stop.clone()).unwrap();
        let failed = async {
            while counters.failed() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), failed).await.unwrap();
        let began = Instant::now();
        stop.cancel();
        task.join().await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_sends_by_its_own_clock_and_once_more_at_the_end() {
        let agent = Agent::new("clock");
        let (newest, show) = board(snapshot(1, 1.0));
        let (counters, stop) = (Arc::new(PushCounters::default()), CancellationToken::new());
        let config = config(&format!("unix://{}", agent.path.display()), "1h");
        let mut task = start(config, newest, Arc::clone(&counters), stop.clone()).unwrap();
        assert_eq!(counters.last_success(), None);
        show(snapshot(1, 4.0));
        stop.cancel();
        task.join().await.unwrap();
        assert_eq!(agent.lines(2)[1], "test.events:3|c|#env:test,check:orders");
        assert_eq!(counters.sent(), 2);
        assert!(counters.last_success().is_some_and(|seconds| seconds > 1_700_000_000));
    }

    #[test]
    fn udp_packets_are_not_fragmented_and_a_closed_port_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (newest, _) = board(snapshot(500, 0.0));
        let (mut sink, counters, _) = sink(&format!("udp://{}", socket.local_addr().unwrap()), newest);
        cycle(&mut sink).unwrap();
        let received = lines(500, |buffer| {
            let length = socket.recv(buffer)?;
            assert!(length <= 1432, "{length}");
            Ok(length)
        });
        let wanted = expected(&snapshot(500, 0.0));
        assert!(received == wanted[..500]);
        assert_eq!(counters.sent(), 500);
        drop(socket);
        assert_eq!(cycle(&mut sink).unwrap_err().reason, Reason::Connect);
        assert!(counters.dropped() > 0, "the second packet is refused");
    }

    #[test]
    fn a_line_that_fits_into_no_packet_is_dropped_and_the_others_go() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let stop = CancellationToken::new();
        let to = Destination::Udp(socket.local_addr().unwrap());
        let mut packets = Packets::open(&to, Duration::from_secs(10), &stop).unwrap();
        for line in ["a:1|g", &"x".repeat(1432), &"y".repeat(1431), "b:2|g"] {
            packets.add(line);
        }
        packets.finish().unwrap();
        assert_eq!((packets.sent, packets.dropped), (3, 1));
        assert_eq!(lines(3, |buffer| socket.recv(buffer)), ["a:1|g", &"y".repeat(1431), "b:2|g"]);
    }
}
