//! Private servers of Redis and Valkey: single ones, replicas, and a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::keeper::{Ending, Keeper, Signal};
use super::{Error, Result, START_LIMIT, free_port, log_tail, random_word, wait_for};

const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(2) };
/// All slots of a cluster.
const SLOTS: u32 = 16_384;
/// Another process can take a port between our look and the server's start.
const PORT_TRIES: usize = 5;

/// Small, quick, and without anything on the disk that could be loaded again.
const BASE: &str = "
bind 127.0.0.1
save \"\"
appendonly no
set-proc-title no
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-ping-replica-period 1
repl-timeout 5
";

/// Which server, and where its programs are.
#[derive(Clone, Debug)]
pub struct Store {
    server: PathBuf,
    client: PathBuf,
}

impl Store {
    /// Redis, from PATH.
    pub fn redis() -> Result<Self> {
        Self::find("Redis", &[Path::new("")], "redis")
    }

    /// Valkey: from PATH, or where `make setup` puts it below `target`.
    pub fn valkey(target: &Path) -> Result<Self> {
        Self::find("Valkey", &[Path::new(""), &target.join("valkey/usr/bin")], "valkey")
    }

    fn find(tool: &str, places: &[&Path], name: &str) -> Result<Self> {
        for place in places {
            let server = place.join(format!("{name}-server"));
            let mut version = Command::new(&server);
            version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if version.status().is_ok_and(|status| status.success()) {
                return Ok(Self { server, client: place.join(format!("{name}-cli")) });
            }
        }
        let name = |place: &&Path| match place.to_str() {
            Some("") => "PATH".to_owned(),
            _ => place.display().to_string(),
        };
        let searched = places.iter().map(name).collect::<Vec<_>>().join(", ");
        Err(Error::Missing { tool: tool.to_owned(), searched })
    }
}

/// A server that stops on drop. Its directory is the caller's (`Stage`).
#[derive(Debug)]
pub struct StoreServer {
    store: Store,
    dir: PathBuf,
    port: u16,
    password: String,
    keeper: Option<Keeper>,
}

impl StoreServer {
    /// Starts a server in `dir`, with further lines of its configuration, and waits until it answers.
    pub fn start(store: &Store, dir: &Path, lines: &[&str]) -> Result<Self> {
        Self::start_with(store, dir, lines, random_word()?)
    }

    /// Starts a replica of this server in `dir`.
    pub fn replica(&self, dir: &Path, lines: &[&str]) -> Result<Self> {
        let of = format!("replicaof 127.0.0.1 {}", self.port);
        let lines: Vec<&str> = lines.iter().copied().chain([of.as_str()]).collect();
        self.twin(dir, &lines)
    }

    /// Starts another server in `dir` with the same password.
    pub fn twin(&self, dir: &Path, lines: &[&str]) -> Result<Self> {
        Self::start_with(&self.store, dir, lines, self.password.clone())
    }

    fn start_with(store: &Store, dir: &Path, lines: &[&str], password: String) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(format!("make the directory {}", dir.display())))?;
        let dir =
            fs::canonicalize(dir).map_err(Error::io(format!("find the directory {}", dir.display())))?;
        let mut server = Self { store: store.clone(), dir, port: 0, password, keeper: None };
        for left in (0..PORT_TRIES).rev() {
            server.port = free_port()?;
            server.configure(lines)?;
            match server.start_again() {
                Err(Error::Refused { why, .. }) if left > 0 && why.contains("Address already in use") => {}
                outcome => return outcome.map(|()| server),
            }
        }
        Ok(server)
    }

    fn configure(&self, lines: &[&str]) -> Result<()> {
        let mut text = format!("{BASE}port {}\ndir {}\n", self.port, self.dir.display());
        text.push_str(&format!("requirepass {0}\nmasterauth {0}\n", self.password));
        for line in lines {
            text.push_str(&line.replace("{port}", &self.port.to_string()));
            text.push('\n');
        }
        let path = self.file();
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))
    }

    /// Its port on 127.0.0.1; stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it is known: its announced address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The user `default` logs in with this.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("store.log")
    }

    /// Sends one command as user `default` and gives its answer; an error of the server is an error here.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let what = format!("send {} to port {}", words.first().unwrap_or(&"nothing"), self.port);
        let mut command = Command::new(&self.store.client);
        command.args(["-h", "127.0.0.1", "-e", "-p", &self.port.to_string()]).args(words);
        command.env("REDISCLI_AUTH", &self.password).stdin(Stdio::null());
        let output = command.output().map_err(Error::io(&what))?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if output.status.success() {
            return Ok(said);
        }
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::refused(what, format!("{said}{complaint}")))
    }

    /// A field of INFO.
    pub fn info(&self, field: &str) -> Result<Option<String>> {
        let text = self.ask(&["INFO"])?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.map(|value| value.trim().to_owned()))
    }

    /// Makes a user with the least that the check `redis` needs.
    pub fn allow(&self, user: &str, password: &str, rights: &[&str]) -> Result<()> {
        let secret = format!(">{password}");
        let mut words = vec!["ACL", "SETUSER", user, "reset", "on", &secret];
        words.extend(rights);
        self.ask(&words).map(drop)
    }

    /// Whether the process runs; a frozen one does.
    pub fn is_running(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_running)
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.keeper.take().map_or(Ok(()), |mut keeper| keeper.kill9())
    }

    /// Starts it again on its old port and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = Command::new(&self.store.server);
        command.arg(self.file());
        let keeper = Keeper::start(&command, ENDING, &self.log())?;
        let ready = wait_for(START_LIMIT, || {
            if !keeper.is_running() {
                return Err(Error::refused("start a store", log_tail(&self.log())));
            }
            Ok(self.ask(&["PING"]).is_ok_and(|answer| answer == "PONG").then_some(()))
        })?;
        if ready.is_none() {
            return Err(Error::refused("start a store within 30 s", log_tail(&self.log())));
        }
        self.keeper = Some(keeper);
        Ok(())
    }

    /// Stops it in its tracks: connections stay open, nobody answers, new ones hang.
    pub fn freeze(&self) -> Result<()> {
        self.keeper.as_ref().map_or(Ok(()), Keeper::freeze)
    }

    /// Ends `freeze`.
    pub fn thaw(&self) -> Result<()> {
        self.keeper.as_ref().map_or(Ok(()), Keeper::thaw)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("store.conf")
    }
}

