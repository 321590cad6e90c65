//! The file of `--web.config.file`, in exporter-toolkit's format, and the settings that follow it while we run.

use super::basic_auth::{self, Users};
use super::tls;
use crate::config::fault::{Fault, Faults};
use crate::config::node::{self, Node};
use crate::config::read::read;
use crate::task;
use arc_swap::ArcSwap;
use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often the files' stamps are read at most: a flood of connections costs one look a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A configuration or a chain of certificates is never as large as this.
const LARGEST_FILE: u64 = 1 << 20;

/// The headers that may be set, and their values where these are few (exporter-toolkit's list).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What guards the server: TLS, basic auth and headers, re-read when a file changes.
#[derive(Debug)]
pub struct WebConfig {
    file: Option<PathBuf>,
    settings: Arc<ArcSwap<Settings>>,
    watch: Arc<Mutex<Watch>>,
    every: Duration,
}

/// The settings at one moment.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Users,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings {{ tls: {}, users: {} }}", self.tls.is_some(), self.users.len())
    }
}

#[derive(Debug)]
struct Watch {
    looked: Instant,
    seen: Vec<(PathBuf, Option<Stamp>)>,
    /// What was last said about a broken file: it is said once.
    said: String,
}

impl WebConfig {
    /// Plain HTTP for everybody.
    pub fn none() -> Self {
        Self::with(None, Settings::default(), Vec::new())
    }

    /// Reads the file, and the certificates that it names; all faults at once.
    pub fn open(file: &Path) -> Result<Self, Faults> {
        let mut files = Files::beside(file);
        let settings = load(file, &mut files)?;
        Ok(Self::with(Some(file.to_owned()), settings, files.seen))
    }

    fn with(file: Option<PathBuf>, settings: Settings, seen: Vec<(PathBuf, Option<Stamp>)>) -> Self {
        let watch = Arc::new(Mutex::new(Watch { looked: Instant::now(), seen, said: String::new() }));
        Self { file, settings: Arc::new(ArcSwap::from_pointee(settings)), watch, every: LOOK_EVERY }
    }

    /// The settings that hold now. Looks after the files first when that was not done for a second.
    pub(super) async fn current(&self) -> Arc<Settings> {
        if let Some(file) = &self.file
            && let Ok(mut watch) = Arc::clone(&self.watch).try_lock_owned()
            && watch.looked.elapsed() >= self.every
        {
            watch.looked = Instant::now();
            let (file, settings) = (file.clone(), Arc::clone(&self.settings));
            let look = move || {
                if watch.seen.iter().any(|(path, stamp)| Stamp::of(path) != *stamp) {
                    watch.follow(&file, &settings);
                }
            };
            if let Err(error) = task::blocking(look).await {
                tracing::error!(%error, "could not look after the web configuration");
            }
        }
        self.settings.load_full()
    }

    #[cfg(test)]
    pub(super) fn looking_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }
}

impl Watch {
    /// Takes over a changed file if it is good. Its stamps are kept in any case: a broken file is read again when it changes.
    fn follow(&mut self, file: &Path, settings: &ArcSwap<Settings>) {
        let mut files = Files::beside(file);
        match load(file, &mut files).and_then(|new| still_guarded(&settings.load(), new)) {
            Ok(new) => {
                tracing::info!(file = %file.display(), "web configuration read again");
                self.said.clear();
                settings.store(Arc::new(new));
            }
            Err(faults) => {
                let words = faults.to_string();
                if self.said != words {
                    tracing::error!(file = %file.display(), faults = words, "web configuration is broken, the one of before stays");
                    self.said = words;
                }
            }
        }
        self.seen = files.seen;
    }
}

/// A file that is half written or empty for a moment must not take the guard away.
fn still_guarded(old: &Settings, new: Settings) -> Result<Settings, Faults> {
    let mut faults = Faults::default();
    if old.tls.is_some() != new.tls.is_some() {
        faults.push(bare("TLS cannot be switched on or off while running", "restart datapulse"));
    }
    if new.users.is_empty() && !old.users.is_empty() {
        faults.push(bare("basic auth cannot be switched off while running", "restart datapulse"));
    }
    if faults.is_empty() { Ok(new) } else { Err(faults) }
}

