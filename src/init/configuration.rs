//! `datapulse.yml` with the comments that a reader needs, and the variables that it refers to.

use super::{
    CHANNEL, Choice, Delivery, File, Login, Part, Secrets, Server, parameter, password, scalar, variable,
};

/// Where comments begin that stand behind a value.
const COMMENT: usize = 50;
/// Where the state is, in every way to run it: made by systemd, or mounted.
pub(super) const DATA_DIR: &str = "/var/lib/datapulse";

pub(super) fn files(choice: &Choice) -> Vec<File> {
    let environment = environment(choice).map(|text| {
        File::new("env.example", "the variables, to be copied to `environment` and filled in", text)
    });
    let ignored = "environment\nsecrets/\n";
    let mut files = vec![
        File::new("datapulse.yml", "what is asked, how often, and who is told", configuration(choice)),
        File::new(".gitignore", "keeps what is secret out of a repository", ignored),
    ];
    files.extend(environment);
    files
}

/// The text of `datapulse.yml`.
pub(super) fn configuration(choice: &Choice) -> String {
    let words: Vec<&str> = choice.parts.iter().map(|part| part.word()).collect();
    let words = if choice.parts == Part::ALL { "all".to_owned() } else { words.join(",") };
    let mut text = format!(
        "# The configuration of datapulse, written by `datapulse init --for {words}`.\n\
         # What is marked CHANGE is a guess. `datapulse validate` finds every fault, `datapulse doctor` also connects.\n"
    );
    if choice.has_state() {
        text.push_str(&format!(
            "\n# What a restart must not forget: what was paid for, which events were taken, which alerts are open.\ndata_dir: {DATA_DIR}\n"
        ));
    }
    if !choice.logins.is_empty() {
        text.push_str("\n# Servers, named once, used by many checks. Passwords are never written here, only where they are kept.\ntargets:\n");
        for (server, login) in &choice.logins {
            text.push_str(&target(*server, login, choice.secrets));
        }
    }
    let checks: Vec<String> = choice.parts.iter().filter_map(|part| check(*part, choice)).collect();
    if !checks.is_empty() {
        text.push_str("\nchecks:\n");
        text.push_str(&checks.join("\n"));
    }
    if choice.has(Part::Logs) {
        text.push_str(&logs(choice));
    }
    if choice.has(Part::Slack) {
        text.push_str(&alerts(choice));
    }
    text.push_str(&format!(
        "\n# The status page shows what this Prometheus fires and expects.\npage: {{prometheus: {}}}\n",
        serde_json::Value::from(choice.prometheus.as_str())
    ));
    text
}

/// A line with a comment behind it.
fn line(value: &str, comment: &str) -> String {
    if comment.is_empty() {
        return format!("{value}\n");
    }
    format!("{value:COMMENT$} # {comment}\n")
}

fn change(guess: bool, comment: &str) -> String {
    match (guess, comment) {
        (true, "") => "CHANGE".to_owned(),
        (true, _) => format!("CHANGE: {comment}"),
        (false, _) => comment.to_owned(),
    }
}

fn target(server: Server, login: &Login, secrets: Secrets) -> String {
    let certificate = "the certificate has to carry this name";
    let mut text = line(&format!("  {}:", server.name()), server.product());
    text += &line(&format!("    host: {}", scalar(&login.host)), &change(login.guess, certificate));
    text += &format!("    port: {}\n    user: {}\n", login.port, scalar(&login.user));
    text += &format!("    password: \"{}\"\n", secrets.reference(&password(server)));
    if server != Server::Cache {
        let which = match server {
            Server::Subscriber => "the one that the subscription lives in",
            Server::Publisher => "any; the one that is published is a good choice",
            _ => "",
        };
        text += &line(&format!("    database: {}", scalar(&login.database)), &change(login.guess, which));
    }
    text += &line("    tls: verify-full", "or verify-ca, require, disable");
    text + &line(
        "    # ca: authority.pem",
        "who signed the certificate, if this system does not know it; on AWS the bundle of RDS",
    )
}

