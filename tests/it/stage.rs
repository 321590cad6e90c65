//! The shared stage: temporary directories, PostgreSQL pairs, targets, and waiting with a deadline.
//!
//! A missing tool is a panic that names the install command; nothing is skipped. Everything ends with this process.

use datapulse::config::secret::Vault;
use datapulse::config::target::Server;
use datapulse::demo::parts::{Binaries, Cluster, Settings, Stage, find_postgres, sweep, wait_for};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

/// How long anything may take that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Every role that a test makes logs in with this.
pub(crate) const PASSWORD: &str = "canary-of-the-stage";
/// The version that every test machine has and most tests use.
pub(crate) const USUAL: u32 = 15;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where all stages of all tests are.
pub(crate) fn base() -> PathBuf {
    root().join("target/stage")
}

/// A directory of its own below `target/stage`, removed on drop. What dead runs have left there is removed first.
pub(crate) fn stage(name: &str) -> Stage {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        sweep(&base()).unwrap();
    });
    Stage::new(&base(), name).unwrap()
}

/// The programs of a PostgreSQL version: from `target/postgres` (npm), Debian's place, or PATH.
pub(crate) fn postgres(major: u32) -> Binaries {
    find_postgres(Some(major), &[&root().join("target/postgres")]).unwrap_or_else(|why| panic!("{why}"))
}

/// Two clusters of one version, quick to retry, with nothing in them yet.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) publisher: Cluster,
    pub(crate) subscriber: Cluster,
    /// After the clusters, so that it goes after them.
    pub(crate) stage: Stage,
}

impl Pair {
    /// Starts both. `name` names the directory.
    pub(crate) fn start(major: u32, name: &str) -> Self {
        let (binaries, stage) = (postgres(major), stage(&format!("{name}-{major}")));
        let settings = Settings {
            conf: vec![
                "wal_retrieve_retry_interval = 200ms".to_owned(),
                "logical_decoding_work_mem = 64kB".to_owned(),
                "max_sync_workers_per_subscription = 1".to_owned(),
            ],
            ..Settings::default()
        };
        let start = |side| Cluster::start(&binaries, &stage.path().join(side), &settings).unwrap();
        Self { publisher: start("publisher"), subscriber: start("subscriber"), stage }
    }
}

/// A pair of the usual version for tests that break nothing: shared by all of them, each with databases of its own.
pub(crate) fn shared_pair() -> &'static Pair {
    static SHARED: OnceLock<Pair> = OnceLock::new();
    SHARED.get_or_init(|| Pair::start(USUAL, "shared"))
}

/// A target as the configuration would give it; `extra` are further keys.
pub(crate) fn server(port: u16, user: &str, database: &str, extra: &[(&str, &str)]) -> Arc<Server> {
    let mut target = serde_json::json!({
        "host": "127.0.0.1", "port": port, "user": user, "password": "env:PASSWORD", "database": database, "tls": "disable",
    });
    for (key, value) in extra {
        target[*key] = serde_json::json!(value);
    }
    Arc::new(Server {
        name: format!("{database}-on-{port}"),
        target: serde_json::from_value(target).unwrap(),
    })
}

/// A vault that knows `env:PASSWORD`.
pub(crate) fn vault() -> Arc<Vault> {
    let environment = |name: &str| (name == "PASSWORD").then(|| PASSWORD.to_owned());
    Arc::new(Vault::new(Arc::new(environment), root()))
}

/// Asks until there is an answer; panics with `what` when there is none in time.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    wait_for(LIMIT, || Ok(ask())).unwrap().unwrap_or_else(|| panic!("not within {LIMIT:?}: {what}"))
}
