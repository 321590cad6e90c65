//! `datapulse doctor`: connects to everything, says what it found, what is missing and what it will cost.

mod slack;

use super::once::{Ran, Recall, Run, discover};
use super::{ConfigFile, FAILED, loaded, print};
use crate::check::{Endpoint, Reason};
use crate::config::secret::{Environment, Text};
use crate::config::target::Tls;
use crate::config::{self, Assignment};
use crate::state::Access;
use futures_util::future::join_all;
use metrics::{Handle, Values};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs every check once and reports.
pub async fn run(file: &ConfigFile, environment: Environment) -> ExitCode {
    let (mut plan, vault) = match loaded(file, environment).await {
        Ok(loaded) => loaded,
        Err(refusal) => return refusal.told(),
    };
    let (mut text, mut healthy, mut total) = (String::new(), true, (0, 0));
    for words in discover(&mut plan, &vault).await {
        healthy = false;
        text.push_str(&format!("FAILED   {words}\n"));
    }
    vault.expect(plan.expected());
    let visit =
        |assignment| Run { assignment, vault: &vault, state: plan.state(&assignment.key, Access::Looks) };
    let (free, paid): (Vec<_>, Vec<_>) =
        plan.assignments.iter().partition(|one| !one.config.kind().is_paid());
    let runs = free.into_iter().map(|assignment| {
        let run = assignment.config.visit(visit(assignment));
        async move { (assignment, run.await) }
    });
    for (assignment, ran) in join_all(runs).await {
        let (words, ok, counted) = examine(assignment, &ran);
        text.push_str(&words);
        healthy &= ok;
        total = (total.0 + counted.0, total.1 + counted.1);
    }
    for assignment in paid {
        text.push_str(&estimate(assignment, &assignment.config.visit(Recall(visit(assignment))).await));
    }
    if let Some(alerts) = &plan.alerts {
        let (words, ok) = slack::examine(alerts, &vault).await;
        text.push_str(&words);
        healthy &= ok;
    }
    let checks = plan.assignments.len();
    text.push_str(&format!("in all {} series of samples on /metrics, {} of them pushed (Datadog custom metrics: unique tag sets), \
         and about {} series of datapulse_check_* beside them\n",
        total.0,
        total.1,
        checks * (Reason::ALL.len() + 8),
    ));
    let printed = print(&text);
    if healthy { printed } else { ExitCode::from(FAILED) }
}

/// What is to be said of one check, whether all is well, and its series: all, and those that are pushed.
fn examine(assignment: &Assignment, ran: &Ran) -> (String, bool, (usize, usize)) {
    let (mut text, mut ok, mut series) = (String::new(), true, (0, 0));
    let kind = assignment.config.kind();
    text.push_str(&format!(
        "{} ({}, every {:?}, timeout {:?})\n",
        assignment.key, kind.word, assignment.every, assignment.timeout
    ));
    for end in &ran.report.ends {
        let server = match end.endpoint {
            Endpoint::Publisher if kind.ends.len() > 1 => assignment.publisher.as_ref(),
            _ => assignment.server.as_ref(),
        };
        let name = server.map_or("", |server| server.name.as_str());
        match &end.result {
            Ok(answer) => {
                let columns = answer.columns();
                let all = columns.iter().map(metrics::Column::len).sum::<usize>();
                let pushed =
                    columns.iter().filter(|column| column.family().pushed).map(custom_metrics).sum::<usize>();
                series = (series.0 + all, series.1 + pushed);
                text.push_str(&format!(
                    "  ok       {} {name}: {all} series in {} families\n",
                    end.endpoint.as_str(),
                    families(columns)
                ));
            }
            Err(problem) => {
                ok = false;
                text.push_str(&format!(
                    "  FAILED   {} {name}: {}: {problem}\n",
                    end.endpoint.as_str(),
                    problem.reason.as_str()
                ));
            }
        }
        for note in &end.notes {
            ok = false;
            text.push_str(&format!(
                "  MISSING  {} {name}: {}: {note}\n",
                end.endpoint.as_str(),
                note.reason.as_str()
            ));
        }
        for need in kind.needs.iter().filter(|need| need.endpoint == end.endpoint) {
            text.push_str(&format!(
                "  needs    {}: {} ({};)\n",
                need.grant,
                need.purpose,
                statement(need.statement, server)
            ));
        }
        if let Some(server) = server {
            warn(&mut text, server);
            text.extend(serverless(assignment, server).map(|words| format!("  cost     {words}\n")));
        }
    }
    for (endpoint, words) in &ran.learned {
        text.push_str(&format!("  learned  {}: {words}\n", endpoint.as_str()));
    }
    (text, ok, series)
}

