//! `datapulse init`: writes what the chosen checks need, and says what to do with it.

use super::{FAILED, USAGE, complain, print};
use crate::config::{self, secret::Environment};
use crate::init::{self, Choice, Delivery, Given, Login, Part, Secrets, Server, questions, writing};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// What `--for` takes beside the parts.
const ALL: &str = "all";

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Directory to write into; it must not exist or be empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// What to write it for: checks, `logs`, `slack`, or `all`; without it init asks, on a terminal
    #[arg(long = "for", value_name = "CHECK", value_delimiter = ',', value_parser = words(), hide_possible_values = true)]
    pub parts: Vec<String>,
    /// Where a server is: subscriber, publisher, database, warehouse or cache, as in `subscriber=db.example.org:5432/orders`; repeatable
    #[arg(long, value_name = "NAME=[USER@]HOST[:PORT][/DATABASE]", value_parser = target)]
    pub target: Vec<(Server, Login)>,
    /// Where passwords and keys are kept [default: env]
    #[arg(long, value_name = "WHERE")]
    pub secrets: Option<Secrets>,
    /// How logs come [default: doors]
    #[arg(long, value_name = "WAY")]
    pub log_delivery: Option<Delivery>,
    /// Address of Prometheus, for charts and Grafana [default: `http://127.0.0.1:9090`]
    #[arg(long, value_name = "URL", value_parser = questions::address)]
    pub prometheus: Option<String>,
    /// Slack channel for alerts, by its id
    #[arg(long, value_name = "ID", value_parser = questions::channel)]
    pub slack_channel: Option<String>,
    /// Write over files of the same names; nothing else in the directory is touched
    #[arg(long)]
    pub force: bool,
}

/// The words of `--for`.
fn words() -> PossibleValuesParser {
    PossibleValuesParser::new(Part::ALL.map(Part::word).into_iter().chain([ALL]))
}

fn target(text: &str) -> Result<(Server, Login), String> {
    let names = Server::ALL.map(Server::name);
    let known =
        || format!("expected NAME=[USER@]HOST[:PORT][/DATABASE] with one of the names {}", names.join(", "));
    let (name, rest) = text.split_once('=').ok_or_else(known)?;
    let server = Server::ALL.into_iter().find(|server| server.name() == name).ok_or_else(known)?;
    Ok((server, Login::parse(server, rest)?))
}

/// Asks what is missing, writes, and prints what there is now.
pub fn run(flags: Flags) -> ExitCode {
    let (dir, force) = (flags.dir.clone(), flags.force);
    let refuse = |refusal: &writing::Refusal| {
        complain(refusal);
        ExitCode::from(if refusal.is_usage() { USAGE } else { FAILED })
    };
    // Said before somebody has answered all questions.
    if let Err(refusal) = writing::allows(&dir, force) {
        return refuse(&refusal);
    }
    let choice = match choose(flags) {
        Ok(choice) => choice,
        Err(words) => {
            complain(words);
            return ExitCode::from(USAGE);
        }
    };
    let files = init::files(&choice);
    match writing::write(&dir, &files, force, check) {
        Ok(()) => print(&report(&dir, &choice, &files)),
        Err(refusal) => refuse(&refusal),
    }
}

fn choose(flags: Flags) -> Result<Choice, String> {
    let all = flags.parts.iter().any(|word| word == ALL);
    let parts =
        if all { Part::ALL.to_vec() } else { flags.parts.iter().filter_map(|word| Part::of(word)).collect() };
    let mut given = Given {
        parts,
        logins: flags.target.into_iter().collect(),
        secrets: flags.secrets,
        delivery: flags.log_delivery,
        prometheus: flags.prometheus,
        channel: flags.slack_channel,
    };
    if given.parts.is_empty() {
        let words: Vec<&str> = Part::ALL.map(Part::word).into_iter().chain([ALL]).collect();
        let cure = format!(
            "say what to write it for, as in --for pg_subscription,slack; accepted: {}",
            words.join(", ")
        );
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(format!("nobody can be asked here: {cure}"));
        }
        questions::ask(&mut given, &mut io::stdin().lock(), &mut io::stderr().lock())
            .map_err(|error| format!("the answers ended early ({error}), nothing was written: {cure}"))?;
    }
    Choice::new(given)
}

/// What is written has to be valid, whatever was given.
fn check(draft: &Path) -> Result<(), String> {
    let environment: Environment = Arc::new(|_| None);
    config::check(&draft.join("datapulse.yml"), &environment).map(drop).map_err(|faults| faults.to_string())
}

fn report(dir: &Path, choice: &Choice, files: &[init::File]) -> String {
    let place = dir.display();
    let mut text =
        format!("{place}/\n{}\nNext:\n\n     cd {}\n", init::tree(files), quoted(&place.to_string()));
    for (number, step) in (1..).zip(init::steps(choice)) {
        text.push_str(&format!("{number:3}. {}\n", step.words));
        for command in step.commands {
            text.push_str(&format!("     {command}\n"));
        }
    }
    text + "\nThen as a service, with systemd, containers or Kubernetes: README.md in that directory.\n"
}

/// For a shell.
fn quoted(path: &str) -> String {
    if path.chars().all(|letter| letter.is_alphanumeric() || "/._-".contains(letter)) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}
