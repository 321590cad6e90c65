//! Everything that talks to the outside: every byte limit and deadline lives here.

pub mod aws;
pub mod catalog;
pub mod gzip;
pub mod https;
pub mod names;
pub mod postgres;
pub mod redis;
mod refusals;
pub mod stream;
pub mod table;
pub mod tls;
mod words;

use crate::config::secret::Vault;
use crate::config::target::Server;
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;

impl Clients {
    /// The way to the check's own target.
    pub fn link(&self) -> postgres::Link {
        postgres::Link::new(Arc::clone(&self.target), Arc::clone(&self.vault), self.timeout, self.every)
    }

    /// The way to the nodes of a store.
    pub fn door(&self) -> redis::Door {
        redis::Door::new(Arc::clone(&self.target), Arc::clone(&self.vault), self.every)
    }
}

/// What a check gets to talk with.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Resolves user names and passwords at each connect.
    pub vault: Arc<Vault>,
    /// The check's own target.
    pub target: Arc<Server>,
    /// The other end of a replication.
    pub publisher: Option<Arc<Server>>,
    /// How long a run may take.
    pub timeout: Duration,
    /// How often the check runs: a refused login is not repeated at each run.
    pub every: Duration,
    /// Label sets a family: what a check accumulates has this limit too.
    pub limit: usize,
    /// What the check keeps over a restart; `None` without `data_dir`.
    pub state: Option<State>,
}
