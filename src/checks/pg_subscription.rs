//! `pg_subscription`: logical replication seen from the subscriber, with the publisher's slots when `publisher:` is set.
//!
//! A role without any grant can read all of it: `pg_stat_subscription`, `pg_stat_subscription_stats`, `pg_subscription_rel`,
//! `pg_locks` and the granted columns of `pg_subscription`. `subconninfo` holds a password and is never read.

mod families;
mod read;
pub mod server;
mod statements;
#[cfg(test)]
mod tests;

use crate::check::headline::Headline;
use crate::check::{Check, Context, End, Endpoint, Need, Outcome, Problem, Reason};
use crate::config::target::Role;
use crate::net::Clients;
use crate::net::catalog::Catalog;
use crate::net::postgres::Link;
use families::{
    APPLY_ERRORS, CONFLICTS, ENABLED, EXISTS, INFO, LAG, LATEST_END_AGE, LATEST_END_LSN, LOCK_WAIT,
    RECEIPT_AGE, RECEIVED_LSN, RECEIVER_TIMEOUT, SEND_AGE, SLOT_EXISTS, SYNC_ERRORS, TABLES, TRANSIT,
    WORKER_RESTARTS, WORKER_UP, WORKERS,
};
use jiff::Timestamp;
use metrics::{Answer, Handle};
use read::{Id, Slots, Subscriber, Subscription, WORKER_TYPES, read_publisher, read_subscriber};
use schemars::JsonSchema;
use serde::Deserialize;
use server::{CLOCK_OFFSET, IS_REPLICA, Server, middle, right_role, tell_server};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const TABLE_STATES: [&str; 5] = ["i", "d", "f", "s", "r"];

/// The keys of `pg_subscription`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Subscriptions that must exist: `pg_subscription_exists` is 0 when the cluster has none of that name.
    pub expect: Vec<String>,
    /// Look at these subscriptions only; all of the cluster when empty. Name them when they come from several publishers.
    pub subscriptions: Vec<String>,
    /// `writer` makes a replica a failure with reason `wrong_role`.
    pub role: Role,
}

/// The check.
pub struct PgSubscription {
    config: Config,
    subscriber: Link,
    publisher: Option<Link>,
    writer: [bool; 2],
    question: Option<Question>,
    memory: BTreeMap<Id, Remembered>,
    learned: Vec<(Endpoint, String)>,
}

/// What a subscription was at the last run: slots are looked up by it while the subscriber is away.
#[derive(Clone, Debug, Default, PartialEq)]
struct Remembered {
    slot: Option<String>,
    worker: Option<String>,
    restarts: u32,
}

/// The statements that this server understands.
struct Question {
    session: u64,
    sql: String,
    catalog: Catalog,
}