/// The text of a check; `None` for what is a section of its own.
fn check(part: Part, choice: &Choice) -> Option<String> {
    Some(match part {
        Part::PgSubscription => format!(
            "  # Does the subscription run, is it blocked, how far is it behind? Both ends are asked, and fail apart.\n  \
             - pg_subscription:\n      name: replication\n      target: subscriber\n      publisher: publisher\n{}",
            line("      # expect: [orders_sub]", "subscriptions that must exist: without this line a dropped one is not told")
        ),
        Part::PgReplication => format!(
            "  # Slots of the publisher, the WAL that they keep back, and the lags of its WAL senders.\n  \
             - pg_replication:\n      name: slots\n      target: publisher\n{}",
            line("      # thresholds: {retained_bytes: 50GB}", "WAL that a slot may keep back; the rules say 20 GB")
        ),
        Part::PgInflight => {
            let servers: Vec<&str> =
                choice.logins.keys().filter(|server| server.is_postgres()).map(|server| server.name()).collect();
            format!(
                "  # Sessions: what runs, waits, blocks others, and idles in a transaction.\n  \
                 - pg_inflight:\n      name: sessions\n      targets: [{}]\n{}{}",
                servers.join(", "),
                line("      min_elapsed: 1m", "shorter ones are counted, not listed"),
                line("      # thresholds: {elapsed: 30m}", "how long a statement may run; the rules say 1h, critical at twice that")
            )
        }
        Part::RedshiftInflight => format!(
            "  # Queries in flight, with their users, minutes and texts without literals.\n  \
             - redshift_inflight:\n      name: warehouse\n      target: warehouse\n{}{}{}",
            line("      every: 5m", "on Redshift Serverless each question is paid for: 15m or more"),
            line("      min_elapsed: 1m", "shorter ones are counted, not listed"),
            line("      time_zone: UTC", "in which people are told when a query began")
        ),
        Part::SqlQuery => SQL_QUERY.to_owned(),
        Part::AthenaQuery => ATHENA_QUERY.to_owned(),
        Part::LogsInsights => LOGS_INSIGHTS.to_owned(),
        Part::Redis => "  # Primaries, replicas, failovers, memory. All nodes are found from the one that the target names.\n  \
             - redis:\n      name: cache\n      target: cache\n"
            .to_owned(),
        Part::MemoryDb => format!(
            "  # Clusters as AWS sees them: nodes that are there and nodes that should be, snapshots, events.\n  \
             - memorydb:\n      name: stores\n{}{}{}{}",
            line("      service: memorydb", "or elasticache; its rights are docs/iam/elasticache.json"),
            line("      clusters: [all]", "or names: a named one that is gone is an alert"),
            line("      # expect: {replicas: 1}", "nodes that a shard has to have; without it what the API wants"),
            line("      # region: eu-west-1", "without it AWS_REGION, or what the machine says")
        ),
        Part::Logs | Part::Slack => return None,
    })
}

const SQL_QUERY: &str = r#"  # Any statement that reads: columns become values and labels. This one runs everywhere.
  - sql_query:
      name: sessions_by_database
      target: database
      every: 1m
      # CHANGE: a statement of your own. The role needs SELECT on what it reads: sql/database.sql.
      sql: >-
        select datname, numbackends as sessions from pg_stat_database where datname is not null
      metrics:
        - {name: sessions.by_database, value: sessions, labels: [datname], help: "Sessions, by database"}
  # With a metric device.connections and its label country, alerts/devices.yml, alerts/anomaly.yml and the dashboard speak of it:
  # - sql_query:
  #     name: devices
  #     target: database
  #     sql: >-
  #       select country, count(distinct device) as devices, max(connected_at) as newest
  #       from device_connections where connected_at > now() - interval '1 hour' group by country
  #     metrics: [{name: device.connections, value: devices, labels: [country], unit: "{device}", help: "Devices that connected in the last hour"}]
  #     fill: {country: [JP, TH, PH]}      # known values: without a row they are 0
  #     freshness: newest                  # old data are a failed check, not a quiet country
  #     max_data_age: 2h
"#;

const ATHENA_QUERY: &str = r#"  # Each run costs what it scans: `datapulse doctor` says what a day will cost once it has run.
  - athena_query:
      name: devices_lake
      every: 1h
      offset: 5m                                   # at :05 of every hour
      workgroup: primary                           # CHANGE
      output: s3://example-results/datapulse/      # CHANGE; may go if the workgroup has a place of its own
      database: lake                               # CHANGE
      # region: eu-west-1                          # without it AWS_REGION, or what the machine says
      budget: {scanned_bytes_per_day: 50GB}        # then no further run until midnight UTC
      # CHANGE: a statement of your own. Let the `where` name partitions, so that little is scanned.
      sql: >-
        select country, count(distinct device) as devices from connections
        where hour = date_format(current_timestamp - interval '1' hour, '%Y-%m-%d-%H') group by country
      metrics:
        - {name: device.connections, value: devices, labels: [country], unit: "{device}", help: "Devices that connected in the last full hour"}
      # fill: {country: [JP, TH, PH]}              # known values: without a row they are 0
"#;

const LOGS_INSIGHTS: &str = r#"  # Each run costs what it scans: `datapulse doctor` says what a day will cost once it has run.
  - logs_insights:
      name: postgres_errors
      every: 5m
      log_groups: [/aws/rds/cluster/orders/postgresql]   # CHANGE
      # region: eu-west-1                          # without it AWS_REGION, or what the machine says
      budget: {scanned_bytes_per_day: 20GB}        # then no further run until midnight UTC
      query: "parse @message /: (?<severity>ERROR|FATAL|PANIC):/ | filter ispresent(severity) | stats count(*) as messages by severity"
      window: 5m                                   # how long a piece of the log
      delay: 5m                                    # how long ago it ends: events come in late
      metrics:
        - {name: postgres.error_messages, value: messages, labels: [severity], help: "Messages in five minutes of the log"}
      fill: {severity: [ERROR, FATAL, PANIC]}
      empty: zero                                  # no event is no error
