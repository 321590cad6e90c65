//! The roles that datapulse logs in with: SQL for each server, a script for Redis. Least privilege, and no password in a file.

use super::{Choice, File, Login, Part, Server};

/// One connection for each check and end, one more to cancel, and as many again while sessions end.
const CONNECTIONS: u32 = 10;

pub(super) fn files(choice: &Choice) -> Vec<File> {
    choice.logins.iter().map(|(server, login)| file(*server, login, choice)).collect()
}

fn file(server: Server, login: &Login, choice: &Choice) -> File {
    let why = format!("makes the role on the {}, with the least rights that do", server.name());
    match server {
        Server::Cache => File::new("redis/create-user.sh", why, acl(login)),
        Server::Warehouse => File::new("sql/warehouse.sql", why, redshift(login)),
        _ => File::new(format!("sql/{}.sql", server.name()), why, postgres(server, login, choice)),
    }
}

/// An SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn postgres(server: Server, login: &Login, choice: &Choice) -> String {
    let (role, database) = (identifier(&login.user), identifier(&login.database));
    let (host, port, name) = (&login.host, login.port, server.name());
    let mut text = format!(
        "-- The role that datapulse logs in with on the {name}. As a superuser, or as the master user of RDS:\n\
         --   psql -h {host} -p {port} -d DATABASE -f sql/{name}.sql\n\
         -- Then give it a password that no file, log or history sees: \\password in the same psql, and the role's name.\n\
         -- It may be run again.\n\n\
         do $$ begin\n  if not exists (select from pg_roles where rolname = {}) then\n    create role {role} login connection limit {CONNECTIONS};\n  \
         end if;\nend $$;\n\n\
         grant connect on database {database} to {role};\n",
        literal(&login.user)
    );
    let slots = server == Server::Publisher && choice.has(Part::PgReplication);
    let sessions = choice.has(Part::PgInflight);
    let purposes = [(slots, "the lags of WAL senders"), (sessions, "the sessions of other roles")];
    let purposes: Vec<&str> =
        purposes.into_iter().filter(|(needed, _)| *needed).map(|(_, purpose)| purpose).collect();
    if purposes.is_empty() {
        text.push_str("-- Nothing else: what the checks read here is open to every role.\n");
    } else {
        text.push_str(&format!(
            "\n-- To see {}. It opens statistics, no table; pg_monitor holds it too.\ngrant pg_read_all_stats to {role};\n",
            purposes.join(" and ")
        ));
    }
    if server == Server::Database && choice.has(Part::SqlQuery) {
        text.push_str(&format!(
            "\n-- CHANGE: what the statements of sql_query read, and nothing else.\n\
             -- grant usage on schema public to {role};\n-- grant select on device_connections to {role};\n"
        ));
    }
    text
}

fn redshift(login: &Login) -> String {
    let role = identifier(&login.user);
    let (host, port, database) = (&login.host, login.port, &login.database);
    format!(
        "-- The user that datapulse logs in with on Redshift. As a superuser, once:\n\
         --   psql \"host={host} port={port} dbname={database}\" -f sql/warehouse.sql\n\
         -- It has no password yet and cannot log in with one. Give it one in a session that keeps no history:\n\
         --   alter user {role} password '...';\n\n\
         create user {role} password disable connection limit {CONNECTIONS};\n\n\
         -- To see the queries of all users in the SYS views; without it only its own, which looks like an idle cluster.\n\
         grant role sys:monitor to {role};\n\n\
         -- Only for `source: svv`, on a cluster without the SYS views:\n\
         -- alter user {role} syslog access unrestricted;\n"
    )
}

fn acl(login: &Login) -> String {
    let (user, host, port) = (&login.user, &login.host, login.port);
    let quoted = format!("'{}'", user.replace('\'', "'\\''"));
    format!(
        "#!/bin/sh\n\
         # Makes the user of datapulse on one node of a Redis or Valkey. ACLs are not replicated: run it for every node, as an administrator.\n\
         #   sh redis/create-user.sh -h {host} -p {port} --tls\n\
         # Arguments are those of redis-cli; REDISCLI_AUTH holds the administrator's password. The user's own is read here and only its\n\
         # hash is sent. It may read no key and no channel. Before Redis 7 write +cluster|nodes for +cluster|shards. To survive a restart the\n\
         # node needs an `aclfile` and ACL SAVE, or the user in its configuration. On AWS make the user there instead: docs/iam/README.md.\n\
         set -eu\n\
         user={quoted}\n\
         [ ! -t 0 ] || {{ printf 'Password of %s: ' \"$user\" >&2 && stty -echo; }}\n\
         IFS= read -r password\n\
         [ ! -t 0 ] || {{ stty echo && echo >&2; }}\n\
         hash=$(printf %s \"$password\" | sha256sum | cut -d ' ' -f 1)\n\
         answer=$(printf 'ACL SETUSER %s reset on #%s -@all +info +ping +cluster|myid +cluster|info +cluster|shards +slowlog|len +slowlog|get\\n' \\\n  \
         \"$user\" \"$hash\" | redis-cli \"$@\")\n\
         echo \"$answer\"\n\
         # redis-cli ends well even when the server refuses.\n\
         [ \"$answer\" = OK ]\n"
    )
}
