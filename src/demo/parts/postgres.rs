//! A private PostgreSQL cluster on 127.0.0.1.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::account::Account;
use super::keeper::{Ending, Keeper, Signal, append_command};
use super::{Binaries, Error, Result, START_LIMIT, free_port, log_tail, random, random_word, wait_for};

/// A statement of `sql` is killed after this.
const SQL_LIMIT: Duration = Duration::from_mins(1);
/// A clean stop waits for walsenders, which may wait for a subscriber that does not answer.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Another process can take a port between our look and the server's start.
const PORT_TRIES: usize = 5;
/// Our data is worth nothing, so nobody waits for a checkpoint when we end.
const ENDING: Ending = Ending { signal: Signal::Quit, grace: Duration::from_secs(5) };
/// What a shell's environment may hold that would lead psql elsewhere.
const FOREIGN: [&str; 7] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGHOSTADDR",
    "PGTARGETSESSIONATTRS",
];

/// Small, quick, and ready to publish and to subscribe.
const BASE: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 16MB
max_wal_size = 64MB
max_connections = 40
max_wal_senders = 12
max_replication_slots = 12
max_worker_processes = 16
max_logical_replication_workers = 8
max_sync_workers_per_subscription = 2
wal_retrieve_retry_interval = 500ms
jit = off
huge_pages = off
timezone = 'UTC'
log_timezone = 'UTC'
";

/// How a cluster differs from the plain one.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines for `postgresql.conf`; they beat ours.
    pub conf: Vec<String>,
    /// Lines for `pg_hba.conf`; they come before the rule that lets everybody in by password, and after the superuser's.
    pub hba: Vec<String>,
    /// With it the server speaks TLS.
    pub tls: Option<Certificate>,
}

/// Files in PEM; they are copied.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The server's chain.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ends all sessions, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
}

/// A cluster that stops on drop. Its directory is the caller's (`Stage`).
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    account: Account,
    dir: PathBuf,
    port: u16,
    password: String,
    keeper: Option<Keeper>,
}

impl Cluster {
    /// Makes a cluster in `dir`, which must not exist or be empty, and waits until it answers.
    pub fn start(binaries: &Binaries, dir: &Path, settings: &Settings) -> Result<Self> {
        let mut cluster = Self::prepare(binaries, dir, random_word()?)?;
        cluster.init()?;
        cluster.configure(settings)?;
        cluster.first_start()?;
        Ok(cluster)
    }

    /// Makes a streaming standby of this cluster in `dir`: stops it, copies its files and starts both. The standby's slot
    /// on this cluster has the name `slot`. Works for every version, since it needs no `pg_basebackup`.
    pub fn standby(&mut self, dir: &Path, slot: &str) -> Result<Self> {
        self.sql("postgres", &format!("select pg_create_physical_replication_slot('{slot}', true)"))?;
        let mut standby = Self::prepare(&self.binaries, dir, self.password.clone())?;
        self.stop(Mode::Fast)?;
        let mut copy = Command::new("cp");
        run(copy.args(["-a", "--"]).arg(self.data()).arg(standby.data()), "copy the cluster")?;
        self.start_again()?;
        let source = conninfo(self.port, "postgres", "standby") + &format!(" password={}", self.password);
        let lines =
            format!("primary_conninfo = '{}'\nprimary_slot_name = '{slot}'\n", source.replace('\'', "''"));
        append(&standby.data().join("postgresql.conf"), &lines)?;
        standby.write("standby.signal", "")?;
        standby.first_start()?;
        Ok(standby)
    }

    /// Its port on 127.0.0.1; stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser `postgres` logs in with this.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Its programs and version.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs statements one by one as superuser, ends at the first error. Gives rows as lines, columns split by `|`.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let what = format!("run SQL on port {}", self.port);
        let mut script = self.scratch()?;
        script.write_all(text.as_bytes()).and_then(|()| script.rewind()).map_err(Error::io(&what))?;
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", &SQL_LIMIT.as_secs().to_string()]);
        append_command(&mut command, &self.psql(database, "datapulse-stage"));
        let output = command.stdin(script).output().map_err(Error::io(&what))?;
        let output = successful(output, &what)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// psql that reads statements from standard input or a file; it shows itself as `application_name`.
    pub fn psql(&self, database: &str, application_name: &str) -> Command {
        let mut command = Command::new(&self.binaries.psql);
        command.args(["-qAtX", "--set=ON_ERROR_STOP=1", "--dbname"]);
        command.arg(conninfo(self.port, database, application_name)).env("PGPASSWORD", &self.password);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
    }

