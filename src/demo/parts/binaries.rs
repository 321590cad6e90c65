//! Finds the programs of a PostgreSQL version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, Result};

/// Debian's and Ubuntu's place: a directory for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The versions that this project is tested with, newest first.
const MAJORS: [u32; 6] = [18, 17, 16, 15, 14, 13];

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The first part of the version.
    pub major: u32,
    /// The whole version, such as `17.10`.
    pub version: String,
    /// Where `initdb` and `postgres` are; empty when they are on PATH.
    pub(super) bin: PathBuf,
    /// The client; it may be of another version, since the small packages hold none.
    pub(super) psql: PathBuf,
}

/// Finds version `major`, or the newest one. Looks in `<place>/<major>/bin` for each of `places` (`make setup` fills
/// `target/postgres`), then where Debian's packages are, then on PATH.
pub fn find_postgres(major: Option<u32>, places: &[&Path]) -> Result<Binaries> {
    let wanted: &[u32] = major.as_ref().map_or(&MAJORS, std::slice::from_ref);
    let places: Vec<&Path> = places.iter().copied().chain([Path::new(DEBIAN)]).collect();
    let psql = psql(&places)?;
    let homes = wanted.iter().flat_map(|major| places.iter().map(move |place| place.join(major.to_string())));
    for bin in homes.map(|home| home.join("bin")).chain([PathBuf::new()]) {
        let Some(version) = version(&bin.join("postgres")) else { continue };
        let Some(found) = version.split('.').next().and_then(|major| major.parse().ok()) else { continue };
        if wanted.contains(&found) && runs(&bin.join("initdb")) {
            return Ok(Binaries { major: found, version, bin, psql });
        }
    }
    let tool = major.map_or("PostgreSQL".to_owned(), |major| format!("PostgreSQL {major}"));
    Err(Error::Missing { tool, searched: searched(&places) })
}

impl Binaries {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// Debian's `/usr/bin/psql` is a Perl program that looks for the real one on each call; so take the real one first.
fn psql(places: &[&Path]) -> Result<PathBuf> {
    let homes = MAJORS.iter().flat_map(|major| places.iter().map(move |place| place.join(major.to_string())));
    let mut candidates = homes.map(|home| home.join("bin/psql")).chain([PathBuf::from("psql")]);
    let missing = || Error::Missing { tool: "psql".to_owned(), searched: searched(places) };
    candidates.find(|psql| runs(psql)).ok_or_else(missing)
}

fn searched(places: &[&Path]) -> String {
    let places = places.iter().map(|place| format!("{}/*/bin", place.display()));
    places.chain(["PATH".to_owned()]).collect::<Vec<_>>().join(", ")
}

fn runs(program: &Path) -> bool {
    version(program).is_some()
}

/// The version in `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`; `None` when the program cannot be run.
fn version(program: &Path) -> Option<String> {
    // A path that is not there need not cost a process.
    if program.is_absolute() && !program.exists() {
        return None;
    }
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.split(" (PostgreSQL) ").nth(1)?.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_names_the_command_that_installs_it() {
        let error = find_postgres(Some(9), &[Path::new("/nowhere")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "PostgreSQL 9 is not installed (looked in /nowhere/*/bin, /usr/lib/postgresql/*/bin, PATH); install it with `make setup`"
        );
    }
}
