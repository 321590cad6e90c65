//! Prometheus and Alertmanager.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::keeper::{Ending, Keeper, Signal};
use super::{Error, Reply, Result, START_LIMIT, free_port, get, log_tail, post, wait_for};

const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(5) };
/// Debian's name first: there `alertmanager` does not exist.
const ALERTMANAGER: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

/// A Prometheus that stops on drop.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    keeper: Keeper,
}

/// One series of a query's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Prometheus {
    /// Writes `config` to `<dir>/prometheus.yml`, stores its data below `dir` and waits until it is ready.
    /// `arguments` are added to the command line.
    pub fn start(dir: &Path, config: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_at(free_port()?, dir, config, arguments)
    }

    /// The same on a port that was chosen before.
    pub fn start_at(port: u16, dir: &Path, config: &str, arguments: &[&str]) -> Result<Self> {
        let program = installed(&["prometheus"])?;
        let file = write(dir, "prometheus.yml", config)?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--web.enable-lifecycle", "--log.level=warn"]).args(arguments);
        let keeper =
            ready(Keeper::start(&command, ENDING, &dir.join("prometheus.log"))?, port, "Prometheus")?;
        Ok(Self { port, keeper })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For a browser.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// An instant query; a scalar comes as one sample without labels.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let data = self.api(&format!("query?query={}", encode(expression)))?;
        let samples = match data.get("resultType").and_then(Value::as_str) {
            Some("scalar") => sample(None, data.get("result")).map(|one| vec![one]),
            _ => data.get("result").and_then(Value::as_array).and_then(|series| {
                series.iter().map(|one| sample(one.get("metric"), one.get("value"))).collect()
            }),
        };
        samples.ok_or_else(|| Error::refused(format!("query {expression}"), format!("unknown form: {data}")))
    }

    /// GET `/api/v1/<path>`: the answer's `data`.
    pub fn api(&self, path: &str) -> Result<Value> {
        let mut answer = json(get(self.port, &format!("/api/v1/{path}"))?, "ask Prometheus")?;
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// Makes it read its configuration and rules again.
    pub fn reload(&self) -> Result<()> {
        done(post(self.port, "/-/reload", "text/plain", b"")?, "reload Prometheus").map(drop)
    }
}

/// An Alertmanager that stops on drop.
#[derive(Debug)]
pub struct Alertmanager {
    port: u16,
    keeper: Keeper,
}

impl Alertmanager {
    /// Writes `config` to `<dir>/alertmanager.yml`, stores its data below `dir` and waits until it is ready.
    /// `arguments` are added to the command line.
    pub fn start(dir: &Path, config: &str, arguments: &[&str]) -> Result<Self> {
        let program = installed(&ALERTMANAGER)?;
        let file = write(dir, "alertmanager.yml", config)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        // An empty address switches the gossip off: no second port.
        command.args(["--cluster.listen-address=", "--log.level=warn"]).args(arguments);
        let keeper =
            ready(Keeper::start(&command, ENDING, &dir.join("alertmanager.log"))?, port, "Alertmanager")?;
        Ok(Self { port, keeper })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For a browser.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// The alerts it holds (`/api/v2/alerts`).
    pub fn alerts(&self) -> Result<Vec<Value>> {
        match json(get(self.port, "/api/v2/alerts")?, "ask Alertmanager")? {
            Value::Array(alerts) => Ok(alerts),
            other => Err(Error::refused("ask Alertmanager", format!("unknown form: {other}"))),
        }
    }
}

/// The first of `names` that can be run.
pub(super) fn installed(names: &[&'static str]) -> Result<&'static str> {
    for name in names {
        let mut probe = Command::new(name);
        probe.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            return Ok(name);
        }
    }
    Err(Error::Missing { tool: names.join(" or "), searched: "PATH".to_owned() })
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = dir.join(name);
    std::fs::create_dir_all(dir).map_err(Error::io(format!("make the directory {}", dir.display())))?;
    std::fs::write(&file, text).map_err(Error::io(format!("write {}", file.display())))?;
    Ok(file)
}

fn ready(keeper: Keeper, port: u16, name: &str) -> Result<Keeper> {
    let answered = wait_for(START_LIMIT, || {
        if !keeper.is_running() {
            return Err(Error::refused(format!("start {name}"), log_tail(keeper.log())));
        }
        Ok(get(port, "/-/ready").is_ok_and(|reply| reply.status == 200).then_some(()))
    })?;
    match answered {
        Some(()) => Ok(keeper),
        None => Err(Error::refused(format!("start {name} within 30 s"), log_tail(keeper.log()))),
    }
}

fn done(reply: Reply, what: &str) -> Result<Reply> {
    if reply.status == 200 {
        return Ok(reply);
    }
    Err(Error::refused(what, format!("status {}: {}", reply.status, reply.body.trim())))
}

fn json(reply: Reply, what: &str) -> Result<Value> {
    let reply = done(reply, what)?;
    serde_json::from_str(&reply.body).map_err(|error| Error::refused(what, error.to_string()))
}

/// `[time, "value"]`, the value also as `NaN` or `+Inf`.
fn sample(metric: Option<&Value>, value: Option<&Value>) -> Option<Sample> {
    let labels = metric.and_then(Value::as_object).into_iter().flatten();
    let labels = labels.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Some(Sample { labels: labels.collect::<Option<_>>()?, value: value?.get(1)?.as_str()?.parse().ok()? })
}

/// For the query part of an address (RFC 3986: everything but the unreserved characters).
fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    #[test]
    fn an_alert_goes_from_prometheus_to_alertmanager() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-monitoring").unwrap();
        let routes = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
        let alertmanager = Alertmanager::start(stage.path(), routes, &[]).unwrap();
        let rules =
            "groups: [{name: g, rules: [{alert: Always, expr: 'vector(1) > 0', labels: {team: core}}]}]\n";
        write(stage.path(), "rules.yml", rules).unwrap();
        let config = format!(
            "global: {{evaluation_interval: 200ms, scrape_interval: 1s}}\nrule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n",
            alertmanager.port()
        );
        let prometheus =
            Prometheus::start(stage.path(), &config, &["--rules.alert.resend-delay=1s"]).unwrap();
        let seen = wait_for(START_LIMIT, || Ok(alertmanager.alerts()?.pop())).unwrap().unwrap();
        assert_eq!(seen["labels"], serde_json::json!({"alertname": "Always", "team": "core"}));
        let firing = prometheus.query("ALERTS{alertname=\"Always\"} + 0.5").unwrap();
        assert_eq!((firing[0].labels["team"].as_str(), firing[0].value), ("core", 1.5));
        assert_eq!(
            prometheus.query("1 / 0").unwrap(),
            [Sample { labels: BTreeMap::new(), value: f64::INFINITY }]
        );
        let error = prometheus.query("sum(").unwrap_err().to_string();
        assert!(error.contains("parse error"), "{error}");

        write(stage.path(), "rules.yml", "groups: []\n").unwrap();
        prometheus.reload().unwrap();
        let rules =
            || Ok(prometheus.api("rules")?["groups"].as_array().is_some_and(Vec::is_empty).then_some(()));
        assert!(wait_for(START_LIMIT, rules).unwrap().is_some());
    }

    #[test]
    fn a_refused_configuration_shows_the_log() {
        let stage = Stage::new(&std::env::temp_dir(), "datapulse-monitoring").unwrap();
        let error = Prometheus::start(stage.path(), "nonsense: 1\n", &[]).unwrap_err().to_string();
        assert!(error.contains("field nonsense not found"), "{error}");
    }
}
