//! MariaDB with its slow query log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::keeper::{Ending, Keeper, Signal};
use super::monitoring::installed;
use super::{Error, Result, START_LIMIT, log_tail, wait_for};

const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(5) };

/// A private server without network, whose every statement goes to the slow query log. It stops on drop.
#[derive(Debug)]
pub struct MariaDb {
    directory: PathBuf,
    keeper: Keeper,
}

impl MariaDb {
    /// Makes a data directory below `directory` and starts a server on it; `arguments` are added to its command line.
    pub fn start(directory: &Path, arguments: &[&str]) -> Result<Self> {
        let server = installed(&["mariadbd", "/usr/sbin/mariadbd"])?;
        std::fs::create_dir_all(directory).map_err(Error::io("make the directory of MariaDB"))?;
        let data = format!("--datadir={}", directory.join("data").display());
        // Run as root it wants to be told that this is meant.
        let user = "--user=root";
        let mut command = Command::new("mariadb-install-db");
        command.args([
            "--no-defaults",
            &data,
            user,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]);
        let done = command.stdin(Stdio::null()).output().map_err(Error::io("run mariadb-install-db"))?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Error::refused("make a data directory of MariaDB", why));
        }
        let mut command = Command::new(server);
        command.args([
            "--no-defaults",
            &data,
            user,
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command.arg(format!("--socket={}", directory.join("socket").display()));
        command.arg(format!("--pid-file={}", directory.join("pid").display()));
        command.arg("--slow-query-log=1").arg("--long-query-time=0");
        command.arg(format!("--slow-query-log-file={}", directory.join("slow.log").display()));
        command.args(arguments);
        let log = directory.join("server.log");
        let server = Self { directory: directory.to_owned(), keeper: Keeper::start(&command, ENDING, &log)? };
        let ready = wait_for(START_LIMIT, || {
            if !server.keeper.is_running() {
                return Err(Error::refused("start MariaDB", log_tail(&log)));
            }
            Ok(server.run("root", "", "select 1").ok())
        })?;
        ready.map(|_| server).ok_or_else(|| Error::refused("start MariaDB", log_tail(&log)))
    }

    /// Runs statements as `user` in `database`, which may be empty; gives what the client prints.
    pub fn run(&self, user: &str, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new("mariadb");
        command.arg("--no-defaults").arg(format!("--socket={}", self.directory.join("socket").display()));
        // Without the flag the client takes comments out of statements.
        command.args(["--batch", "--comments", "--user", user]).arg(database);
        let mut client = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("run mariadb"))?;
        if let Some(mut input) = client.stdin.take() {
            use std::io::Write;
            input.write_all(sql.as_bytes()).map_err(Error::io("write to mariadb"))?;
        }
        let done = client.wait_with_output().map_err(Error::io("wait for mariadb"))?;
        if !done.status.success() {
            return Err(Error::refused("run SQL on MariaDB", String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Where the slow query log is.
    pub fn slow_log(&self) -> PathBuf {
        self.directory.join("slow.log")
    }
}
