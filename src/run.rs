//! Builds all tasks from a plan, owns them, changes them at a reload, and ends them in order.

mod notifying;
mod secrets;

use crate::actor::{self, Job};
use crate::board::{Board, Key};
use crate::check::Check;
use crate::checks::Visit;
use crate::config::fault::Fault;
use crate::config::secret::Vault;
use crate::config::target::Server;
use crate::config::{self, Assignment, Outputs, Plan, Template};
use crate::discovery::{self, Found};
use crate::logs::intake::Intake;
use crate::logs::road::Road;
use crate::prometheus;
use crate::sinks::{self, Newest};
use crate::state::{Access, State};
use crate::task::{self, Task};
use crate::vitals::{Push, Reloads};
use jiff::Timestamp;
use notifying::Notifying;
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

/// Whoever is not done by then is named and ended.
const DRAIN: Duration = Duration::from_secs(6);
/// Searches that may wait to be heard; the next one waits itself.
const FINDS_WAITING: usize = 4;
/// A sink's last push ends by itself before this.
const LAST_PUSH: Duration = Duration::from_secs(3);

/// All that runs because the configuration says so.
pub struct Running {
    file: PathBuf,
    plan: Plan,
    board: Arc<Board>,
    vault: Arc<Vault>,
    pub(crate) reloads: Arc<Reloads>,
    actors: BTreeMap<Key, Actor>,
    /// What looks for targets, by check; and what it found last.
    searches: BTreeMap<Key, Search>,
    finds: (Sender<Found>, Receiver<Found>),
    refresh: Option<Task<()>>,
    otlp: Output,
    dogstatsd: Output,
    notifying: Notifying,
    /// What asks Prometheus for the page, with what it was told to ask, and where the answer is.
    asking: Option<(Task<()>, prometheus::Config)>,
    said: prometheus::Place,
    logs: Option<Road>,
}

struct Actor {
    assignment: Assignment,
    stop: CancellationToken,
    task: Task<()>,
}

/// What looks for the targets of a check.
struct Search {
    template: Template,
    servers: Vec<Arc<Server>>,
    _task: Task<()>,
}

/// A sink with its counters, which outlive a reload.
struct Output {
    name: &'static str,
    running: Option<(Task<()>, CancellationToken)>,
    push: Arc<Push>,
}

impl Running {
    /// Starts everything that a plan asks for.
    pub fn start(
        file: PathBuf,
        plan: Plan,
        board: Arc<Board>,
        vault: Arc<Vault>,
        logs: Option<Road>,
    ) -> Self {
        let mut running = Self {
            file,
            board,
            vault,
            reloads: Arc::new(Reloads::new(Timestamp::now())),
            actors: BTreeMap::new(),
            searches: BTreeMap::new(),
            finds: channel(FINDS_WAITING),
            refresh: None,
            otlp: Output::new("otlp"),
            dogstatsd: Output::new("dogstatsd"),
            notifying: Notifying::default(),
            asking: None,
            said: prometheus::Place::default(),
            logs,
            plan,
        };
        running.vault.expect(running.plan.expected());
        // Totals of logs go on over restarts, and a sink takes what it finds at its start as told already.
        if let Some(logs) = &mut running.logs {
            logs.show(&running.board);
            logs.pull(running.plan.pulls(), &running.vault);
        }
        // Sinks before checks for the same reason.
        running.start_outputs(None);
        for assignment in running.plan.assignments.clone() {
            running.start_actor(assignment);
        }
        running.start_searches();
        running.start_refresh();
        running.start_notifying();
        running.start_asking();
        running
    }

    /// Waits for what a search finds.
    pub async fn found(&mut self) -> Option<Found> {
        self.finds.1.recv().await
    }

    /// Takes what a search found: starts checks on new targets, ends those on targets that are gone. All others go on untouched.
    pub async fn adjust(&mut self, found: Found) {
        let Some(search) = self.searches.get_mut(&found.key) else { return };
        if search.servers == found.servers {
            return;
        }
        search.servers = found.servers;
        let (before, now) = (self.actors.len(), search.servers.len());
        let wanted = self.wanted();
        self.change(wanted).await;
        tracing::info!(check = %found.key, targets = now, checks_before = before, checks = self.actors.len(), "targets changed");
    }

    /// What has to run: what the plan says, and its templates on what was found for them.
    fn wanted(&self) -> BTreeMap<Key, Assignment> {
        let found = self
            .searches
            .values()
            .flat_map(|search| search.servers.iter().map(|server| search.template.on(Arc::clone(server))));
        self.plan.assignments.iter().cloned().chain(found).map(|one| (one.key.clone(), one)).collect()
    }

