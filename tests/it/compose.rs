//! docker-compose.yml and the Dockerfile: by the schema of the Compose Specification, and every file that they mount by its own tool.
//!
//! There is no container engine among the parts of the tests. What the containers would run is run on private servers instead.

use crate::cli::as_json;
use crate::moto::shared_moto;
use crate::program::{Samples, datapulse, finish};
use crate::stage::{Pair, eventually, root, stage};
use crate::wire::REGION;
use clap::Parser;
use datapulse::cli::Arguments;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the images.
const MAJOR: u32 = 17;
/// What the containers mount of this repository; each is checked by a test below.
const MOUNTED: [&str; 11] = [
    "./alerts",
    "./compose/alertmanager.yml",
    "./compose/datapulse",
    "./compose/grafana/dashboards",
    "./compose/grafana/datasources",
    "./compose/moto/setup.py",
    "./compose/postgres/load.sql",
    "./compose/postgres/publisher.sql",
    "./compose/postgres/subscriber.sql",
    "./compose/prometheus.yml",
    "./dashboards",
];

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn yaml(path: &str) -> Value {
    as_json(path, &text(path))
}

fn compose() -> Value {
    yaml("docker-compose.yml")
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().unwrap().iter()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

/// Runs a tool that `make setup` installs.
fn passes(command: &mut Command) {
    let (status, out, err) = finish(command);
    assert_eq!(status, 0, "{command:?}: {out}{err}");
}

#[test]
fn the_compose_file_is_one_by_the_schema_of_the_specification() {
    let tool = root().join(".venv/bin/check-jsonschema");
    assert!(tool.is_file(), "check-jsonschema is not installed; install it with `make setup`");
    let check =
        |file: &Path| finish(Command::new(&tool).args(["--builtin-schema", "vendor.compose-spec"]).arg(file));
    let (status, out, err) = check(&root().join("docker-compose.yml"));
    assert_eq!(status, 0, "{out}{err}");
    // The schema does say no.
    let stage = stage("compose-schema");
    let broken = text("docker-compose.yml").replace("    healthcheck:", "    healthchek:");
    std::fs::write(stage.path().join("docker-compose.yml"), broken).unwrap();
    assert_eq!(check(&stage.path().join("docker-compose.yml")).0, 1);
}

#[test]
fn services_are_pinned_checked_for_health_and_reached_from_this_machine_only() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no tag"));
        let numbers = tag.trim_start_matches('v').split('-').next().unwrap();
        let version: Vec<_> = numbers.split('.').collect();
        let exact = version.len() >= 2 && version.iter().all(|part| part.parse::<u32>().is_ok());
        assert!(exact, "{name}: {image} is not one version");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let waited = &compose["services"][other];
            assert!(waited.is_object(), "{name} waits for {other}, which is not there");
            match how["condition"].as_str() {
                Some("service_healthy") => {
                    let health = &waited["healthcheck"];
                    assert!(health["test"].is_array(), "{name} waits for {other}, which has no health check");
                    for key in ["interval", "timeout", "retries"] {
                        assert!(!health[key].is_null(), "{other}: the health check has no {key}");
                    }
                }
                Some("service_completed_successfully") => {
                    assert_eq!(waited["restart"], "on-failure:3", "{other} would never be over");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        for port in words(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        assert_eq!(words(&service["networks"]), ["datapulse"], "{name}");
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            let secret = key.contains("PASSWORD") || key.contains("API_KEY");
            assert!(!secret || key.ends_with("_FILE"), "{name}: {key} has its secret in the file: {value}");
        }
    }
    let own = &compose["services"]["datapulse"];
    assert_eq!((&own["read_only"], &own["user"]), (&Value::Bool(true), &"65532:65532".into()));
    assert_eq!(words(&own["cap_drop"]), ["ALL"]);
    assert_eq!(words(&own["security_opt"]), ["no-new-privileges:true"]);
}

#[test]
fn everything_that_is_mounted_is_there() {
    let compose = compose();
    let (mut mounted, mut volumes) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services(&compose) {
        for volume in words(&service["volumes"]) {
            let (source, inside) = volume.split_once(':').unwrap();
            if source.starts_with('.') {
                assert!(root().join(source).exists(), "{name}: there is no {source}");
                assert!(inside.ends_with(":ro"), "{name}: {source} can be written");
                mounted.insert(source.to_owned());
            } else {
                volumes.insert(source.to_owned());
            }
        }
        for secret in words(&service["secrets"]) {
            assert!(compose["secrets"][secret].is_object(), "{name}: there is no secret {secret}");
        }
    }
    assert_eq!(mounted, MOUNTED.map(str::to_owned).into());
    assert_eq!(volumes, compose["volumes"].as_object().unwrap().keys().cloned().collect());
    // The script makes every secret, each another word, and a second run keeps them.
    let stage = stage("compose-secrets");
    let mut values = BTreeSet::new();
    let made = secrets(stage.path());
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./compose/secrets/{name}"));
        values.insert(text(made.join(name)));
    }
    let count = compose["secrets"].as_object().unwrap().len();
    assert_eq!(values.len(), count, "two secrets are equal");
    assert_eq!(std::fs::read_dir(&made).unwrap().count(), count, "a secret that nobody takes");
    secrets(stage.path());
    assert!(values.contains(&text(made.join("datapulse"))), "a second run changed a password");
}

