//! What to do with the files: the tree that is printed, the next steps, and the README.md beside them.

use super::configuration::{DATA_DIR, has_environment, keeping};
use super::{Choice, File, Part, Secrets, Server};
use std::fmt::Write;

/// Where the reasons begin.
const REASON: usize = 46;

/// Something to do, and the commands for it.
pub struct Step {
    /// What and why.
    pub words: String,
    /// In the directory that was written.
    pub commands: Vec<String>,
}

impl Step {
    fn new(words: impl Into<String>, commands: Vec<String>) -> Self {
        Self { words: words.into(), commands }
    }
}

/// What is to be done, in its order.
pub fn steps(choice: &Choice) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.push(Step::new(
        "Put your values where a guess stands.",
        vec!["grep -rn CHANGE . --include=datapulse.yml --include='*.sql'".to_owned()],
    ));
    if choice.asks_aws() {
        steps.push(Step::new(
            "Fill in the words in capitals of iam/policy.json and give the policy to the role that datapulse runs as.",
            vec!["aws iam put-role-policy --role-name datapulse --policy-name datapulse --policy-document file://iam/policy.json".to_owned()],
        ));
    }
    let roles: Vec<String> = choice.logins.keys().map(|server| role(*server, choice)).collect();
    if !roles.is_empty() {
        let words = if choice.logins.keys().any(|server| server.is_postgres()) {
            "Make the roles, as an administrator of each server; `\\password` asks for the new password and shows it to nobody."
        } else {
            "Make the roles, as an administrator of each server."
        };
        steps.push(Step::new(words, roles));
    }
    let keeping = keeping(choice);
    if !keeping.is_empty() {
        let words = match choice.secrets {
            Secrets::Env => "Fill in the variables, and take them into this shell.",
            Secrets::File => "Write the secrets into their files; variables are taken into this shell.",
            Secrets::Ssm => "Put the secrets into Parameter Store; variables are taken into this shell.",
        };
        steps.push(Step::new(words, keeping));
    }
    if choice.has_state() {
        let make = format!("sudo install -d -m 700 -o \"$(id -un)\" {DATA_DIR}");
        steps.push(Step::new(
            "Make the directory of the state, to try it in this shell (systemd makes it by itself).",
            vec![make],
        ));
    }
    let run = |word: &str| format!("datapulse {word}");
    steps.push(Step::new(
        "Check it: offline, then with every server, which names each right that is missing.",
        vec![run("validate"), run("doctor")],
    ));
    steps.push(Step::new("Run it; the page is http://127.0.0.1:9893/", vec![run("serve")]));
    steps
}

fn role(server: Server, choice: &Choice) -> String {
    let name = server.name();
    let Some(login) = choice.logins.get(&server) else { return String::new() };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let (host, port, database) = (&login.host, login.port, quoted(&login.database));
    match server {
        Server::Cache => format!("sh redis/create-user.sh -h {host} -p {port} --tls"),
        Server::Warehouse => {
            format!("psql -h {host} -p {port} -d {database} -U ADMINISTRATOR -f sql/{name}.sql")
        }
        _ => {
            let role = format!("\"{}\"", login.user.replace('"', "\"\""));
            let password = quoted(&format!("\\password {role}"));
            format!("psql -h {host} -p {port} -d {database} -U ADMINISTRATOR -f sql/{name}.sql -c {password}")
        }
    }
}