    /// Connections (walsenders too) whose application name is this.
    pub fn backends(&self, application_name: &str) -> Result<usize> {
        let name = application_name.replace('\'', "''");
        let text = format!("select count(*) from pg_stat_activity where application_name = '{name}'");
        let count = self.sql("postgres", &text)?;
        count.parse().map_err(|why| Error::refused("count backends", format!("{count:?}: {why}")))
    }

    /// Whether the server process runs; a frozen one does.
    pub fn is_running(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_running)
    }

    /// Stops the server.
    pub fn stop(&mut self, mode: Mode) -> Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        keeper.thaw()?;
        keeper.signal(match mode {
            Mode::Fast => Signal::Int,
            Mode::Immediate => Signal::Quit,
        })?;
        if !keeper.wait(STOP_LIMIT)? {
            tracing::warn!(port = self.port, "a PostgreSQL of the demo did not stop in time and is killed");
        }
        keeper.stop();
        Ok(())
    }

    /// Kills every process of the server with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.keeper.take().map_or(Ok(()), |mut keeper| keeper.kill9())
    }

    /// Starts a stopped server on its old port and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.account.command(self.binaries.program("postgres"));
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        // The directory of the caller may be closed to the account.
        command.current_dir("/").env_remove("PGDATA");
        let keeper = Keeper::start(&command, ENDING, &self.log())?;
        let ready = wait_for(START_LIMIT, || {
            if !keeper.is_running() {
                return Err(Error::refused("start PostgreSQL", log_tail(&self.log())));
            }
            // The words of postmaster.pid, line 8, which pg_ctl waits for as well.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let word = state.lines().nth(7).map(str::trim);
            let ours = state.lines().next() == Some(&keeper.pid().to_string());
            let ready = ours && matches!(word, Some("ready" | "standby"));
            Ok((ready && self.sql("postgres", "select 1").is_ok()).then_some(()))
        })?;
        if ready.is_none() {
            return Err(Error::refused("start PostgreSQL within 30 s", log_tail(&self.log())));
        }
        self.keeper = Some(keeper);
        Ok(())
    }

    /// `stop` and `start_again`.
    pub fn restart(&mut self, mode: Mode) -> Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Makes it read its configuration files again.
    pub fn reload(&self) -> Result<()> {
        self.sql("postgres", "select pg_reload_conf()").map(drop)
    }

    /// Stops all its processes in their tracks: connections stay open, nobody answers, new ones hang.
    pub fn freeze(&self) -> Result<()> {
        self.keeper.as_ref().map_or(Ok(()), Keeper::freeze)
    }

    /// Ends `freeze`.
    pub fn thaw(&self) -> Result<()> {
        self.keeper.as_ref().map_or(Ok(()), Keeper::thaw)
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) -> Result<()> {
        self.sql("postgres", "select pg_promote()").map(drop)
    }

    fn prepare(binaries: &Binaries, dir: &Path, password: String) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(format!("make the directory {}", dir.display())))?;
        let dir =
            fs::canonicalize(dir).map_err(Error::io(format!("find the directory {}", dir.display())))?;
        let account = Account::choose(&dir, &binaries.program("postgres"))?;
        Ok(Self { binaries: binaries.clone(), account, dir, port: 0, password, keeper: None })
    }

    fn init(&self) -> Result<()> {
        let data = self.data();
        let made = fs::DirBuilder::new().mode(0o700).create(&data);
        made.map_err(Error::io(format!("make the directory {}", data.display())))?;
        self.account.give(&data)?;
        let secret = self.dir.join("password");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
        let written = file.and_then(|mut file| file.write_all(self.password.as_bytes()));
        written.map_err(Error::io(format!("write {}", secret.display())))?;
        self.account.give(&secret)?;
        let mut initdb = self.account.command(self.binaries.program("initdb"));
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        // Segments of 1 MB: the limits of slots can then be met in small steps, and a new cluster is small.
        initdb
            .arg("--wal-segsize=1")
            .arg("--pwfile")
            .arg(&secret)
            .arg("--pgdata")
            .arg(&data)
            .current_dir("/");
        run(&mut initdb, "make a PostgreSQL cluster")?;
        fs::remove_file(&secret).map_err(Error::io(format!("remove {}", secret.display())))
    }

    fn configure(&self, settings: &Settings) -> Result<()> {
        let mut conf = BASE.to_owned();
        if self.binaries.major >= 18 {
            conf.push_str("io_method = sync\n"); // else three more processes
        }
        if let Some(tls) = &settings.tls {
            conf.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
            for (name, source) in [("server.crt", &tls.chain), ("server.key", &tls.key)] {
                let text =
                    fs::read_to_string(source).map_err(Error::io(format!("read {}", source.display())))?;
                self.write(name, &text)?;
            }
        }
        append(&self.data().join("postgresql.conf"), &(conf + &settings.conf.join("\n") + "\n"))?;
        let mut hba = String::from("host all,replication postgres 127.0.0.1/32 scram-sha-256\n");
        hba.extend(settings.hba.iter().map(|line| format!("{line}\n")));
        hba.push_str("host all,replication all 127.0.0.1/32 scram-sha-256\n");
        self.write("pg_hba.conf", &hba)
    }

    fn first_start(&mut self) -> Result<()> {
        for _ in 1..PORT_TRIES {
            self.port = free_port()?;
            match self.start_again() {
                Err(Error::Refused { why, .. }) if why.contains("could not create any TCP/IP sockets") => {}
                outcome => return outcome,
            }
        }
        self.port = free_port()?;
        self.start_again()
    }

    /// Writes a file of the data directory.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data().join(name);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(Error::io(format!("write {}", path.display())))?;
        self.account.give(&path)
    }

    /// A file without a name.
    fn scratch(&self) -> Result<fs::File> {
        let path = self.dir.join(format!("sql-{:016x}", random()?));
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io(format!("write {}", path.display())))?;
        fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
        Ok(file)
    }
}

