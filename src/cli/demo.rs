//! Placeholder being written.
use super::Demo;
use crate::config::secret::Environment;
use std::process::ExitCode;
use std::time::SystemTime;
pub async fn run(_: Demo, _: Environment, _: SystemTime) -> ExitCode {
    ExitCode::from(1)
}
