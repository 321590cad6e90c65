//! The section `logs`: who may deliver, and what becomes of what is delivered.

use super::fault::{Fault, Faults};
use super::node::Node;
use super::read::read;
use super::scalar::Interval;
use super::secret::Reference;
use super::sections::{mapping, unknown_keys};
use super::servers::check_labels;
use crate::logs::archive::{self, Line};
use crate::logs::routes::{self, Routes};
use digest::postgres::Prefix;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the section comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogsPlan {
    /// Which route takes what.
    pub routes: Routes,
    /// What opens the doors.
    pub access_keys: Vec<Reference>,
}

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
    /// The server's `log_line_prefix`, for `parser: postgres`; the one of RDS and Aurora when absent.
    #[serde(default)]
    pub log_line_prefix: Option<String>,
    /// Labels of all samples of this route.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Sealed files of each day.
    #[serde(default)]
    pub archive: Option<Archive>,
    /// Whether texts may go out with their literals; else these are masked. The daily files hold what came in any case.
    #[serde(default)]
    pub raw_text: bool,
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
    /// What is written for each message: a text with {message}, {time}, {`log_group`}, {`log_stream`} and {id}.
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
pub(super) fn logs(
    node: &Node,
    base: &Path,
    data_dir: Option<&Path>,
    faults: &mut Faults,
) -> Option<LogsPlan> {
    mapping(node, "logs", faults)?;
    unknown_keys(node, &["doors", "routes"], faults);
    if data_dir.is_none() {
        let hint = "write `data_dir: /var/lib/datapulse`: what was taken must be known after a restart";
        faults.push(Fault::new(node.place(), "logs", "needs `data_dir`").hint(hint));
    }
    let doors = node.get("doors").filter(|doors| !doors.is_nothing());
    let doors = doors.map_or_else(|| Some(Doors::default()), |doors| read(doors, "logs.doors", faults));
    let written = node.get("routes").and_then(Node::items).unwrap_or_default();
    let mut routes: Vec<routes::Route> = Vec::new();
    // One by one: a fault of one hides none of another.
    for (at, written) in written.iter().enumerate() {
        let path = format!("logs.routes[{at}]");
        let Some(route) = read::<Route>(written, &path, faults) else { continue };
        let mut reader = Reader { path, written, base, faults };
        let route = reader.route(route);
        let same_dir = |other: &routes::Route| {
            let pair = other.archive.as_ref().zip(route.archive.as_ref());
            pair.is_some_and(|(other, own)| other.dir == own.dir && other != own)
        };
        if routes.iter().any(same_dir) {
            let message = "a route before has this dir with another time_zone, line or seal_after";
            reader.fault("archive", message, "give each its own dir, or all the same settings");
        }
        routes.push(route);
    }
    if written.is_empty() {
        let hint = "write `routes: [{match: \"/aws/rds/*/*/slowquery\", parser: mysql_slow}]`";
        faults.push(Fault::new(node.place(), "logs.routes", "is empty: nothing is taken").hint(hint));
    }
    Some(LogsPlan { routes: Routes(routes), access_keys: doors?.access_keys })
}

/// Reads one route.
struct Reader<'a> {
    path: String,
    written: &'a Node,
    base: &'a Path,
    faults: &'a mut Faults,
}

impl Reader<'_> {
    /// A fault at a key, which may have dots.
    fn fault(&mut self, key: &str, message: impl Into<String>, hint: &str) {
        let found = key.split('.').try_fold(self.written, |node, key| node.get(key));
        let place = found.unwrap_or(self.written).place();
        let fault = Fault::new(place, format!("{}.{key}", self.path), message);
        self.faults.push(if hint.is_empty() { fault } else { fault.hint(hint) });
    }

    fn route(&mut self, route: Route) -> routes::Route {
        if !fits_something(&route.matching) {
            let message = "matches no log group";
            self.fault("match", message, "write its name, with * for any part between two slashes");
        }
        let prefix = route.log_line_prefix.as_deref().map(Prefix::parse);
        if prefix.is_some() && route.parser != Parser::Postgres {
            self.fault("log_line_prefix", "is for `parser: postgres` only", "");
        }
        let prefix = match prefix {
            None => Prefix::rds(),
            Some(Ok(prefix)) => prefix,
            Some(Err(words)) => {
                self.fault("log_line_prefix", words, "");
                Prefix::rds()
            }
        };
        check_labels(
            &route.labels,
            self.written.get("labels"),
            &format!("{}.labels", self.path),
            self.faults,
        );
        routes::Route {
            pattern: route.matching,
            parser: match route.parser {
                Parser::MysqlSlow => routes::Parser::MySqlSlow,
                Parser::Postgres => routes::Parser::Postgres(prefix),
                Parser::Plain => routes::Parser::Plain,
            },
            labels: route.labels,
            archive: route.archive.and_then(|archive| self.archive(&archive)),
            raw_text: route.raw_text,
        }
    }

    fn archive(&mut self, written: &Archive) -> Option<archive::Archive> {
        let zone = TimeZone::get(&written.time_zone);
        if zone.is_err() {
            let hint = "write it like Asia/Tokyo or UTC";
            self.fault("archive.time_zone", "no time zone of the IANA database", hint);
        }
        let line = Line::parse(&written.line).map_err(|words| self.fault("archive.line", words, ""));
        Some(archive::Archive {
            dir: self.base.join(&written.dir),
            zone: zone.ok()?,
            line: line.ok()?,
            seal_after: SignedDuration::try_from(written.seal_after.duration()).ok()?,
        })
    }
}

/// Names of log groups have letters, digits and `_ - / . #` (the API reference of `CreateLogGroup`).
fn fits_something(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '#' | '*'))
}
