//! The section `logs`: who may deliver, and what becomes of what is delivered.

use super::fault::{Fault, Faults};
use super::node::Node;
use super::read::read;
use super::scalar::Interval;
use super::secret::Reference;
use super::sections::{mapping, unknown_keys};
use super::servers::check_labels;
use crate::logs::archive::{self, Line};
use crate::logs::documents::Index;
use crate::logs::elasticsearch::Outlet;
use crate::logs::pull;
use crate::logs::routes::{self, Routes};
use crate::net::aws::Place;
use crate::net::https::Url;
use digest::postgres::Prefix;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `FilterLogEvents` has a quota of a few calls a second, for all that run in the account.
const SHORTEST_PULL: Duration = Duration::from_secs(1);

/// What the section comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogsPlan {
    /// Which route takes what.
    pub routes: Routes,
    /// What opens the doors.
    pub access_keys: Vec<Reference>,
    /// What is asked for.
    pub pulls: Vec<pull::Pull>,
}

impl LogsPlan {
    /// Every reference that is resolved at some time.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let outlets = self.routes.0.iter().filter_map(|route| route.elasticsearch.as_ref());
        self.access_keys.iter().chain(outlets.filter_map(|outlet| outlet.password.as_ref()))
    }
}

/// Logs that are delivered to us.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Who may deliver over HTTP.
    #[serde(default)]
    pub doors: Doors,
    /// Log groups that are asked for, where there is no subscription.
    #[serde(default)]
    pub pull: Vec<Pull>,
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

/// Log groups that are asked for again and again.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Log groups; `*` stands for any part between two slashes.
    pub log_group: String,
    /// How often.
    #[serde(default = "one_minute")]
    pub every: Interval,
    /// Each pass begins so long before the end of the last one, for events that come late.
    #[serde(default = "ten_minutes")]
    pub overlap: Interval,
    /// Region; as the SDK finds it when absent.
    #[serde(default)]
    pub region: Option<String>,
    /// Role to take on, by its ARN.
    #[serde(default)]
    pub assume_role: Option<String>,
}

fn one_minute() -> Interval {
    Interval::seconds(60)
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
    /// Documents for `OpenSearch` or Elasticsearch.
    #[serde(default)]
    pub elasticsearch: Option<Elasticsearch>,
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

/// Documents for `OpenSearch` or Elasticsearch, over `_bulk`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elasticsearch {
    /// Address of the server, such as <http://127.0.0.1:9200>.
    pub url: Url,
    /// Name of the index: a text with {`log_group`} (lower case, / becomes -) and {yyyy.mm.dd} (the UTC day).
    #[serde(default = "index")]
    pub index: String,
    /// Account, for basic auth.
    #[serde(default)]
    pub user: Option<String>,
    /// Where its password is kept.
    #[serde(default)]
    pub password: Option<Reference>,
    /// PEM file with the certificate authorities of the server; those of the system when absent.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn index() -> String {
    "cwl{log_group}-{yyyy.mm.dd}".to_owned()
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
    unknown_keys(node, &["doors", "pull", "routes"], faults);
    if data_dir.is_none() {
        let hint = "write `data_dir: /var/lib/datapulse`: what was taken must be known after a restart";
        faults.push(Fault::new(node.place(), "logs", "needs `data_dir`").hint(hint));
    }
    let doors = node.get("doors").filter(|doors| !doors.is_nothing());
    let doors = doors.map_or_else(|| Some(Doors::default()), |doors| read(doors, "logs.doors", faults));
    let mut pulls = Vec::new();
    for (at, written) in node.get("pull").and_then(Node::items).unwrap_or_default().iter().enumerate() {
        let path = format!("logs.pull[{at}]");
        let Some(pull) = read::<Pull>(written, &path, faults) else { continue };
        if !fits_something(&pull.log_group) {
            let fault = Fault::new(written.place(), format!("{path}.log_group"), "matches no log group");
            faults.push(fault.hint("write its name, with * for any part between two slashes"));
        }
        if pull.every.duration() < SHORTEST_PULL {
            let fault = Fault::new(written.place(), format!("{path}.every"), "shorter than 1s");
            faults
                .push(fault.hint("AWS allows few calls a second; subscribe to the log group for less delay"));
        }
        pulls.push(pull::Pull {
            log_group: pull.log_group,
            every: pull.every.duration(),
            overlap: pull.overlap.duration(),
            place: Place { region: pull.region, assume_role: pull.assume_role },
        });
    }
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
    Some(LogsPlan { routes: Routes(routes), access_keys: doors?.access_keys, pulls })
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
        if route.parser == Parser::Plain && route.elasticsearch.is_some() && !route.raw_text {
            let message =
                "a plain text has nothing but itself, and without `raw_text: true` that is not sent";
            self.fault("elasticsearch", message, "");
        }
        routes::Route {
            pattern: route.matching,
            parser: match route.parser {
                Parser::MysqlSlow => routes::Parser::MySqlSlow,
                Parser::Postgres => routes::Parser::Postgres(prefix),
                Parser::Plain => routes::Parser::Plain,
            },
            labels: route.labels,
            archive: route.archive.and_then(|archive| self.archive(&archive)),
            elasticsearch: route.elasticsearch.and_then(|written| self.elasticsearch(written)),
            raw_text: route.raw_text,
        }
    }

    fn elasticsearch(&mut self, written: Elasticsearch) -> Option<Outlet> {
        let Elasticsearch { url, index, user, password, ca } = written;
        if user.is_some() != password.is_some() {
            self.fault("elasticsearch", "`user` and `password` go together", "write both or none");
        }
        let index = Index::parse(&index).map_err(|words| self.fault("elasticsearch.index", words, ""));
        Some(Outlet { url, index: index.ok()?, user, password, ca: ca.map(|ca| self.base.join(ca)) })
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
