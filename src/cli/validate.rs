//! `datapulse validate`: every fault of a configuration at once, without connecting to anything.

use super::{ConfigFile, USAGE, print};
use crate::config::{self, Plan};
use std::io::Write;
use std::process::ExitCode;

/// Checks the configuration.
pub fn run(file: &ConfigFile) -> ExitCode {
    match config::load(&file.config_file) {
        Ok(plan) => print(&format!("{} is valid: {}\n", file.config_file.display(), summary(&plan))),
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

/// `2 checks on 3 targets`.
fn summary(plan: &Plan) -> String {
    let checks: std::collections::BTreeSet<&str> =
        plan.assignments.iter().map(|one| one.key.check.as_str()).collect();
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    format!("{} on {}", plural(checks.len(), "check"), plural(plan.assignments.len(), "target"))
}