/// Everything is stated, so that no variable of the environment takes part.
fn conninfo(port: u16, database: &str, application_name: &str) -> String {
    let database = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "host=127.0.0.1 port={port} user=postgres dbname='{database}' application_name={application_name} \
         sslmode=prefer connect_timeout=10 client_encoding=UTF8"
    )
}

fn append(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(Error::io(format!("write {}", path.display())))
}

fn run(command: &mut Command, what: &str) -> Result<Output> {
    successful(command.stdin(Stdio::null()).output().map_err(Error::io(what))?, what)
}

fn successful(output: Output, what: &str) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::refused(what, format!("{}: {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::super::{Feed, Stage, find_postgres};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn stage(name: &str) -> Stage {
        Stage::new(&root().join("target/stage"), name).unwrap()
    }

    fn find(major: Option<u32>) -> Binaries {
        find_postgres(major, &[&root().join("target/postgres")]).unwrap()
    }

    fn rows(cluster: &Cluster) -> u64 {
        cluster.sql("postgres", "select count(*) from t").unwrap().parse().unwrap()
    }

    fn grows(cluster: &Cluster, limit: Duration) -> bool {
        let before = rows(cluster);
        wait_for(limit, || Ok((rows(cluster) > before).then_some(()))).unwrap().is_some()
    }

    /// A publisher with a row every 50 ms, and its subscriber.
    fn pair(binaries: &Binaries, dir: &Path) -> (Cluster, Cluster, Feed) {
        let publisher = Cluster::start(binaries, &dir.join("publisher"), &Settings::default()).unwrap();
        let subscriber = Cluster::start(binaries, &dir.join("subscriber"), &Settings::default()).unwrap();
        let text = "create table t (id bigserial primary key); create publication p for table t;
            create role r login replication password 'secret'; grant select on t to r";
        publisher.sql("postgres", text).unwrap();
        let text = format!(
            "create table t (id bigint primary key);
            create subscription s connection 'host=127.0.0.1 port={} user=r password=secret dbname=postgres' publication p",
            publisher.port()
        );
        subscriber.sql("postgres", &text).unwrap();
        let every = Duration::from_millis(50);
        let feed =
            Feed::start(&publisher, "postgres", dir, "feed", "insert into t default values", every).unwrap();
        assert!(grows(&subscriber, LIMIT));
        (publisher, subscriber, feed)
    }

    #[test]
    fn the_oldest_and_the_newest_version_replicate_through_freeze_kill_and_restart() {
        std::thread::scope(|scope| {
            for major in [13, 18] {
                scope.spawn(move || survives(&find(Some(major))));
            }
        });
    }

    fn survives(binaries: &Binaries) {
        let stage = stage("pair");
        let (mut publisher, mut subscriber, feed) = pair(binaries, stage.path());
        assert_eq!(publisher.backends("s").unwrap(), 1);
        assert_eq!(publisher.backends("datapulse-feed-feed").unwrap(), 1);

        publisher.freeze().unwrap();
        wait_for(Duration::from_millis(200), || Ok(None::<()>)).unwrap();
        assert!(publisher.is_running() && !grows(&subscriber, Duration::from_millis(300)));
        publisher.thaw().unwrap();
        assert!(grows(&subscriber, LIMIT));

        publisher.kill9().unwrap();
        assert!(!publisher.is_running() && publisher.sql("postgres", "select 1").is_err());
        publisher.start_again().unwrap();
        assert!(grows(&subscriber, LIMIT));

        subscriber.restart(Mode::Immediate).unwrap();
        assert!(grows(&subscriber, LIMIT));
        drop(feed);
    }

    #[test]
    fn a_standby_follows_until_it_is_promoted() {
        let stage = stage("standby");
        let (mut publisher, _subscriber, _feed) = pair(&find(None), stage.path());
        let standby = publisher.standby(&stage.path().join("standby"), "standby").unwrap();
        assert!(grows(&standby, LIMIT));
        assert_eq!(standby.sql("postgres", "select pg_is_in_recovery()").unwrap(), "t");
        standby.promote().unwrap();
        assert_eq!(standby.sql("postgres", "select pg_is_in_recovery()").unwrap(), "f");
    }

    #[test]
    fn with_a_certificate_sessions_are_encrypted() {
        let stage = stage("tls");
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (stage.path().join("chain.pem"), stage.path().join("key.pem"));
        fs::write(&chain, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let settings = Settings {
            hba: vec!["hostnossl all u 127.0.0.1/32 reject".to_owned()],
            tls: Some(Certificate { chain, key }),
            ..Settings::default()
        };
        for major in [13, 18] {
            let dir = stage.path().join(major.to_string());
            let cluster = Cluster::start(&find(Some(major)), &dir, &settings).unwrap();
            let text = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            assert_eq!(cluster.sql("postgres", text).unwrap(), "t");
        }
    }

    #[test]
    fn settings_beat_ours_and_a_start_that_fails_shows_the_log() {
        let stage = stage("settings");
        let settings = Settings {
            conf: vec!["max_connections = 7".to_owned()],
            hba: vec!["host all locked 127.0.0.1/32 reject".to_owned()],
            tls: None,
        };
        let mut cluster = Cluster::start(&find(None), &stage.path().join("one"), &settings).unwrap();
        assert_eq!(cluster.sql("postgres", "show max_connections; select 'a', null, 1").unwrap(), "7\na||1");
        let rule =
            cluster.sql("postgres", "select count(*) from pg_hba_file_rules where auth_method = 'reject'");
        assert_eq!(rule.unwrap(), "1");
        let error = cluster.sql("postgres", "select 1;\nselect nonsense").unwrap_err().to_string();
        assert!(error.contains("column \"nonsense\" does not exist"), "{error}");

        append(&cluster.data().join("postgresql.conf"), "max_connections = many\n").unwrap();
        let error = cluster.restart(Mode::Fast).unwrap_err().to_string();
        assert!(error.contains("invalid value for parameter \"max_connections\""), "{error}");
    }
}
