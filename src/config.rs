//! The configuration: from YAML to a [`Plan`], which can only be made without faults.

pub mod discover;
mod envelope;
mod families;
pub mod fault;
mod include;
mod kept;
mod loading;
mod logins;
pub mod logs;
pub mod node;
mod plain;
pub mod read;
mod reader;
pub mod scalar;
pub mod schema;
pub mod secret;
mod sections;
mod servers;
mod stand_in;
pub mod target;

use crate::alerts;
use crate::board::{Key, Spec};
use crate::checks;
use crate::logs::pull::Pull;
use crate::net::{Clients, aws};
use crate::prometheus;
use crate::sinks::{dogstatsd, otlp};
use crate::state::{Access, State};
use discover::Discover;
pub use loading::{Outline, Refused, check, folder, load};

use fault::{Fault, Faults, Place};
use scalar::Interval;
use schemars::JsonSchema;
use secret::{Reference, Text, Vault};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use target::Server;

/// Configurations are written by hand; a larger file is another file.
const LARGEST_FILE: u64 = 4 << 20;
/// A check runs at most this often, and secrets are read again at most so often.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Label sets per family, unless the check says otherwise.
const DEFAULT_LIMIT: usize = 1000;
/// The longest default timeout of a check on a database.
const LONGEST_DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest default timeout of a query that a service runs for us.
const LONGEST_AWS_TIMEOUT: Duration = Duration::from_mins(10);
/// Checks on AWS that run this seldom or more so keep to the wall clock.
const SHORTEST_ALIGNED: Duration = Duration::from_mins(5);
/// How often a server is asked by default that is paid while it is asked.
const PAID_INTERVAL: Duration = Duration::from_mins(15);

/// Everything that the configuration asks for, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where state is kept that survives a restart.
    pub data_dir: Option<PathBuf>,
    /// How secrets are read.
    pub secrets: Secrets,
    /// Folder of the configuration: relative paths begin here.
    pub base: PathBuf,
    /// One a check and target.
    pub assignments: Vec<Assignment>,
    /// One a check whose targets AWS names.
    pub templates: Vec<Template>,
    /// Where numbers are pushed to.
    pub outputs: Outputs,
    /// Where alerts are told.
    pub alerts: Option<alerts::config::Config>,
    /// What the status page asks Prometheus.
    pub page: Option<prometheus::Config>,
    /// What becomes of logs.
    pub logs: Option<logs::LogsPlan>,
}

/// One check on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Name of the check and of the target.
    pub key: Key,
    /// The check's own keys.
    pub config: checks::Config,
    /// The check's own target; `None` for one on an AWS API.
    pub server: Option<Arc<Server>>,
    /// The other end of a replication.
    pub publisher: Option<Arc<Server>>,
    /// How often it runs.
    pub every: Duration,
    /// Moves its runs on the wall clock.
    pub offset: Option<Duration>,
    /// How long a run may take.
    pub timeout: Duration,
    /// How long values outlive a failure.
    pub keep_for: Option<Duration>,
    /// Label sets per family.
    pub limit: usize,
    /// Labels of the check and of the target.
    pub labels: BTreeMap<String, String>,
    /// Limits for the bundled rules, in base units.
    pub thresholds: Vec<(&'static str, f64)>,
}

/// A check whose targets are not known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    envelope: envelope::Envelope,
    config: checks::Config,
    /// Where its targets are looked for.
    pub discover: Discover,
}

impl Template {
    /// The check, without a target.
    pub fn key(&self) -> Key {
        Key { check: self.envelope.name.clone(), target: None }
    }

    /// The check on a target that was found.
    pub fn on(&self, server: Arc<Server>) -> Assignment {
        let name = server.name.clone();
        envelope::assignment(
            &self.envelope,
            self.config.kind(),
            self.config.clone(),
            Some(name),
            Some(server),
            None,
        )
    }

    /// What the board has to know of the search.
    pub fn spec(&self) -> Spec {
        Spec {
            check_type: self.config.kind().word,
            every: self.discover.rds.every.duration(),
            timeout: discover::TIMEOUT,
            keep_for: None,
            limit: DEFAULT_LIMIT,
            headlines: &[],
            labels: self.envelope.labels.clone(),
            thresholds: Vec::new(),
        }
    }
}