    /// What takes log deliveries.
    pub fn intake(&self) -> Option<&Arc<Intake>> {
        self.logs.as_ref().map(Road::intake)
    }

    /// The sinks and their counters, for the instruments.
    pub fn pushes(&self) -> Vec<Arc<Push>> {
        [&self.otlp, &self.dogstatsd].map(|output| Arc::clone(&output.push)).into()
    }

    /// Reads the configuration again. With any fault the old one stays as it is.
    pub async fn reload(&mut self) -> Result<(), String> {
        let result = self.try_reload().await;
        self.settle_secrets().await;
        self.reloads.note(result.is_ok(), Timestamp::now());
        match &result {
            Ok(()) => tracing::info!(checks = self.actors.len(), "configuration reloaded"),
            Err(faults) => tracing::error!(%faults, "configuration not reloaded; the old one stays"),
        }
        result
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let plan = config::load(&self.file, &self.vault).await.map_err(|refused| refused.to_string())?;
        if plan.data_dir != self.plan.data_dir {
            let message = "changing it needs a restart".to_owned();
            return Err(Fault { place: None, key: "data_dir".into(), message, hint: None }.to_string());
        }
        if plan.logs.is_some() != self.logs.is_some() {
            let message = "adding it or taking it away needs a restart".to_owned();
            return Err(Fault { place: None, key: "logs".into(), message, hint: None }.to_string());
        }
        self.take_secrets(&plan).await?;
        if let (Some(road), Some(logs)) = (&self.logs, &plan.logs)
            && self.plan.logs.as_ref() != Some(logs)
        {
            let (routes, keys) = (logs.routes.clone(), logs.access_keys.clone());
            let changed = road.intake().change(routes, keys, Timestamp::now()).await;
            changed.map_err(|error| format!("logs: {error}"))?;
        }
        let before = std::mem::replace(&mut self.plan, plan);
        if let Some(road) = self.logs.as_mut().filter(|_| before.pulls() != self.plan.pulls()) {
            road.pull(self.plan.pulls(), &self.vault);
        }
        self.start_searches();
        let wanted = self.wanted();
        self.change(wanted).await;
        if before.secrets.refresh() != self.plan.secrets.refresh() {
            self.start_refresh();
        }
        if before.outputs.otlp != self.plan.outputs.otlp {
            self.otlp.stop().await;
        }
        if before.outputs.dogstatsd != self.plan.outputs.dogstatsd {
            self.dogstatsd.stop().await;
        }
        self.start_outputs(Some(&before.outputs));
        self.change_notifying().await;
        self.start_asking();
        Ok(())
    }

    /// Ends what is not wanted any more, starts what is new, and leaves everything else alone.
    async fn change(&mut self, mut wanted: BTreeMap<Key, Assignment>) {
        let mut ended = Vec::new();
        for key in self.actors.keys().cloned().collect::<Vec<_>>() {
            let same = self
                .actors
                .get(&key)
                .zip(wanted.get(&key))
                .is_some_and(|(actor, new)| actor.assignment == *new);
            if same {
                wanted.remove(&key);
            } else if let Some(actor) = self.actors.remove(&key) {
                actor.stop.cancel();
                ended.push((key, actor));
            }
        }
        for (key, actor) in ended {
            join(&key.to_string(), actor.task, DRAIN).await;
            if wanted.contains_key(&key) { self.board.clear(&key) } else { self.board.withdraw(&key) }
        }
        for assignment in wanted.into_values() {
            self.start_actor(assignment);
        }
    }

    /// Starts the searches of the plan, and ends those that it does not name any more.
    fn start_searches(&mut self) {
        let mut before = std::mem::take(&mut self.searches);
        for template in self.plan.templates.clone() {
            let key = template.key();
            let search = match before.remove(&key) {
                Some(same) if same.template == template => same,
                other => {
                    self.board.register(&key, template.spec());
                    let (board, vault) = (Arc::clone(&self.board), Arc::clone(&self.vault));
                    let task =
                        task::spawn(discovery::live(template.clone(), board, vault, self.finds.0.clone()));
                    // Until the first search is over, what the last one found goes on.
                    let servers = other.map(|other| other.servers).unwrap_or_default();
                    Search { template, servers, _task: task }
                }
            };
            self.searches.insert(key, search);
        }
        for key in before.into_keys() {
            self.board.withdraw(&key);
        }
    }