/// A cluster of shards with one replica each: first the primaries in the order of their slots, then their replicas.
#[derive(Debug)]
pub struct StoreCluster {
    /// The servers; number n and number n + shards make a shard.
    pub servers: Vec<StoreServer>,
    shards: usize,
}

impl StoreCluster {
    /// Starts it below `dir` and waits until it is well.
    pub fn start(store: &Store, dir: &Path, shards: usize, lines: &[&str]) -> Result<Self> {
        let password = random_word()?;
        let mut servers = Vec::new();
        for number in 0..shards * 2 {
            let bus = format!("cluster-port {}", free_port()?);
            let own = [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 2000",
                "cluster-allow-replica-migration no",
                bus.as_str(),
            ];
            let all: Vec<&str> = own.into_iter().chain(lines.iter().copied()).collect();
            let server =
                StoreServer::start_with(store, &dir.join(number.to_string()), &all, password.clone())?;
            servers.push((server, bus.replace("cluster-port ", "")));
        }
        let Some((first, _)) = servers.first() else {
            return Err(Error::refused("start a cluster", "it has no shard"));
        };
        for (server, bus) in servers.iter().skip(1) {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), bus])?;
        }
        let servers: Vec<StoreServer> = servers.into_iter().map(|(server, _)| server).collect();
        let share = SLOTS / u32::try_from(shards.max(1)).unwrap_or(1);
        for (number, server) in (0u32..).zip(servers.iter().take(shards)) {
            let last = number as usize + 1 == shards;
            let end = if last { SLOTS - 1 } else { (number + 1) * share - 1 };
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &(number * share).to_string(), &end.to_string()])?;
        }
        for (primary, replica) in servers.iter().zip(servers.iter().skip(shards)) {
            let id = primary.ask(&["CLUSTER", "MYID"])?;
            // It has to have heard of that node first.
            let joined = wait_for(START_LIMIT, || Ok(replica.ask(&["CLUSTER", "REPLICATE", &id]).ok()))?;
            joined.ok_or_else(|| Error::refused("join a cluster within 30 s", log_tail(&replica.log())))?;
        }
        let cluster = Self { servers, shards };
        let well = wait_for(START_LIMIT, || Ok(cluster.is_well().then_some(())))?;
        well.ok_or_else(|| Error::refused("start a cluster within 30 s", "it did not become well"))?;
        Ok(cluster)
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Whether every node says that all is well and every replica follows.
    pub fn is_well(&self) -> bool {
        self.servers.iter().enumerate().all(|(number, server)| {
            let state = server.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
            let nodes = server.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
            let whole = nodes.lines().filter(|line| line.contains("connected")).count() == self.servers.len();
            let replicas = nodes.lines().filter(|line| line.contains("slave")).count() == self.shards;
            let follows = number < self.shards
                || server.info("master_link_status").is_ok_and(|status| status.as_deref() == Some("up"));
            state.contains("cluster_state:ok") && whole && replicas && follows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    #[test]
    fn a_missing_store_names_the_command_that_installs_it() {
        let error = Store::find("Dragon", &[Path::new(""), Path::new("/nowhere")], "dragon").unwrap_err();
        let words = "Dragon is not installed (looked in PATH, /nowhere); install it with `make setup`";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn a_primary_has_a_replica_and_both_come_back_on_their_ports() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stage");
        let stage = Stage::new(&base, "parts-redis").unwrap();
        let store = Store::redis().unwrap();
        let mut primary = StoreServer::start(&store, &stage.path().join("a"), &[]).unwrap();
        let replica = primary.replica(&stage.path().join("b"), &[]).unwrap();
        let linked = || {
            let up = replica.info("master_link_status")?.as_deref() == Some("up");
            Ok(up.then_some(()))
        };
        wait_for(START_LIMIT, linked).unwrap().unwrap();
        let port = primary.port();
        primary.kill9().unwrap();
        assert!(primary.ask(&["PING"]).is_err());
        primary.start_again().unwrap();
        assert_eq!(primary.port(), port);
        wait_for(START_LIMIT, linked).unwrap().unwrap();
    }
}
