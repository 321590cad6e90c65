//! References to secrets, and the vault that resolves them: values are asked for at each use and never kept in a configuration.

use crate::check::{Problem, Reason};
use crate::task;
use serde::de::{self, Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A secret file is a password or a token, not a disk image.
const LARGEST_SECRET: u64 = 64 * 1024;
/// A server that refuses a login must not make us read the source of the secret at every run.
const SHORTEST_REREAD: Duration = Duration::from_mins(1);

/// How `main` lets the rest of the program see the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where a value is kept: `env:NAME` or `file:/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An environment variable of this process.
    Env(String),
    /// A file; its last line break is left out.
    File(PathBuf),
}

/// A text of the configuration: as it is, or a reference to where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// The value itself.
    Plain(String),
    /// Where the value is kept.
    Kept(Reference),
}

/// A value that must not be seen: no `Display`, no `Serialize`, and zeroed when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The value, for the one place that hands it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Reference {
    /// Reads `env:NAME` or `file:/path`; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        match scheme {
            "env" if !rest.is_empty() => Some(Self::Env(rest.to_owned())),
            "file" if !rest.is_empty() => Some(Self::File(PathBuf::from(rest))),
            _ => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Refuses references to sources that are not read yet; taken for a plain text they would be sent to a server.
fn known_source<E: de::Error>(text: &str) -> Result<(), E> {
    match ["ssm:", "ssm-path:", "secretsmanager:"].iter().find(|scheme| text.starts_with(**scheme)) {
        Some(scheme) => Err(E::custom(format!(
            "references by {scheme} are not read by this version; write env:NAME or file:/path"
        ))),
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        known_source(&text)?;
        // The text may be a password in clear: it is not repeated in the fault.
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("a secret in clear text is not accepted here; write env:NAME or file:/path")
        })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        known_source(&text)?;
        Ok(Reference::parse(&text).map_or(Self::Plain(text), Self::Kept))
    }
}

impl schemars::JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^(env|file):.+$",
            "description": "where a secret is kept: env:NAME or file:/path; a secret in clear text is refused"
        })
    }
}

impl schemars::JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a text, or where it is kept: env:NAME or file:/path" })
    }
}

/// Resolves references and remembers the values until they are refreshed.
pub struct Vault {
    environment: Environment,
    /// Relative `file:` paths are looked up from here: the folder of the configuration.
    base: PathBuf,
    entries: Mutex<BTreeMap<Reference, Entry>>,
}

struct Entry {
    value: Option<Secret>,
    /// The last read worked.
    up: bool,
    /// Grows when the value has become another one.
    version: u64,
    distrusted_at: Option<Instant>,
}

impl Vault {
    /// An empty vault.
    pub fn new(environment: Environment, base: &Path) -> Self {
        Self { environment, base: base.to_owned(), entries: Mutex::default() }
    }

    /// The value behind a reference, read now if it was not read before.
    pub async fn secret(&self, reference: &Reference) -> Result<Secret, Problem> {
        let known = self.entries().get(reference).and_then(|entry| entry.value.clone());
        match known {
            Some(secret) => Ok(secret),
            None => self.read(reference).await,
        }
    }

    /// A text, resolved.
    pub async fn text(&self, text: &Text) -> Result<String, Problem> {
        match text {
            Text::Plain(text) => Ok(text.clone()),
            Text::Kept(reference) => Ok(self.secret(reference).await?.expose().to_owned()),
        }
    }

    /// The server refused the login: reads the value again, at most once a minute. Says whether it has changed.
    pub async fn distrust(&self, reference: &Reference) -> bool {
        let before = {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(reference) else { return false };
            if entry.distrusted_at.is_some_and(|moment| moment.elapsed() < SHORTEST_REREAD) {
                return false;
            }
            entry.distrusted_at = Some(Instant::now());
            entry.version
        };
        self.read(reference).await.is_ok() && self.version(reference) != before
    }

    /// Grows when the value behind a reference has become another one.
    pub fn version(&self, reference: &Reference) -> u64 {
        self.entries().get(reference).map_or(0, |entry| entry.version)
    }

    /// Forgets all that the configuration does not name any more.
    pub fn keep(&self, wanted: &[&Reference]) {
        self.entries().retain(|reference, _| wanted.contains(&reference));
    }