/// The file's sections.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    #[serde(default)]
    tls_server_config: tls::Keys,
    #[serde(default)]
    http_server_config: HttpKeys,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpKeys {
    /// Accepted, because every example has it; HTTP/1.1 is what we speak, and every client falls back to it.
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

fn load(file: &Path, files: &mut Files) -> Result<Settings, Faults> {
    let mut faults = Faults::default();
    let settings = settings(file, files, &mut faults);
    match settings {
        Some(settings) if faults.is_empty() => Ok(settings),
        _ => Err(faults),
    }
}

fn settings(file: &Path, files: &mut Files, faults: &mut Faults) -> Option<Settings> {
    let name = file.file_name().map_or(file, Path::new);
    match files.read(name).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other)) {
        Ok(text) => settings_of(file, &text, files, faults),
        Err(error) => {
            faults.push(bare(format!("could not read {}: {error}", file.display()), "see --web.config.file"));
            None
        }
    }
}

fn settings_of(file: &Path, text: &str, files: &mut Files, faults: &mut Faults) -> Option<Settings> {
    let root = node::parse(&file.to_string_lossy(), text, faults)?;
    let sections: Sections = read(&root, "", faults)?;
    let headers =
        headers(&sections.http_server_config.headers, &mut Section::of(&root, "http_server_config", faults));
    check_users(&sections.basic_auth_users, &mut Section::of(&root, "basic_auth_users", faults));
    let tls = if sections.tls_server_config == tls::Keys::default() {
        None
    } else {
        Some(tls::server(
            &sections.tls_server_config,
            &mut Section::of(&root, "tls_server_config", faults),
            files,
        )?)
    };
    if sections.http_server_config.http2 == Some(true) {
        tracing::debug!("http2: true is accepted, and HTTP/1.1 is spoken");
    }
    Some(Settings { tls, headers, users: sections.basic_auth_users })
}

fn headers(written: &BTreeMap<String, String>, section: &mut Section) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in written {
        let key = format!("headers.{name}");
        let Some((_, values)) = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let accepted = HEADERS.map(|(name, _)| name).join(", ");
            section.note(&key, "this header cannot be set", &format!("accepted: {accepted}"));
            continue;
        };
        if !values.is_empty() && !values.iter().any(|known| known.eq_ignore_ascii_case(value)) {
            section.note(&key, "this value cannot be set", &format!("accepted: {}", values.join(", ")));
            continue;
        }
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => section.note(&key, "the value has characters that a header cannot carry", ""),
        }
    }
    headers
}

fn check_users(users: &BTreeMap<String, String>, section: &mut Section) {
    for (user, hash) in users {
        // The hash is not shown: people put a password there by mistake.
        if !basic_auth::cost(hash).is_some_and(|cost| (4..=31).contains(&cost)) {
            section.note(user, "this is not a bcrypt hash", "make one with: htpasswd -nBC 10 NAME");
        }
        if user.contains(':') {
            section.note(user, "a user name cannot contain a colon", "");
        }
    }
}

fn bare(message: impl Into<String>, hint: &str) -> Fault {
    Fault { place: None, key: String::new(), message: message.into(), hint: Some(hint.to_owned()) }
}

/// One section of the file: where to put its faults.
pub(super) struct Section<'a> {
    name: &'static str,
    node: &'a Node,
    faults: &'a mut Faults,
}

impl<'a> Section<'a> {
    fn of(root: &'a Node, name: &'static str, faults: &'a mut Faults) -> Self {
        Self { name, node: root.get(name).unwrap_or(root), faults }
    }

    /// Notes what is wrong with a key; keys of keys are joined by dots.
    pub(super) fn note(&mut self, key: &str, message: &str, hint: &str) {
        let inner = key.split_once('.').and_then(|(outer, inner)| self.node.get(outer)?.get(inner));
        let place = inner.or_else(|| self.node.get(key)).unwrap_or(self.node).place();
        let fault = Fault::new(place, format!("{}.{key}", self.name), message);
        self.faults.push(if hint.is_empty() { fault } else { fault.hint(hint) });
    }