/// What compose/secrets.sh makes in a folder.
fn secrets(stage: &Path) -> PathBuf {
    let folder = stage.join("secrets");
    passes(Command::new(root().join("compose/secrets.sh")).arg(&folder));
    folder
}

#[test]
fn what_prometheus_alertmanager_and_grafana_mount_is_sound() {
    let stage = stage("compose-monitoring");
    let path = |name: &str| stage.path().join(name);
    std::fs::copy(root().join("compose/prometheus.yml"), path("prometheus.yml")).unwrap();
    std::os::unix::fs::symlink(root().join("alerts"), path("datapulse")).unwrap();
    passes(Command::new("promtool").args(["check", "config"]).arg(path("prometheus.yml")));
    passes(Command::new("amtool").arg("check-config").arg(root().join("compose/alertmanager.yml")));

    // Every file of rules is loaded, and nothing else.
    let files = std::fs::read_dir(root().join("alerts")).unwrap().map(|entry| entry.unwrap().path());
    let rules = files.filter(|path| path.extension().is_some_and(|extension| extension == "yml"));
    let rules = rules.filter(|path| text(path).lines().any(|line| line == "groups:"));
    let rules: BTreeSet<_> =
        rules.map(|path| format!("datapulse/{}", path.file_name().unwrap().display())).collect();
    let prometheus = yaml("compose/prometheus.yml");
    let loaded: BTreeSet<_> = words(&prometheus["rule_files"]).into_iter().map(str::to_owned).collect();
    assert_eq!(loaded, rules);

    // The routes group as the bundled ones do.
    let (ours, bundled) = (yaml("compose/alertmanager.yml"), yaml("alerts/alertmanager.yml"));
    assert_eq!(ours["route"]["group_by"], bundled["route"]["group_by"]);
    assert_eq!(ours["route"]["routes"][0]["group_by"], bundled["route"]["routes"][2]["group_by"]);

    // Grafana: one source that is Prometheus, and the folder that the dashboards are mounted as.
    let source = &yaml("compose/grafana/datasources/prometheus.yml")["datasources"][0];
    assert_eq!((&source["type"], &source["url"]), (&"prometheus".into(), &"http://prometheus:9090".into()));
    let provider = &yaml("compose/grafana/dashboards/datapulse.yml")["providers"][0];
    let compose = compose();
    let mounts = words(&compose["services"]["grafana"]["volumes"]);
    let folder = provider["options"]["path"].as_str().unwrap();
    assert!(mounts.contains(&format!("./dashboards:{folder}:ro").as_str()), "{mounts:?}");
    for entry in std::fs::read_dir(root().join("dashboards")).unwrap() {
        let board = text(entry.unwrap().path());
        let board: Value = serde_json::from_str(&board).unwrap();
        // A provisioned dashboard has to know its source without being asked.
        assert!(board["__inputs"].is_null() && board["uid"].is_string(), "{}", board["title"]);
        let variables = board["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|one| one["type"] == "datasource" && one["query"] == "prometheus"));
    }
}

#[test]
fn what_the_containers_would_run_works_on_servers_of_that_version() {
    let pair = Pair::start(MAJOR, "compose");
    let (publisher, subscriber, moto) = (&pair.publisher, &pair.subscriber, shared_moto());
    let secrets = secrets(pair.stage.path());
    // Where the containers have names of their own, here are ports.
    let here = |file: &str, host: &str, port: u16| {
        text(Path::new("compose").join(file))
            .replace("/run/secrets", secrets.to_str().unwrap())
            .replace(&format!("host={host} port=5432"), &format!("host=127.0.0.1 port={port}"))
            .replace(&format!("host: {host}\n    port: 5432"), &format!("host: 127.0.0.1\n    port: {port}"))
            .replace(
                &format!("\"hostname\": \"{host}\", \"port\": \"5432\""),
                &format!("\"hostname\": \"127.0.0.1\", \"port\": \"{port}\""),
            )
    };
    for (cluster, file) in [(publisher, "postgres/publisher.sql"), (subscriber, "postgres/subscriber.sql")] {
        cluster.sql("postgres", "create database shop").unwrap();
        cluster.sql("shop", &here(file, "publisher", publisher.port())).unwrap();
    }
    let load = text("compose/postgres/load.sql");
    assert!(load.ends_with("\n\\watch 0.5\n"), "{load}");
    let once = load.replace("\\watch 0.5", ";");
    publisher.sql("shop", &format!("set role shop; {once}{once}")).unwrap();
    eventually("the orders are replicated", || {
        let count = "select count(*) from orders o where exists (select from device_connections)";
        (subscriber.sql("shop", count).unwrap() == "2").then_some(())
    });

    // The parameters, by the script itself, and then the checks with the mounted configuration.
    let aws = |command: &mut Command| {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", moto.port())),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "anything".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "anything".to_owned()),
        ] {
            command.env(name, value);
        }
    };
    let stage = pair.stage.path();
    std::fs::write(stage.join("setup.py"), here("moto/setup.py", "publisher", publisher.port())).unwrap();
    let mut setup = Command::new(root().join(".venv/bin/python"));
    aws(setup.arg(stage.join("setup.py")));
    passes(&mut setup);
    std::fs::create_dir(stage.join("conf.d")).unwrap();
    let shop = here("datapulse/conf.d/shop.yml", "subscriber", subscriber.port());
    std::fs::write(stage.join("conf.d/shop.yml"), shop).unwrap();
    for name in ["datapulse.yml", "with-datadog.yml"] {
        let file = stage.join(name);
        let data = stage.join("data").display().to_string();
        let text = here(&format!("datapulse/{name}"), "", 0).replace("/var/lib/datapulse", &data);
        std::fs::write(&file, text).unwrap();
        let mut once = datapulse(["once", "--output=prometheus", "--config.file"]);
        aws(once.arg(&file));
        let (status, out, err) = finish(&mut once);
        assert_eq!(status, 0, "{name}: {out}{err}");
        let samples = Samples::parse(&out);
        for check in ["orders", "orders-slots", "sessions", "devices"] {
            assert_eq!(
                samples.value("datapulse_check_up", &[("check", check)]),
                Some(1.0),
                "{name}: {check}"
            );
        }
        assert_eq!(samples.value("pg_subscription_worker_up", &[("subname", "orders_sub")]), Some(1.0));
        assert!(samples.value("device_connections", &[("country", "JP")]).is_some());
    }
}