    /// Ends everything: checks first, so that what they still say goes out; then the sinks flush.
    pub async fn stop(mut self) {
        self.refresh = None;
        self.searches.clear();
        for actor in self.actors.values() {
            actor.stop.cancel();
        }
        let until = tokio::time::Instant::now() + DRAIN;
        for (key, actor) in std::mem::take(&mut self.actors) {
            join(&key.to_string(), actor.task, until.saturating_duration_since(tokio::time::Instant::now()))
                .await;
        }
        tokio::join!(self.otlp.stop(), self.dogstatsd.stop(), self.notifying.stop());
        if let Some(logs) = self.logs {
            logs.close().await;
        }
    }

    fn start_actor(&mut self, assignment: Assignment) {
        self.board.register(&assignment.key, assignment.spec());
        let stop = CancellationToken::new();
        let state = self.plan.state(&assignment.key, Access::Keeps);
        let life =
            Life { assignment: &assignment, board: &self.board, vault: &self.vault, state, stop: &stop };
        let future = assignment.config.visit(life);
        let actor = Actor { task: task::spawn(future), stop, assignment };
        self.actors.insert(actor.assignment.key.clone(), actor);
    }

    fn start_refresh(&mut self) {
        let (vault, every) = (Arc::clone(&self.vault), self.plan.secrets.refresh());
        self.refresh = Some(task::spawn(async move {
            loop {
                // Not on the beat: a hundred exporters that were started together must not ask together for ever.
                tokio::time::sleep(every.mul_f64(jitter())).await;
                vault.refresh().await;
            }
        }));
    }

    /// What Prometheus said last, for the page.
    pub fn said(&self) -> prometheus::Place {
        Arc::clone(&self.said)
    }

    /// Asks the Prometheus that the plan names, or none.
    fn start_asking(&mut self) {
        let before = self.asking.as_ref().map(|(_, config)| config);
        if before == self.plan.page.as_ref() {
            return;
        }
        self.said.store(None);
        self.asking = self.plan.page.clone().map(|config| {
            let task = task::spawn(prometheus::live(config.clone(), Arc::clone(&self.said)));
            (task, config)
        });
    }

    /// Starts the sinks whose configuration is not the one they had `before`.
    fn start_outputs(&mut self, before: Option<&Outputs>) {
        let board = Arc::clone(&self.board);
        let newest: Newest = Arc::new(move || board.snapshot());
        let Outputs { otlp, dogstatsd } = &self.plan.outputs;
        if let Some(config) = otlp.as_ref().filter(|_| before.is_none_or(|before| before.otlp != *otlp)) {
            let (vault, stop) = (Arc::clone(&self.vault), CancellationToken::new());
            let counters = self.otlp.push.start();
            let task = sinks::otlp::start(config.clone(), Arc::clone(&newest), vault, counters, stop.clone());
            self.otlp.running = Some((task, stop));
        }
        if let Some(config) =
            dogstatsd.as_ref().filter(|_| before.is_none_or(|before| before.dogstatsd != *dogstatsd))
        {
            let (counters, stop) = (self.dogstatsd.push.start(), CancellationToken::new());
            match sinks::dogstatsd::start(config.clone(), newest, counters, stop.clone()) {
                Ok(task) => self.dogstatsd.running = Some((task, stop)),
                Err(error) => tracing::error!(%error, "could not start the thread of the DogStatsD sink"),
            }
        }
    }
}

impl Output {
    fn new(name: &'static str) -> Self {
        Self { name, running: None, push: Arc::new(Push::new(name)) }
    }

    async fn stop(&mut self) {
        if let Some((task, stop)) = self.running.take() {
            stop.cancel();
            join(self.name, task, LAST_PUSH).await;
            self.push.end();
        }
    }
}

/// Starts the life of a check, whatever its type.
struct Life<'a> {
    assignment: &'a Assignment,
    board: &'a Arc<Board>,
    vault: &'a Arc<Vault>,
    state: Option<State>,
    stop: &'a CancellationToken,
}

impl Visit for Life<'_> {
    type Out = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn visit<C: Check>(self, config: &C::Config) -> Self::Out {
        let job = Job::<C> {
            key: self.assignment.key.clone(),
            config: config.clone(),
            clients: self.assignment.clients(self.vault, self.state),
            every: self.assignment.every,
            offset: self.assignment.offset,
        };
        actor::boxed(job, Arc::clone(self.board), self.stop.clone())
    }
}

/// Between 0.9 and 1.1, another one at each call.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(()) % 2001;
    0.9 + random as f64 / 1e4
}

async fn join(name: &str, mut task: Task<()>, longest: Duration) {
    match tokio::time::timeout(longest, task.join()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(task = name, %error, "task ended badly"),
        Err(_) => tracing::warn!(task = name, "task did not end in time and was aborted"),
    }
}
