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

/// Name of the definition of a reference in the place of a value.
const KEPT: &str = "Kept";

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
    let mut definitions = generator.take_definitions(true);
    let kept = json!({ "type": "string", "pattern": "^(env|file|ssm|secretsmanager):.+$",
        "description": "where the value is kept: env:NAME, file:/path, ssm:/name or secretsmanager:name#key" });
    definitions.insert(KEPT.to_owned(), kept);
    let mut schema = json!({
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
    });
    keep(&mut schema);
    schema
}

/// Any value may be kept elsewhere: what takes not every text takes a reference as well.
fn keep(schema: &mut Value) {
    let reference = || json!({ "$ref": format!("#/$defs/{KEPT}") });
    let Some(object) = schema.as_object_mut() else { return };
    for word in ["properties", "$defs"] {
        let all = object.get_mut(word).and_then(Value::as_object_mut);
        all.into_iter().flatten().for_each(|(_, schema)| keep(schema));
    }
    for word in ["items", "additionalProperties"] {
        object.get_mut(word).into_iter().for_each(keep);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        let Some(all) = object.get_mut(word).and_then(Value::as_array_mut) else { continue };
        let words = |one: &Value| one.get("const").is_some() || one.get("enum").is_some();
        // Once for all words of a choice: more than one that fits would be refused.
        let choice = word == "oneOf" && all.iter().any(words);
        all.iter_mut().filter(|one| !(choice && words(one))).for_each(keep);
        if choice {
            all.push(reference());
        }
    }
    let types: Vec<&str> = match object.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let pattern = object.get("pattern").and_then(Value::as_str);
    // A reference already.
    if pattern.is_some_and(|pattern| pattern.contains("secretsmanager")) {
        return;
    }
    let narrow = ["pattern", "enum", "const"].iter().any(|word| object.contains_key(*word));
    let number = types.iter().any(|one| ["integer", "number", "boolean"].contains(one));
    if number || narrow && types.contains(&"string") {
        let beside: Map<String, Value> =
            ["description", "default"].iter().filter_map(|word| object.remove_entry(*word)).collect();
        *schema = json!({ "anyOf": [schema.take(), reference()] });
        if let Some(whole) = schema.as_object_mut() {
            whole.extend(beside);
        }
    }
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
