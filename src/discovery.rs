//! Looks for the targets of one check again and again, and says what it found. On the board it stands as the check without a target.

use crate::board::{Board, Key};
use crate::check::{End, Endpoint, Problem, Reason, Report};
use crate::config::discover::{Rds, TIMEOUT, Which};
use crate::config::secret::Vault;
use crate::config::target::Server;
use crate::config::{Assignment, Template};
use crate::net::aws::{Instance, Place};
use jiff::Timestamp;
use metrics::{Answer, Handle, Metric, Unit};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until, timeout_at};

/// `datapulse_check_discovered_targets`
pub static DISCOVERED: Metric<0> = Metric::gauge(
    "datapulse.check.discovered_targets",
    Unit::None,
    &[],
    "Targets that `discover` found for the check; a failed search keeps the old ones",
);

/// What was found for a check.
#[derive(Debug)]
pub struct Found {
    /// The check without a target.
    pub key: Key,
    /// Its targets, by name.
    pub servers: Vec<Arc<Server>>,
}

/// Looks and tells, as long as its task lives. A search that fails changes nothing.
pub async fn live(template: Template, board: Arc<Board>, vault: Arc<Vault>, tell: Sender<Found>) {
    let key = template.key();
    let rds = &template.discover.rds;
    let mut next = Instant::now();
    loop {
        board.plan(&key, next);
        sleep_until(next).await;
        let began = Instant::now();
        let result = match timeout_at(began + TIMEOUT, Box::pin(search(rds, &vault, began + TIMEOUT))).await {
            Ok(result) => result,
            Err(_late) => Err(late()),
        };
        let mut servers = None;
        let result = result.map(|found| {
            let mut answer = Answer::new();
            answer.set(&DISCOVERED, [], found.len() as f64);
            servers = Some(found);
            answer
        });
        if let Err(problem) = &result {
            tracing::warn!(check = %key, reason = problem.reason.as_str(), %problem, "targets not looked for");
        }
        let ends = vec![End::new(Endpoint::Own, result)];
        board.publish(
            &key,
            Report { ended: Timestamp::now(), ended_at: Instant::now(), took: began.elapsed(), ends },
        );
        if let Some(servers) = servers {
            // Nobody takes it any more: the end is near.
            if tell.send(Found { key: key.clone(), servers }).await.is_err() {
                return;
            }
        }
        next = began + rds.every.duration();
    }
}

async fn search(rds: &Rds, vault: &Vault, deadline: Instant) -> Result<Vec<Arc<Server>>, Problem> {
    let place = Place { region: rds.region.clone(), assume_role: rds.assume_role.clone() };
    let instances = vault.aws().instances(&place, deadline).await?;
    Ok(instances
        .iter()
        .filter(|instance| fits(rds, instance))
        .map(|instance| rds.server(&instance.identifier, &instance.host, instance.port))
        .collect())
}

fn fits(rds: &Rds, instance: &Instance) -> bool {
    let role = match rds.role {
        Which::Writer => instance.writer,
        Which::Reader => !instance.writer,
        Which::All => true,
    };
    role && rds.tags.iter().all(|(key, value)| instance.tags.get(key) == Some(value))
}

/// Looks once: the check on each target that is there now. For `once` and `doctor`.
///
/// # Errors
/// As [`crate::net::aws::Aws::instances`], and `timeout`.
pub async fn find(template: &Template, vault: &Vault) -> Result<Vec<Assignment>, Problem> {
    let deadline = Instant::now() + TIMEOUT;
    let found = timeout_at(deadline, Box::pin(search(&template.discover.rds, vault, deadline))).await;
    let servers = found.unwrap_or_else(|_late| Err(late()))?;
    Ok(servers.into_iter().map(|server| template.on(server)).collect())
}

fn late() -> Problem {
    Problem::new(Reason::Timeout, format!("RDS did not name its instances within {TIMEOUT:?}"))
}

/// The families told here, for the catalogue.
pub fn families() -> Vec<Handle> {
    vec![DISCOVERED.handle()]
}