/// Where numbers are pushed to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outputs {
    /// OpenTelemetry protocol over HTTP.
    pub otlp: Option<otlp::Config>,
    /// DogStatsD, to the Datadog agent.
    pub dogstatsd: Option<dogstatsd::Config>,
}

/// How secrets are read.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// How often all secrets are read again.
    pub refresh: Interval,
    /// Region of what AWS keeps (`ssm:`, `secretsmanager:`); the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume, to read what AWS keeps.
    pub assume_role: Option<String>,
}

impl Secrets {
    /// Where in AWS they are, and as whom to ask there.
    pub fn place(&self) -> aws::Place {
        aws::Place { region: self.region.clone(), assume_role: self.assume_role.clone() }
    }

    /// How often they are read again.
    pub fn refresh(&self) -> Duration {
        self.refresh.duration().max(SHORTEST_INTERVAL)
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self { refresh: Interval::seconds(300), region: None, assume_role: None }
    }
}

/// Reads a file of a configuration, capped.
fn read_file(path: &Path, faults: &mut Faults) -> Option<String> {
    use std::io::Read;
    let name = path.display().to_string();
    let start = Place { file: Arc::from(name.as_str()), line: 1, column: 1 };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    let message = match read {
        Err(error) => format!("could not read the file: {error}"),
        Ok(read) if read as u64 > LARGEST_FILE => format!("larger than {LARGEST_FILE} bytes"),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => return Some(text),
            Err(error) => format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to()),
        },
    };
    faults.push(Fault::new(&start, "", message));
    None
}

impl Assignment {
    /// What the board has to know of it.
    pub fn spec(&self) -> Spec {
        Spec {
            check_type: self.config.kind().word,
            every: self.every,
            timeout: self.timeout,
            keep_for: self.keep_for,
            limit: self.limit,
            headlines: self.config.kind().headlines,
            labels: self.labels.clone(),
            thresholds: self.thresholds.clone(),
        }
    }

    /// What its check gets to talk with.
    pub fn clients(&self, vault: &Arc<Vault>, state: Option<State>) -> Clients {
        Clients {
            vault: Arc::clone(vault),
            target: self.server.clone().unwrap_or_else(|| Arc::new(Server::nowhere())),
            publisher: self.publisher.clone(),
            timeout: self.timeout,
            every: self.every,
            limit: self.limit,
            state,
        }
    }
}

impl Plan {
    /// Every reference that this plan resolves at some time.
    pub fn references(&self) -> Vec<&Reference> {
        let mut all = Vec::new();
        for assignment in &self.assignments {
            for server in [&assignment.server, &assignment.publisher].into_iter().flatten() {
                if assignment.config.kind().sql {
                    all.extend(server.target.references());
                } else {
                    all.extend(server.target.store_references());
                }
            }
        }
        for template in &self.templates {
            let rds = &template.discover.rds;
            all.extend(rds.password.as_ref());
            all.extend([&rds.user, &rds.database].into_iter().filter_map(Text::reference));
        }
        all.extend(self.logs.iter().flat_map(logs::LogsPlan::references));
        all.extend(self.outputs.otlp.iter().flat_map(|otlp| otlp.headers.references()));
        all.extend(self.alerts.iter().map(|alerts| &alerts.slack.token));
        all.sort();
        all.dedup();
        all
    }

    /// Logs that are asked for.
    pub fn pulls(&self) -> &[Pull] {
        self.logs.as_ref().map_or(&[], |logs| &logs.pulls)
    }

    /// What the vault may read together: also what may be missing.
    pub fn expected(&self) -> Vec<&Reference> {
        let servers = self.assignments.iter().flat_map(|one| [&one.server, &one.publisher]).flatten();
        let optional = servers.flat_map(|server| {
            let user = server.target.user.as_ref().and_then(Text::reference);
            [server.target.port_reference(), user].into_iter().flatten()
        });
        let mut all: Vec<&Reference> = optional.chain(self.references()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Where a check keeps its state.
    pub fn state(&self, key: &Key, access: Access) -> Option<State> {
        let name = match &key.target {
            Some(target) => format!("{}@{target}", key.check),
            None => key.check.clone(),
        };
        self.data_dir.as_ref().map(|dir| State::new(dir, &name, access))
    }
}
