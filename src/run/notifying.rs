//! The desk and its doors: started, changed and ended with the plan.

use super::{Running, join};
use crate::alerts::config::Config;
use crate::alerts::counters::{Counters, Delivered};
use crate::alerts::office::{self, Setup};
use crate::alerts::{LARGEST_BODY, Notice, alertmanager, datadog};
use crate::http::door::{Door, Pass, Receipt, Take};
use crate::journal::disk::{Disk, RealDisk};
use crate::task::Task;
use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Calls to Slack that are under way have a little less.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// What is kept over reloads.
#[derive(Default)]
pub(super) struct Notifying {
    counters: Arc<Counters>,
    /// Whether the plan wants alerts to be taken: then a sender is never told that nobody does.
    wanted: Arc<AtomicBool>,
    /// Where the doors hand in; empty while the desk does not run.
    door: Arc<ArcSwapOption<office::Door>>,
    running: Option<(Task<()>, CancellationToken, Arc<ArcSwap<Config>>)>,
}

/// Reads a delivery.
type Read = fn(&[u8], Timestamp) -> Result<Notice, String>;

impl Notifying {
    /// Ends the desk; what it still has to tell is told after the next start.
    pub(super) async fn stop(&mut self) {
        self.door.store(None);
        if let Some((task, stop, _)) = self.running.take() {
            stop.cancel();
            join("alerts", task, LAST_CALLS).await;
            self.counters.configure(false);
        }
    }
}

impl Running {
    /// What was told to Slack, for the instruments and the page.
    pub fn notify(&self) -> Arc<Counters> {
        Arc::clone(&self.notifying.counters)
    }

    /// The doors for alerts.
    pub fn doors(&self) -> Vec<Door> {
        let door = |path, read| Door {
            path,
            largest: LARGEST_BODY,
            admits: Arc::new(|_head| Box::pin(async { Pass::Common })),
            take: self.take(read),
        };
        vec![door("/alerts/alertmanager", alertmanager::read), door("/alerts/datadog", datadog::read)]
    }

    fn take(&self, read: Read) -> Take {
        let (door, counters) = (Arc::clone(&self.notifying.door), Arc::clone(&self.notifying.counters));
        let wanted = Arc::clone(&self.notifying.wanted);
        Arc::new(move |head: HeaderMap, body| {
            let (door, counters) = (door.load_full(), Arc::clone(&counters));
            let wanted = wanted.load(Ordering::Relaxed);
            Box::pin(async move {
                if head.contains_key(CONTENT_ENCODING) {
                    let words = "send the body as it is, not compressed";
                    return Receipt::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
                }
                if door.is_none() && wanted {
                    counters.delivered(Delivered::Failed);
                    let words = "the desk does not run; come again";
                    return Receipt::text(StatusCode::SERVICE_UNAVAILABLE, words);
                }
                let Some(door) = door else {
                    let words = "no alerts are taken: the configuration has no `alerts`";
                    return Receipt::text(StatusCode::NOT_FOUND, words);
                };
                // Senders drop what is answered 4xx and repeat what is answered 5xx.
                let taken = match read(&body, Timestamp::now()) {
                    Ok(notice) => Ok(door.deliver(notice).await),
                    Err(why) => Err(why),
                };
                let (result, status, words) = match taken {
                    Err(why) => (Delivered::Refused, StatusCode::BAD_REQUEST, why),
                    Ok(true) => (Delivered::Taken, StatusCode::OK, "taken".to_owned()),
                    Ok(false) => {
                        let words = "could not be written down; come again".to_owned();
                        (Delivered::Failed, StatusCode::SERVICE_UNAVAILABLE, words)
                    }
                };
                if result == Delivered::Refused {
                    tracing::warn!(why = words, "a delivery of alerts was refused");
                }
                counters.delivered(result);
                Receipt::text(status, words)
            })
        })
    }

    /// Starts the desk, if the plan wants it.
    pub(super) fn start_notifying(&mut self) {
        let (Some(config), Some(dir)) = (&self.plan.alerts, &self.plan.data_dir) else { return };
        self.notifying.wanted.store(true, Ordering::Relaxed);
        let config = Arc::new(ArcSwap::from_pointee(config.clone()));
        let setup = Setup {
            config: Arc::clone(&config),
            board: Arc::clone(&self.board),
            vault: Arc::clone(&self.vault),
            counters: Arc::clone(&self.notifying.counters),
        };
        let (disk, stop): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), CancellationToken::new());
        match office::start(setup, &disk, &dir.join("alerts"), stop.clone()) {
            Ok((door, task)) => {
                self.notifying.counters.configure(true);
                self.notifying.door.store(Some(Arc::new(door)));
                self.notifying.running = Some((task, stop, config));
            }
            // Senders are told to come again, and Prometheus sees that the instruments are missing.
            Err(error) => tracing::error!(%error, "alerts are not taken"),
        }
    }

    /// Follows a plan that has changed.
    pub(super) async fn change_notifying(&mut self) {
        match (&self.plan.alerts, &self.notifying.running) {
            (Some(new), Some((_, _, config))) => {
                if **config.load() != *new {
                    config.store(Arc::new(new.clone()));
                }
            }
            (Some(_), None) => self.start_notifying(),
            (None, _) => {
                self.notifying.wanted.store(false, Ordering::Relaxed);
                self.notifying.stop().await;
            }
        }
    }
}
