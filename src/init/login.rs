//! The servers that chosen checks ask, and how one says where they are.

use super::Part;

/// A server that checks ask, by the name that it has in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// `PostgreSQL`, the subscriber of a replication.
    Subscriber,
    /// `PostgreSQL`, its publisher.
    Publisher,
    /// `PostgreSQL`, any.
    Database,
    /// Redshift.
    Warehouse,
    /// Redis or Valkey.
    Cache,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Subscriber, Self::Publisher, Self::Database, Self::Warehouse, Self::Cache];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscriber => "subscriber",
            Self::Publisher => "publisher",
            Self::Database => "database",
            Self::Warehouse => "warehouse",
            Self::Cache => "cache",
        }
    }

    /// What it is, for people.
    pub(super) const fn product(self) -> &'static str {
        match self {
            Self::Subscriber => "PostgreSQL that subscribes",
            Self::Publisher => "PostgreSQL that publishes",
            Self::Database => "PostgreSQL",
            Self::Warehouse => "Redshift",
            Self::Cache => "Redis or Valkey; one node is enough, the others are found",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Subscriber | Self::Publisher | Self::Database => 5432,
            Self::Warehouse => 5439,
            Self::Cache => 6379,
        }
    }

    pub(super) const fn is_postgres(self) -> bool {
        matches!(self, Self::Subscriber | Self::Publisher | Self::Database)
    }
}

/// Where a server is, and who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The role that logs in.
    pub user: String,
    /// The database; a cache has none.
    pub database: String,
    /// Nobody told it: it is a place to fill in.
    pub guess: bool,
}

impl Login {
    /// A place to fill in.
    pub fn guess(server: Server) -> Self {
        let database = if server == Server::Warehouse { "dev" } else { "postgres" };
        Self {
            host: format!("{}.example.org", server.name()),
            port: server.port(),
            user: "datapulse".to_owned(),
            database: database.to_owned(),
            guess: true,
        }
    }

    /// Reads `[USER@]HOST[:PORT][/DATABASE]`; what is missing is the server's usual.
    pub fn parse(server: Server, text: &str) -> Result<Self, String> {
        let mut login = Self { guess: false, ..Self::guess(server) };
        let (rest, database) = text.split_once('/').map_or((text, None), |(rest, name)| (rest, Some(name)));
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (host, port) = match (address.strip_prefix('['), address.rsplit_once(':')) {
            (Some(bare), _) => match bare.split_once(']') {
                Some((host, rest)) => (host, rest.strip_prefix(':')),
                None => return Err("an address that begins with [ has to end with ]".to_owned()),
            },
            (None, Some((host, port))) if !host.contains(':') => (host, Some(port)),
            (None, _) => (address, None),
        };
        if host.is_empty()
            || !host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_:".contains(letter))
        {
            return Err(format!("{host:?} is no host; expected [USER@]HOST[:PORT][/DATABASE]"));
        }
        host.clone_into(&mut login.host);
        if let Some(port) = port {
            let port = port.parse().ok().filter(|port| *port > 0);
            login.port = port.ok_or("a port is a number from 1 to 65535")?;
        }
        for (value, place) in [(user, &mut login.user), (database, &mut login.database)] {
            if let Some(text) = value {
                *place = name(server, text)?;
            }
        }
        if server == Server::Cache && database.is_some() {
            return Err("a cache is asked as a whole and has no database here".to_owned());
        }
        Ok(login)
    }
}

/// The name of a user or a database.
pub(super) fn name(server: Server, text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("a name of a user or a database is not empty and has no control character".to_owned());
    }
    // Its rights are words on the same line.
    if server == Server::Cache && text.contains(char::is_whitespace) {
        return Err("a user of Redis has no blank in its name".to_owned());
    }
    Ok(text.to_owned())
}

/// The servers that these parts ask, in the order of the configuration.
pub fn servers(parts: &[Part]) -> Vec<Server> {
    let has = |part| parts.contains(&part);
    let replication = has(Part::PgSubscription) || has(Part::PgReplication);
    // Sessions are looked at on the servers that are there anyway.
    let database = has(Part::SqlQuery) || has(Part::PgInflight) && !replication;
    let asked = [
        (Server::Subscriber, has(Part::PgSubscription)),
        (Server::Publisher, replication),
        (Server::Database, database),
        (Server::Warehouse, has(Part::RedshiftInflight)),
        (Server::Cache, has(Part::Redis)),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(server, _)| server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_or_refused_with_a_reason() {
        let read = |text: &str| {
            Login::parse(Server::Subscriber, text)
                .map(|login| (login.user, login.host, login.port, login.database))
        };
        let login = |user: &str, host: &str, port, database: &str| {
            Ok((user.to_owned(), host.to_owned(), port, database.to_owned()))
        };
        assert_eq!(read("db.example.org"), login("datapulse", "db.example.org", 5432, "postgres"));
        assert_eq!(read("me@db:6432/orders"), login("me", "db", 6432, "orders"));
        assert_eq!(read("a@b@[::1]:6432/o/x"), login("a@b", "::1", 6432, "o/x"));
        assert_eq!(read("::1"), login("datapulse", "::1", 5432, "postgres"));
        for wrong in
            ["", ":5432", "db:0", "db:x", "db:70000", "@db", "db/", "[::1", "d b", "u\n@db", "postgres://db"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(Login::parse(Server::Cache, "c/0").is_err() && Login::parse(Server::Cache, "a b@c").is_err());
    }
}
