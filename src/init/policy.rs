//! `iam/policy.json`: the statements of the bundled policies that a choice needs, and no other.

use super::bundled::{POLICIES, Policy, When};
use super::{Choice, Delivery, File, Part, Secrets};
use serde_json::{Value, json};

pub(super) fn file(choice: &Choice) -> Option<File> {
    let why = "what datapulse may do in AWS; words in capitals are places to fill in";
    Some(File::new("iam/policy.json", why, text(choice)?))
}

/// The document; `None` when nothing in AWS is asked.
pub(super) fn text(choice: &Choice) -> Option<String> {
    let needed = POLICIES.iter().filter(|policy| is_needed(policy.when, choice));
    let statements: Vec<Value> = needed.flat_map(statements).collect();
    if statements.is_empty() {
        return None;
    }
    Some(format!("{:#}\n", json!({"Version": "2012-10-17", "Statement": statements})))
}

fn is_needed(when: When, choice: &Choice) -> bool {
    match when {
        When::Chosen(part) => choice.has(part),
        When::Pull => choice.has(Part::Logs) && choice.delivery == Delivery::Pull,
        When::Ssm => choice.secrets == Secrets::Ssm && !choice.kept().is_empty(),
    }
}

/// The statements of a policy, under names that are theirs alone in the union.
fn statements(policy: &Policy) -> Vec<Value> {
    let document: Value = serde_json::from_str(policy.text).unwrap_or_default();
    let mut statements = document.get("Statement").and_then(Value::as_array).cloned().unwrap_or_default();
    let source: String = policy.file.trim_end_matches(".json").split('_').map(capital).collect();
    for statement in &mut statements {
        let own = statement.get("Sid").and_then(Value::as_str).unwrap_or_default();
        let name = format!("{source}{own}");
        if let Some(sid) = statement.get_mut("Sid") {
            *sid = name.into();
        }
        if policy.when == When::Ssm {
            of_parameter_store(statement);
        }
    }
    statements
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
    first.to_ascii_uppercase() + rest
}

/// Leaves out what is for Secrets Manager, which is never written here, and names the path that is.
fn of_parameter_store(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("parameter/PATH/", "parameter/datapulse/"),
        Value::Array(items) => {
            items.retain(|item| !item.as_str().is_some_and(|text| text.contains("secretsmanager")));
            items.iter_mut().for_each(of_parameter_store);
        }
        Value::Object(entries) => entries.values_mut().for_each(of_parameter_store),
        _ => {}
    }
}