/// The files with their reasons, by folder.
pub fn tree(files: &[File]) -> String {
    let mut text = String::new();
    let mut folder = "";
    for file in files {
        let (above, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        if above != folder {
            folder = above;
            text.push_str(&format!("  {above}/\n"));
        }
        let shown = format!("{}{name}", if above.is_empty() { "  " } else { "    " });
        text.push_str(&format!("{shown:REASON$} {}\n", file.why));
    }
    text
}

/// `README.md`, beside the other files.
pub(super) fn file(choice: &Choice, files: &[File]) -> File {
    File::new("README.md", "what each file is, and what to do in which order", readme(choice, files))
}

fn readme(choice: &Choice, files: &[File]) -> String {
    let mut text = "# datapulse\n\nWritten by `datapulse init` for:\n\n".to_owned();
    for part in &choice.parts {
        text.push_str(&format!("- `{}`: {}\n", part.word(), part.purpose()));
    }
    text.push_str("\n## First\n\nIn this directory:\n");
    for (number, step) in steps(choice).iter().enumerate() {
        text.push_str(&format!("\n{}. {}\n", number + 1, step.words));
        if !step.commands.is_empty() {
            text.push_str(&format!("\n   ```sh\n{}   ```\n", super::indented(&step.commands.join("\n"), 3)));
        }
    }
    text.push_str("\n## Then one of these\n\n");
    text.push_str(&systemd(choice));
    text.push_str(&containers(choice));
    text.push_str(&kubernetes(choice));
    if choice.has(Part::Slack) {
        text.push_str(SLACK);
    }
    text.push_str("## Files\n\n| file | is |\n|---|---|\n");
    for file in files {
        // Writing to a String cannot fail.
        writeln!(text, "| `{}` | {} |", file.path, file.why).ok();
    }
    text
}

fn systemd(choice: &Choice) -> String {
    let mut commands = vec![
        "sudo useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin datapulse"
            .to_owned(),
        "sudo install -d /etc/datapulse && sudo install -m 644 datapulse.yml /etc/datapulse/".to_owned(),
    ];
    let kept = !choice.kept().is_empty();
    if choice.secrets == Secrets::File && kept {
        commands.push("sudo install -d -m 750 -g datapulse /etc/datapulse/secrets && sudo install -m 640 -g datapulse secrets/* /etc/datapulse/secrets/".to_owned());
    }
    if has_environment(choice) {
        commands.push("sudo install -m 600 environment /etc/datapulse/environment".to_owned());
    }
    commands.push("sudo install -m 644 systemd/datapulse.service /etc/systemd/system/".to_owned());
    commands.push("sudo systemctl daemon-reload && sudo systemctl enable --now datapulse".to_owned());
    format!(
        "**systemd** (the program in `/usr/bin` or `/usr/local/bin`):\n\n```sh\n{}\n```\n\n\
         For a Prometheus and an Alertmanager that run already: `alerts/*.yml` go to `rule_files`, the job of `prometheus.yml` to \
         `scrape_configs`, and `alertmanager.yml` is a whole file of routes; its head says what to set. `dashboards/*.json` can be imported into Grafana.\n\n",
        commands.join("\n")
    )
}

fn containers(choice: &Choice) -> String {
    let readable = if choice.secrets == Secrets::File && !choice.kept().is_empty() {
        "sudo chgrp -R 65532 secrets && sudo chmod -R g+rX secrets   # the group of the image\n"
    } else {
        ""
    };
    let environment = if has_environment(choice) { " It reads `environment` (see above)." } else { "" };
    format!(
        "**Containers**, with Prometheus, Alertmanager and Grafana. The image `datapulse:{}` is built from the repository.{environment}\n\n```sh\n\
         (umask 022; mkdir -p secrets; cat > secrets/slack-url)   # the address of an incoming webhook of Slack; end with Ctrl-D\n\
         {readable}docker compose up -d\n```\n\n\
         Grafana is on http://127.0.0.1:3000/ and asks for a new password at the first login (admin, admin).\n\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn kubernetes(choice: &Choice) -> String {
    let kept = choice.kept();
    let secret = match choice.secrets {
        Secrets::Env if has_environment(choice) => {
            "kubectl -n monitoring create secret generic datapulse --from-env-file=environment\n".to_owned()
        }
        Secrets::File if !kept.is_empty() => {
            let files: Vec<String> =
                kept.iter().map(|(secret, _)| format!("--from-file=secrets/{secret}")).collect();
            format!("kubectl -n monitoring create secret generic datapulse {}\n", files.join(" "))
        }
        _ => String::new(),
    };
    format!(
        "**Kubernetes**, with the Prometheus operator, in the namespace `monitoring` or another one. Routes of Alertmanager are set up with the \
         operator; `alertmanager.yml` says which.\n\n```sh\n{secret}kubectl -n monitoring apply -f kubernetes/\n```\n\n"
    )
}

const SLACK: &str = "\
## Slack

The bot needs the scopes `chat:write`, `files:write` and `channels:history` (`groups:history` for a private channel), and an invitation to
the channel: `/invite @datapulse`. `datapulse once --slack` shows what a message looks like, and sends nothing.

";
