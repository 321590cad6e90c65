//! Values of the configuration that AWS keeps, the role by which they are read, and where AWS is found: moto plays it.

use crate::aws::reach;
use crate::moto::shared_moto;
use crate::program::{Program, datapulse, finish, role};
use crate::recorder::{ALL, Fault, Recorder};
use crate::stage::{PASSWORD, eventually, shared_pair, stage};
use crate::wire::{ACCESS_KEY, REGION};
use serde_json::Value;
use std::path::Path;

const ROLE: &str = "arn:aws:iam::123456789012:role/secrets";

/// A check whose bucket, statement and rhythm are kept elsewhere, in AWS under this name.
fn lake(name: &str, folder: &Path) -> String {
    std::fs::write(folder.join("lake.sql"), "select 'JP' as country,\n  1 as devices\n").unwrap();
    format!(
        "data_dir: data\nsecrets: {{region: {REGION}, assume_role: 'env:SECRETS_ROLE'}}\nchecks:\n  - athena_query:\n      name: lake\n      \
         every: 'ssm:/{name}/every'\n      output: 'secretsmanager:{name}#bucket'\n      sql: 'file:{}/lake.sql'\n      \
         metrics: [{{name: device.connections, value: devices, labels: [country], help: devices}}]\n",
        folder.display()
    )
}

/// The starts of queries so far: where their results were to go, and the statement.
fn starts(recorder: &Recorder) -> Vec<(String, String)> {
    let calls = recorder.calls().into_iter().filter(|call| call.operation == "StartQueryExecution");
    let told = |body: Value| {
        let place = body["ResultConfiguration"]["OutputLocation"].as_str().unwrap().to_owned();
        (place, body["QueryString"].as_str().unwrap().to_owned())
    };
    calls.map(|call| told(serde_json::from_slice(&call.request.body).unwrap())).collect()
}

