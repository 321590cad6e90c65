//! The account that PostgreSQL runs under: it refuses to run as root.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Error, Result};

/// In the order of preference; the package of PostgreSQL brings the first, every system has the second.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Who runs PostgreSQL: we ourselves, or, when we are root, somebody who is not.
#[derive(Clone, Debug)]
pub(super) struct Account(Option<Other>);

#[derive(Clone, Debug)]
struct Other {
    name: &'static str,
    user: u32,
    group: u32,
    /// A tree below a closed directory such as /root is still readable with this capability.
    override_modes: bool,
}

impl Account {
    /// Chooses an account that can reach `directory` and run `program`; `directory` must exist.
    pub(super) fn choose(directory: &Path, program: &Path) -> Result<Self> {
        let us = std::fs::metadata("/proc/self").map_err(Error::io("read /proc/self"))?;
        if us.uid() != 0 {
            return Ok(Self(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(Error::io("read /etc/passwd"))?;
        let Some((name, user, group)) = CANDIDATES.into_iter().find_map(|name| entry(&users, name)) else {
            let why = "as root it needs the account postgres or nobody, and /etc/passwd has neither";
            return Err(Error::refused("run PostgreSQL", why));
        };
        for override_modes in [false, true] {
            let account = Self(Some(Other { name, user, group, override_modes }));
            let mut probe = account.command("sh");
            probe.args(["-c", "cd \"$1\" && exec \"$2\" --version", "probe"]).arg(directory).arg(program);
            probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if probe.status().map_err(Error::io("run setpriv (package util-linux)"))?.success() {
                return Ok(account);
            }
        }
        let why = format!("account {name} cannot use {} and {}", directory.display(), program.display());
        Err(Error::refused("run PostgreSQL", why))
    }

    /// A command that runs `program` under this account.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let Some(other) = &self.0 else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", other.user)).arg(format!("--regid={}", other.group));
        command.arg("--clear-groups");
        if other.override_modes {
            // Without the bit access(2), which initdb asks, leaves capabilities out of account.
            command.args(["--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_override"]);
            command.arg("--ambient-caps=-all,+dac_override");
        }
        command.arg("--").arg(program);
        command
    }

    /// Hands a file or directory to this account.
    pub(super) fn give(&self, path: &Path) -> Result<()> {
        let Some(other) = &self.0 else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(other.user), Some(other.group)).map_err(Error::io(format!(
            "give {} to account {}",
            path.display(),
            other.name
        )))
    }
}

/// The user and group id of `name` in the text of /etc/passwd.
fn entry(users: &str, name: &'static str) -> Option<(&'static str, u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        found.then_some((name, user, group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:9:9::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        assert_eq!(entry(users, "postgres"), Some(("postgres", 101, 104)));
        assert_eq!(entry(users, "nobody"), None);
    }
}