    /// Reads everything again that was asked for so far.
    pub async fn refresh(&self) {
        let known: Vec<Reference> = self.entries().keys().cloned().collect();
        for reference in known {
            let was_up = self.entries().get(&reference).is_some_and(|entry| entry.up);
            if let Err(problem) = self.read(&reference).await
                && was_up
            {
                tracing::warn!(secret = %reference, %problem, "secret kept as it was");
            }
        }
    }

    /// Each reference asked for so far, and whether its last read worked.
    pub fn states(&self) -> Vec<(String, bool)> {
        self.entries().iter().map(|(reference, entry)| (reference.to_string(), entry.up)).collect()
    }

    async fn read(&self, reference: &Reference) -> Result<Secret, Problem> {
        let result = self.fetch(reference).await;
        let mut entries = self.entries();
        let entry = entries.entry(reference.clone()).or_insert_with(|| Entry {
            value: None,
            up: false,
            version: 0,
            distrusted_at: None,
        });
        entry.up = result.is_ok();
        if let Ok(secret) = &result {
            let same = entry.value.as_ref().is_some_and(|old| old.expose() == secret.expose());
            if !same {
                entry.version += 1;
                entry.value = Some(secret.clone());
            }
        }
        result
    }

    /// The seam of the sources: each kind of reference has its arm here.
    async fn fetch(&self, reference: &Reference) -> Result<Secret, Problem> {
        let problem = |what: String| Problem::new(Reason::Secret, what);
        match reference {
            Reference::Env(name) => match (self.environment)(name) {
                Some(value) if !value.is_empty() => Ok(Secret(Zeroizing::new(value))),
                _ => Err(problem(format!("environment variable {name} is not set"))
                    .hint("set it for the service and restart, or use file:/path, which is read again")),
            },
            Reference::File(path) => {
                let full = self.base.join(path);
                let read = task::blocking(move || read_capped(&full)).await;
                let text =
                    read.map_err(|error| problem(format!("could not read {reference}")).because(error))?;
                text.map(Secret).map_err(|error| {
                    problem(format!("could not read {reference}"))
                        .because(error)
                        .hint("the file has to exist and be readable by the user that datapulse runs as")
                })
            }
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<Reference, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("secrets", &self.states()).finish_non_exhaustive()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(value: &'static str) -> Vault {
        Vault::new(Arc::new(move |name| (name == "KNOWN").then(|| value.to_owned())), Path::new("/"))
    }

    #[test]
    fn references_are_told_from_plain_texts() {
        assert_eq!(Reference::parse("env:A"), Some(Reference::Env("A".into())));
        assert_eq!(Reference::parse("file:/a:b"), Some(Reference::File("/a:b".into())));
        assert_eq!(Reference::parse("hunter2"), None);
        assert_eq!(Reference::parse("env:"), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret(Zeroizing::new("canary".into()))), "Secret(***)");
    }

    #[tokio::test]
    async fn a_missing_variable_is_a_secret_problem_that_names_it() {
        let problem = vault("v").secret(&Reference::Env("GONE".into())).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Secret);
        assert!(problem.to_string().contains("GONE"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_after_distrust_but_not_more_than_once_a_minute() {
        let path = std::env::temp_dir().join(format!("datapulse-secret-{}", std::process::id()));
        std::fs::write(&path, "first\n").unwrap();
        let vault = vault("v");
        let reference = Reference::File(path.clone());
        assert_eq!(vault.secret(&reference).await.unwrap().expose(), "first");
        assert!(!vault.distrust(&reference).await, "it is what it was");
        std::fs::write(&path, "second\n").unwrap();
        assert!(!vault.distrust(&reference).await, "distrusted a moment ago");
        tokio::time::advance(SHORTEST_REREAD).await;
        assert!(vault.distrust(&reference).await);
        assert_eq!(vault.secret(&reference).await.unwrap().expose(), "second");
        std::fs::remove_file(&path).unwrap();
        vault.refresh().await;
        assert_eq!(
            vault.secret(&reference).await.unwrap().expose(),
            "second",
            "a failed read keeps the value"
        );
        assert_eq!(vault.states(), [(reference.to_string(), false)], "and shows");
        vault.keep(&[]);
        assert_eq!(vault.states(), [], "nothing stays of a secret that nobody wants any more");
    }
}
