//! moto from .venv plays AWS on 127.0.0.1. Everything that a test wants to find there is put in over plain HTTP.
//!
//! Things lie in [`REGION`]; no signature is verified. Results of Athena are a queue of the whole server: a test that needs
//! them, or changes how long queries last, starts a server of its own (50 MB, 200 MB when all services are loaded). The first
//! call of a service loads it, up to 3 s on a busy machine; putting something in is such a call.

use crate::stage::{eventually, root, stage};
use crate::wire::{Answer, REGION, Request, form_call, json_call, send};
use datapulse::demo::parts::{Ending, Keeper, Signal, Stage, free_port};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// It keeps nothing, so nothing is lost.
const ENDING: Ending = Ending { signal: Signal::Kill, grace: Duration::from_secs(1) };
const REDSHIFT: &str = "2012-12-01";
const RDS: &str = "2014-10-31";
/// The smallest page; `data.json` stumbles over databases.
const READY: &str = "state-manager/get-transition?model_name=athena::execution";
/// The stream of every log group of ours.
const STREAM: &str = "stage";

/// A moto of its own. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Moto {
    port: u16,
    _keeper: Keeper,
    /// After the keeper, so that it goes after it.
    _stage: Stage,
}

/// One for all tests that only add what nobody else names: parameters, secrets, log groups, clusters.
pub(crate) fn shared_moto() -> &'static Moto {
    static SHARED: OnceLock<Moto> = OnceLock::new();
    SHARED.get_or_init(|| Moto::start("moto-shared"))
}

impl Moto {
    /// Starts it and waits until it answers. `name` names the directory of its log.
    pub(crate) fn start(name: &str) -> Self {
        let python = root().join(".venv/bin/python");
        let installed = root().join(".venv/bin/moto_server").exists();
        assert!(installed, "moto is not installed in {}; install it with `make setup`", python.display());
        let (stage, port) = (stage(name), free_port().unwrap());
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let keeper = Keeper::start(&command, ENDING, &stage.path().join("moto.log")).unwrap();
        eventually("moto answers", || {
            let log = || std::fs::read_to_string(keeper.log()).unwrap();
            assert!(keeper.is_running(), "moto ended at its start:\n{}", log());
            send(port, &own("GET", READY, &Value::Null)).ok().filter(|answer| answer.status == 200)
        });
        Self { port, _keeper: keeper, _stage: stage }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A call that must be answered; with an error it panics.
    pub(crate) fn json(&self, service: &str, target: &str, body: &Value) -> Value {
        self.ask(&json_call(service, target, body)).value()
    }

    /// As `json`, in the query protocol; gives the XML.
    pub(crate) fn form(&self, service: &str, version: &str, action: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.ask(&form_call(service, version, action, fields));
        assert_eq!(answer.status, 200, "{action}: {}", answer.text());
        answer.text()
    }

    fn ask(&self, request: &Request) -> Answer {
        send(self.port, request).unwrap()
    }

    // --- secrets ---

    /// Writes a parameter as `SecureString`, over an older one too.
    pub(crate) fn ssm(&self, name: &str, value: &str) {
        let body = json!({"Name": name, "Value": value, "Type": "SecureString", "Overwrite": true});
        self.json("ssm", "AmazonSSM.PutParameter", &body);
    }

    /// Writes a secret of the Secrets Manager; one that is there gets another version.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        let body = json!({"Name": name, "SecretString": text});
        if self.ask(&json_call("secretsmanager", "secretsmanager.CreateSecret", &body)).status != 200 {
            let body = json!({"SecretId": name, "SecretString": text});
            self.json("secretsmanager", "secretsmanager.PutSecretValue", &body);
        }
    }

    // --- Athena ---

    /// Queues a result: each query takes the next one when it is started, and one that finds none gives no columns and no
    /// rows. Columns are names with their types; the row with the names is added. `None` is a NULL.
    pub(crate) fn athena_results(&self, columns: &[(&str, &str)], rows: &[&[Option<&str>]]) {
        let cell = |value: Option<&str>| value.map_or(json!({}), |value| json!({"VarCharValue": value}));
        let row =
            |cells: &[Option<&str>]| json!({"Data": cells.iter().copied().map(cell).collect::<Vec<_>>()});
        let names: Vec<Option<&str>> = columns.iter().map(|(name, _)| Some(*name)).collect();
        let rows: Vec<Value> =
            std::iter::once(names.as_slice()).chain(rows.iter().copied()).map(row).collect();
        let column = |(name, kind): &(&str, &str)| {
            json!({
                "CatalogName": "hive", "SchemaName": "", "TableName": "", "Name": name, "Label": name, "Type": kind,
                "Precision": 0, "Scale": 0, "Nullable": "UNKNOWN", "CaseSensitive": *kind == "varchar",
            })
        };
        let columns: Vec<Value> = columns.iter().map(column).collect();
        let results = json!([{"rows": rows, "column_info": columns}]);
        self.own("static/athena/query-results", &json!({"region": REGION, "results": results}));
    }

