//! Manifests for Kubernetes with the Prometheus operator: one object a file, without a namespace, so that `kubectl -n` chooses it.

use super::configuration::{DATA_DIR, configuration};
use super::monitoring::{alerts, dashboards};
use super::{Choice, File, Secrets, indented, variable};

/// The user of the image.
const USER: u32 = 65_532;

/// On every object: the operator's selectors and the Service find them by the first.
const LABELS: &str = "  labels: {app.kubernetes.io/name: datapulse}\n";

pub(super) fn files(choice: &Choice) -> Vec<File> {
    let file = |name: &str, why: &str, text: String| File::new(format!("kubernetes/{name}.yml"), why, text);
    let mut files = vec![
        file("configmap", "the configuration", config_map(choice)),
        file("deployment", "runs one datapulse, not as root, on a read-only file system", deployment(choice)),
        file("service", "its address in the cluster", SERVICE.to_owned()),
        file("servicemonitor", "Prometheus scrapes it", SERVICE_MONITOR.to_owned()),
        file("prometheusrule", "the alerts", prometheus_rule(choice)),
    ];
    if has_secret(choice) {
        // `kubectl apply -f kubernetes/` passes it over by its name: empty values would replace good ones.
        let why = "the Secret as a template, without values; README.md says how to make it";
        files.push(File::new("kubernetes/secret.yml.example", why, secret(choice)));
    }
    if choice.has_state() {
        files.push(file("persistentvolumeclaim", "what a restart must not forget", CLAIM.to_owned()));
    }
    if choice.asks_aws() {
        files.push(file("serviceaccount", "the role in AWS that the pod has", SERVICE_ACCOUNT.to_owned()));
    }
    // One object a board: together they are too large for the annotation that `kubectl apply` makes.
    files.extend(dashboards(choice).map(|board| {
        let name = board.file.trim_end_matches(".json");
        file(
            &format!("dashboard-{name}"),
            "a board that Grafana's sidecar loads",
            dashboard(name, board.text),
        )
    }));
    files
}

fn has_secret(choice: &Choice) -> bool {
    choice.secrets != Secrets::Ssm && !choice.kept().is_empty()
}

fn config_map(choice: &Choice) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: datapulse\n{LABELS}data:\n  datapulse.yml: |\n{}",
        indented(&configuration(choice), 4)
    )
}

fn secret(choice: &Choice) -> String {
    let mut text = format!(
        "# For your tool for secrets. Do not fill it in within a repository.\n\
         apiVersion: v1\nkind: Secret\nmetadata:\n  name: datapulse\n{LABELS}type: Opaque\nstringData:\n"
    );
    for (secret, purpose) in choice.kept() {
        let key = if choice.secrets == Secrets::Env { variable(&secret) } else { secret };
        text.push_str(&format!("  {key}: \"\"   # {purpose}\n"));
    }
    text
}

