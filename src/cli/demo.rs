//! `datapulse demo`: starts the private servers, or changes what runs there.

use super::serve::{Exporter, Signals};
use super::{ConfigFile, Demo, DemoAction, FAILED, LogFormat, LogLevel, Serve, complain, print};
use crate::config::secret::Environment;
use crate::demo::crew::{Brief, Built, Crew};
use crate::demo::diary::{Diary, Event};
use crate::demo::running::{self, Claim, Mark, Place};
use crate::demo::site::{self, Site};
use crate::demo::slack::{self, Workspace};
use crate::demo::{Fault, parts, watch};
use crate::http;
use crate::task;
use arc_swap::ArcSwap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The exporter's port unless told otherwise; when it is taken, a free one does.
const EXPORTER: &str = "127.0.0.1:9893";
/// The port of the demo's own page; when it is taken, a free one does.
const PAGE: &str = "127.0.0.1:9894";
/// The port of the demo's Slack; when it is taken, a free one does.
const SLACK: &str = "127.0.0.1:9895";
/// Its channels: the first for incidents, the last for what is said about datapulse itself.
const CHANNELS: [(&str, &str); 2] = [("C0ALERTS", "alerts"), ("C1DATAPULSE", "datapulse")];
/// Healing starts two servers in the worst case.
const ORDER_LIMIT: Duration = Duration::from_secs(100);

/// Starts a demo, or changes the one that runs.
pub async fn run(flags: Demo, environment: Environment, started: SystemTime) -> ExitCode {
    let done = match &flags.action {
        Some(action) => change(action).map(|done| {
            print(&done);
        }),
        None => Box::pin(start(&flags.listen, environment, started)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::from(FAILED)
        }
    }
}

/// Gives an order to the demo that runs; in words what was done.
fn change(action: &DemoAction) -> anyhow::Result<String> {
    let place = match running::find(&running::base()?)? {
        None => anyhow::bail!("no demo is running here; start one with `datapulse demo`"),
        Some(None) => anyhow::bail!("the demo is still starting; try again in a moment"),
        Some(Some(place)) => place,
    };
    let path = match action {
        DemoAction::Break { fault } => format!("/break/{}", fault.word()),
        DemoAction::Heal => "/heal".to_owned(),
    };
    let reply = parts::post_within(ORDER_LIMIT, place.page, &path, "text/plain", b"")?;
    let said = reply.body.trim_end();
    anyhow::ensure!(reply.status == 200, "the demo could not do it: {said}");
    let next = match action {
        DemoAction::Break { fault } => {
            format!(
                "broken: {said}\n{} follows within a minute; undo it with `datapulse demo heal`",
                fault.alert()
            )
        }
        DemoAction::Heal => format!("healed: {said}\nalerts end in about a minute"),
    };
    Ok(format!("{next}; watch http://127.0.0.1:{}/\n", place.page))
}

async fn start(listen: &str, environment: Environment, started: SystemTime) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut signals = Signals::new()?;
    let base = running::base()?;
    let mut mark = match running::claim(&base)? {
        Claim::Ours(mark) => mark,
        Claim::Theirs(Some(Place { pid, page, exporter })) => anyhow::bail!(
            "a demo is running already (process {pid}): its page is http://127.0.0.1:{page}/, datapulse's {exporter}"
        ),
        Claim::Theirs(None) => anyhow::bail!("a demo is just starting or ending; try again in a moment"),
    };
    let listener = listen_on(listen, EXPORTER).await?;
    let exporter = reachable(listener.local_addr()?);
    let page = listen_on(PAGE, PAGE).await?;
    let slack = listen_on(SLACK, SLACK).await?;
    let token = parts::random_word()?;
    let diary = Arc::new(Diary::new(|event: &Event| {
        print(&format!("  {event}\n"));
    }));
    let say = move |what: &str| {
        print(&format!("  {:4.1} s  {what}\n", begin.elapsed().as_secs_f64()));
    };
    print("datapulse demo\n");
    let told = (slack.local_addr()?.port(), token.clone());
    let workspace = Arc::new(Workspace::new(&token, &CHANNELS));
    let _slack = task::spawn(slack::serve(slack, workspace, CancellationToken::new()));
    let brief = Brief { base, exporter, slack: told, diary: Arc::clone(&diary), say: Box::new(say) };
    let (crew, building) = Crew::start(brief)?;
    let built = tokio::select! {
        built = building => built?,
        () = signals.stop() => {
            print("  stopping as soon as this step is done; once more to stop at once\n");
            tokio::select! {
                () = crew.end() => {}
                // Whatever was started ends by itself when we are gone.
                () = signals.stop() => {}
            }
            return Ok(());
        }
    };
    let shown = match built {
        Ok(built) => {
            Box::pin(show(
                Stage { listener, exporter, page, built, crew: &crew, diary, mark: &mut mark, begin },
                environment,
                started,
                signals,
            ))
            .await
        }
        Err(error) => Err(error.into()),
    };
    crew.end().await;
    shown.map(|()| {
        print("stopped; nothing is left behind\n");
    })
}

