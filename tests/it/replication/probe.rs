//! A check run by hand: the samples of one run, by name and label values.

use crate::stage;
use datapulse::actor::execute;
use datapulse::check::{Check, Endpoint, Reason};
use datapulse::config::target::Server;
use datapulse::net::Clients;
use metrics::{Answer, Values};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long a run may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Between two runs of a probe that waits.
const PAUSE: Duration = Duration::from_millis(80);

/// A check with the runtime that its connections live on.
pub(crate) struct Probe<C: Check> {
    check: C,
    config: C::Config,
    /// After the check: it goes last.
    runtime: Runtime,
}

/// What a run gave.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    samples: BTreeMap<(String, Vec<String>), f64>,
    /// The ends that answered.
    pub(crate) answered: BTreeSet<Endpoint>,
    /// The ends that failed.
    pub(crate) failed: BTreeMap<Endpoint, (Reason, String)>,
    /// Rows that could not be read.
    pub(crate) notes: Vec<(Reason, String)>,
    /// What the check learned of the servers.
    pub(crate) learned: Vec<(Endpoint, String)>,
}

impl<C: Check> Probe<C> {
    pub(crate) fn new(config: C::Config, target: Arc<Server>, publisher: Option<Arc<Server>>) -> Self {
        // As in the program: connections go on between runs.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let clients = Clients {
            vault: stage::vault(),
            target,
            publisher,
            timeout: TIMEOUT,
            every: TIMEOUT,
            limit: 1000,
            state: None,
        };
        Self { check: C::new(&config, &clients), config, runtime }
    }

    /// Runs the check once. What holds for every answer is asserted here.
    pub(crate) fn run(&mut self) -> Seen {
        let report = self.runtime.block_on(execute(&mut self.check, TIMEOUT));
        let mut seen = Seen { learned: self.check.learned(), ..Seen::default() };
        for end in report.ends {
            seen.notes.extend(end.notes.iter().map(|note| (note.reason, note.to_string())));
            match end.result {
                Ok(mut answer) => {
                    assert_eq!(answer.seal(), 0, "a label set came twice: {answer:?}");
                    self.take(&mut seen, &answer);
                    seen.answered.insert(end.endpoint);
                }
                Err(problem) => drop(seen.failed.insert(end.endpoint, (problem.reason, problem.to_string()))),
            }
        }
        seen
    }

    /// Runs until the answer is as wanted; panics with the last one when that takes too long.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let start = Instant::now();
        loop {
            let seen = self.run();
            if wanted(&seen) {
                return seen;
            }
            assert!(start.elapsed() < stage::LIMIT, "not within {:?}: {what}; last: {seen:?}", stage::LIMIT);
            std::thread::sleep(PAUSE);
        }
    }

    fn take(&self, seen: &mut Seen, answer: &Answer) {
        let families = C::families(&self.config);
        for column in answer.columns() {
            let name = column.family().prometheus();
            assert!(families.iter().any(|known| known.is(column.family())), "{name} is not in the catalogue");
            let Values::Numbers(numbers) = column.values() else { panic!("{name} is a histogram") };
            for (row, number) in numbers.iter().enumerate() {
                assert!(number.is_finite(), "{name}: {number}");
                let labels = column.labels(row).map(str::to_owned).collect();
                let twin = seen.samples.insert((name.clone(), labels), *number);
                assert!(twin.is_none(), "{name} came from both ends");
            }
        }
    }
}

/// A line for each sample: this is what a failed test shows.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "failed {:?}, notes {:?}", self.failed, self.notes)?;
        for ((name, labels), value) in &self.samples {
            writeln!(f, "{name}{labels:?} {value}")?;
        }
        Ok(())
    }
}

impl Seen {
    /// The sample with these label values, in the order of the family.
    pub(crate) fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// All samples of a family: label values and value.
    pub(crate) fn rows(&self, name: &str) -> Vec<(Vec<&str>, f64)> {
        let of_name = self.samples.iter().filter(|((family, _), _)| family == name);
        of_name.map(|((_, labels), value)| (labels.iter().map(String::as_str).collect(), *value)).collect()
    }

    /// The names of the families that have a sample.
    pub(crate) fn families(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names
    }

    /// Why this end failed.
    pub(crate) fn reason(&self, endpoint: Endpoint) -> Option<Reason> {
        self.failed.get(&endpoint).map(|(reason, _)| *reason)
    }
}
