//! `datapulse serve`: runs the exporter until it is told to stop.

use super::{FAILED, Refusal, Serve, complain, loaded};
use crate::board::Board;
use crate::config::Plan;
use crate::config::secret::{Environment, Vault};
use crate::http::{self, HttpCounters, Limits, Server, Site, WebConfig};
use crate::logs::road::Road;
use crate::page::{self, Sources};
use crate::run::Running;
use crate::state::DataDir;
use crate::task;
use crate::vitals::Vitals;
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Whoever asks for a reload while this many wait is told to try again.
const RELOADS_WAITING: usize = 4;
/// The whole end takes at most this long, then the process goes.
const LONGEST_END: Duration = Duration::from_secs(10);

/// A reload that somebody asked for; the answer goes back to them.
type ReloadWish = Option<oneshot::Sender<Result<(), String>>>;

/// Runs until SIGTERM or SIGINT.
pub async fn run(flags: Serve, environment: Environment, started: SystemTime) -> ExitCode {
    let exporter = match Exporter::load(flags, environment, started).await {
        Ok(exporter) => exporter,
        Err(refusal) => return refusal.told(),
    };
    let listeners = match http::bind(&exporter.flags.listen).await {
        Ok(listeners) => listeners,
        Err(error) => {
            complain(error);
            return ExitCode::from(FAILED);
        }
    };
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
        }
    }
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(format!("could not listen to signals: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    exporter.run(listeners, signals).await;
    ExitCode::SUCCESS
}

/// An exporter whose configuration has no fault; it has touched nothing yet.
pub(crate) struct Exporter {
    flags: Serve,
    plan: Plan,
    web: WebConfig,
    board: Arc<Board>,
    vault: Arc<Vault>,
    /// Ours alone as long as this process lives.
    data_dir: Option<DataDir>,
    logs: Option<Road>,
}

impl Exporter {
    /// Reads the configuration files; an error has all their faults.
    pub(crate) async fn load(
        flags: Serve,
        environment: Environment,
        started: SystemTime,
    ) -> Result<Self, Refusal> {
        let (plan, vault) = loaded(&flags.config, environment).await?;
        Self::claim(flags, plan, vault, started).map_err(Refusal::of_usage)
    }

    /// Takes what no other process may have.
    fn claim(flags: Serve, plan: Plan, vault: Arc<Vault>, started: SystemTime) -> Result<Self, String> {
        let web = flags.web_config_file.as_deref().map_or_else(|| Ok(WebConfig::none()), WebConfig::open);
        let web = web.map_err(|faults| format!("the web configuration has faults\n{faults}"))?;
        let data_dir = plan.data_dir.as_deref().map(DataDir::claim).transpose();
        let data_dir = data_dir.map_err(|(message, hint)| format!("{message}; {hint}"))?;
        let logs = plan.data_dir.as_deref().zip(plan.logs.clone()).map(|(dir, logs)| {
            Road::open(dir, logs.routes, logs.access_keys, Arc::clone(&vault), Timestamp::now())
        });
        let logs = logs.transpose()?;
        Ok(Self { flags, plan, web, board: Arc::new(Board::new(started)), vault, data_dir, logs })
    }

    /// Where the reports will hang.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Runs the checks and serves on these listeners until a signal, then ends all of it within 10 s.
    pub(crate) async fn run(self, listeners: Vec<TcpListener>, signals: Signals) {
        let Self { flags, plan, web, board, vault, data_dir, logs } = self;
        let file = flags.config.config_file.clone();
        let running = Running::start(file, plan, Arc::clone(&board), Arc::clone(&vault), logs);
        let counters = Arc::new(HttpCounters::default());
        let doors = running.intake().map(|intake| http::logs::doors(intake, &vault)).unwrap_or_default();
        let vitals = Vitals::new(
            Arc::clone(&running.reloads),
            vault,
            Arc::clone(&counters),
            running.pushes(),
            running.notify(),
        );
        let vitals = task::spawn(vitals.live(Arc::clone(&board)));
        let (wishes, inbox) = mpsc::channel(RELOADS_WAITING);
        let ready = Arc::new(AtomicBool::new(true));
        let mut site = site(&flags, &board, &running, wishes, &ready);
        site.doors.extend(doors);
        let server = Server::new(site, web, Limits::default(), counters);
        let stop = CancellationToken::new();
        let http_stop = stop.clone();
        let mut http = task::spawn(async move { server.run(listeners, http_stop).await });

        let (running, mut signals) = attend(running, inbox, signals).await;
        ready.store(false, Ordering::Relaxed);
        tracing::info!("stopping");
        let end = async {
            // The sinks flush what the checks said last; requests in flight are answered meanwhile.
            stop.cancel();
            let (joined, ()) = tokio::join!(http.join(), running.stop());
            if let Err(error) = joined {
                tracing::error!(%error, "the HTTP server ended badly");
            }
        };
        tokio::select! {
            ended = tokio::time::timeout(LONGEST_END, end) => {
                if ended.is_err() {
                    tracing::warn!("not everything ended in time");
                }
            }
            () = signals.stop() => tracing::warn!("told to stop again: ending at once"),
        }
        drop(vitals);
        // The last to go: what a check still writes at its end must meet nobody else.
        drop(data_dir);
        tracing::info!("stopped");
    }
}

/// Serves reloads until a signal to stop.
async fn attend(
    mut running: Running,
    mut inbox: mpsc::Receiver<ReloadWish>,
    mut signals: Signals,
) -> (Running, Signals) {
    loop {
        let wish = tokio::select! {
            _ = signals.terminate.recv() => return (running, signals),
            _ = signals.interrupt.recv() => return (running, signals),
            _ = signals.reload.recv() => None,
            Some(wish) = inbox.recv() => wish,
            Some(found) = running.found() => {
                running.adjust(found).await;
                continue;
            }
        };
        let result = running.reload().await;
        if let Some(answer) = wish {
            // Whoever asked may have gone; the log has the result.
            drop(answer.send(result));
        }
    }
}

fn site(
    flags: &Serve,
    board: &Arc<Board>,
    running: &Running,
    wishes: mpsc::Sender<ReloadWish>,
    ready: &Arc<AtomicBool>,
) -> Site {
    let (snapshots, ready) = (Arc::clone(board), Arc::clone(ready));
    let reload: http::Reload = Arc::new(move || {
        let wishes = wishes.clone();
        Box::pin(async move {
            let (answer, result) = oneshot::channel();
            wishes
                .try_send(Some(answer))
                .map_err(|_full| "other reloads are waiting; try again".to_owned())?;
            result.await.map_err(|_gone| "datapulse is stopping".to_owned())?
        })
    });
    let sources = Arc::new(Sources {
        board: Arc::clone(board),
        notify: running.notify(),
        prometheus: running.said(),
        intake: running.intake().cloned(),
        telemetry_path: flags.telemetry_path.clone(),
    });
    Site {
        telemetry_path: flags.telemetry_path.clone(),
        snapshots: Arc::new(move || snapshots.snapshot()),
        pages: page::pages(&sources),
        live: Some(page::live(&sources)),
        doors: running.doors(),
        ready: Arc::new(move || ready.load(Ordering::Relaxed)),
        reload: flags.enable_lifecycle.then_some(reload),
    }
}

/// What the process is told by the system.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    reload: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is told to stop.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