    /// Notes what is wrong and gives nothing, for functions that end there.
    pub(super) fn fault<T>(&mut self, key: &str, message: &str, hint: &str) -> Option<T> {
        self.note(key, message, hint);
        None
    }

    /// The bytes of a text that stands in the file itself or in a file beside it.
    pub(super) fn either(
        &mut self,
        key: &str,
        text: Option<&String>,
        file_key: &str,
        file: Option<&String>,
        files: &mut Files,
    ) -> Option<Vec<u8>> {
        match (text, file) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(name)) => match files.read(Path::new(name)) {
                Ok(bytes) => Some(bytes),
                Err(error) => self.fault(file_key, &format!("could not read it: {error}"), ""),
            },
            (Some(_), Some(_)) => {
                self.fault(key, &format!("{key} and {file_key} are both set"), "leave one out")
            }
            (None, None) => self.fault(file_key, &format!("{file_key} is missing"), &format!("or set {key}")),
        }
    }
}

/// What tells that a file is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        Self { seconds, nanoseconds, size: metadata.len(), inode: metadata.ino() }
    }
}

/// Reads files and remembers each with the stamp that it had before it was read.
pub(super) struct Files {
    /// The folder of the web configuration: relative names begin here.
    base: PathBuf,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

impl Files {
    fn beside(file: &Path) -> Self {
        Self { base: file.parent().map(Path::to_owned).unwrap_or_default(), seen: Vec::new() }
    }

