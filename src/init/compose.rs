//! `docker-compose.yml`: datapulse with Prometheus, Alertmanager and Grafana, on the files beside it.

use super::monitoring::{dashboards, retention};
use super::{Choice, File, Secrets, configuration};

/// Versions that exist for good: a tag such as `latest` would be another program next week.
const PROMETHEUS: &str = "prom/prometheus:v3.5.0";
const ALERTMANAGER: &str = "prom/alertmanager:v0.28.1";
const GRAFANA: &str = "grafana/grafana:12.0.2";

pub(super) fn file(choice: &Choice) -> File {
    let why = "all of it in containers: datapulse, Prometheus, Alertmanager, Grafana";
    File::new("docker-compose.yml", why, text(choice))
}

fn text(choice: &Choice) -> String {
    let volumes = if choice.has_state() { "  datapulse: {}\n" } else { "" };
    format!(
        "{HEAD}{}{}{}{}\nvolumes:\n{volumes}  prometheus: {{}}\n  alertmanager: {{}}\n  grafana: {{}}\n",
        datapulse(choice),
        prometheus(choice),
        alertmanager(),
        grafana(choice)
    )
}

const HEAD: &str = "\
# docker compose up -d, in this directory. Everything is on the network of the host and listens on 127.0.0.1 only, so one set of
# files and addresses is true with containers and without, and a database on this machine is reachable too. (Docker Desktop: switch
# \"host networking\" on.) Ports: datapulse 9893, Prometheus 9090, Alertmanager 9093, Grafana 3000.
services:
";

/// What all four have.
const HARDENED: &str = "    network_mode: host
    restart: unless-stopped
    cap_drop: [ALL]
    security_opt: [\"no-new-privileges:true\"]
";

/// A file or folder beside this one, mounted read only; a missing one is an error and not a new folder of root.
fn mount(source: &str, target: &str) -> String {
    format!(
        "      - {{type: bind, source: ./{source}, target: {target}, read_only: true, bind: {{create_host_path: false}}}}\n"
    )
}

fn datapulse(choice: &Choice) -> String {
    let mut text = format!(
        "  datapulse:\n    image: datapulse:{}\n    command: [serve, --config.file, /etc/datapulse/datapulse.yml]\n{HARDENED}    \
         read_only: true\n",
        env!("CARGO_PKG_VERSION")
    );
    if configuration::has_environment(choice) {
        text += "    env_file: [environment]                      # made of env.example\n";
    }
    text += "    volumes:\n";
    text += &mount("datapulse.yml", "/etc/datapulse/datapulse.yml");
    if choice.secrets == Secrets::File && !choice.kept().is_empty() {
        text +=
            "      # The image runs as user and group 65532, who have to be able to read it: README.md.\n";
        text += &mount("secrets", "/etc/datapulse/secrets");
    }
    if choice.has_state() {
        text += &format!("      - datapulse:{}\n", configuration::DATA_DIR);
    }
    text
}

fn prometheus(choice: &Choice) -> String {
    format!(
        "\n  prometheus:\n    image: {PROMETHEUS}\n    command:\n      - --config.file=/etc/prometheus/prometheus.yml\n      \
         - --storage.tsdb.path=/prometheus\n      - --storage.tsdb.retention.time={}\n      \
         - --web.listen-address=127.0.0.1:9090\n{HARDENED}    volumes:\n{}{}      - prometheus:/prometheus\n",
        retention(choice),
        mount("prometheus.yml", "/etc/prometheus/prometheus.yml"),
        mount("alerts", "/etc/prometheus/alerts"),
    )
}

fn alertmanager() -> String {
    format!(
        "\n  alertmanager:\n    image: {ALERTMANAGER}\n    command:\n      - --config.file=/etc/alertmanager/alertmanager.yml\n      \
         - --storage.path=/alertmanager\n      - --web.listen-address=127.0.0.1:9093\n      - --cluster.listen-address=\n\
         {HARDENED}    volumes:\n{}      # the address of an incoming webhook of Slack, and nothing else\n{}      - alertmanager:/alertmanager\n",
        mount("alertmanager.yml", "/etc/alertmanager/alertmanager.yml"),
        mount("secrets/slack-url", "/etc/alertmanager/slack-url"),
    )
}

fn grafana(choice: &Choice) -> String {
    let boards = dashboards(choice).next().map(|_| mount("dashboards", "/var/lib/grafana/dashboards"));
    format!(
        "\n  grafana:\n    image: {GRAFANA}\n    environment: {{GF_SERVER_HTTP_ADDR: 127.0.0.1}}\n{HARDENED}    volumes:\n{}{}      \
         - grafana:/var/lib/grafana\n",
        mount("grafana/provisioning", "/etc/grafana/provisioning"),
        boards.unwrap_or_default(),
    )
}
