//! The Debian package: what it holds, that its service starts as it is, and that its unit leaves the service no more than it needs.

use crate::program::{Program, datapulse, finish};
use crate::stage::{root, stage};
use clap::CommandFactory;
use datapulse::cli::Arguments;
use datapulse::demo::parts::{Signal, Stage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What an attacker would find in the unit, by the count of systemd-analyze: 0 is nothing, 10 everything.
const MOST_EXPOSED: f64 = 2.0;

/// A package of the program under test, and its files.
struct Package {
    file: PathBuf,
    files: PathBuf,
    stage: Stage,
}

/// Made once for all tests here.
fn package() -> &'static Package {
    static MADE: OnceLock<Package> = OnceLock::new();
    MADE.get_or_init(|| {
        let stage = stage("package");
        let file = make(&stage.path().join("made"));
        let files = stage.path().join("files");
        said(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&files));
        Package { file, files, stage }
    })
}

/// Runs the script; gives the path that it prints.
fn make(folder: &Path) -> PathBuf {
    let mut command = Command::new(root().join("scripts/package.sh"));
    command.arg(env!("CARGO_BIN_EXE_datapulse")).arg(folder);
    // Packing a program with its symbols well would take longer than all the rest.
    command.env("DPKG_DEB_COMPRESSOR_TYPE", "none").env("SOURCE_DATE_EPOCH", "1700000000");
    PathBuf::from(said(&mut command).trim())
}

fn said(command: &mut Command) -> String {
    let (status, out, err) = finish(command);
    assert_eq!(status, 0, "{command:?}: {out}{err}");
    out + &err
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn a_package_says_what_it_needs_and_holds_what_it_should() {
    let package = package();
    let field =
        |name: &str| said(Command::new("dpkg-deb").arg("-f").arg(&package.file).arg(name)).trim().to_owned();
    assert_eq!((field("Package").as_str(), field("Version").as_str()), ("datapulse", VERSION));
    let architecture = said(Command::new("dpkg").arg("--print-architecture"));
    assert_eq!(field("Architecture"), architecture.trim());
    let depends = field("Depends");
    assert!(depends.contains("libc6 (>= 2.") && depends.contains("adduser"), "{depends}");
    let name = format!("datapulse_{VERSION}_{}.deb", architecture.trim());
    assert!(package.file.ends_with(&name), "{}", package.file.display());

    let listed = said(Command::new("dpkg-deb").arg("--contents").arg(&package.file));
    let files: BTreeMap<String, String> = listed
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[1], "root/root", "{line}");
            (words[5].trim_start_matches('.').to_owned(), words[0].to_owned())
        })
        .collect();
    for (path, mode) in [
        ("/usr/bin/datapulse", "-rwxr-xr-x"),
        ("/lib/systemd/system/datapulse.service", "-rw-r--r--"),
        ("/etc/datapulse/datapulse.yml", "-rw-r--r--"),
        ("/etc/datapulse/environment", "-rw-r-----"),
        ("/usr/share/bash-completion/completions/datapulse", "-rw-r--r--"),
        ("/usr/share/zsh/vendor-completions/_datapulse", "-rw-r--r--"),
        ("/usr/share/fish/vendor_completions.d/datapulse.fish", "-rw-r--r--"),
        ("/usr/share/man/man1/datapulse.1.gz", "-rw-r--r--"),
        ("/usr/share/doc/datapulse/copyright", "-rw-r--r--"),
        ("/usr/share/doc/datapulse/changelog.gz", "-rw-r--r--"),
    ] {
        assert_eq!(files.get(path).map(String::as_str), Some(mode), "{path}");
    }
    // All rules and dashboards, but not their tests.
    for folder in ["alerts", "alerts/datadog", "dashboards"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().display().to_string();
            let wanted = [".yml", ".json"].iter().any(|ending| name.ends_with(ending));
            assert_eq!(
                files.contains_key(&format!("/usr/share/datapulse/{folder}/{name}")),
                wanted,
                "{folder}/{name}"
            );
        }
    }
    let conffiles = said(Command::new("dpkg-deb").arg("-I").arg(&package.file).arg("conffiles"));
    let in_etc: BTreeSet<_> = files
        .keys()
        .filter(|path| path.starts_with("/etc/") && !path.ends_with('/'))
        .map(String::as_str)
        .collect();
    assert_eq!(
        conffiles.lines().collect::<BTreeSet<_>>(),
        in_etc,
        "what is changed by hand outlives an upgrade"
    );
    for script in ["postinst", "prerm", "postrm"] {
        said(Command::new("sh").arg("-n").arg(root().join("packaging/debian").join(script)));
    }

    let again = make(&package.stage.path().join("again"));
    assert!(
        std::fs::read(again).unwrap() == std::fs::read(&package.file).unwrap(),
        "equal input gave other bytes"
    );
}

