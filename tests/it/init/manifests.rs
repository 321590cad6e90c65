//! What `datapulse init` writes for Kubernetes: objects that find each other, and say the same as the other files.

use super::{Files, yaml};
use crate::cli::as_json;
use serde_json::{Value, json};

/// The API server refuses larger `ConfigMap`s; `kubectl apply` notes the whole object in an annotation, which has less.
const LARGEST_ANNOTATION: usize = 256 * 1024;
const NAME: &str = "app.kubernetes.io/name";

fn object(files: &Files, name: &str) -> Value {
    yaml(files, &format!("kubernetes/{name}.yml"))
}

/// Everything that has to hold between the manifests of a choice.
pub(super) fn hold_together(flags: &[&str], files: &Files) {
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("kubernetes/")) {
        let object = as_json(name, text);
        let kind = object["kind"].as_str().unwrap_or_else(|| panic!("{name}: no kind"));
        let version = match kind {
            "Deployment" => "apps/v1",
            "ServiceMonitor" | "PrometheusRule" => "monitoring.coreos.com/v1",
            "ConfigMap" | "Service" | "ServiceAccount" | "Secret" | "PersistentVolumeClaim" => "v1",
            other => panic!("{name}: {other}"),
        };
        assert_eq!(object["apiVersion"], version, "{name}");
        assert_eq!(object["metadata"]["labels"][NAME], "datapulse", "{name}");
        assert!(object["metadata"].get("namespace").is_none(), "{name}: kubectl chooses the namespace");
        assert!(text.len() < LARGEST_ANNOTATION, "{name}: {} bytes", text.len());
    }
    the_pod_is_found_and_may_do_little(files);
    the_pod_finds_what_it_reads(flags, files);
    alerts_and_boards_are_the_same(files);
}

fn the_pod_is_found_and_may_do_little(files: &Files) {
    let (deployment, service, monitor) =
        (object(files, "deployment"), object(files, "service"), object(files, "servicemonitor"));
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels, &json!({NAME: "datapulse"}));
    for selector in [&deployment["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
        assert_eq!(selector, labels);
    }
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    let (port, endpoint) = (&service["spec"]["ports"][0], &monitor["spec"]["endpoints"][0]);
    assert_eq!(endpoint["port"], port["name"]);
    // The operator's own label `endpoint` would replace ours; the job is the Service's name, which alerts/self.yml asks for.
    assert_eq!((&endpoint["honorLabels"], &service["metadata"]["name"]), (&json!(true), &json!("datapulse")));

    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&json!(1), &json!("Recreate"))
    );
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], &pod["automountServiceAccountToken"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    let rights = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(container["securityContext"], rights);
    assert_eq!(container["ports"][0]["name"], port["targetPort"]);
    for (probe, path) in
        [("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready"), ("startupProbe", "/-/ready")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": port["targetPort"]}), "{probe}");
    }
    assert!(container["resources"]["limits"]["memory"].is_string());
}

fn the_pod_finds_what_it_reads(flags: &[&str], files: &Files) {
    let deployment = object(files, "deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let map = object(files, "configmap");
    assert_eq!(map["data"]["datapulse.yml"], files["datapulse.yml"].as_str(), "{flags:?}");
    let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().collect();
    let sources = volumes[0]["projected"]["sources"].as_array().unwrap();
    assert_eq!(sources[0]["configMap"]["name"], map["metadata"]["name"]);

    let config = &files["datapulse.yml"];
    let secret = files.get("kubernetes/secret.yml.example").map(|text| as_json("secret", text));
    let keys: Vec<String> =
        secret.iter().flat_map(|secret| secret["stringData"].as_object().unwrap().keys().cloned()).collect();
    if let Some(secret) = &secret {
        assert!(
            secret["stringData"].as_object().unwrap().values().all(|value| value == ""),
            "a template has no value"
        );
        assert_eq!(secret["metadata"]["name"], "datapulse");
    }
    for name in config.split("\"env:").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(keys.iter().any(|key| key == name), "{flags:?}: {name} is not in the Secret");
        assert_eq!(container["envFrom"], json!([{"secretRef": {"name": "datapulse"}}]));
    }
    for path in config.split("\"file:").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let items = sources[1]["secret"]["items"].as_array().unwrap();
        let item =
            items.iter().find(|item| item["path"] == path).unwrap_or_else(|| panic!("{flags:?}: {path}"));
        assert!(keys.iter().any(|key| item["key"] == key.as_str()), "{flags:?}: {path} is not in the Secret");
    }

    let claim = files.contains_key("kubernetes/persistentvolumeclaim.yml");
    assert_eq!(claim, config.contains("\ndata_dir: /var/lib/datapulse\n"), "{flags:?}");
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert_eq!((mounts.len(), volumes.len()), (1 + usize::from(claim), 1 + usize::from(claim)));
    assert!(!claim || mounts[1]["mountPath"] == "/var/lib/datapulse");
    let account = files.contains_key("kubernetes/serviceaccount.yml");
    assert_eq!(
        (account, account),
        (pod["serviceAccountName"] == "datapulse", files.contains_key("iam/policy.json"))
    );
}

fn alerts_and_boards_are_the_same(files: &Files) {
    let rule = object(files, "prometheusrule");
    let embedded = rule["spec"]["groups"].as_array().unwrap();
    let alerts = files.keys().filter(|name| name.starts_with("alerts/"));
    let mut groups: Vec<Value> =
        alerts.flat_map(|name| yaml(files, name)["groups"].as_array().unwrap().clone()).collect();
    let name = |group: &Value| group["name"].as_str().unwrap().to_owned();
    groups.sort_by_key(name);
    let mut embedded = embedded.clone();
    embedded.sort_by_key(name);
    assert_eq!(embedded, groups);

    let boards: Vec<&String> = files.keys().filter(|name| name.starts_with("dashboards/")).collect();
    let maps = files.keys().filter(|name| name.starts_with("kubernetes/dashboard-"));
    assert_eq!(boards.len(), maps.count());
    for board in boards {
        let stem = board.trim_start_matches("dashboards/").trim_end_matches(".json");
        let map = object(files, &format!("dashboard-{stem}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["data"][format!("datapulse-{stem}.json")], files[board].as_str());
    }
}
