//! `datapulse validate`: every fault of a configuration at once, without connecting to anything.

use super::{ConfigFile, USAGE, print};
use crate::config::secret::Environment;
use crate::config::{self, Outline};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

/// Checks the configuration.
pub fn run(file: &ConfigFile, environment: &Environment) -> ExitCode {
    match config::check(&file.config_file, environment) {
        Ok(outline) => print(&format!("{} is valid: {}\n", file.config_file.display(), summary(&outline))),
        Err(faults) => {
            let count = faults.len();
            let noun = if count == 1 { "fault" } else { "faults" };
            let text = format!("{faults}\n{count} {noun}\n");
            // Standard error may be closed; the exit status says it all the same.
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
            ExitCode::from(USAGE)
        }
    }
}

/// `2 checks on 3 targets`; a check on an AWS API has no target, and those of `discover` are not known yet.
fn summary(Outline { plan, checks, unknown }: &Outline) -> String {
    let targets: BTreeSet<&str> =
        plan.assignments.iter().filter_map(|one| Some(one.server.as_ref()?.name.as_str())).collect();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut text = plural(*checks, "check");
    if !targets.is_empty() {
        text += &format!(" on {}", plural(targets.len(), "target"));
    }
    if !plan.templates.is_empty() {
        text += &format!(", {} on targets that AWS names", plan.templates.len());
    }
    if !unknown.is_empty() {
        text += &format!("; not looked at, because only AWS knows it: {}", unknown.join(", "));
    }
    text
}