#[test]
fn the_packaged_service_is_valid_starts_and_says_what_to_do_next() {
    let package = package();
    let file = package.files.join("etc/datapulse/datapulse.yml");
    let program = package.files.join("usr/bin/datapulse");
    said(Command::new(&program).args(["validate", "--config.file"]).arg(&file));
    // With its example, it is still valid.
    let config = text(&file);
    let example: String = config
        .lines()
        .filter(|line| *line != "checks: []")
        .map(|line| line.strip_prefix("# ").filter(|_| is_key(line)).unwrap_or(line).to_owned() + "\n")
        .collect();
    let path = package.stage.path().join("example.yml");
    std::fs::write(&path, &example).unwrap();
    let valid = said(datapulse(["validate", "--config.file"]).arg(&path));
    assert!(valid.contains("is valid: 1 check on 1 target"), "{valid}{example}");

    // The directory of the state is the service's, so it has another name here.
    let data = package.stage.path().join("state").display().to_string();
    let service = Program::start("packaged", &config.replace("/var/lib/datapulse", &data), &[]);
    assert!(service.get("/").contains("No check is configured"), "{}", service.get("/"));
    let address = format!("127.0.0.1:{}", service.port);
    said(Command::new(&program).args(["healthy", "--web.listen-address", &address]));
    service.signal(Signal::Term);
    assert!(service.end().0.success());

    // The environment has comments only, each an assignment.
    for line in text(package.files.join("etc/datapulse/environment")).lines() {
        assert!(line.starts_with("# ") || line.starts_with('#') && line.contains('='), "{line}");
    }
}

/// A commented line of the example, not of its explanation.
fn is_key(line: &str) -> bool {
    ["# targets:", "#   orders:", "# checks:", "#   - pg_replication:"]
        .iter()
        .any(|key| line.starts_with(key))
}

#[test]
fn the_unit_is_sound_and_leaves_little_to_an_attacker() {
    let package = package();
    let unit = text(package.files.join("lib/systemd/system/datapulse.service"));
    // Where the package is installed the program is on systemd's path.
    let program = package.files.join("usr/bin/datapulse").display().to_string();
    let here = package.stage.path().join("datapulse.service");
    std::fs::write(&here, unit.replace("=datapulse ", &format!("={program} "))).unwrap();
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        said(command.args(arguments).arg("--man=no").arg(&here))
    };
    assert_eq!(analyze(&["verify"]), "");
    let exposed = analyze(&["security", "--offline=true", "--no-pager"]);
    let level = exposed.split("datapulse.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let level: f64 = level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{exposed}"));
    assert!(level < MOST_EXPOSED, "{level}\n{exposed}");
    for line in ["User=datapulse", "StateDirectory=datapulse", "RestartPreventExitStatus=64"] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
    assert!(unit.contains("--config.file /etc/datapulse/datapulse.yml"), "{unit}");
    assert!(unit.contains("EnvironmentFile=-/etc/datapulse/environment"), "{unit}");
}

#[test]
fn the_manual_page_knows_every_command() {
    let page = text(root().join("packaging/datapulse.1"));
    let part = page.split(".SH COMMANDS").nth(1).unwrap().split(".PP").next().unwrap();
    let told: BTreeSet<_> =
        part.lines().filter_map(|line| line.strip_prefix(".B ")).map(str::to_owned).collect();
    let command = Arguments::command();
    let known: BTreeSet<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    assert_eq!(told, known);
}
