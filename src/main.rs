//! Arguments, environment and exit codes.

use clap::Parser;
use datapulse::cli::{self, Arguments, Command, FAILED, LogFormat, LogLevel, USAGE};
use datapulse::config::secret::Environment;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help and version as "errors" too; those are what was asked for.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        None => serve(arguments.serve),
        Some(Command::Serve(flags)) => serve(*flags),
        Some(Command::Validate(file)) => cli::validate::run(&file, &environment()),
        Some(Command::Doctor(file)) => with_log(|| cli::doctor::run(&file, environment())),
        Some(Command::Once(flags)) => with_log(|| cli::once::run(&flags, environment(), now())),
        Some(Command::Digest(flags)) => cli::digest::run(&flags),
        Some(Command::Init(flags)) => cli::init::run(*flags),
        Some(Command::Catalogue(flags)) => cli::catalogue::run(flags.output),
        Some(Command::Demo(flags)) => with_log(|| cli::demo::run(flags, environment(), now())),
        Some(Command::Healthy { listen }) => cli::healthy::run(&listen),
        Some(Command::Completions { shell }) => cli::completions(shell),
        Some(Command::Schema) => cli::schema(),
    }
}

fn serve(flags: cli::Serve) -> ExitCode {
    let (level, format) = (flags.log_level, flags.log_format);
    logged(level, format, || cli::serve::run(flags, environment(), now()))
}

/// Runs a command whose output is on standard output; only what goes wrong is logged.
fn with_log<F: Future<Output = ExitCode>>(run: impl FnOnce() -> F) -> ExitCode {
    logged(LogLevel::Warn, LogFormat::Text, run)
}

fn logged<F: Future<Output = ExitCode>>(
    level: LogLevel,
    format: LogFormat,
    run: impl FnOnce() -> F,
) -> ExitCode {
    let log = match cli::log::start(level, format) {
        Ok(log) => log,
        Err(error) => return could_not_start(&error),
    };
    let code = block_on(run());
    log.finish();
    code
}

/// A name look-up that hangs holds a thread, one for each name: a hundred dead names must leave room for what else blocks. Threads
/// are made when they are needed and end when they have nothing to do.
const MOST_BLOCKING: usize = 512;

/// One thread for everything that waits; what computes or blocks has threads of its own.
fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_BLOCKING)
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            // A name look-up or a file read that hangs must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => could_not_start(&error),
    }
}

fn could_not_start(error: &std::io::Error) -> ExitCode {
    drop(std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("datapulse: could not start: {error}\n"),
    ));
    ExitCode::from(FAILED)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

#[expect(clippy::disallowed_methods, reason = "the start of the process: counters begin here")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