#[test]
fn values_of_any_key_are_read_with_the_role_of_secrets_at_the_start_and_at_each_reload() {
    let moto = shared_moto();
    let recorder = Recorder::start(moto.port());
    moto.ssm("/seen/every", "1h");
    moto.secret("seen", r#"{"bucket": "s3://first/"}"#);
    let folder = stage("references-files");
    let config = lake("seen", folder.path());
    let program = Program::start_as("references", &config, &["--web.enable-lifecycle"], |command, _| {
        reach(&recorder, command);
        command.env("SECRETS_ROLE", ROLE);
    });
    let started = eventually("the query is started", || starts(&recorder).pop());
    assert_eq!(started, ("s3://first/".to_owned(), "select 'JP' as country,\n  1 as devices".to_owned()));
    for call in recorder.calls() {
        let by = call.signature.as_ref().map(|by| (by.access_key == ACCESS_KEY, by.session_token));
        let own = match call.operation.as_str() {
            "GetParameters" | "GetSecretValue" => Some((false, true)),
            _ => Some((true, false)),
        };
        assert_eq!(by, own, "{}: the role is for what is kept, and for nothing else", call.operation);
    }
    let reload = || program.request("POST", "/-/reload", "");
    // The same again: nothing is started anew.
    assert_eq!(reload().status, 200);
    assert_eq!(starts(&recorder).len(), 1);

    // What cannot be read leaves the old configuration in place.
    recorder.fail("GetSecretValue", Fault::Denied);
    let refused = reload();
    let text = refused.text();
    assert_eq!(refused.status, 500, "{text}");
    assert!(text.contains("datapulse.yml:7:15: checks[0].athena_query.output: could not read"), "{text}");
    assert!(text.contains("secretsmanager:GetSecretValue"), "{text}");
    recorder.calm();
    moto.secret("seen", r#"{"bucket": "second"}"#);
    let text = reload().text();
    assert!(text.contains("output: not a place in S3") && !text.contains("second"), "{text}");
    let samples = program.scrape();
    assert_eq!(samples.value("datapulse_config_last_reload_successful", &[]), Some(0.0));
    assert_eq!(samples.value("datapulse_check_interval_seconds", &[("check", "lake")]), Some(3600.0));

    moto.secret("seen", r#"{"bucket": "s3://second/"}"#);
    moto.ssm("/seen/every", "2h");
    assert_eq!(reload().status, 200);
    program.wait_for("datapulse_check_interval_seconds", &[("check", "lake")], |every| every == 7200.0);
}

#[test]
fn a_password_is_read_with_the_role_of_secrets_and_a_reload_takes_another_role() {
    let moto = shared_moto();
    let recorder = Recorder::start(moto.port());
    let server = &shared_pair().publisher;
    role(server, "by_role", "");
    moto.ssm("/by/role", PASSWORD);
    let config = |secrets: &str| {
        format!(
            "secrets: {{{secrets}}}\nchecks:\n  - pg_replication: {{name: one, every: 1s, target: {{host: 127.0.0.1, port: {}, user: by_role, \
             password: 'ssm:/by/role', database: postgres, tls: disable}}}}\n",
            server.port()
        )
    };
    let first = config(&format!("assume_role: '{ROLE}'"));
    let program = Program::start_as("references-role", &first, &["--web.enable-lifecycle"], |command, _| {
        reach(&recorder, command);
    });
    program.wait_for("datapulse_check_up", &[("check", "one")], |up| up == 1.0);
    let last = || {
        let calls = recorder.calls();
        let call = calls.iter().rev().find(|call| call.operation == "GetParameters").unwrap();
        call.signature.as_ref().unwrap().session_token
    };
    assert!(last(), "with the credentials of the role");
    // A role that nobody may take on is refused, and the old one stays.
    recorder.fail("AssumeRole", Fault::Denied);
    program.configure(&config("assume_role: 'arn:aws:iam::123456789012:role/other'"));
    let refused = program.request("POST", "/-/reload", "");
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("could not read /by/role from Parameter Store"), "{}", refused.text());
    program.wait_for("datapulse_secret_up", &[("secret", "ssm:/by/role")], |up| up == 1.0);
    // Without a role the service asks as itself.
    program.configure(&config("refresh: 5m"));
    assert_eq!(program.request("POST", "/-/reload", "").status, 200);
    assert!(!last(), "with its own");
    assert_eq!(program.scrape().value("datapulse_check_up", &[("check", "one")]), Some(1.0));
}

#[test]
fn offline_what_aws_keeps_is_named_and_a_command_that_needs_it_says_what_is_wrong() {
    let moto = shared_moto();
    let recorder = Recorder::start(moto.port());
    let folder = stage("references-offline");
    let path = folder.path().join("c.yml");
    std::fs::write(&path, lake("unseen", folder.path())).unwrap();
    let run = |word: &str| {
        let mut command = datapulse([word, "--config.file"]);
        reach(&recorder, &mut command);
        finish(command.arg(&path).env("SECRETS_ROLE", ROLE))
    };
    let (status, text, errors) = run("validate");
    assert_eq!(status, 0, "{errors}");
    let unknown = "is valid: 1 check; not looked at, because only AWS knows it: checks[0].athena_query.every (ssm:/unseen/every), \
                   checks[0].athena_query.output (secretsmanager:unseen#bucket)";
    assert!(text.contains(unknown), "{text}");
    assert_eq!(recorder.count(ALL), 0, "validate asks nobody");

    moto.secret("unseen", r#"{"bucket": "s3://first/"}"#);
    for word in ["serve", "once", "doctor"] {
        let (status, _, errors) = run(word);
        let told =
            errors.contains("c.yml:6:14: checks[0].athena_query.every: there is no parameter /unseen/every");
        assert!(status == 64 && told, "{word}: {status} {errors}");
    }
    recorder.fail("GetParameters", Fault::Denied);
    let (status, _, errors) = run("serve");
    assert_eq!(status, 1, "the next start may do: {errors}");
    assert!(errors.contains("could not read what AWS keeps of the configuration"), "{errors}");
    recorder.calm();
    moto.ssm("/unseen/every", "1h");
    let (status, text, errors) = run("doctor");
    assert!(status == 0 && text.contains("lake (athena_query, every 3600s"), "{text}{errors}");
}

/// The same file of the SDK that other programs on the machine have.
#[test]
fn calls_that_we_sign_ourselves_go_where_the_profile_sends_those_of_the_sdk() {
    let moto = shared_moto();
    let recorder = Recorder::start(moto.port());
    // For all services but one that stands in the profile by itself.
    let other = Recorder::start(moto.port());
    moto.redshift_cluster("by-profile", &[]);
    moto.redshift_pause("by-profile");
    moto.rds_cluster("by-profile", "aurora-postgresql", &[]);
    moto.ssm("/by-profile/user", "u");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let check = |name: &str, cluster: &str| {
        format!(
            "  - sql_query: {{name: {name}, every: 1s, sql: select 1 as n, metrics: [{{name: {name}.n, value: n, help: n}}], target: {{host: 127.0.0.1, \
             port: {closed}, user: 'ssm:/by-profile/user', database: d, tls: disable, cluster: {{{cluster}}}}}}}\n"
        )
    };
    let config =
        format!("checks:\n{}{}", check("bi", "redshift: by-profile"), check("orders", "rds: by-profile"));
    let program = Program::start_as("references-profile", &config, &[], |command, folder| {
        reach(&recorder, command);
        let file = folder.join("aws.conf");
        let text = format!(
            "[default]\nregion = {REGION}\nendpoint_url = {}\nservices = here\n[services here]\nredshift =\n  endpoint_url = {}\n",
            other.url(),
            recorder.url()
        );
        std::fs::write(&file, text).unwrap();
        command.env_remove("AWS_ENDPOINT_URL").env_remove("AWS_REGION").env("AWS_CONFIG_FILE", file);
    });
    program.wait_for("datapulse_target_paused", &[("check", "bi")], |paused| paused == 1.0);
    eventually("RDS is asked", || (other.count("DescribeDBClusters") > 0).then_some(()));
    let services = |recorder: &Recorder| -> std::collections::BTreeSet<String> {
        recorder.calls().into_iter().map(|call| call.service).collect()
    };
    assert_eq!(services(&recorder), ["redshift".to_owned()].into());
    assert_eq!(services(&other), ["rds".to_owned(), "ssm".to_owned()].into());
}
