//! The section `logs`: who may deliver, and what becomes of what is delivered.

use super::fault::{Fault, Faults};
use super::node::Node;
use super::read::read;
use super::scalar::Interval;
use super::secret::Reference;
use super::servers::check_labels;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Logs that are delivered to us.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Who may deliver over HTTP.
    #[serde(default)]
    pub doors: Doors,
    /// What becomes of the logs; the first route whose `match` fits takes a log group.
    pub routes: Vec<Route>,
}

/// Who may deliver over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Doors {
    /// Where the access keys are kept: each delivery has to bring one of them, in X-Amz-Firehose-Access-Key or as Authorization: Bearer.
    /// Two at a time let senders change theirs. Without keys everybody may deliver.
    pub access_keys: Vec<Reference>,
}

/// What becomes of the logs of some log groups.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Log groups that it takes; `*` stands for any part between two slashes.
    #[serde(rename = "match")]
    pub matching: String,
    /// How the messages are written.
    pub parser: Parser,
    /// Labels of all samples of this route.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Sealed files of each day.
    #[serde(default)]
    pub archive: Option<Archive>,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parser {
    /// The slow query log of MySQL, MariaDB, Percona Server or Aurora.
    MysqlSlow,
    /// The server log of PostgreSQL, as RDS and Aurora write it.
    Postgres,
    /// Any text: it is counted and kept, not understood.
    Plain,
}

/// Files of each day, which are sealed when the day is over.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Folder of the files; a folder for each log group is made in it.
    pub dir: PathBuf,
    /// Time zone of the days, by its name in the IANA database.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// What is written for each message: a text with {message}, {time}, {log_group}, {log_stream} and {id}.
    #[serde(default = "message")]
    pub line: String,
    /// How long after midnight a day is sealed; what comes later for it goes to a file of its own.
    #[serde(default = "ten_minutes")]
    pub seal_after: Interval,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn message() -> String {
    "{message}".to_owned()
}

fn ten_minutes() -> Interval {
    Interval::seconds(600)
}

/// Reads the section, with all its faults.
pub(super) fn logs(node: &Node, base: &Path, data_dir: Option<&Path>, faults: &mut Faults) -> Option<Logs> {
    let mut logs: Logs = read(node, "logs", faults)?;
    if data_dir.is_none() {
        let hint = "write `data_dir: /var/lib/datapulse`: what was taken must be known after a restart";
        faults.push(Fault::new(node.place(), "logs", "needs `data_dir`").hint(hint));
    }
    let routes = node.get("routes").and_then(Node::items).unwrap_or_default();
    for (at, (route, written)) in logs.routes.iter_mut().zip(routes).enumerate() {
        let path = format!("logs.routes[{at}]");
        let place = |key: &str| written.get(key).unwrap_or(written).place().clone();
        if !fits_something(&route.matching) {
            let message = "matches no log group; write its name, with * for any part between two slashes";
            faults.push(Fault::new(&place("match"), format!("{path}.match"), message));
        }
        check_labels(&route.labels, written.get("labels"), &format!("{path}.labels"), faults);
        if let (Some(archive), Some(written)) = (&mut route.archive, written.get("archive")) {
            let place = |key: &str| written.get(key).unwrap_or(written).place().clone();
            archive.dir = base.join(&archive.dir);
            if jiff::tz::TimeZone::get(&archive.time_zone).is_err() {
                let message = "no time zone of the IANA database; write it like Asia/Tokyo or UTC";
                faults.push(Fault::new(&place("time_zone"), format!("{path}.archive.time_zone"), message));
            }
        }
    }
    Some(logs)
}

/// Names of log groups have letters, digits and `_ - / . #` (the API reference of CreateLogGroup).
fn fits_something(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '#' | '*'))
}
