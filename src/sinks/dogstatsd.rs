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