impl Check for PgSubscription {
    type Config = Config;
    const WORD: &'static str = "pg_subscription";
    const EVERY: Option<Duration> = Some(Duration::from_secs(30));
    const ENDS: &'static [Endpoint] = &[Endpoint::Subscriber, Endpoint::Publisher];
    const HEADLINES: &'static [Headline] = &[
        Headline::highest("pg_subscription_lag_bytes", "lag"),
        Headline::highest("pg_stat_subscription_last_msg_receipt_age_seconds", "silence"),
        Headline::sum("pg_subscription_worker_up", "workers"),
    ];
    const NEEDS: &'static [Need] = &[
        Need {
            endpoint: Endpoint::Subscriber,
            grant: "CONNECT",
            purpose: "everything on the subscriber; no other grant is needed",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
        Need {
            endpoint: Endpoint::Publisher,
            grant: "CONNECT",
            purpose: "pg_replication_slots on the publisher; no other grant is needed",
            statement: "GRANT CONNECT ON DATABASE {database} TO {user}",
        },
    ];

    fn families(_: &Config) -> Vec<Handle> {
        vec![
            EXISTS.handle(),
            ENABLED.handle(),
            WORKER_UP.handle(),
            WORKER_RESTARTS.handle(),
            LOCK_WAIT.handle(),
            RECEIVER_TIMEOUT.handle(),
            INFO.handle(),
            SEND_AGE.handle(),
            RECEIPT_AGE.handle(),
            LATEST_END_AGE.handle(),
            TRANSIT.handle(),
            RECEIVED_LSN.handle(),
            LATEST_END_LSN.handle(),
            APPLY_ERRORS.handle(),
            SYNC_ERRORS.handle(),
            CONFLICTS.handle(),
            WORKERS.handle(),
            TABLES.handle(),
            LAG.handle(),
            SLOT_EXISTS.handle(),
            IS_REPLICA.handle(),
            CLOCK_OFFSET.handle(),
        ]
    }

    fn new(config: &Config, clients: &Clients) -> Self {
        let link = |server: &std::sync::Arc<_>| {
            Link::new(
                std::sync::Arc::clone(server),
                std::sync::Arc::clone(&clients.vault),
                clients.timeout,
                clients.every,
            )
        };
        let wants_writer = |role: Role| role == Role::Writer;
        Self {
            writer: [
                wants_writer(config.role) || wants_writer(clients.target.target.role),
                clients.publisher.as_ref().is_some_and(|publisher| wants_writer(publisher.target.role)),
            ],
            config: config.clone(),
            subscriber: link(&clients.target),
            publisher: clients.publisher.as_ref().map(link),
            question: None,
            memory: BTreeMap::new(),
            learned: Vec::new(),
        }
    }

    async fn run(&mut self, context: Context) -> Outcome {
        self.learned.clear();
        let deadline = context.deadline;
        let (subscriber, publisher) = tokio::join!(
            ask_subscriber(&mut self.subscriber, &mut self.question, self.writer[0], deadline),
            ask_publisher(self.publisher.as_mut(), self.writer[1], deadline),
        );
        let mut ends = Vec::with_capacity(2);
        let mut notes = Vec::new();
        let result = subscriber.map(|mut found| {
            notes = std::mem::take(&mut found.1);
            self.keep_to_config(&mut found.0);
            self.remember(&found.0);
            tell_subscriber(&found.0, &self.memory)
        });
        ends.push(End { notes, ..End::new(Endpoint::Subscriber, result) });
        if let Some(result) = publisher {
            let result = result.map(|(server, slots)| tell_publisher(&server, &slots, &self.memory));
            ends.push(End::new(Endpoint::Publisher, result));
        }
        self.learn();
        Outcome { ends }
    }

    fn ends(&self) -> &'static [Endpoint] {
        if self.publisher.is_some() { Self::ENDS } else { &[Endpoint::Subscriber] }
    }

    async fn give_up(&mut self) -> Result<(), Problem> {
        let (subscriber, publisher) = tokio::join!(self.subscriber.give_up(), async {
            match &mut self.publisher {
                Some(link) => link.give_up().await,
                None => Ok(()),
            }
        });
        subscriber.and(publisher)
    }

    async fn rest(&mut self) {
        self.subscriber.rest().await;
        if let Some(link) = &mut self.publisher {
            link.rest().await;
        }
    }

    fn questions(&self) -> Vec<(Endpoint, Cow<'_, str>)> {
        let subscriber =
            self.question.iter().map(|question| (Endpoint::Subscriber, question.sql.as_str().into()));
        let publisher = self.publisher.iter().map(|_| (Endpoint::Publisher, statements::PUBLISHER.into()));
        subscriber.chain(publisher).collect()
    }

    fn learned(&self) -> Vec<(Endpoint, String)> {
        self.learned.clone()
    }
}

impl PgSubscription {
    fn keep_to_config(&self, found: &mut Subscriber) {
        // Looked for among all, also beside those that `subscriptions` names. A row that could not be read may be the one.
        if !found.unread {
            let known = |name: &String| found.subscriptions.keys().any(|(_, subname)| subname == name);
            found.missing = self.config.expect.iter().filter(|name| !known(name)).cloned().collect();
        }
        let wanted: BTreeSet<&str> = self.config.subscriptions.iter().map(String::as_str).collect();
        if !wanted.is_empty() {
            found.subscriptions.retain(|(_, subname), _| wanted.contains(subname.as_str()));
            found.workers.retain(|((_, subname), _), _| wanted.contains(subname.as_str()));
            found.tables.retain(|(subname, _), _| wanted.contains(subname.as_str()));
        }
    }

    /// Takes over which slots there are, and counts new worker processes.
    fn remember(&mut self, found: &Subscriber) {
        self.memory.retain(|id, _| found.unread || found.subscriptions.contains_key(id));
        for (id, subscription) in &found.subscriptions {
            let known = self.memory.entry(id.clone()).or_default();
            known.slot.clone_from(&subscription.slot);
            if let Some(worker) = &subscription.worker {
                if known.worker.as_ref().is_some_and(|before| before != worker) {
                    known.restarts += 1;
                }
                known.worker = Some(worker.clone());
            }
        }
    }

    fn learn(&mut self) {
        if let Some(question) = &self.question {
            for view in ["pg_stat_subscription", "pg_stat_subscription_stats"] {
                let words = question.catalog.used(view, &question.sql);
                let words = if words.is_empty() { "not on this server".to_owned() } else { words };
                self.learned.push((Endpoint::Subscriber, format!("{view}: {words}")));
            }
        }
        let ends =
            [(Endpoint::Subscriber, Some(&self.subscriber)), (Endpoint::Publisher, self.publisher.as_ref())];
        for (endpoint, link) in ends {
            if let Some(session) = link.and_then(Link::known) {
                self.learned.push((endpoint, session.to_string()));
            }
        }
    }
}

// ask

