//! From a target to an open session: name, TCP, TLS, login and settings.

use super::Session;
use super::failure;
use crate::check::{Problem, Reason};
use crate::config::secret::Vault;
use crate::config::target::{Auth, Server, Target, Tls};
use crate::net::aws::Cluster;
use crate::net::stream::{self, Capped, Limit};
use crate::net::tls;
use crate::task::{self, Task};
use rustls::ClientConfig;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `lock_timeout` came with 9.3; Redshift calls itself 8.0.2 and knows neither it nor the other settings of this age.
pub(super) const FIRST_WITH_LOCK_TIMEOUT: u32 = 90_300;

/// Until the login is done the driver keeps every notice; at this size they stay small.
const LOGIN_LIMIT: u64 = 1024 * 1024;
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-PORT>
const PORT: u16 = 5432;
/// <https://docs.aws.amazon.com/redshift/latest/mgmt/configure-jdbc-connection.html>
const REDSHIFT_PORT: u16 = 5439;
/// Waiting for a lock is waiting in a queue where others wait behind us: never longer than this.
const LONGEST_LOCK_WAIT: Duration = Duration::from_secs(2);
/// How much earlier than the check the server gives up, so that it says why and no cancel request is needed.
const SERVER_FIRST: Duration = Duration::from_millis(500);

/// A live connection. Dropping it ends its task and closes it.
pub(super) struct Open {
    pub(super) client: Client,
    /// The driver's reading and writing half. Its result says why a connection ended; the client alone says only that it did.
    pub(super) task: Task<Result<(), Error>>,
    pub(super) limit: Limit,
    /// Where the cancel request has to go: another address of the same name can be another server.
    pub(super) peer: SocketAddr,
    pub(super) session: Session,
    tls: Option<(Arc<ClientConfig>, String)>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("peer", &self.peer)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Opens a session. The caller sets the deadline around all of it; `deadline` is here to share it among addresses.
pub(super) async fn login(
    server: &Server,
    vault: &Vault,
    timeout: Duration,
    number: u64,
    deadline: Instant,
) -> Result<Open, Problem> {
    let target = &server.target;
    let named = |mut problem: Problem| {
        problem.what = format!("{} for {}", problem.what, server.name);
        problem
    };
    let host = vault.text(&target.host).await.map_err(named)?;
    let port = vault.port(target.port.as_ref(), usual_port(target)).await.map_err(named)?;
    // Empty where AWS names the user, below.
    let mut user = match target.login_role() {
        Some(role) => vault.text(role).await.map_err(named)?,
        None => String::new(),
    };
    let database = vault.text(&target.database).await.map_err(named)?;
    let mut config = Config::new();
    config.dbname(&database).application_name("datapulse");
    if let Some(reference) = &target.password {
        config.password(vault.secret(reference).await.map_err(named)?.expose());
    }
    if target.auth == Some(Auth::Iam) {
        // The plan is not made without a cluster.
        let cluster = target.cluster().unwrap_or_else(|| Cluster::Rds(host.clone()));
        let place = target.place();
        // On the heap: few logins need it, and every one would hold its future.
        let login = Box::pin(vault.aws().login(&cluster, &place, (&host, port), &user, &database, deadline));
        let login = login.await.map_err(named)?;
        config.password(login.password.as_bytes());
        user = login.user;
    }
    config.user(&user);
    let tls = match target.tls {
        Tls::Disable => None,
        Tls::Require | Tls::VerifyCa | Tls::VerifyFull => {
            Some((tls::rules(target).await.map_err(named)?, host.clone()))
        }
    };
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });

    let stream = stream::connect(&host, port, deadline).await.map_err(named)?;
    let peer = stream.peer_addr().map_err(|error| {
        Problem::new(Reason::Io, format!("could not connect to {}", server.name)).because(error)
    })?;
    let limit = Limit::new(LOGIN_LIMIT);
    let stream = Capped::new(stream, limit.clone());
    let started = match &tls {
        None => start(&config, stream, NoTls).await,
        Some((rules, host)) => start(&config, stream, connector(rules, host)).await,
    };
    let (client, task, version) = started.map_err(|error| {
        failure::problem(format!("could not log in to {}", server.name), &error, limit.exceeded())
    })?;
    let session = Session {
        number,
        version_num: version.as_deref().and_then(version_number).unwrap_or(0),
        version: version.map(|version| format!("PostgreSQL {version}")).unwrap_or_default(),
        user,
        database,
    };
    let open = Open { client, task, limit, peer, session, tls };
    settle(server, open, timeout).await
}

fn usual_port(target: &Target) -> u16 {
    match target.cluster() {
        Some(Cluster::Redshift(_) | Cluster::RedshiftServerless(_)) => REDSHIFT_PORT,
        _ => PORT,
    }
}

type Started = (Client, Task<Result<(), Error>>, Option<String>);

async fn start<T>(config: &Config, stream: Capped<TcpStream>, tls: T) -> Result<Started, Error>
where
    T: TlsConnect<Capped<TcpStream>, Stream: Send + 'static, Future: Send> + Send,
{
    let (client, connection) = config.connect_raw(stream, tls).await?;
    let version = connection.parameter("server_version").map(str::to_owned);
    Ok((client, task::spawn(connection), version))
}

fn connector(
    rules: &ClientConfig,
    host: &str,
) -> impl TlsConnect<Capped<TcpStream>, Stream: Send + 'static, Future: Send> + Send + use<> {
    let mut maker = MakeRustlsConnect::new(rules.clone());
    match MakeTlsConnect::<Capped<TcpStream>>::make_tls_connect(&mut maker, host) {
        Ok(connector) => connector,
        Err(never) => match never {},
    }
}

