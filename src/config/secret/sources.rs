//! The sources of secrets: environment, files, AWS Parameter Store and Secrets Manager. Each kind of reference has its arm here.

use super::{Environment, Reference, Secret};
use crate::check::{Problem, Reason};
use crate::net::aws::{self, Aws, Place};
use crate::task;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// A secret file is a password or a token, not a disk image.
const LARGEST_SECRET: u64 = 64 * 1024;
/// Names of one `GetParameters`; <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html>
const PARAMETERS: usize = 10;

/// What a source had.
pub(super) enum Found {
    /// The value.
    Value(Secret),
    /// The source answered, and does not have it.
    Missing(Problem),
    /// The source could not be read.
    Failed(Problem),
}

/// Whether reading one of them costs as much as reading many.
pub(super) fn is_shared(reference: &Reference) -> bool {
    matches!(reference, Reference::Ssm(_) | Reference::SecretsManager(..))
}

/// Reads what this machine has: a variable or a file. `None`: AWS keeps it.
pub(crate) fn read_here(
    environment: &Environment,
    base: &Path,
    reference: &Reference,
) -> Option<Result<Secret, Problem>> {
    let found = match reference {
        Reference::Env(name) => read_variable(environment, name),
        Reference::File(path) => match read_capped(&base.join(path)) {
            Ok(text) => Found::Value(Secret(text)),
            Err(error) => Found::Failed(unreadable(reference, error)),
        },
        Reference::Ssm(_) | Reference::SecretsManager(..) => return None,
    };
    Some(match found {
        Found::Value(secret) => Ok(secret),
        Found::Missing(problem) | Found::Failed(problem) => Err(problem),
    })
}

/// Reads all of these, with as few calls as the sources allow; what AWS keeps at a place there.
pub(super) async fn fetch(
    environment: &Environment,
    base: &Path,
    (aws, place): (&Aws, &Place),
    batch: BTreeSet<Reference>,
) -> Vec<(Reference, Found)> {
    let mut all = Vec::with_capacity(batch.len());
    let mut parameters = Vec::new();
    let mut secrets: BTreeMap<String, Vec<(Reference, Option<String>)>> = BTreeMap::new();
    for reference in batch {
        match &reference {
            Reference::Env(name) => {
                let found = read_variable(environment, name);
                all.push((reference, found));
            }
            Reference::File(path) => {
                let found = read_file(&reference, base.join(path)).await;
                all.push((reference, found));
            }
            Reference::Ssm(name) => parameters.push((name.clone(), reference)),
            Reference::SecretsManager(name, key) => {
                secrets.entry(name.clone()).or_default().push((reference.clone(), key.clone()));
            }
        }
    }
    for part in parameters.chunks(PARAMETERS) {
        all.extend(read_parameters(aws, place, part).await);
    }
    for (name, keys) in secrets {
        all.extend(read_secret(aws, place, &name, keys).await);
    }
    all
}

fn read_variable(environment: &Environment, name: &str) -> Found {
    match environment(name) {
        Some(value) if !value.is_empty() => Found::Value(Secret(Zeroizing::new(value))),
        _ => Found::Missing(
            Problem::new(Reason::Secret, format!("environment variable {name} is not set"))
                .hint("set it for the service and restart, or use file:/path, which is read again"),
        ),
    }
}

async fn read_file(reference: &Reference, path: std::path::PathBuf) -> Found {
    match task::blocking(move || read_capped(&path)).await {
        Ok(Ok(text)) => Found::Value(Secret(text)),
        Ok(Err(error)) => Found::Failed(unreadable(reference, error)),
        Err(error) => {
            Found::Failed(Problem::new(Reason::Secret, format!("could not read {reference}")).because(error))
        }
    }
}

fn unreadable(reference: &Reference, error: std::io::Error) -> Problem {
    Problem::new(Reason::Secret, format!("could not read {reference}"))
        .because(error)
        .hint("the file has to exist and be readable by the user that datapulse runs as")
}

fn read_capped(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path)?.take(LARGEST_SECRET + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST_SECRET {
        return Err(std::io::Error::other(format!("larger than {LARGEST_SECRET} bytes")));
    }
    let trimmed = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(trimmed);
    if text.is_empty() {
        return Err(std::io::Error::other("it is empty"));
    }
    Ok(text)
}

/// Parameters of any type, decrypted.
async fn read_parameters(
    aws: &Aws,
    place: &Place,
    wanted: &[(String, Reference)],
) -> Vec<(Reference, Found)> {
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let what = || format!("could not read {} from Parameter Store", names.join(", "));
    let answer = match aws.ssm(place).await {
        Ok(client) => {
            let call = client.get_parameters().set_names(Some(names.clone())).with_decryption(true).send();
            call.await.map_err(|error| aws::problem(what(), "ssm:GetParameters", error))
        }
        Err(problem) => Err(problem),
    };
    let mut values: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    let text = match answer {
        Ok(answer) => {
            for parameter in answer.parameters.unwrap_or_default() {
                if let (Some(name), Some(value)) = (parameter.name, parameter.value) {
                    values.insert(name, Zeroizing::new(value));
                }
            }
            None
        }
        Err(problem) => Some(problem.to_string()),
    };
    let found = |(name, reference): &(String, Reference)| {
        let found = match (&text, values.remove(name)) {
            (Some(text), _) => Found::Failed(Problem::new(Reason::Secret, text.clone())),
            (None, Some(value)) if !value.is_empty() => Found::Value(Secret(value)),
            (None, _) => Found::Missing(
                Problem::new(Reason::Secret, format!("there is no parameter {name} in Parameter Store"))
                    .hint("look at its name and at the region; a parameter of another account needs its ARN"),
            ),
        };
        (reference.clone(), found)
    };
    wanted.iter().map(found).collect()
}

/// A secret, whole or key by key.
async fn read_secret(
    aws: &Aws,
    place: &Place,
    name: &str,
    keys: Vec<(Reference, Option<String>)>,
) -> Vec<(Reference, Found)> {
    let answer = match aws.secrets_manager(place).await {
        Ok(client) => client.get_secret_value().secret_id(name).send().await.map_err(|error| {
            aws::problem(format!("could not read the secret {name}"), "secretsmanager:GetSecretValue", error)
        }),
        Err(problem) => Err(problem),
    };
    let text = answer.and_then(|answer| {
        answer.secret_string.map(Zeroizing::new).ok_or_else(|| {
            Problem::new(Reason::Secret, format!("the secret {name} has no text"))
                .hint("binary secrets are not read")
        })
    });
    let parsed = text.as_ref().ok().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let found = |(reference, key): (Reference, Option<String>)| {
        let found = match (&text, key) {
            (Err(problem), _) => Found::Failed(Problem::new(Reason::Secret, problem.to_string())),
            (Ok(text), None) => Found::Value(Secret(text.clone())),
            (Ok(_), Some(key)) => match parsed.as_ref().and_then(|object| object.get(&key)) {
                Some(serde_json::Value::String(value)) => Found::Value(Secret(Zeroizing::new(value.clone()))),
                Some(serde_json::Value::Number(value)) => {
                    Found::Value(Secret(Zeroizing::new(value.to_string())))
                }
                _ => Found::Missing(
                    Problem::new(Reason::Secret, format!("the secret {name} has no key {key}"))
                        .hint("it has to be a JSON object with that key, a text or a number"),
                ),
            },
        };
        (reference, found)
    };
    keys.into_iter().map(found).collect()
}