"#;

fn logs(choice: &Choice) -> String {
    let way = match choice.delivery {
        Delivery::Doors => format!(
            "  # Firehose delivers to POST /logs/firehose, a Lambda function to POST /logs/cloudwatch; both bring this key.\n  \
             doors: {{access_keys: [\"{}\"]}}\n",
            choice.secrets.reference("firehose-key")
        ),
        Delivery::Pull => format!(
            "  # Asked for, where there is no subscription.\n  pull:\n{}{}",
            line(
                "    - {log_group: \"/aws/rds/*/*/slowquery\", every: 60s}",
                "CHANGE: names, or patterns with `*`"
            ),
            line("    # - {log_group: \"/aws/rds/*/*/postgresql\", every: 60s}", "")
        ),
    };
    format!(
        "\n# Logs become counters by statement; the first route whose `match` fits takes a log group.\nlogs:\n{way}  routes:\n\
         {}      parser: mysql_slow\n{}{}      parser: postgres\n",
        line("    - match: /aws/rds/*/*/slowquery", "MySQL, MariaDB, Aurora MySQL"),
        line("      # archive: {dir: /srv/archive, time_zone: UTC}", "a file of each day's lines"),
        line("    - match: /aws/rds/*/*/postgresql", "PostgreSQL; durations need log_min_duration_statement"),
    )
}

fn alerts(choice: &Choice) -> String {
    let channel = choice.channel.as_deref();
    format!(
        "\n# Alertmanager sends what fires to /alerts/alertmanager; here it becomes one message an incident.\nalerts:\n  slack:\n    \
         token: \"{}\"\n{}  evidence:\n{}    - collect:\n        - rows: {{}}\n        - chart: {{prometheus: {}, range: 3h}}\n",
        choice.secrets.reference("slack-token"),
        line(
            &format!("    channel: {}", channel.unwrap_or(CHANNEL)),
            &change(channel.is_none(), "the channel's id, which Slack shows at the end of its details")
        ),
        "    # For the thread of the message: rows of the check, and a chart of the series behind the alert.\n",
        serde_json::Value::from(choice.prometheus.as_str()),
    )
}

/// Whether there are variables to fill in.
pub(super) fn has_environment(choice: &Choice) -> bool {
    choice.asks_aws() || choice.secrets == Secrets::Env && !choice.kept().is_empty()
}

/// The variables that the configuration refers to, without values; `None` when there is none.
fn environment(choice: &Choice) -> Option<String> {
    if !has_environment(choice) {
        return None;
    }
    let mut text = "# Copy this to `environment`, readable by its owner only (chmod 600), and fill it in: systemd and compose read it there.\n\
                    # Blanks, quotes, $ and # mean something else to each of them and to a shell: choose passwords of letters and digits.\n"
        .to_owned();
    let kept = if choice.secrets == Secrets::Env { choice.kept() } else { Vec::new() };
    for (secret, purpose) in kept {
        text.push_str(&format!("\n# {purpose}\n{}=\n", variable(&secret)));
    }
    if choice.asks_aws() {
        text.push_str(
            "\n# Region and credentials are found as the AWS SDKs do it; where the machine has a role, the region is enough.\n\
             # AWS_REGION=\n",
        );
    }
    Some(text)
}

/// How secrets and variables are put where they are looked for.
pub(super) fn keeping(choice: &Choice) -> Vec<String> {
    let kept = choice.kept();
    let mut commands: Vec<String> = match choice.secrets {
        Secrets::Env => Vec::new(),
        Secrets::File => {
            let write = |(secret, purpose): &(String, String)| {
                format!("(umask 077; cat > secrets/{secret})   # {purpose}; end with Ctrl-D")
            };
            let make = (!kept.is_empty()).then(|| "install -d -m 700 secrets".to_owned());
            make.into_iter().chain(kept.iter().map(write)).collect()
        }
        Secrets::Ssm => {
            let put = |(secret, purpose): &(String, String)| {
                format!(
                    "aws ssm put-parameter --type SecureString --name {} --value file:///dev/stdin   # {purpose}; end with Ctrl-D",
                    parameter(secret)
                )
            };
            kept.iter().map(put).collect()
        }
    };
    if has_environment(choice) {
        commands.extend(
            [
                "install -m 600 env.example environment",
                "\"${EDITOR:-vi}\" environment",
                "set -a; . ./environment; set +a",
            ]
            .map(str::to_owned),
        );
    }
    commands
}
