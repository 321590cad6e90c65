//! Connections to the nodes of a Redis or Valkey: capped, with a deadline on everything, and never used again after a failure.

mod failure;

use super::refusals::Refusals;
use super::stream::{self, Capped, Limit};
use super::tls;
use crate::check::{Problem, Reason};
use crate::config::secret::{Reference, Secret, Text, Vault};
use crate::config::target::{Auth, Server, Tls};
use crate::task::{self, Task};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, Cmd, IntoConnectionInfo, RedisError};
use futures_util::future::join_all;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

pub use ::redis::Value;

/// Bytes of all answers to one set of questions. What we ask for has kilobytes; a server that floods us must not fill the memory.
const ANSWER_LIMIT: u64 = 4 * 1024 * 1024;
/// <https://redis.io/docs/latest/operate/oss_and_stack/management/config/>
const PORT: u16 = 6379;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// `host:port`, as servers write it; the host may be an IPv6 address without brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| Self { host: host.trim_matches(['[', ']']).to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The way into all nodes of one target: they share login and TLS rules.
#[derive(Debug)]
pub struct Door {
    server: Arc<Server>,
    vault: Arc<Vault>,
    every: Duration,
    /// By node: users are not replicated, and one node that does not know ours must not keep us from the others.
    refusals: Mutex<BTreeMap<Address, Refusals>>,
}

/// A live connection to one node. Dropping it ends its task and closes it.
pub struct Connection {
    name: String,
    client: MultiplexedConnection,
    /// The driver's reading and writing half.
    task: Task<()>,
    limit: Limit,
}

/// What to log in with; nobody is named where the server knows only a password.
struct Login {
    user: Option<String>,
    password: Option<Zeroizing<String>>,
}

impl Door {
    /// A door; nobody is asked yet. A refused login is tried again after 1, 2, 4 and then every 8 of `every`.
    pub fn new(server: Arc<Server>, vault: Arc<Vault>, every: Duration) -> Self {
        Self { server, vault, every, refusals: Mutex::default() }
    }

    /// The name of the target, for messages.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// The address of the target itself.
    ///
    /// # Errors
    /// `secret` when host or port cannot be read.
    pub async fn address(&self) -> Result<Address, Problem> {
        let target = &self.server.target;
        let host = self.vault.text(&target.host).await.map_err(|problem| self.named(problem))?;
        let port =
            self.vault.port(target.port.as_ref(), PORT).await.map_err(|problem| self.named(problem))?;
        Ok(Address { host, port })
    }

    /// Whether nodes are spoken to over TLS: they then have another port.
    pub fn uses_tls(&self) -> bool {
        self.server.target.tls != Tls::Disable
    }

    /// Connects to a node and logs in.
    ///
    /// # Errors
    /// `dns`, `connect`, `connect_timeout`, `tls`, `auth`, `secret`, `credentials`, `too_many`, `too_large`, `protocol`, `io`.
    pub async fn open(&self, node: &Address, deadline: Instant) -> Result<Connection, Problem> {
        let mut used = self.secrets();
        if self.refusals().get(node).is_some_and(|refusals| refusals.resting(&used, Instant::now())) {
            let what = format!("the login to {node} was refused, and is not tried again yet");
            return Err(Problem::new(Reason::Auth, what).hint(
                "it is tried at once when the secret changes, or after a reload that changes the check",
            ));
        }
        let mut result = self.try_open(node, deadline).await;
        if matches!(&result, Err(problem) if problem.reason == Reason::Auth) && self.has_new_secret().await {
            used = self.secrets();
            result = self.try_open(node, deadline).await;
        }
        match &result {
            Err(problem) if problem.reason == Reason::Auth => {
                let refusals = &mut *self.refusals();
                let own = refusals.entry(node.clone()).or_insert_with(|| Refusals::new(self.every));
                own.add(used, Instant::now());
            }
            Err(_) => {}
            Ok(_) => drop(self.refusals().remove(node)),
        }
        result
    }

    async fn try_open(&self, node: &Address, deadline: Instant) -> Result<Connection, Problem> {
        match timeout_at(deadline, Box::pin(self.login(node, deadline))).await {
            Ok(result) => result,
            Err(_) => Err(Problem::new(Reason::ConnectTimeout, format!("could not log in to {node}"))
                .because("it accepted the connection, but the login did not end in time")
                .hint("a server that hangs, a port that does not speak TLS, a proxy without a server behind it, or a slow network")),
        }
    }

    async fn login(&self, node: &Address, deadline: Instant) -> Result<Connection, Problem> {
        let login = self.credentials().await.map_err(|problem| self.named(problem))?;
        let stream = stream::connect(&node.host, node.port, deadline).await?;
        let limit = Limit::new(ANSWER_LIMIT);
        let stream = Capped::new(stream, limit.clone());
        let mut connection = if self.uses_tls() {
            let rules = tls::rules(&self.server.target).await.map_err(|problem| self.named(problem))?;
            let name = self.certified_name(node).await?;
            let stream = TlsConnector::from(rules)
                .connect(name, stream)
                .await
                .map_err(|error| failure::handshake(node, &error))?;
            start(node, stream, limit).await?
        } else {
            start(node, stream, limit).await?
        };
        if let Some(password) = &login.password {
            let mut command = ::redis::cmd("AUTH");
            if let Some(user) = &login.user {
                command.arg(user);
            }
            command.arg(password.as_str());
            let answer = connection.client.req_packed_command(&command).await.and_then(Value::extract_error);
            answer.map_err(|error| failure::refused_login(node, &error, connection.limit.exceeded()))?;
        }
        // Also where no password is asked for: a server that turns us away says so at the first command.
        Ok(connection)
    }

