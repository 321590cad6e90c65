//! What `datapulse init` writes, on real servers: its roles are made as it says, and `doctor` finds nothing missing.

use super::init;
use crate::program::{datapulse, finish, replicate};
use crate::stage::{PASSWORD, eventually, shared_pair, stage};
use datapulse::demo::parts::{Cluster, Store, StoreServer};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a file of SQL as an administrator, twice, and gives the role its password.
fn make_role(cluster: &Cluster, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    for _ in 0..2 {
        cluster.sql("postgres", &text).unwrap_or_else(|why| panic!("{}: {why}\n{text}", file.display()));
    }
    cluster.sql("postgres", &format!("alter role init_eye password '{PASSWORD}'")).unwrap();
}

/// `doctor`, with every password in its variable.
fn doctor(dir: &Path) -> (i32, String) {
    let config = format!("--config.file={}", dir.join("datapulse.yml").display());
    let mut command = datapulse(["doctor", &config]);
    for name in ["SUBSCRIBER_PASSWORD", "PUBLISHER_PASSWORD", "DATABASE_PASSWORD", "CACHE_PASSWORD"] {
        command.env(name, PASSWORD);
    }
    let (status, out, err) = finish(&mut command);
    (status, out + &err)
}

/// The servers of the tests speak no TLS.
fn without_tls(dir: &Path) {
    let path = dir.join("datapulse.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("tls: verify-full", "tls: disable")).unwrap();
}

#[test]
fn doctor_passes_with_the_roles_that_were_written() {
    let (stage, pair) = (stage("init-servers"), shared_pair());
    replicate(pair, "init");
    let dir = stage.path().join("out");
    let at =
        |name: &str, cluster: &Cluster| format!("--target={name}=init_eye@127.0.0.1:{}/init", cluster.port());
    let targets = [
        at("subscriber", &pair.subscriber),
        at("publisher", &pair.publisher),
        at("database", &pair.subscriber),
    ];
    let mut flags = vec!["--for=pg_subscription,pg_replication,pg_inflight,sql_query"];
    flags.extend(targets.iter().map(String::as_str));
    init(&dir, &flags);
    without_tls(&dir);
    make_role(&pair.subscriber, &dir.join("sql/subscriber.sql"));
    make_role(&pair.subscriber, &dir.join("sql/database.sql"));
    make_role(&pair.publisher, &dir.join("sql/publisher.sql"));
    let worker =
        "select count(*) from pg_stat_replication where application_name = 'init' and state = 'streaming'";
    eventually("a walsender", || (pair.publisher.sql("init", worker).unwrap() == "1").then_some(()));

    let (status, said) = doctor(&dir);
    assert_eq!(status, 0, "{said}");
    for check in [
        "replication@subscriber",
        "slots@publisher",
        "sessions@subscriber",
        "sessions@publisher",
        "sessions@database",
        "sessions_by_database@database",
    ] {
        assert!(said.contains(&format!("{check} (")), "{check}\nis not in\n{said}");
    }
    assert!(!said.contains("MISSING") && !said.contains("FAILED"), "{said}");

    // Least: no table of the database can be read, nothing can be written.
    let may = "select count(*) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and has_table_privilege('init_eye', oid, 'select, insert, update, delete')";
    assert_eq!(pair.subscriber.sql("init", may).unwrap(), "0");
    let more = "select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls from pg_roles where rolname = 'init_eye'";
    assert_eq!(pair.publisher.sql("init", more).unwrap(), "f");
}

#[test]
fn the_roles_of_one_check_are_enough_for_it_alone() {
    let (stage, pair) = (stage("init-alone"), shared_pair());
    for (word, name, user) in [
        ("pg_inflight", "database", "init_sessions"),
        ("sql_query", "database", "init_sql"),
        ("pg_replication", "publisher", "init_slots"),
    ] {
        let dir = stage.path().join(word);
        let cluster = &pair.publisher;
        init(&dir, &["--for", word, &format!("--target={name}={user}@127.0.0.1:{}", cluster.port())]);
        without_tls(&dir);
        let text = std::fs::read_to_string(dir.join(format!("sql/{name}.sql"))).unwrap();
        cluster.sql("postgres", &format!("{text}; alter role {user} password '{PASSWORD}'")).unwrap();
        let (status, said) = doctor(&dir);
        assert_eq!(status, 0, "{word}: {said}");
    }
}

#[test]
fn the_user_of_redis_is_made_from_a_password_that_nobody_sees() {
    let stage = stage("init-redis");
    let store = Store::redis().unwrap_or_else(|why| panic!("{why}"));
    let server = StoreServer::start(&store, &stage.path().join("server"), &[]).unwrap();
    let (dir, port) = (stage.path().join("out"), server.port().to_string());
    init(&dir, &["--for=redis", &format!("--target=cache=init_eye@127.0.0.1:{port}")]);
    without_tls(&dir);

    let mut command = Command::new("sh");
    command.arg("redis/create-user.sh").args(["-h", "127.0.0.1", "-p", &port]).current_dir(&dir);
    command.env("REDISCLI_AUTH", server.password()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{PASSWORD}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let (status, said) = doctor(&dir);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("cache@cache (redis") && !said.contains("MISSING"), "{said}");
    let rights = server.ask(&["ACL", "GETUSER", "init_eye"]).unwrap();
    assert!(!rights.contains("~*") && !rights.contains("+@all") && !rights.contains("nopass"), "{rights}");

    // Redis says no with status 0; the script does not.
    command.env("REDISCLI_AUTH", "wrong");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
}