/// What the demo shows itself with.
struct Stage<'a> {
    listener: TcpListener,
    exporter: SocketAddr,
    page: TcpListener,
    built: Built,
    crew: &'a Crew,
    diary: Arc<Diary>,
    mark: &'a mut Mark,
    begin: Instant,
}

/// Runs the exporter, the page and the look-out until a signal.
async fn show(
    stage: Stage<'_>,
    environment: Environment,
    started: SystemTime,
    signals: Signals,
) -> anyhow::Result<()> {
    let Stage { listener, exporter, page, built, crew, diary, mark, begin } = stage;
    let flags = Serve {
        config: ConfigFile { config_file: built.config() },
        listen: Vec::new(),
        web_config_file: None,
        telemetry_path: "/metrics".to_owned(),
        enable_lifecycle: true,
        log_level: LogLevel::Warn,
        log_format: LogFormat::Text,
    };
    let datapulse = Exporter::load(flags, environment, started)
        .await
        .map_err(|refusal| anyhow::Error::msg(refusal.text))?;
    let page_port = page.local_addr()?.port();
    let address = format!("http://{exporter}");
    let place = Place { pid: std::process::id(), page: page_port, exporter: format!("{address}/") };
    mark.announce(&place)?;
    let alerts = Arc::new(ArcSwap::from_pointee(None));
    let site = Site {
        desk: crew.desk(),
        standing: crew.standing(),
        board: Arc::clone(datapulse.board()),
        alerts: Arc::clone(&alerts),
        diary: Arc::clone(&diary),
        built,
        exporter: address,
    };
    let announcement = announce(&place, &site.built, begin);
    let _look_out = task::spawn(watch::live(crew.standing(), alerts, diary));
    let _page = task::spawn(site::serve(page, Arc::new(site), CancellationToken::new()));
    print(&announcement);
    datapulse.run(vec![listener], signals).await;
    print("stopping\n");
    Ok(())
}

fn announce(place: &Place, built: &Built, begin: Instant) -> String {
    let Place { page, exporter, .. } = place;
    let Built { publisher, subscriber, slack, .. } = built;
    let config = built.config();
    format!(
        "  {:4.1} s  here it is; values follow within five seconds\n\n  \
         demo page      http://127.0.0.1:{page}/     break things, watch the alerts\n  \
         Slack          http://127.0.0.1:{slack}/     what Slack would show, threads and pictures included\n  \
         datapulse      {exporter}     its status page, as everywhere; metrics at {exporter}metrics\n  \
         servers        publisher 127.0.0.1:{publisher}, subscriber 127.0.0.1:{subscriber}\n  \
         configuration  {}\n\n  \
         break it       datapulse demo break {}\n  \
         heal it        datapulse demo heal\n  \
         stop it        Ctrl-C, which removes everything\n\n",
        begin.elapsed().as_secs_f64(),
        config.display(),
        Fault::ALL.map(Fault::word).join("|"),
    )
}

/// Listens on `wanted`; when that is our own choice and it is taken, on a free port.
async fn listen_on(wanted: &str, ours: &str) -> anyhow::Result<TcpListener> {
    let mut bound = http::bind(&[wanted.to_owned()]).await;
    if bound.is_err() && wanted == ours {
        bound = http::bind(&[format!("127.0.0.1:{}", parts::free_port()?)]).await;
    }
    bound?.pop().ok_or_else(|| anyhow::anyhow!("no address to listen on"))
}

/// Where one gets to what listens here, from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
