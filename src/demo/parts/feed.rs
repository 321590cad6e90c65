//! One SQL statement again and again: load for a cluster.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::keeper::{Ending, Keeper, Signal, append_command};
use super::{Cluster, Error, Result};

const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(1) };

/// Runs `statement` every `every` through one connection, and connects again 1 s after it is lost. Stops on drop.
#[derive(Debug)]
pub struct Feed(Keeper);

impl Feed {
    /// `statement` is a single one, without `;`. Its script and log are `<dir>/<name>.sql` and `.log`.
    pub fn start(
        cluster: &Cluster,
        database: &str,
        dir: &Path,
        name: &str,
        statement: &str,
        every: Duration,
    ) -> Result<Self> {
        let script = dir.join(format!("{name}.sql"));
        let text = format!("{statement} \\watch {}\n", every.as_secs_f64());
        std::fs::write(&script, text).map_err(Error::io(format!("write {}", script.display())))?;
        let mut psql = cluster.psql(database, &format!("datapulse-feed-{name}"));
        psql.args(["--output=/dev/null", "--file"]).arg(&script);
        let mut again = Command::new("sh");
        again.args(["-c", "while :; do \"$@\"; sleep 1; done", "feed"]);
        append_command(&mut again, &psql);
        Ok(Self(Keeper::start(&again, ENDING, &dir.join(format!("{name}.log")))?))
    }

    /// Pauses the load; the connection stays open.
    pub fn freeze(&self) -> Result<()> {
        self.0.freeze()
    }

    /// Ends `freeze`.
    pub fn thaw(&self) -> Result<()> {
        self.0.thaw()
    }

    /// Where psql's complaints go.
    pub fn log(&self) -> &Path {
        self.0.log()
    }
}