async fn ask_subscriber(
    link: &mut Link,
    question: &mut Option<Question>,
    writer: bool,
    deadline: Instant,
) -> Result<(Subscriber, Vec<Problem>), Problem> {
    let session = link.session(deadline).await?.number;
    if question.as_ref().is_none_or(|question| question.session != session) {
        *question = None;
        let catalog = Catalog::read(link, &statements::VIEWS, deadline).await?;
        *question =
            Some(Question { session: catalog.session, sql: statements::subscriber(&catalog), catalog });
    }
    let Some(Question { sql, catalog, .. }) = question else {
        return Err(Problem::new(
            Reason::Protocol,
            format!("the session on {} was lost while its columns were read", link.name()),
        ));
    };
    let (began, name) = (Timestamp::now(), link.name().to_owned());
    let tables = link.ask(sql, deadline).await?;
    let parallel = catalog.has("pg_stat_subscription", "leader_pid");
    let (found, notes) = read_subscriber(&tables, parallel, middle(began), &name)?;
    right_role(&found.server, writer, &name)?;
    Ok((found, notes))
}

async fn ask_publisher(
    link: Option<&mut Link>,
    writer: bool,
    deadline: Instant,
) -> Option<Result<(Server, Slots), Problem>> {
    let link = link?;
    let ask = async {
        // The login is done before the clocks are compared.
        link.session(deadline).await?;
        let began = Timestamp::now();
        let tables = link.ask(statements::PUBLISHER, deadline).await?;
        let found = read_publisher(&tables, middle(began), link.name())?;
        right_role(&found.0, writer, link.name())?;
        Ok(found)
    };
    Some(ask.await)
}

// read stands in read.rs

// tell

fn tell_subscriber(found: &Subscriber, memory: &BTreeMap<Id, Remembered>) -> Answer {
    let mut answer = Answer::new();
    tell_server(&mut answer, Endpoint::Subscriber, &found.server);
    for (id, subscription) in &found.subscriptions {
        let of = [id.0.as_str(), id.1.as_str()];
        answer.set(&EXISTS, of, 1.0);
        answer.set_some(&ENABLED, of, subscription.enabled.map(number));
        let disable_on_error =
            subscription.disable_on_error.map_or("", |on| if on { "true" } else { "false" });
        answer.set(&INFO, [of[0], of[1], subscription.slot.as_deref().unwrap_or(""), disable_on_error], 1.0);
        answer.set_some(&RECEIVER_TIMEOUT, of, found.receiver_timeout);
        // No worker runs on a replica, and what it counts is not replicated: its 0 is not the writer's.
        if found.server.replica {
            continue;
        }
        tell_worker(&mut answer, of, subscription);
        if let Some(known) = memory.get(id) {
            answer.set(&WORKER_RESTARTS, of, f64::from(known.restarts));
        }
        for kind in WORKER_TYPES.iter().filter(|kind| found.parallel || **kind != "parallel apply") {
            let count = found.workers.get(&(id.clone(), *kind)).copied().unwrap_or_default();
            answer.set(&WORKERS, [of[0], of[1], kind], f64::from(count));
        }
    }
    tell_tables(&mut answer, found);
    for subname in &found.missing {
        answer.set(&EXISTS, [&found.database, subname], 0.0);
    }
    answer
}

fn tell_worker(answer: &mut Answer, of: [&str; 2], subscription: &Subscription) {
    answer.set(&WORKER_UP, of, number(subscription.worker.is_some()));
    answer.set_some(&LOCK_WAIT, of, subscription.lock_wait);
    // A worker that hangs in its connect shows its own start in all three times: nothing was received yet.
    if subscription.received_lsn.is_some() {
        answer.set_some(&SEND_AGE, of, subscription.send_age);
        answer.set_some(&RECEIPT_AGE, of, subscription.receipt_age);
        answer.set_some(&LATEST_END_AGE, of, subscription.latest_end_age);
        answer.set_some(&TRANSIT, of, subscription.transit);
    }
    answer.set_some(&RECEIVED_LSN, of, subscription.received_lsn);
    answer.set_some(&LATEST_END_LSN, of, subscription.latest_end_lsn);
    answer.set_some(&APPLY_ERRORS, of, subscription.apply_errors);
    answer.set_some(&SYNC_ERRORS, of, subscription.sync_errors);
    for (conflict, count) in &subscription.conflicts {
        answer.set(&CONFLICTS, [of[0], of[1], conflict], *count);
    }
}

/// Tables by state; a count of rows, so a state without a row is a true 0. Only the connected database can be read.
fn tell_tables(answer: &mut Answer, found: &Subscriber) {
    for (datname, subname) in found.subscriptions.keys().filter(|(datname, _)| *datname == found.database) {
        for state in TABLE_STATES {
            let count = found.tables.get(&(subname.clone(), state.to_owned())).copied().unwrap_or_default();
            answer.set(&TABLES, [datname, subname, state], count);
        }
    }
}

fn tell_publisher(server: &Server, slots: &Slots, memory: &BTreeMap<Id, Remembered>) -> Answer {
    let mut answer = Answer::new();
    tell_server(&mut answer, Endpoint::Publisher, server);
    for ((datname, subname), known) in memory {
        let Some(slot) = &known.slot else { continue };
        let found = slots.get(slot);
        // A replica need not have the writer's slots: that one is not there says nothing.
        if found.is_some() || !server.replica {
            answer.set(&SLOT_EXISTS, [datname, subname, slot], number(found.is_some()));
        }
        answer.set_some(&LAG, [datname, subname], found.copied().flatten());
    }
    answer
}

fn number(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}