fn deployment(choice: &Choice) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let account = if choice.asks_aws() { "      serviceAccountName: datapulse\n" } else { "" };
    let environment = if has_secret(choice) && choice.secrets == Secrets::Env {
        "          envFrom: [{secretRef: {name: datapulse}}]\n"
    } else {
        ""
    };
    let state = if choice.has_state() {
        format!("            - {{name: state, mountPath: {DATA_DIR}}}\n")
    } else {
        String::new()
    };
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: datapulse\n{LABELS}spec:\n  replicas: 1\n  \
         # Never two at a time: they would ask and push everything twice, and one data_dir is for one.\n  \
         strategy: {{type: Recreate}}\n  \
         selector: {{matchLabels: {{app.kubernetes.io/name: datapulse}}}}\n  template:\n    metadata:\n      \
         labels: {{app.kubernetes.io/name: datapulse}}\n    spec:\n{account}      \
         automountServiceAccountToken: false         # it never speaks to Kubernetes\n      \
         terminationGracePeriodSeconds: 15           # it drains within 10 s\n      securityContext:\n        \
         runAsNonRoot: true\n        runAsUser: {USER}\n        runAsGroup: {USER}\n        fsGroup: {USER}\n        \
         seccompProfile: {{type: RuntimeDefault}}\n      containers:\n        - name: datapulse\n          \
         image: datapulse:{version}                     # CHANGE: your registry before it\n          \
         args: [serve, --config.file, /etc/datapulse/datapulse.yml, \"--web.listen-address=:9893\"]\n{environment}          \
         ports: [{{name: http, containerPort: 9893}}]\n          \
         startupProbe: {{httpGet: {{path: /-/ready, port: http}}, periodSeconds: 2, failureThreshold: 30}}\n          \
         livenessProbe: {{httpGet: {{path: /-/healthy, port: http}}, periodSeconds: 15, timeoutSeconds: 5}}\n          \
         readinessProbe: {{httpGet: {{path: /-/ready, port: http}}, periodSeconds: 5}}\n          \
         resources:\n            requests: {{cpu: 20m, memory: 64Mi}}\n            \
         limits: {{memory: 256Mi}}                   # a limit on the processor would only make answers late\n          \
         securityContext:\n            allowPrivilegeEscalation: false\n            readOnlyRootFilesystem: true\n            \
         capabilities: {{drop: [ALL]}}\n          volumeMounts:\n            \
         - {{name: configuration, mountPath: /etc/datapulse, readOnly: true}}\n{state}      volumes:\n{}",
        volumes(choice)
    )
}

fn volumes(choice: &Choice) -> String {
    let mut text =
        "        - name: configuration\n          projected:\n            sources:\n              - configMap: {name: datapulse}\n"
            .to_owned();
    if has_secret(choice) && choice.secrets == Secrets::File {
        let items: Vec<String> = choice
            .kept()
            .iter()
            .map(|(secret, _)| format!("{{key: {secret}, path: secrets/{secret}}}"))
            .collect();
        text += &format!("              - secret: {{name: datapulse, items: [{}]}}\n", items.join(", "));
    }
    if choice.has_state() {
        text += "        - name: state\n          persistentVolumeClaim: {claimName: datapulse}\n";
    }
    text
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: datapulse                              # becomes the label `job`, which the alerts ask for
  labels: {app.kubernetes.io/name: datapulse}
spec:
  selector: {app.kubernetes.io/name: datapulse}
  ports: [{name: http, port: 9893, targetPort: http}]
";

const SERVICE_MONITOR: &str = "\
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: datapulse
  labels: {app.kubernetes.io/name: datapulse}  # CHANGE if your Prometheus selects by another one, such as release: kube-prometheus-stack
spec:
  selector: {matchLabels: {app.kubernetes.io/name: datapulse}}
  endpoints:
    - port: http
      interval: 15s
      # The operator puts a label `endpoint` on every target, and so has datapulse one: which end of a replication. The alerts need ours.
      honorLabels: true
";

const CLAIM: &str = "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: datapulse
  labels: {app.kubernetes.io/name: datapulse}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

const SERVICE_ACCOUNT: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: datapulse
  labels: {app.kubernetes.io/name: datapulse}
  annotations:
    # CHANGE: the role that has iam/policy.json, on EKS. Elsewhere give AWS_* variables.
    eks.amazonaws.com/role-arn: arn:aws:iam::123456789012:role/datapulse
";

/// The groups of all rule files in one object.
fn prometheus_rule(choice: &Choice) -> String {
    let groups: String = alerts(choice)
        .filter_map(|one| one.text.split_once("\ngroups:\n"))
        .map(|(_, groups)| indented(groups, 2))
        .collect();
    format!(
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: datapulse\n  \
         labels: {{app.kubernetes.io/name: datapulse}}  # CHANGE if your Prometheus selects by another one\nspec:\n  groups:\n{groups}"
    )
}

fn dashboard(name: &str, text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: datapulse-dashboard-{name}\n  \
         labels: {{app.kubernetes.io/name: datapulse, grafana_dashboard: \"1\"}}\ndata:\n  datapulse-{name}.json: |\n{}",
        indented(text, 4)
    )
}