    fn read(&mut self, name: &Path) -> io::Result<Vec<u8>> {
        let path = self.base.join(name);
        let stamp = Stamp::of(&path);
        let result = read_capped(&path);
        // What could not be read, as for want of file descriptors, is tried again at the next look.
        self.seen.push((path, stamp.filter(|_| result.is_ok())));
        result
    }
}

fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    // A pipe would block us for ever.
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(io::Error::other(format!("not a file of at most {LARGEST_FILE} bytes")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::tests::{Folder, count, stage};
    use super::*;
    use base64::Engine as _;

    fn faults(text: &str) -> String {
        let file = Path::new("web.yml");
        let mut faults = Faults::default();
        let settings = settings_of(file, text, &mut Files::beside(file), &mut faults);
        assert!(settings.is_none() || !faults.is_empty(), "{text} is accepted");
        faults.to_string()
    }

    #[test]
    fn every_fault_names_its_place_and_what_is_accepted() {
        for (text, expected) in [
            (
                "tls_server_confg: {}",
                "web.yml:1:1: tls_server_confg: unknown key; did you mean \"tls_server_config\"?",
            ),
            ("tls_server_config: {cert: x}", "tls_server_config.key_file: key_file is missing; or set key"),
            (
                "tls_server_config: {cert: x, cert_file: y, key: z}",
                "cert and cert_file are both set; leave one out",
            ),
            (
                "tls_server_config: {cert_file: /nowhere/a.pem, key: z}",
                "web.yml:1:32: tls_server_config.cert_file: could not read it: No such file",
            ),
            ("tls_server_config: {cert_file: /dev/zero, key: z}", "not a file of at most"),
            ("tls_server_config: {cert: secret-text, key: z}", "there is no certificate in PEM format"),
            (
                "tls_server_config: {min_version: TLS11}",
                "tls_server_config.min_version: TLS 1.0 and 1.1 are broken and not spoken; accepted: TLS12, TLS13",
            ),
            ("tls_server_config: {min_version: TLS13, max_version: TLS12}", "it is below min_version"),
            (
                "tls_server_config: {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
                "accepted: TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            ),
            (
                "tls_server_config: {curve_preferences: [CurveP521]}",
                "accepted: X25519MLKEM768, X25519, CurveP256, CurveP384",
            ),
            (
                "http_server_config: {headers: {Server: me}}",
                "web.yml:1:40: http_server_config.headers.Server: this header cannot be set; accepted: Content-Security-Policy",
            ),
            ("http_server_config: {headers: {X-Frame-Options: maybe}}", "accepted: deny, sameorigin"),
            (
                "http_server_config: {headers: {X-XSS-Protection: \"a\\nb\"}}",
                "characters that a header cannot carry",
            ),
            (
                "basic_auth_users: {ann: hunter2}",
                "web.yml:1:25: basic_auth_users.ann: this is not a bcrypt hash",
            ),
            ("basic_auth_users: {\"a:b\": x}", "a user name cannot contain a colon"),
        ] {
            let found = faults(text);
            assert!(found.contains(expected), "{text}\n{found}");
            assert!(!found.contains("hunter2") && !found.contains("secret-text"), "{found}");
        }
    }

    #[test]
    fn an_empty_file_and_the_example_are_accepted() {
        let file = Path::new("docs/examples/web.yml");
        let example = include_str!("../../docs/examples/web.yml");
        let mut faults = Faults::default();
        let settings = settings_of(file, example, &mut Files::beside(file), &mut faults).unwrap();
        assert_eq!(settings.users.len(), 1);
        assert!(settings.tls.is_none(), "its TLS section is a comment, as it names files");
        assert!(settings_of(file, "", &mut Files::beside(file), &mut faults).is_some());
        assert!(faults.is_empty(), "{faults}");
    }

    #[test]
    fn promtool_accepts_the_example() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/web.yml");
        let run = std::process::Command::new("promtool").args(["check", "web-config", example]).output();
        let run = run.expect("promtool is needed: apt-get install prometheus");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    fn login(text: &str) -> String {
        format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    fn user(password: &str) -> String {
        format!("basic_auth_users: {{ann: \"{}\"}}\n", bcrypt::hash(password, 4).unwrap())
    }

    #[tokio::test]
    async fn basic_auth_guards_every_path_and_follows_its_file() {
        let folder = Folder::new("auth");
        let headers = "http_server_config: {http2: true, headers: {X-Frame-Options: deny}}\n";
        let file = folder.write("web.yml", &format!("{headers}{}", user("first")));
        let web = WebConfig::open(&file).unwrap().looking_every(Duration::ZERO);
        let stage = stage(web, Limits::default(), None).await;
        for request in
            ["GET /", "GET /metrics", "GET /-/healthy", "GET /-/ready", "POST /-/reload", "GET /nowhere"]
        {
            let got = stage.ask(request, &["Content-Length: 0"]).await;
            assert_eq!((got.status, got.text()), (401, "Unauthorized\n"), "{request}");
            assert_eq!(got.header("www-authenticate"), Some("Basic realm=\"datapulse\", charset=\"UTF-8\""));
            assert_eq!(got.header("x-frame-options"), Some("deny"));
        }
        assert_eq!(count(&stage.counters.unauthorized), 6);
        assert_eq!(stage.ask("GET /metrics", &[&login("ann:first")]).await.status, 200);
        assert_eq!(stage.ask("GET /metrics", &[&login("ann:wrong")]).await.status, 401);

        folder.write("web.yml", &user("second"));
        assert_eq!(
            stage.ask("GET /metrics", &[&login("ann:first")]).await.status,
            401,
            "not even from memory"
        );
        assert_eq!(stage.ask("GET /metrics", &[&login("ann:second")]).await.status, 200);

        for broken in ["", "basic_auth_users: {ann: x}", "basic_auth_users: {", "{}"] {
            folder.write("web.yml", broken);
            assert_eq!(stage.ask("GET /metrics", &[]).await.status, 401, "{broken:?} must not open the door");
            assert_eq!(stage.ask("GET /metrics", &[&login("ann:second")]).await.status, 200, "{broken:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(stage.ask("GET /metrics", &[]).await.status, 401);
        folder.write("web.yml", &user("third"));
        assert_eq!(stage.ask("GET /metrics", &[&login("ann:third")]).await.status, 200);
    }

    #[tokio::test]
    async fn the_files_are_looked_after_at_most_once_in_a_while() {
        let folder = Folder::new("looks");
        let web = WebConfig::open(&folder.write("web.yml", &user("first"))).unwrap();
        let first = web.current().await;
        folder.write("web.yml", &user("second"));
        assert_eq!(web.current().await.users, first.users);
        let web = web.looking_every(Duration::ZERO);
        let second = web.current().await;
        assert_ne!(second.users, first.users);
        assert!(Arc::ptr_eq(&second, &web.current().await), "an unchanged file is not read again");
    }
}