    /// The name that the certificate has to carry. Nodes that announce themselves by an address have none of their own: there it is
    /// the name of the target, for which managed services have a certificate that all their nodes share.
    async fn certified_name(&self, node: &Address) -> Result<ServerName<'static>, Problem> {
        let target =
            self.vault.text(&self.server.target.host).await.map_err(|problem| self.named(problem))?;
        let is_address = |host: &str| host.parse::<IpAddr>().is_ok();
        let name = if is_address(&node.host) && !is_address(&target) { target } else { node.host.clone() };
        ServerName::try_from(name).map_err(|error| {
            Problem::new(Reason::Tls, format!("{node} has no name that a certificate could carry"))
                .because(error)
        })
    }

    async fn credentials(&self) -> Result<Login, Problem> {
        let target = &self.server.target;
        let user = match &target.user {
            None => None,
            Some(Text::Plain(user)) => Some(user.clone()),
            // A whole target that is kept elsewhere (`from`) may have no user.
            Some(Text::Kept(reference)) => {
                self.vault.optional(reference).await?.map(|user| user.expose().to_owned())
            }
        };
        if target.auth == Some(Auth::Iam) {
            let (Some(cluster), Some(user)) = (target.cluster(), user) else {
                return Err(Problem::new(Reason::Auth, "auth: iam needs user: and cluster:"));
            };
            let token = Box::pin(self.vault.aws().store_token(&cluster, &target.place(), &user)).await?;
            return Ok(Login { user: Some(user), password: Some(token) });
        }
        let kept = |secret: Secret| Zeroizing::new(secret.expose().to_owned());
        let password = match &target.password {
            None => None,
            Some(reference) => Some(kept(self.vault.secret(reference).await?)),
        };
        // A user without a password (`nopass`) takes any.
        let password = password.or_else(|| user.as_ref().map(|_| Zeroizing::default()));
        Ok(Login { user, password })
    }

    fn named(&self, mut problem: Problem) -> Problem {
        problem.what = format!("{} for {}", problem.what, self.server.name);
        problem
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<Address, Refusals>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn references(&self) -> impl Iterator<Item = &Reference> {
        let target = &self.server.target;
        target.user.as_ref().and_then(Text::reference).into_iter().chain(&target.password)
    }

    fn secrets(&self) -> Vec<u64> {
        self.references().map(|reference| self.vault.version(reference)).collect()
    }

    async fn has_new_secret(&self) -> bool {
        let mut changed = false;
        for reference in self.references() {
            changed |= self.vault.distrust(reference).await;
        }
        changed
    }
}

async fn start<S>(node: &Address, stream: S, limit: Limit) -> Result<Connection, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &RedisError| failure::problem(node, error, false);
    // Only a form of it: the stream is ours, and the login is a command of ours, so that its refusal can be read.
    let info = "redis://nowhere".into_connection_info().map_err(|error| broken(&error))?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    // The driver's own limit of time would end a question before our deadline does.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let made = MultiplexedConnection::new_with_config(&settings, stream, config).await;
    let (client, driver) = made.map_err(|error| broken(&error))?;
    Ok(Connection { name: node.to_string(), client, task: task::spawn(driver), limit })
}

impl Connection {
    /// Whether the server has hung up since the last question.
    pub fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks one question.
    ///
    /// # Errors
    /// As [`Connection::ask_all`], and what the server refused.
    pub async fn ask(&mut self, command: &[&str], deadline: Instant) -> Result<Value, Problem> {
        let mut answers = self.ask_all(&[command], deadline).await?;
        answers
            .pop()
            .unwrap_or_else(|| Err(Problem::new(Reason::Protocol, format!("{} said nothing", self.name))))
    }

    /// Asks questions in one round trip; each is answered or refused by itself.
    ///
    /// # Errors
    /// `timeout`, `too_large`, `protocol`, `io`, `starting`, `auth`: nothing can be asked on this connection any more, so drop it.
    pub async fn ask_all(
        &mut self,
        commands: &[&[&str]],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Problem>>, Problem> {
        self.limit.reset(ANSWER_LIMIT);
        let commands: Vec<Cmd> = commands.iter().map(|words| command(words)).collect();
        let asked = commands.iter().map(|command| {
            let mut client = self.client.clone();
            // A refusal comes as a value.
            async move { client.req_packed_command(command).await.and_then(Value::extract_error) }
        });
        let Ok(answers) = timeout_at(deadline, join_all(asked)).await else {
            return Err(Problem::new(Reason::Timeout, format!("no answer from {} in time", self.name))
                .hint("the node hangs, is overloaded, or something on the way drops the packets"));
        };
        let mut told = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer {
                Ok(value) => told.push(Ok(value)),
                Err(error) => {
                    let problem = failure::problem(&self.name, &error, self.limit.exceeded());
                    if failure::ends_all(&error, problem.reason) {
                        return Err(problem);
                    }
                    told.push(Err(problem));
                }
            }
        }
        Ok(told)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).finish_non_exhaustive()
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}