#[test]
fn the_image_is_of_this_version_and_its_commands_exist() {
    let file = text("Dockerfile");
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(
        file.contains(&format!("FROM rust:{channel}-bookworm AS build\n")),
        "another compiler: {channel}"
    );
    let version = env!("CARGO_PKG_VERSION");
    assert!(file.contains(&format!("image.version=\"{version}\"")), "another version than {version}");
    let compose = compose();
    let own = &compose["services"]["datapulse"];
    assert_eq!(own["image"], format!("datapulse:{version}"));
    assert!(file.contains(&format!("\nUSER {}\n", own["user"].as_str().unwrap())));

    // Commands are lists of words in JSON; each has to be one that the program takes.
    let list =
        |line: &str| -> Vec<String> { serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap() };
    let line =
        |word: &str| file.lines().rfind(|line| line.starts_with(word)).unwrap_or_else(|| panic!("{word}"));
    let entry = list(line("ENTRYPOINT"));
    let owned = |value: &Value| words(value).into_iter().map(str::to_owned).collect::<Vec<_>>();
    for command in [
        [entry.clone(), list(line("CMD"))].concat(),
        list(line("    CMD")),
        [entry, owned(&own["command"])].concat(),
        owned(&own["healthcheck"]["test"])[1..].to_vec(),
    ] {
        assert_eq!(command[0], "/usr/bin/datapulse", "{command:?}");
        Arguments::try_parse_from(&command).unwrap_or_else(|why| panic!("{command:?}: {why}"));
    }
}

/// The builder gets a part of this tree; what the program holds of it has to be there.
#[test]
fn the_builder_gets_every_file_that_the_program_holds() {
    let ignored = text(".dockerignore");
    let given: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut command = Command::new("grep");
    command.args(["-rhoE", r#"include_(str|bytes)!\("[^"]+""#]).args(["src", "crates"]).current_dir(root());
    let (_, found, _) = finish(&mut command);
    let mut outside = 0;
    for line in found.lines() {
        let path = line.split('"').nth(1).unwrap().trim_start_matches("../");
        let top = path.split('/').next().unwrap();
        if root().join(path).exists() && !root().join("src").join(path).exists() {
            assert!(given.contains(&top), "{path} is not sent to the builder");
            outside += 1;
        }
    }
    assert!(outside > 3, "only {outside} files were found");
    for name in given {
        // What a later version holds may be named before it is there.
        assert!(root().join(name).exists() || name == "packaging", "there is no {name}");
    }
}