/// Makes the session safe to use and asks what the server is, in one round trip.
async fn settle(server: &Server, mut open: Open, timeout: Duration) -> Result<Open, Problem> {
    let sql = settings(open.session.version_num, timeout);
    let tables = match open.answer(&sql).await {
        Ok(tables) => tables,
        Err(failure) => {
            let what = format!("could not set up the session on {}", server.name);
            return Err(failure::ended(what, failure, Some(open)).await);
        }
    };
    let session = &mut open.session;
    // A server that answers without this row is one behind a pooler of its own kind: what the login said has to do.
    if let Some(row) = tables.first().and_then(|table| table.rows().next()) {
        for (field, column) in [
            (&mut session.version, "version"),
            (&mut session.user, "user_name"),
            (&mut session.database, "database_name"),
        ] {
            if let Some(text) = row.text(column)? {
                text.clone_into(field);
            }
        }
        if let Some(number) = row.text("version_num")?.and_then(|number| number.parse().ok()) {
            session.version_num = number;
        }
    }
    if session.version_num == 0 {
        open.close().await;
        return Err(Problem::new(
            Reason::Protocol,
            format!("{} did not say which version it is", server.name),
        )
        .hint("is this really a PostgreSQL or Redshift server"));
    }
    Ok(open)
}

/// `SET` after the login and not by startup options, which poolers drop or refuse.
fn settings(version_num: u32, timeout: Duration) -> String {
    let statement = timeout.saturating_sub(SERVER_FIRST.min(timeout / 10));
    let common =
        format!("set statement_timeout = {}; set timezone = 'UTC'; set datestyle = 'ISO'", millis(statement));
    if version_num < FIRST_WITH_LOCK_TIMEOUT {
        return format!(
            "{common}; set extra_float_digits = 2; select null as version_num, version() as version, \
             current_user as user_name, current_database() as database_name"
        );
    }
    format!(
        "{common}; set lock_timeout = {}; set idle_in_transaction_session_timeout = {}; \
         set default_transaction_read_only = on; set client_min_messages = error; set intervalstyle = 'postgres'; set extra_float_digits = 1; \
         select pg_catalog.current_setting('server_version_num') as version_num, pg_catalog.version() as version, \
         current_user as user_name, pg_catalog.current_database() as database_name",
        millis(LONGEST_LOCK_WAIT.min(timeout / 2)),
        millis(timeout),
    )
}

/// Zero would mean: no limit.
fn millis(limit: Duration) -> u128 {
    limit.as_millis().clamp(1, 2_147_483_647)
}

/// `15.4 (Debian 15.4-1)` is 150004, `9.6.24` is 90624, `18beta1` is 180000.
fn version_number(version: &str) -> Option<u32> {
    let mut numbers = version.split(['.', ' ']).map_while(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..end)?.parse::<u32>().ok()
    });
    let major = numbers.next().filter(|major| *major < 1000)?;
    let minor = numbers.next().filter(|minor| *minor < 100).unwrap_or(0);
    let patch = numbers.next().filter(|patch| *patch < 100).unwrap_or(0);
    Some(if major >= 10 { major * 10_000 + minor } else { major * 10_000 + minor * 100 + patch })
}

impl Open {
    /// Sends the cancel request for this session over `stream` and waits until the server hangs up: it has then passed it on.
    pub(super) async fn request_cancel(&self, stream: TcpStream) -> Result<(), String> {
        let mut ears = stream::twin(&stream).map_err(|error| error.to_string())?;
        let token = self.client.cancel_token();
        let stream = Capped::new(stream, Limit::new(LOGIN_LIMIT));
        let sent = match &self.tls {
            None => token.cancel_query_raw(stream, NoTls).await,
            Some((rules, host)) => token.cancel_query_raw(stream, connector(rules, host)).await,
        };
        sent.map_err(|error| failure::words(&error))?;
        let mut rest = [0; 1024];
        while ears.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_counts_them() {
        for (version, number) in [
            ("15.4 (Debian 15.4-1.pgdg120+1)", Some(150_004)),
            ("13.18", Some(130_018)),
            ("18beta1", Some(180_000)),
            ("18", Some(180_000)),
            ("9.6.24", Some(90_624)),
            ("8.0.2", Some(80_002)),
            ("", None),
            ("fast", None),
            ("99999999999", None),
        ] {
            assert_eq!(version_number(version), number, "{version}");
        }
    }

    #[test]
    fn the_server_gives_up_before_the_check_does() {
        let sql = settings(150_004, Duration::from_secs(10));
        assert!(sql.starts_with("set statement_timeout = 9500;"), "{sql}");
        assert!(sql.contains("set lock_timeout = 2000;"), "{sql}");
        assert!(sql.contains("set default_transaction_read_only = on;"), "{sql}");
        let short = settings(150_004, Duration::from_secs(1));
        assert!(short.starts_with("set statement_timeout = 900;"), "{short}");
        assert!(short.contains("set lock_timeout = 500;"), "{short}");
        assert!(
            settings(150_004, Duration::ZERO).contains("lock_timeout = 1;"),
            "zero would switch the limit off"
        );
    }

    #[test]
    fn redshift_gets_only_what_it_knows() {
        let sql = settings(80_002, Duration::from_secs(10));
        for word in
            ["lock_timeout", "idle_in_transaction", "read_only", "intervalstyle", "server_version_num"]
        {
            assert!(!sql.contains(word), "{word}");
        }
        assert!(sql.contains("set statement_timeout = 9500; set timezone = 'UTC'"), "{sql}");
    }
}