    /// From now on a query leaves QUEUED and then RUNNING at every `polls`-th `GetQueryExecution`: with 1 the first gives
    /// RUNNING and the second SUCCEEDED. With 0, as at the start, it has succeeded as soon as it is asked for.
    pub(crate) fn athena_lasts(&self, polls: u32) {
        let transition = match polls {
            0 => json!({"progression": "immediate"}),
            _ => json!({"progression": "manual", "times": polls}),
        };
        let body = json!({"model_name": "athena::execution", "transition": transition});
        self.own("state-manager/set-transition", &body);
    }

    /// Every query with its state, in the order of their start. Looking does not count as a poll.
    pub(crate) fn athena_queries(&self) -> Vec<(String, String)> {
        let list = self.json("athena", "AmazonAthena.ListQueryExecutions", &json!({}));
        let ids = list["QueryExecutionIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap());
        let state = |id| {
            let target = "AmazonAthena.GetQueryRuntimeStatistics";
            let answer = self.json("athena", target, &json!({"QueryExecutionId": id}));
            answer["QueryRuntimeStatistics"]["OutputStage"]["State"].as_str().unwrap().to_owned()
        };
        ids.map(|id| (id.to_owned(), state(id))).collect()
    }

    /// The queries that have neither ended nor been stopped.
    pub(crate) fn running_athena_queries(&self) -> Vec<String> {
        let running = |(_, state): &(String, String)| matches!(state.as_str(), "QUEUED" | "RUNNING");
        self.athena_queries().into_iter().filter(running).map(|(id, _)| id).collect()
    }

    /// A workgroup whose results go to `output`, such as `s3://bucket/`. `primary` is always there.
    pub(crate) fn athena_workgroup(&self, name: &str, output: &str) {
        let configuration = json!({"ResultConfiguration": {"OutputLocation": output}});
        let body = json!({"Name": name, "Description": "", "Tags": [], "Configuration": configuration});
        self.json("athena", "AmazonAthena.CreateWorkGroup", &body);
    }

    /// A bucket, for results. Athena does not ask whether it is there.
    pub(crate) fn bucket(&self, name: &str) {
        let place = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        let answer = self.ask(&s3("PUT", &format!("/{name}"), &place));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// An object of a bucket.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Answer {
        self.ask(&s3("GET", &format!("/{bucket}/{key}"), ""))
    }

    // --- databases ---

    /// A Redshift cluster, at once `available`.
    pub(crate) fn redshift_cluster(&self, name: &str, tags: &[(&str, &str)]) {
        let mut fields = vec![
            ("ClusterIdentifier", name),
            ("NodeType", "ra3.xlplus"),
            ("ClusterType", "single-node"),
            ("MasterUsername", "stage"),
            ("MasterUserPassword", "Canary0fTheStage"),
            ("DBName", "dev"),
        ];
        let tags = tag_fields(tags);
        fields.extend(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.form("redshift", REDSHIFT, "CreateCluster", &fields);
    }

    /// Makes a cluster `paused`, at once.
    pub(crate) fn redshift_pause(&self, name: &str) {
        self.form("redshift", REDSHIFT, "PauseCluster", &[("ClusterIdentifier", name)]);
    }

    /// Ends `redshift_pause`, at once.
    pub(crate) fn redshift_resume(&self, name: &str) {
        self.form("redshift", REDSHIFT, "ResumeCluster", &[("ClusterIdentifier", name)]);
    }

    /// An Aurora cluster, such as of `aurora-postgresql`; its instances come by `rds_instance`.
    pub(crate) fn rds_cluster(&self, name: &str, engine: &str, tags: &[(&str, &str)]) {
        let login = [("MasterUsername", "stage"), ("MasterUserPassword", "Canary0fTheStage")];
        self.rds("CreateDBCluster", &[("DBClusterIdentifier", name), ("Engine", engine)], &login, tags);
    }

    /// An instance of a cluster, or one that stands alone. The first of a cluster is its writer.
    pub(crate) fn rds_instance(
        &self,
        name: &str,
        cluster: Option<&str>,
        engine: &str,
        tags: &[(&str, &str)],
    ) {
        let fields =
            [("DBInstanceIdentifier", name), ("Engine", engine), ("DBInstanceClass", "db.r6g.large")];
        let alone = [
            ("AllocatedStorage", "20"),
            ("MasterUsername", "stage"),
            ("MasterUserPassword", "Canary0fTheStage"),
        ];
        match cluster {
            Some(cluster) => self.rds("CreateDBInstance", &fields, &[("DBClusterIdentifier", cluster)], tags),
            None => self.rds("CreateDBInstance", &fields, &alone, tags),
        }
    }

    fn rds(&self, action: &str, fields: &[(&str, &str)], more: &[(&str, &str)], tags: &[(&str, &str)]) {
        let tags = tag_fields(tags);
        let tags = tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<(&str, &str)> = fields.iter().chain(more).copied().chain(tags).collect();
        self.form("rds", RDS, action, &all);
    }

    // --- logs ---

    /// A log group with one stream.
    pub(crate) fn log_group(&self, name: &str) {
        self.json("logs", "Logs_20140328.CreateLogGroup", &json!({"logGroupName": name}));
        let body = json!({"logGroupName": name, "logStreamName": STREAM});
        self.json("logs", "Logs_20140328.CreateLogStream", &body);
    }

    /// Writes lines with their times (milliseconds of the epoch) into a group that is there. moto, as AWS, drops what is
    /// older than 14 days or lies more than 2 h ahead.
    pub(crate) fn put_log_events(&self, group: &str, lines: &[(i64, &str)]) {
        let events: Vec<Value> =
            lines.iter().map(|(time, line)| json!({"timestamp": time, "message": line})).collect();
        let body = json!({"logGroupName": group, "logStreamName": STREAM, "logEvents": events});
        let answer = self.json("logs", "Logs_20140328.PutLogEvents", &body);
        assert_eq!(answer.get("rejectedLogEventsInfo"), None, "{answer}");
    }

    /// POST to moto's own interface.
    fn own(&self, path: &str, body: &Value) {
        let answer = self.ask(&own("POST", path, body));
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
    }
}

fn own(method: &str, path: &str, body: &Value) -> Request {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Request { method: method.to_owned(), path: format!("/moto-api/{path}"), headers, body }
}

fn s3(method: &str, path: &str, body: &str) -> Request {
    let mut request = json_call("s3", "", &Value::Null);
    request.headers.retain(|(name, _)| name == "Authorization");
    request.headers.push(("Content-Type".to_owned(), "application/xml".to_owned()));
    Request { method: method.to_owned(), path: path.to_owned(), body: body.as_bytes().to_vec(), ..request }
}

/// `Tags.Tag.1.Key=..&Tags.Tag.1.Value=..`
fn tag_fields(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = (1..).zip(tags).flat_map(|(at, (key, value))| {
        [(format!("Tags.Tag.{at}.Key"), *key), (format!("Tags.Tag.{at}.Value"), *value)]
    });
    pairs.map(|(name, text)| (name, text.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_and_a_secret_are_found_again_by_path_and_by_version() {
        let moto = shared_moto();
        moto.ssm("/moto/db/password", "old");
        moto.ssm("/moto/db/password", "geheim");
        moto.ssm("/moto/db/more/user", "u");
        let body = json!({"Names": ["/moto/db/password", "/moto/nothing"], "WithDecryption": true});
        let found = moto.json("ssm", "AmazonSSM.GetParameters", &body);
        assert_eq!(found["Parameters"][0]["Value"], "geheim");
        assert_eq!(found["InvalidParameters"], json!(["/moto/nothing"]));
        for (recursive, count) in [(false, 1), (true, 2)] {
            let body = json!({"Path": "/moto/db", "Recursive": recursive, "WithDecryption": true});
            let found = moto.json("ssm", "AmazonSSM.GetParametersByPath", &body);
            assert_eq!(found["Parameters"].as_array().unwrap().len(), count, "{found}");
        }
        moto.secret("moto/login", r#"{"password":"old"}"#);
        moto.secret("moto/login", r#"{"password":"geheim"}"#);
        for (stage, password) in [("AWSCURRENT", "geheim"), ("AWSPREVIOUS", "old")] {
            let body = json!({"SecretId": "moto/login", "VersionStage": stage});
            let found = moto.json("secretsmanager", "secretsmanager.GetSecretValue", &body);
            assert_eq!(found["SecretString"], json!({"password": password}).to_string());
        }
    }

    #[test]
    fn a_query_of_athena_runs_as_long_as_it_is_told_and_gives_the_results_in_their_order() {
        let moto = Moto::start("moto-athena");
        let athena =
            |operation: &str, body: Value| json_call("athena", &format!("AmazonAthena.{operation}"), &body);
        let start = |group: &str| {
            let place = json!({"OutputLocation": "s3://moto-results/"});
            let body = json!({"QueryString": "select 1", "WorkGroup": group, "ResultConfiguration": place});
            moto.ask(&athena("StartQueryExecution", body))
        };
        let started = |group: &str| start(group).value()["QueryExecutionId"].as_str().unwrap().to_owned();
        let state = |id: &str| {
            let answer = moto.ask(&athena("GetQueryExecution", json!({"QueryExecutionId": id}))).value();
            answer["QueryExecution"]["Status"]["State"].as_str().unwrap().to_owned()
        };
        let results = |id: &str| moto.ask(&athena("GetQueryResults", json!({"QueryExecutionId": id})));

        moto.bucket("moto-results");
        moto.athena_workgroup("reports", "s3://moto-results/");
        assert_eq!(start("nobody").error(), "InvalidRequestException");
        moto.athena_results(
            &[("country", "varchar"), ("devices", "bigint")],
            &[&[Some("de"), Some("7")], &[None, Some("1")]],
        );
        moto.athena_results(&[("n", "bigint")], &[]);
        moto.athena_lasts(2);
        let (first, second) = (started("reports"), started("primary"));
        assert_eq!(moto.running_athena_queries(), [first.clone(), second.clone()]);
        assert_eq!(results(&first).error(), "InvalidRequestException");
        assert_eq!([(); 4].map(|()| state(&first)), ["QUEUED", "RUNNING", "RUNNING", "SUCCEEDED"]);
        let set = results(&first).value()["ResultSet"].take();
        let rows = json!([
            {"Data": [{"VarCharValue": "country"}, {"VarCharValue": "devices"}]},
            {"Data": [{"VarCharValue": "de"}, {"VarCharValue": "7"}]},
            {"Data": [{}, {"VarCharValue": "1"}]},
        ]);
        assert_eq!(set["Rows"], rows);
        assert_eq!(set["ResultSetMetadata"]["ColumnInfo"][1]["Type"], "bigint");
        let file = moto.object("moto-results", &format!("{first}.csv"));
        assert_eq!(file.text(), "\"country\",\"devices\"\n\"de\",\"7\"\n,\"1\"\n");

        moto.ask(&athena("StopQueryExecution", json!({"QueryExecutionId": second}))).value();
        assert_eq!(state(&second), "CANCELLED");
        assert_eq!(moto.running_athena_queries(), [""; 0]);
        moto.athena_lasts(0);
        let third = started("primary");
        assert_eq!(state(&third), "SUCCEEDED");
        assert_eq!(results(&third).value()["ResultSet"]["Rows"], json!([]));
        assert_eq!(moto.athena_queries().len(), 3);
    }

    #[test]
    fn clusters_have_their_tags_and_pause() {
        let moto = shared_moto();
        moto.redshift_cluster("moto-wh", &[("team", "core"), ("monitor", "yes & no")]);
        let describe =
            || moto.form("redshift", REDSHIFT, "DescribeClusters", &[("ClusterIdentifier", "moto-wh")]);
        let tags = "<Tags><Tag><Key>team</Key><Value>core</Value></Tag><Tag><Key>monitor</Key><Value>yes &amp; no</Value></Tag></Tags>";
        assert!(describe().contains(tags), "{}", describe());
        for (act, status) in
            [(Moto::redshift_pause as fn(&Moto, &str), "paused"), (Moto::redshift_resume, "available")]
        {
            act(moto, "moto-wh");
            assert!(
                describe().contains(&format!("<ClusterStatus>{status}</ClusterStatus>")),
                "{}",
                describe()
            );
        }

        moto.rds_cluster("moto-aurora", "aurora-postgresql", &[("team", "core")]);
        moto.rds_instance("moto-aurora-1", Some("moto-aurora"), "aurora-postgresql", &[("team", "other")]);
        moto.rds_instance("moto-alone", None, "postgres", &[]);
        let clusters = moto.form("rds", RDS, "DescribeDBClusters", &[("DBClusterIdentifier", "moto-aurora")]);
        let parts = [
            "<TagList><Tag><Key>team</Key><Value>core</Value></Tag></TagList>",
            "<DBInstanceIdentifier>moto-aurora-1</DBInstanceIdentifier><IsClusterWriter>true</IsClusterWriter>",
        ];
        assert!(parts.iter().all(|part| clusters.contains(part)), "{clusters}");
        let instances = moto.form("rds", RDS, "DescribeDBInstances", &[]);
        let parts = [
            "<TagList><Tag><Key>team</Key><Value>other</Value></Tag></TagList>",
            "<DBInstanceIdentifier>moto-alone</DBInstanceIdentifier>",
        ];
        assert!(parts.iter().all(|part| instances.contains(part)), "{instances}");
    }

    #[test]
    fn lines_of_a_log_group_are_found_again() {
        let moto = shared_moto();
        moto.log_group("/moto/lines");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let now = i64::try_from(now).unwrap();
        moto.put_log_events("/moto/lines", &[(now - 1, "one"), (now, r#"{"level":"error"}"#)]);
        let found =
            moto.json("logs", "Logs_20140328.FilterLogEvents", &json!({"logGroupName": "/moto/lines"}));
        assert_eq!(found["events"][1]["message"], r#"{"level":"error"}"#);
        assert_eq!(found["events"][0]["timestamp"], now - 1);
    }
}
