//! The vault: remembers values until they are refreshed, and keeps an old one when its source fails.

use super::sources::{self, Found};
use super::{Environment, Reference, Secret, Text};
use crate::check::{Problem, Reason};
use crate::config::target::Port;
use crate::net::aws::{Aws, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A server that refuses a login must not make us read the source of the secret at every run.
const SHORTEST_REREAD: Duration = Duration::from_mins(1);

/// Resolves references and remembers the values until they are refreshed.
pub struct Vault {
    environment: Environment,
    /// Relative `file:` paths are looked up from here: the folder of the configuration.
    base: PathBuf,
    aws: Arc<Aws>,
    /// Where AWS is asked for them, and as whom.
    place: Mutex<Place>,
    entries: Mutex<BTreeMap<Reference, Entry>>,
    /// What the configuration names: read together with the first of them.
    expected: Mutex<BTreeSet<Reference>>,
    /// One batch at a time, so that a hundred checks that start together make one.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Entry {
    value: Option<Secret>,
    /// Why the last read failed.
    failed: Option<Failed>,
    /// Reads so far, good or not.
    reads: u64,
    /// Grows when the value has become another one.
    version: u64,
    distrusted_at: Option<Instant>,
}

/// A failed read, for everybody who waited for it.
#[derive(Clone)]
struct Failed {
    reason: Reason,
    text: String,
    missing: bool,
}

impl Failed {
    fn problem(self) -> Problem {
        Problem::new(self.reason, self.text)
    }
}

impl Vault {
    /// An empty vault.
    pub fn new(environment: Environment, base: &Path) -> Self {
        Self {
            aws: Arc::default(),
            environment,
            base: base.to_owned(),
            place: Mutex::default(),
            entries: Mutex::default(),
            expected: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The way to AWS, which two of the sources are behind.
    pub fn aws(&self) -> &Arc<Aws> {
        &self.aws
    }

    /// What `env:` is read from.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Says where AWS is to be asked from now on, and as whom; gives what was said before.
    pub fn move_to(&self, place: Place) -> Place {
        std::mem::replace(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner), place)
    }

    /// Values for the configuration itself: read now, at a place, and not remembered. Of a failure also whether the source answered, and
    /// does not have it.
    pub async fn values(
        &self,
        place: &Place,
        batch: BTreeSet<Reference>,
    ) -> Vec<(Reference, Result<Secret, (Problem, bool)>)> {
        let found = Box::pin(sources::fetch(&self.environment, &self.base, (&self.aws, place), batch)).await;
        let told = |found| match found {
            Found::Value(secret) => Ok(secret),
            Found::Missing(problem) => Err((problem, true)),
            Found::Failed(problem) => Err((problem, false)),
        };
        found.into_iter().map(|(reference, found)| (reference, told(found))).collect()
    }

    /// The value behind a reference, read now if it was not read before.
    pub async fn secret(&self, reference: &Reference) -> Result<Secret, Problem> {
        self.find(reference).await.map_err(Failed::problem)
    }

    /// The value behind a reference; `None` when its source is there and does not have it.
    pub async fn optional(&self, reference: &Reference) -> Result<Option<Secret>, Problem> {
        match self.find(reference).await {
            Ok(secret) => Ok(Some(secret)),
            Err(failed) if failed.missing => Ok(None),
            Err(failed) => Err(failed.problem()),
        }
    }

    /// A port; `usual` where none is given, and where its source does not have it.
    pub async fn port(&self, port: Option<&Port>, usual: u16) -> Result<u16, Problem> {
        let reference = match port {
            None => return Ok(usual),
            Some(Port::Plain(port)) => return Ok(*port),
            Some(Port::Kept(reference)) => reference,
        };
        let Some(text) = self.optional(reference).await? else { return Ok(usual) };
        let port = text.expose().trim().parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Problem::new(Reason::Secret, format!("{reference} is not a port")))
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
        self.read([reference.clone()].into()).await;
        self.state(reference).is_some_and(|(_, version)| version != before)
    }

    /// Grows when the value behind a reference has become another one.
    pub fn version(&self, reference: &Reference) -> u64 {
        self.entries().get(reference).map_or(0, |entry| entry.version)
    }

    /// Says what the configuration names: the first of them that is asked for brings the others along. What it does not name any more
    /// is forgotten.
    pub fn expect<'a>(&self, wanted: impl IntoIterator<Item = &'a Reference>) {
        let wanted: BTreeSet<Reference> = wanted.into_iter().cloned().collect();
        self.entries().retain(|reference, _| wanted.contains(reference));
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    /// Reads everything again that was asked for so far.
    pub async fn refresh(&self) {
        let known: BTreeSet<Reference> = self.entries().keys().cloned().collect();
        let up = |vault: &Self| -> BTreeSet<Reference> {
            let up =
                |reference: &&Reference| vault.state(reference).is_some_and(|(failed, _)| failed.is_none());
            known.iter().filter(up).cloned().collect()
        };
        let before = up(self);
        self.read(known.clone()).await;
        for reference in before.difference(&up(self)) {
            if let Some((Some(failed), _)) = self.state(reference) {
                tracing::warn!(secret = %reference, problem = failed.text, "secret kept as it was");
            }
        }
    }

    /// Each reference asked for so far, and whether its last read worked. What may be missing and is, is not told.
    pub fn states(&self) -> Vec<(String, bool)> {
        let entries = self.entries();
        let told = entries.iter().filter(|(_, entry)| {
            !entry.failed.as_ref().is_some_and(|failed| failed.missing) || entry.value.is_some()
        });
        told.map(|(reference, entry)| (reference.to_string(), entry.failed.is_none())).collect()
    }

    /// Why the last read of a reference failed, if it did.
    pub fn failure(&self, reference: &Reference) -> Option<Problem> {
        self.state(reference)?.0.map(Failed::problem)
    }

    async fn find(&self, reference: &Reference) -> Result<Secret, Failed> {
        let reads = {
            let entries = self.entries();
            let entry = entries.get(reference);
            if let Some(secret) = entry.and_then(|entry| entry.value.clone()) {
                return Ok(secret);
            }
            entry.map_or(0, |entry| entry.reads)
        };
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have read it too.
        if self.entries().get(reference).map_or(0, |entry| entry.reads) == reads {
            let unread =
                |wanted: &&Reference| self.entries().get(*wanted).is_none_or(|entry| entry.value.is_none());
            let mut batch: BTreeSet<Reference> = {
                let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
                expected
                    .iter()
                    .filter(|wanted| sources::is_shared(wanted) && sources::is_shared(reference))
                    .filter(unread)
                    .cloned()
                    .collect()
            };
            batch.insert(reference.clone());
            self.fetch(batch).await;
        }
        let entries = self.entries();
        let entry = entries.get(reference);
        entry.and_then(|entry| entry.value.clone()).ok_or_else(|| {
            entry.and_then(|entry| entry.failed.clone()).unwrap_or_else(|| Failed {
                reason: Reason::Secret,
                text: format!("{reference} was not read"),
                missing: false,
            })
        })
    }

    async fn read(&self, batch: BTreeSet<Reference>) {
        let _turn = self.turn.lock().await;
        self.fetch(batch).await;
    }

    /// Reads these, and notes what was found; called by whoever has the turn.
    async fn fetch(&self, batch: BTreeSet<Reference>) {
        // On the heap: calls of the SDK are large, and every login of every check holds this future.
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = Box::pin(sources::fetch(&self.environment, &self.base, (&self.aws, &place), batch)).await;
        let mut entries = self.entries();
        for (reference, found) in found {
            let entry = entries.entry(reference).or_default();
            entry.reads += 1;
            entry.failed = match found {
                Found::Value(secret) => {
                    if entry.value.as_ref().is_none_or(|old| old.expose() != secret.expose()) {
                        entry.version += 1;
                        entry.value = Some(secret);
                    }
                    None
                }
                Found::Missing(problem) => {
                    Some(Failed { reason: problem.reason, text: problem.to_string(), missing: true })
                }
                Found::Failed(problem) => {
                    Some(Failed { reason: problem.reason, text: problem.to_string(), missing: false })
                }
            };
        }
    }

    fn state(&self, reference: &Reference) -> Option<(Option<Failed>, u64)> {
        self.entries().get(reference).map(|entry| (entry.failed.clone(), entry.version))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Reference, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("secrets", &self.states()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(value: &'static str) -> Vault {
        Vault::new(Arc::new(move |name| (name == "KNOWN").then(|| value.to_owned())), Path::new("/"))
    }

    #[tokio::test]
    async fn a_missing_variable_is_a_secret_problem_that_names_it() {
        let problem = vault("v").secret(&Reference::Env("GONE".into())).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Secret);
        assert!(problem.to_string().contains("GONE"));
        let gone = vault("v").optional(&Reference::Env("GONE".into())).await.unwrap();
        assert!(gone.is_none());
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
        vault.expect([]);
        assert_eq!(vault.states(), [], "nothing stays of a secret that nobody wants any more");
    }
}
