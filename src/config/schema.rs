//! The JSON schema of the configuration, from the types that read it.

use super::discover::Discover;
use super::envelope::{Envelope, Matching, SERVERS, server_keys};
use super::logs::Logs;
use super::target::Target;
use super::{Outputs, Secrets};
use crate::checks::{self, Kind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a configuration file, draft 2020-12.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut target = Target::json_schema(&mut generator).to_value();
    // What is kept elsewhere as a whole needs no key of its own.
    if let Some(object) = target.as_object_mut() {
        let from = json!({ "type": "string", "pattern": "^(ssm-path|secretsmanager):.+$",
            "description": "where the whole target is kept: \"ssm-path:/path/\" with hostname, port, username, password and dbname below it, or \"secretsmanager:name\"" });
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("from".to_owned(), from);
        }
        let required = object.remove("required");
        let required = required.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // Without a user only where AWS may name it.
        let login = |key: &str| json!({ "required": ([required, &[Value::from(key)]].concat()) });
        let ways = json!([login("user"), login("auth"), { "required": ["from"] }]);
        object.insert("anyOf".to_owned(), ways);
    }
    let matching = generator.subschema_for::<Matching>().to_value();
    let discover = generator.subschema_for::<Discover>().to_value();
    let secrets = generator.subschema_for::<Secrets>().to_value();
    let outputs = generator.subschema_for::<Outputs>().to_value();
    let alerts = generator.subschema_for::<crate::alerts::config::Config>().to_value();
    let logs = generator.subschema_for::<Logs>().to_value();
    let page = generator.subschema_for::<crate::prometheus::Config>().to_value();
    // Envelope and own keys are merged into one object, so they are wanted in place and not as definitions.
    let envelope = Envelope::json_schema(&mut generator).to_value();
    let mut checks = Vec::new();
    let mut defaults = Map::new();
    for kind in checks::ALL {
        let own = (kind.schema)(&mut generator).to_value();
        let whole = check(kind, &envelope, &own, [&target, &matching, &discover]);
        let mut partial = whole.clone();
        if let Some(object) = partial.as_object_mut() {
            object.remove("required");
            object.remove("oneOf");
        }
        defaults.insert(kind.word.to_owned(), partial);
        checks.push(json!({
            "type": "object", "required": [kind.word], "additionalProperties": false,
            "properties": { kind.word: whole }
        }));
    }
    // Definitions last: everything above adds to them.
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "datapulse",
        "description": "Configuration of datapulse",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "data_dir": { "type": "string", "description": "where state is kept that survives a restart" },
            "secrets": secrets,
            "include": {
                "type": "array", "items": { "type": "string" },
                "description": "further files with targets and checks; * in the last part of a path matches any characters"
            },
            "targets": { "type": "object", "additionalProperties": target, "description": "servers, named once" },
            "defaults": {
                "type": "object", "additionalProperties": false, "properties": defaults,
                "description": "keys that checks of a type have unless they set them"
            },
            "checks": { "type": "array", "items": { "oneOf": checks }, "description": "one check an item" },
            "logs": logs,
            "outputs": outputs,
            "alerts": alerts,
            "page": page
        },
        "$defs": definitions
    })
}

/// Envelope and own keys of a check in one object. `servers`: a target, a choice of them, and where to look for them.
fn check(kind: &Kind, envelope: &Value, own: &Value, servers: [&Value; 3]) -> Value {
    let mut properties = Map::new();
    for part in [envelope, own] {
        if let Some(found) = part.get("properties").and_then(Value::as_object) {
            properties.extend(found.clone());
        }
    }
    if !kind.target {
        return json!({
            "type": "object", "additionalProperties": false, "properties": properties, "required": if kind.is_paid() { json!(["name", "every"]) } else { json!(["name"]) }
        });
    }
    let [target, matching, discover] = servers;
    let server = json!({ "anyOf": [{ "type": "string", "description": "name of a target" }, target] });
    let several = json!({ "anyOf": [{ "type": "array", "items": { "type": "string" } }, matching] });
    for (key, schema) in SERVERS.into_iter().zip([server.clone(), several, discover.clone(), server]) {
        if server_keys(kind).contains(&key) {
            properties.insert(key.to_owned(), schema);
        }
    }
    let ways = server_keys(kind).iter().filter(|key| **key != "publisher");
    let ways: Vec<Value> = ways.map(|key| json!({ "required": [key] })).collect();
    json!({
        "type": "object", "additionalProperties": false, "properties": properties, "required": ["name"], "oneOf": ways
    })
}
