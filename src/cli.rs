//! The command line: words, flags and help of the contract. Commands are thin.

pub mod catalogue;
pub mod demo;
pub mod digest;
pub mod doctor;
pub mod healthy;
pub mod init;
pub mod log;
pub mod once;
pub mod serve;
pub mod validate;

use crate::config::secret::{Environment, Vault};
use crate::config::{self, Plan};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Something went wrong at run time.
pub const FAILED: u8 = 1;
/// The command line or the configuration is not usable (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// Exporter for data services: every check becomes gauges and counters on /metrics, over OTLP and over DogStatsD.
#[derive(Debug, Parser)]
#[command(name = "datapulse", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; `serve` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `serve`.
    #[command(flatten)]
    pub serve: Serve,
}

/// What datapulse can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the exporter (the default)
    Serve(Box<Serve>),
    /// Check a configuration without connecting to anything; prints every fault with its file, line and column
    Validate(ConfigFile),
    /// Connect to everything, name what is missing, count the series that will result
    Doctor(ConfigFile),
    /// Run checks now and print what they give; exit status 1 when one fails
    Once(Once),
    /// Read logs of MySQL or PostgreSQL and print the statements that take the most time
    Digest(Digest),
    /// Write configuration, alerts, dashboards, units, manifests and roles for just the checks that you choose
    Init(Box<init::Flags>),
    /// Print every metric: three spellings, unit, kind, labels, help
    Catalogue(Catalogue),
    /// Start a private replication of two PostgreSQL servers with Prometheus beside, and break it on request
    Demo(Demo),
    /// Ask a running datapulse whether it is healthy: status 0 when it answers, also when it wants TLS or a password
    Healthy {
        /// Where it listens
        #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9893", value_parser = address)]
        listen: String,
    },
    /// Print the completion script for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the JSON schema of the configuration
    Schema,
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// Configuration file
    #[arg(long = "config.file", value_name = "FILE", default_value = "datapulse.yml")]
    pub config_file: PathBuf,
}

/// Flags of the exporter.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Address to listen on; repeatable
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9893", value_parser = address)]
    pub listen: Vec<String>,
    /// TLS and basic auth, in the format of the Prometheus exporter toolkit; read again when it changes
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = path)]
    pub telemetry_path: String,
    /// Allow POST /-/reload
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
    /// Log only what is at least this severe
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// Format of the log on standard error
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Severity of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    /// Data were lost, or a person must act.
    Error,
    /// Something failed and is tried again.
    Warn,
    /// Changes of state.
    Info,
    /// What is done.
    Debug,
    /// Everything.
    Trace,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `once`.
#[derive(Debug, Args)]
pub struct Once {
    /// Names of checks; all when absent
    #[arg(value_name = "CHECK")]
    pub checks: Vec<String>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OnceOutput,
    /// Also run checks that cost money: `athena_query` and `logs_insights`
    #[arg(long)]
    pub spend: bool,
    /// Show as text, and as a picture in this file, what Slack would show of an alert about each check; nothing is sent
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "slack.svg")]
    pub slack: Option<PathBuf>,
    /// With --slack: a file with a delivery of Alertmanager (webhook, version 4) to show instead
    #[arg(long, value_name = "FILE", requires = "slack")]
    pub alert: Option<PathBuf>,
}

/// How `once` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnceOutput {
    /// For people.
    Table,
    /// As on /metrics.
    Prometheus,
    /// For programs.
    Json,
}

/// Flags of `digest`.
#[derive(Debug, Args)]
pub struct Digest {
    /// Logs to read, plain or gzip; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How the logs are written; auto looks at the first lines of each
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub format: DigestFormat,
    /// The server's `log_line_prefix`, for postgres-stderr [default: `%t:%r:%u@%d:[%p]:`, which RDS and Aurora have]
    #[arg(long, value_name = "PREFIX")]
    pub log_line_prefix: Option<String>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: DigestOutput,
    /// Print this many statements
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Also print the slowest call of each statement, with its literals
    #[arg(long)]
    pub raw: bool,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DigestFormat {
    /// By its first lines.
    Auto,
    /// Slow query log of MySQL, `MariaDB`, Percona Server or Aurora.
    Mysql,
    /// `PostgreSQL` on standard error.
    PostgresStderr,
    /// `PostgreSQL`'s csvlog.
    PostgresCsv,
    /// `PostgreSQL`'s jsonlog.
    PostgresJson,
    /// One subscription payload of CloudWatch Logs a file: JSON, gzip or base64.
    Cloudwatch,
}

/// How `digest` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DigestOutput {
    /// For people.
    Table,
    /// The same for programs.
    Json,
    /// Every event as a JSON object on a line, with its literals.
    Events,
}

