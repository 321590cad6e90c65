//! Private real servers on 127.0.0.1 for the demo and for the tests: PostgreSQL, Redis, Valkey, Prometheus, Alertmanager.
//!
//! Everything here blocks; asynchronous callers go through `task.rs`. Whatever is started runs under a keeper and ends
//! with this process, also when it is killed with SIGKILL.

mod account;
mod binaries;
mod exchange;
mod feed;
mod keeper;
mod mariadb;
mod monitoring;
mod postgres;
mod redis;
pub mod redshift;
mod stage;

pub use binaries::{Binaries, find_postgres};
pub use exchange::{Reply, get, post, post_within};
pub use feed::Feed;
pub use keeper::{Ending, Keeper, Signal};
pub use mariadb::MariaDb;
pub use monitoring::{Alertmanager, Prometheus, Sample};
pub use postgres::{Certificate, Cluster, Mode, Settings};
pub use redis::{Store, StoreCluster, StoreServer};
pub use stage::{Stage, sweep};

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// How long a part may take until it answers. Cold start of the slowest (`initdb` apart) takes under 2 s.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How many lines of a part's log an error carries.
const LOG_LINES: usize = 40;
/// Lowest port that is handed out.
const FIRST_PORT: u16 = 10_000;

/// Why a part could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not on this machine.
    #[error("{tool} is not installed (looked in {searched}); install it with `make setup`")]
    Missing {
        /// The program, with its version where that matters.
        tool: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The operating system refused something.
    #[error("could not {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A program or a server refused something, or did not answer in time.
    #[error("could not {what}: {why}")]
    Refused {
        /// What was tried.
        what: String,
        /// Its own words, or the last lines of its log.
        why: String,
    },
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }
}

/// Asks every 25 ms until there is an answer; `None` when `limit` is over. The first error ends it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place here that waits: real servers keep real time, and no runtime is at hand"
)]
pub fn wait_for<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let start = std::time::Instant::now();
    loop {
        let answer = ask()?;
        if answer.is_some() || start.elapsed() >= limit {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A port on 127.0.0.1 that nobody listens on. It lies below the ports of outgoing connections: on one of those a client
/// that calls a stopped server again and again can end up connected to itself, and the server can then not come back.
pub fn free_port() -> Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    let ports = u64::from(end.max(FIRST_PORT + 1) - FIRST_PORT);
    for _ in 0..100 {
        let port = FIRST_PORT + u16::try_from(random()? % ports).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("find a free port"))?;
    Ok(listener.local_addr().map_err(Error::io("find a free port"))?.port())
}

/// 32 random hexadecimal digits, for a password.
pub fn random_word() -> Result<String> {
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let source = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    source.map_err(Error::io("read /dev/urandom"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The end of a log, for error texts.
fn log_tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("the last lines of {}:\n{}", log.display(), tail.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_below_those_of_outgoing_connections() {
        let port = free_port().unwrap();
        TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!((FIRST_PORT..32_768).contains(&port), "{port}");
    }

    #[test]
    fn waiting_ends_with_nothing_when_the_limit_is_over() {
        let mut asked = 0;
        let answer = wait_for(Duration::from_millis(60), || {
            asked += 1;
            Ok(None::<()>)
        });
        assert!(answer.unwrap().is_none());
        assert!(asked >= 2);
    }
}