/// What is to be said of a check that is not run because that costs money.
fn estimate(assignment: &Assignment, learned: &[(Endpoint, String)]) -> String {
    let kind = assignment.config.kind();
    let mut text = format!(
        "{} ({}, every {:?}, timeout {:?})\n  not run  each run costs money; `datapulse once {} --spend` runs it now\n",
        assignment.key, kind.word, assignment.every, assignment.timeout, assignment.key.check
    );
    for need in kind.needs {
        text.push_str(&format!("  needs    {}: {} ({})\n", need.grant, need.purpose, need.statement));
    }
    for (_, words) in learned {
        text.push_str(&format!("  cost     {words}\n"));
    }
    text
}

/// Custom metrics of Datadog: a name with a set of tags each. A histogram is a metric a bucket, a count and a sum.
fn custom_metrics(column: &metrics::Column) -> usize {
    match column.values() {
        Values::Numbers(_) => column.len(),
        Values::Histograms(bounds, rows) => rows.len() * (bounds.len() + 3),
    }
}

/// What being asked costs a server that is paid by time. <https://aws.amazon.com/redshift/pricing/>
fn serverless(assignment: &Assignment, server: &config::target::Server) -> Option<String> {
    const BASE: f64 = 128.0;
    const LEAST: f64 = 60.0;
    if !server.target.is_serverless() {
        return None;
    }
    let runs = 86_400.0 / assignment.every.as_secs_f64().max(1.0);
    let hours = runs * LEAST.min(assignment.every.as_secs_f64()) / 3600.0;
    Some(format!(
        "a serverless database is paid while it is asked, at least {LEAST:.0} s each time: {runs:.0} runs a day are {hours:.1} hours, \
         on Redshift {:.0} RPU hours a day at its default of {BASE:.0} RPU, or {:.0} at 8",
        hours * BASE,
        hours * 8.0
    ))
}

fn families(columns: &[metrics::Column]) -> usize {
    let names: BTreeMap<String, &Handle> = columns
        .iter()
        .filter(|column| !column.is_empty())
        .map(|column| (column.family().prometheus(), column.family()))
        .collect();
    names.len()
}

fn statement(template: &str, server: Option<&Arc<config::target::Server>>) -> String {
    let plain = |text: Option<&Text>, otherwise: &str| match text {
        Some(Text::Plain(text)) => text.clone(),
        _ => otherwise.to_owned(),
    };
    let target = server.map(|server| &server.target);
    template
        .replace("{user}", &plain(target.and_then(|target| target.login_role()), "the login role"))
        .replace("{database}", &plain(target.map(|target| &target.database), "the database"))
}

fn warn(text: &mut String, server: &config::target::Server) {
    if server.target.user.is_some() && server.target.aws_names_the_user() {
        text.push_str(&format!(
            "  warning  {}: `user` is not used: with auth: iam on Redshift Serverless AWS names the user after the IAM role; leave it out\n",
            server.name
        ));
    }
    let local = matches!(&server.target.host, Text::Plain(host) if host == "localhost" || host.starts_with("127.") || host == "::1");
    let warning = match server.target.tls {
        Tls::Require => {
            "tls: require encrypts, but anybody may be at the other end; write verify-full and `ca:`"
        }
        Tls::Disable if !local => {
            "tls: disable sends the statements and the answers in clear over the network; write verify-full"
        }
        Tls::VerifyCa => {
            "tls: verify-ca does not look at the host name; write verify-full where the certificate allows it"
        }
        Tls::Disable | Tls::VerifyFull => return,
    };
    text.push_str(&format!("  warning  {}: {warning}\n", server.name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::target::{Auth, Server};
    use crate::net::aws::Cluster;

    #[test]
    fn a_user_that_has_no_say_is_warned_of() {
        let warned = |cluster: Cluster, user: Option<&str>| {
            let mut server = Server::nowhere();
            server.target.auth = Some(Auth::Iam);
            server.target.cluster = Some(cluster);
            server.target.user = user.map(|user| Text::Plain(user.to_owned()));
            let mut text = String::new();
            warn(&mut text, &server);
            text.contains("`user` is not used")
        };
        let serverless = || Cluster::RedshiftServerless("wg".to_owned());
        assert!(warned(serverless(), Some("u")));
        assert!(!warned(serverless(), None));
        assert!(!warned(Cluster::Redshift("bi".to_owned()), Some("u")));
    }
}