/// Flags of `catalogue`.
#[derive(Debug, Args)]
pub struct Catalogue {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "markdown")]
    pub output: CatalogueOutput,
}

/// How `catalogue` prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CatalogueOutput {
    /// A table for the documentation.
    Markdown,
    /// For programs.
    Json,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Change a demo that runs; without it, start one
    #[command(subcommand)]
    pub action: Option<DemoAction>,
    /// Address of the exporter's page
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9893", value_parser = address)]
    pub listen: String,
}

/// What to do with a demo that runs.
#[derive(Clone, Debug, Subcommand)]
pub enum DemoAction {
    /// Break something
    Break {
        /// What to break
        fault: crate::demo::Fault,
    },
    /// Repair everything
    Heal,
}

/// `host:port`, or `:port` for all addresses of the machine.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("expected host:port or :port, with a port up to 65535".to_owned()),
    }
}

/// A path that a request can have.
fn path(text: &str) -> Result<String, String> {
    match text.strip_prefix('/') {
        Some(rest) if !rest.contains(['?', '#', ' ']) => Ok(text.to_owned()),
        _ => Err("expected a path that begins with /; at any other there would be no metrics".to_owned()),
    }
}

/// Prints the completion script.
pub fn completions(shell: Shell) -> ExitCode {
    let mut command = <Arguments as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "datapulse", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Prints the JSON schema of the configuration.
pub fn schema() -> ExitCode {
    print(&format!("{:#}\n", crate::config::schema::schema()))
}

/// Prints text; a closed pipe (`| head`) is not an error.
pub(crate) fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Says on standard error why a command ends.
pub(crate) fn complain(text: impl std::fmt::Display) {
    use std::io::Write;
    // Nobody is left to tell when standard error itself is gone.
    drop(writeln!(std::io::stderr().lock(), "datapulse: {text}"));
}

/// Why a command does not begin.
pub(crate) struct Refusal {
    pub(crate) text: String,
    code: u8,
}

impl Refusal {
    /// The configuration is not usable.
    fn of_usage(text: String) -> Self {
        Self { text, code: USAGE }
    }

    /// Says it, and gives the exit code.
    fn told(self) -> ExitCode {
        complain(self.text);
        ExitCode::from(self.code)
    }
}

/// The plan of a configuration, and a vault for its secrets.
pub(crate) async fn loaded(
    file: &ConfigFile,
    environment: Environment,
) -> Result<(Plan, Arc<Vault>), Refusal> {
    let path = &file.config_file;
    let vault = Arc::new(Vault::new(environment, &config::folder(path)));
    let plan = config::load(path, &vault).await.map_err(|refused| {
        if refused.unreachable {
            // Another start may do, so it is no bad usage.
            let text = format!("could not read what AWS keeps of the configuration\n{refused}");
            return Refusal { text, code: FAILED };
        }
        Refusal::of_usage(format!("the configuration has faults; see `datapulse validate`\n{refused}"))
    })?;
    vault.move_to(plan.secrets.place());
    Ok((plan, vault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_path_that_cannot_work_is_bad_usage() {
        for (flag, value, good) in [
            ("--web.listen-address", ":9893", true),
            ("--web.listen-address", "[::1]:9893", true),
            ("--web.listen-address", "localhost:0", true),
            ("--web.listen-address", "9893", false),
            ("--web.listen-address", "127.0.0.1:99999", false),
            ("--web.telemetry-path", "/", true),
            ("--web.telemetry-path", "/a/b", true),
            ("--web.telemetry-path", "metrics", false),
            ("--web.telemetry-path", "", false),
            ("--web.telemetry-path", "/a?b", false),
        ] {
            let result = Arguments::try_parse_from(["datapulse", flag, value]);
            assert_eq!(result.is_ok(), good, "{flag} {value}: {result:?}");
        }
    }
}
