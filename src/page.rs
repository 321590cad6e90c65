//! The status page: all checks at a look, a page for each, and the logs. Made from the board alone, by the server; a script only keeps it fresh.
//!
//! A page is a list of fragments, each an element with an `id`. What depends on the moment, such as "12 s ago", is told by the
//! script: so a fragment changes only when what it shows has changed, and the stream of a page sends just those.

mod api;
mod check;
mod html;
mod logs;
mod overview;
mod replication;
mod rules;
mod sparkline;

use crate::alerts::counters::{Counters, View as Told};
use crate::alerts::open::Open;
use crate::board::{Board, Card, Key};
use crate::http::live::{Live, View};
use crate::http::{POLICY, Page, Query};
use crate::logs::intake::Intake;
use crate::prometheus::{Place, Said};
use hyper::body::Bytes;
use jiff::Timestamp;
use overview::Filter;
use std::sync::Arc;
use tokio::time::Instant;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What the pages are made from.
pub struct Sources {
    /// The checks.
    pub board: Arc<Board>,
    /// What was told to Slack.
    pub notify: Arc<Counters>,
    /// What Prometheus says.
    pub prometheus: Place,
    /// What takes logs, when they are configured.
    pub intake: Option<Arc<Intake>>,
    /// Where the metrics are.
    pub telemetry_path: String,
}

/// All that is shown, at one moment.
struct Scene {
    cards: Vec<(Key, Card)>,
    told: Option<Told>,
    said: Option<Arc<Said>>,
    now: Instant,
    time: Timestamp,
}

impl Sources {
    fn scene(&self) -> Scene {
        let time = Timestamp::now();
        let (told, said) = (self.notify.view(time), self.prometheus.load_full());
        Scene { cards: self.board.view(), told, said, now: Instant::now(), time }
    }
}

impl Scene {
    /// What fires, the worst first: as Alertmanager told it, else as Prometheus says it; nothing when nobody knows.
    fn open(&self) -> Option<&[Open]> {
        let told = self.told.as_ref().map(|told| &*told.open);
        // A Prometheus that does not answer says nothing, and not that nothing fires.
        let said = self.said.as_ref().filter(|said| said.problem.is_none());
        told.or_else(|| said.map(|said| said.firing.as_slice()))
    }
}

/// The pages.
pub fn pages(sources: &Arc<Sources>) -> Vec<Page> {
    type Make = fn(&Sources, &str, &Query) -> Option<String>;
    let page = |path, content_type, make: Make| {
        let sources = Arc::clone(sources);
        let body = Arc::new(move |asked: &crate::http::Asked| {
            make(&sources, &asked.below, &asked.query).map(Bytes::from)
        });
        Page { path, content_type, policy: POLICY, body }
    };
    let file = |path, content_type, text: &'static str| Page {
        path,
        content_type,
        policy: POLICY,
        body: Arc::new(move |_| Some(Bytes::from_static(text.as_bytes()))),
    };
    let mut pages = vec![
        page("/", HTML, |sources, _, query| Some(overview::page(sources, &Filter::of(query)))),
        page("/checks/", HTML, |sources, name, _| check::page(sources, name)),
        page("/api/v1/checks", JSON, |sources, _, query| Some(api::checks(sources, query))),
        file("/page.css", "text/css; charset=utf-8", include_str!("web/page.css")),
        file("/page.js", "text/javascript; charset=utf-8", include_str!("web/page.js")),
    ];
    if sources.intake.is_some() {
        pages.push(page("/logs", HTML, |sources, _, _| logs::page(sources)));
        pages.push(page("/api/v1/statements", JSON, |sources, _, query| api::statements(sources, query)));
    }
    pages
}

/// The streams of the pages: `page` is the path of one, and the other parameters are its own.
pub fn live(sources: &Arc<Sources>) -> Live {
    let (shown, board) = (Arc::clone(sources), Arc::clone(&sources.board));
    Live {
        path: "/api/v1/live",
        view: Arc::new(move |query| view(&shown, query)),
        generation: Arc::new(move || board.snapshot().generation),
    }
}

fn view(sources: &Arc<Sources>, query: &Query) -> Option<View> {
    let (sources, page) = (Arc::clone(sources), query.first("page").unwrap_or("/").to_owned());
    if page == "/" {
        let filter = Filter::of(query);
        return Some(Arc::new(move || overview::fragments(&sources, &sources.scene(), &filter)));
    }
    if page == "/logs" {
        let intake = Arc::clone(sources.intake.as_ref()?);
        return Some(Arc::new(move || logs::fragments(&intake)));
    }
    let name = crate::http::decoded(page.strip_prefix("/checks/")?);
    let find = move || check::fragments(&sources.scene(), &name);
    find()?;
    // A check that was taken out of the configuration shows nothing: the reader loads the page again, and is told so.
    Some(Arc::new(move || find().unwrap_or_default()))
}
