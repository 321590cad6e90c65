//! The real binary on a stage of its own: started, asked over HTTP, signalled, and gone with the test.

use crate::stage::{LIMIT, PASSWORD, Pair, eventually, stage};
use datapulse::demo::parts::{Cluster, Ending, Keeper, Signal, Stage};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_datapulse");
const ENDING: Ending = Ending { signal: Signal::Kill, grace: Duration::from_secs(1) };

/// A command line of datapulse; `env:PASSWORD` is the password of every role of the stage.
pub(crate) fn datapulse<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("PASSWORD", PASSWORD);
    command
}

/// Runs a command to its end; gives status, standard output and standard error.
pub(crate) fn finish(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// `datapulse serve`. Dropping it kills it.
pub(crate) struct Program {
    pub(crate) port: u16,
    pub(crate) config: PathBuf,
    keeper: Keeper,
    pub(crate) stage: Stage,
}

impl Program {
    /// Starts it with this configuration on a free port, and waits until it listens.
    pub(crate) fn start(name: &str, config: &str, flags: &[&str]) -> Self {
        Self::start_as(name, config, flags, |_, _| {})
    }

    /// As `start`; `prepare` may add to the command, and to the stage's directory before.
    pub(crate) fn start_as(
        name: &str,
        config: &str,
        flags: &[&str],
        prepare: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let stage = stage(name);
        let path = stage.path().join("datapulse.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = datapulse(["serve", "--web.listen-address", "127.0.0.1:0", "--config.file"]);
        command.arg(&path).args(flags);
        prepare(&mut command, stage.path());
        let log = stage.path().join("datapulse.log");
        let keeper = Keeper::start(&command, ENDING, &log).unwrap();
        let port = eventually("datapulse listens", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(keeper.is_running(), "datapulse ended at its start:\n{text}");
            let line = text.lines().find(|line| {
                line.contains("listening") && line.ends_with('"') || line.contains("listening ")
            })?;
            let address = line.split("127.0.0.1:").nth(1)?;
            address.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        });
        Self { port, config: path, keeper, stage }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.keeper.log()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.keeper.signal(signal).unwrap();
    }

    /// Waits for its end, which it must have been asked for; gives how it ended and how long that took.
    pub(crate) fn end(&self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        assert!(self.keeper.wait(LIMIT).unwrap(), "datapulse did not end:\n{}", self.log());
        let took = asked.elapsed();
        // Its keeper does not reap it, so the kernel still says how it ended (proc_pid_stat(5), the last field).
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let status = stat.split_whitespace().last().unwrap().parse().unwrap();
        (ExitStatus::from_raw(status), took)
    }

    /// Writes another configuration.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(&self.config, config).unwrap();
    }

    /// One request; `head` are further lines of the head, each with its line end.
    pub(crate) fn request(&self, method: &str, path: &str, head: &str) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n{head}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_ascii_lowercase(), body: answer.split_off(end + 4) }
    }

    /// Sends a body; `None` when the connection breaks before there is an answer.
    pub(crate) fn post(&self, path: &str, head: &str, body: &[u8]) -> Option<Reply> {
        post(self.port, path, head, body)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let reply = self.request("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.text()
    }

    /// Everything on /metrics.
    pub(crate) fn scrape(&self) -> Samples {
        Samples::parse(&self.get("/metrics"))
    }

    /// Waits until /metrics has a sample of this name whose labels include these, and its value is as wanted.
    pub(crate) fn wait_for(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) -> f64 {
        eventually(&format!("{name} {labels:?} as wanted; log:\n{}", self.log()), || {
            self.scrape().value(name, labels).filter(|value| wanted(*value))
        })
    }
}

/// Sends a body to whatever listens there; `None` when the connection breaks before there is an answer.
pub(crate) fn post(port: u16, path: &str, head: &str, body: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n"
    );
    // A server that refuses answers before it has read all.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head: head.to_ascii_lowercase(), body: answer.split_off(end + 4) })
}

/// What datapulse answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// The samples of an exposition in the text format, in their order.
#[derive(Debug)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).map(sample).collect())
    }

    /// Samples of this name whose labels include these.
    pub(crate) fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        })
    }

    /// The value of the first of them.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.all(name, labels).next().map(|sample| sample.value)
    }
}

/// `name{a="b",c="d"} 1`
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, mut rest) = series.split_once('{').unwrap_or((series, ""));
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    letter => value.push(letter),
                },
                (at, '"') => break at + 1,
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
    }
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
}

/// A target of the configuration, in one line.
pub(crate) fn target(cluster: &Cluster, user: &str, database: &str) -> String {
    let port = cluster.port();
    format!(
        "{{host: 127.0.0.1, port: {port}, user: {user}, password: \"env:PASSWORD\", database: {database}, tls: disable}}"
    )
}

/// Makes a login role with the stage's password.
pub(crate) fn role(cluster: &Cluster, name: &str, grants: &str) {
    let text = format!("create role {name} login password '{PASSWORD}'; {grants}");
    cluster.sql("postgres", &text).unwrap();
}

/// A subscription of this name between databases of this name on the two clusters, with its first row replicated.
pub(crate) fn replicate(pair: &Pair, name: &str) {
    let Pair { publisher, subscriber, .. } = pair;
    role(publisher, &format!("{name}_link"), &format!("alter role {name}_link replication"));
    for cluster in [publisher, subscriber] {
        cluster.sql("postgres", &format!("create database {name}")).unwrap();
        cluster.sql(name, "create table t (id int primary key)").unwrap();
    }
    let text = format!(
        "insert into t values (1); create publication {name} for table t; grant select on t to {name}_link"
    );
    publisher.sql(name, &text).unwrap();
    let port = publisher.port();
    let text = format!(
        "create subscription {name} connection 'host=127.0.0.1 port={port} user={name}_link password={PASSWORD} dbname={name}' publication {name}"
    );
    subscriber.sql(name, &text).unwrap();
    eventually("the first row is replicated", || {
        let state =
            "select count(*) from t where exists (select from pg_subscription_rel where srsubstate = 'r')";
        (subscriber.sql(name, state).unwrap() == "1").then_some(())
    });
}
