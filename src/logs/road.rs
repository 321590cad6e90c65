//! The parts of the road together: opened over the ledger, shown on the board, closed after the last delivery.

use super::intake::Intake;
use super::pull::{self, Progress, Pull};
use super::quarantine::Quarantine;
use super::report;
use super::routes::Routes;
use super::scribe::{Limits, Scribe};
use super::series::Telling;
use crate::board::Board;
use crate::config::secret::{Reference, Vault};
use crate::journal::disk::{Disk, RealDisk};
use crate::task::{self, Task};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The scribe's last commit ends before this.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// All that takes logs.
pub struct Road {
    intake: Arc<Intake>,
    thread: JoinHandle<()>,
    report: Option<Task<()>>,
    pulls: Vec<Task<()>>,
}

impl Road {
    /// Locks the archives, recovers what a process before left behind, and starts the scribe. Blocks.
    ///
    /// # Errors
    /// In words: the ledger or an archive that cannot be used, and why.
    pub fn open(
        data_dir: &Path,
        routes: Routes,
        access_keys: Vec<Reference>,
        vault: Arc<Vault>,
        now: Timestamp,
    ) -> Result<Self, String> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dir = data_dir.join("logs");
        let opened = Scribe::start(&disk, &dir, routes.archives(), Limits::default(), now);
        let (scribe, thread) = opened.map_err(|error| format!("logs: {error}"))?;
        if scribe.damaged_segments() > 0 {
            let segments = scribe.damaged_segments();
            tracing::error!(segments, dir = %dir.display(), "damaged parts of the ledger of logs were put aside");
        }
        let intake = Intake::new(scribe, Quarantine::new(&dir), vault, routes, access_keys, now);
        Ok(Self { intake: Arc::new(intake), thread, report: None, pulls: Vec::new() })
    }

    /// Shows what the logs say, now and from now on.
    pub fn show(&mut self, board: &Arc<Board>) {
        let mut telling = Telling::default();
        report::show(&self.intake, board, &mut telling, Timestamp::now());
        let live = report::live(Arc::clone(&self.intake), Arc::clone(board), telling);
        self.report = Some(task::spawn(live));
    }

    /// Ends all pulls and starts these.
    pub fn pull(&mut self, pulls: &[Pull], vault: &Arc<Vault>) {
        let progress: Vec<Arc<Progress>> = pulls.iter().map(|pull| Arc::new(Progress::new(pull))).collect();
        self.pulls = pulls
            .iter()
            .zip(&progress)
            .map(|(pull, progress)| {
                let (intake, vault) = (Arc::clone(&self.intake), Arc::clone(vault));
                task::spawn(pull::live(pull.clone(), intake, vault, Arc::clone(progress)))
            })
            .collect();
        self.intake.watch(progress);
    }

    /// What takes deliveries.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Ends it, after the doors are closed: the scribe goes when nobody can send to it any more.
    pub async fn close(self) {
        let Self { intake, thread, report, pulls } = self;
        drop((intake, report, pulls));
        let joined = task::blocking(move || thread.join());
        if tokio::time::timeout(LAST_COMMIT, joined).await.is_err() {
            tracing::warn!("the scribe did not end in time; what it had not committed was not confirmed");
        }
    }
}
