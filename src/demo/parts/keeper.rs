//! A program under a small shell script that ends it when this process ends, however that happens.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::{Error, Result, wait_for};

/// Parent-death signals do not work in every sandbox; the end of a pipe does.
const SCRIPT: &str = include_str!("../keeper.sh");
/// What the keeper itself may take beyond the grace it gives to its program.
const KEEPER_LIMIT: Duration = Duration::from_secs(5);
/// Processes that are being forked while their parent is stopped are met in the next round.
const FREEZE_ROUNDS: usize = 3;

/// The signals that parts are steered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM
    Term,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGHUP
    Hup,
    /// SIGKILL
    Kill,
    /// SIGSTOP
    Stop,
    /// SIGCONT
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// How a program is asked to stop, and how long until it is killed (whole seconds).
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Goes to the program itself, not to its children.
    pub signal: Signal,
    /// From the signal to SIGKILL for the program and its children.
    pub grace: Duration,
}

/// A running program. Dropping it stops the program and everything that it started.
#[derive(Debug)]
pub struct Keeper {
    script: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
    ending: Ending,
    log: PathBuf,
}

impl Keeper {
    /// Starts `command`; of it program, arguments, environment and directory are used. Its output is appended to `log`.
    pub fn start(command: &Command, ending: Ending, log: &Path) -> Result<Self> {
        let what = || format!("start {}", command.get_program().display());
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "keeper", ending.signal.name()]);
        script.arg(ending.grace.as_secs().to_string()).arg(log);
        append_command(&mut script, command);
        if let Some(directory) = command.get_current_dir() {
            script.current_dir(directory);
        }
        // A group of its own: Ctrl-C is for us, we then stop the parts in order.
        script.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().map_err(Error::io(what()))?;
        let pipe = script.stdin.take();
        let mut line = String::new();
        if let Some(output) = script.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(Error::io(what()))?;
        }
        let Ok(pid) = line.trim().parse() else {
            return Err(Error::refused(what(), format!("its keeper did not name a process id: {line:?}")));
        };
        Ok(Self { script, pipe, pid, ending, log: log.to_owned() })
    }

    /// Process id of the program itself. It stays ours until `stop`, also when the program has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where the program's output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether the program has not ended yet; a frozen one is running.
    pub fn is_running(&self) -> bool {
        Process::read(self.pid).is_some_and(|process| !process.ended)
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(signal, &[self.pid])
    }

    /// Stops the program and all its children in their tracks (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) -> Result<()> {
        let mut stopped = Vec::new();
        for _ in 0..FREEZE_ROUNDS {
            let tree = tree(self.pid);
            if tree == stopped {
                break;
            }
            send(Signal::Stop, &tree)?;
            stopped = tree;
        }
        Ok(())
    }

    /// Ends `freeze`.
    pub fn thaw(&self) -> Result<()> {
        send(Signal::Cont, &tree(self.pid))
    }

    /// Kills the program and all its children with SIGKILL, as a power cut would end them.
    pub fn kill9(&mut self) -> Result<()> {
        send(Signal::Kill, &tree(self.pid))?;
        self.stop();
        Ok(())
    }

    /// Waits until the program has ended by itself; false when `limit` is over.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        Ok(wait_for(limit, || Ok((!self.is_running()).then_some(())))?.is_some())
    }

    /// Ends the program as `Ending` says and waits for it. Nothing happens when it has been stopped before.
    pub fn stop(&mut self) {
        if self.pipe.take().is_none() {
            return;
        }
        let limit = self.ending.grace + KEEPER_LIMIT;
        let gone = wait_for(limit, || self.script.try_wait().map_err(Error::io("wait for the keeper")));
        if !matches!(gone, Ok(Some(_))) {
            tracing::warn!(pid = self.pid, log = %self.log.display(), "a part of the demo did not stop in time");
            if let Err(error) = self.script.kill() {
                tracing::warn!(%error, "could not kill its keeper");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Appends a command to the arguments of one that will run it.
pub(super) fn append_command(runner: &mut Command, command: &Command) {
    runner.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => runner.env(name, value),
            None => runner.env_remove(name),
        };
    }
}

/// Sends `signal` to each process that is still there.
pub(super) fn send(signal: Signal, pids: &[u32]) -> Result<()> {
    // The shell's own kill: the program of that name is not part of every small system.
    let mut kill = Command::new("sh");
    kill.args(["-c", "signal=$1; shift; for pid; do kill -s $signal $pid; done", "kill", signal.name()]);
    kill.args(pids.iter().map(|pid| OsString::from(pid.to_string())));
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    kill.status().map_err(Error::io(format!("send SIG{}", signal.name())))?;
    Ok(())
}

/// What `/proc/<pid>/stat` says (`man 5 proc_pid_stat`).
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// Ended, but not yet waited for by its parent.
    pub(super) ended: bool,
    /// Clock ticks from boot to its start; with the id it names one process for good.
    pub(super) born: u64,
}

impl Process {
    pub(super) fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold spaces and brackets itself.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ended = matches!(*fields.first()?, "Z" | "X");
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, ended, born: fields.get(19)?.parse().ok()? })
    }

    /// Every process that can be seen.
    pub(super) fn all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter_map(Self::read).collect()
    }
}

/// The process and all its descendants, parents first.
fn tree(pid: u32) -> Vec<u32> {
    let all = Process::all();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(all.iter().filter(|process| process.parent == parent && !process.ended).map(|p| p.pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Stage, log_tail};
    use super::*;

    const ENDING: Ending = Ending { signal: Signal::Term, grace: Duration::from_secs(1) };
    const LIMIT: Duration = Duration::from_secs(10);

    fn stage() -> Stage {
        Stage::new(&std::env::temp_dir(), "datapulse-keeper").unwrap()
    }

    fn shell(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    fn alive(pid: u32) -> bool {
        Process::read(pid).is_some_and(|process| !process.ended)
    }

    /// The process ids that a program has written to its log, once there are `count`.
    fn logged(log: &Path, count: usize) -> Vec<u32> {
        let read = || {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let ids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            Ok((ids.len() == count).then_some(ids))
        };
        wait_for(LIMIT, read).unwrap().unwrap_or_else(|| panic!("{}", log_tail(log)))
    }

    fn gone(pids: &[u32]) -> bool {
        wait_for(LIMIT, || Ok((!pids.iter().any(|&pid| alive(pid))).then_some(()))).unwrap().is_some()
    }

    #[test]
    fn stopping_ends_the_program_and_its_grandchildren_also_when_they_are_frozen_or_deaf() {
        let stage = stage();
        for (name, text) in [
            ("plain", "sleep 900 & echo $!; echo $$; wait"),
            ("deaf", "trap '' TERM; sleep 900 & echo $!; echo $$; wait"),
        ] {
            for frozen in [false, true] {
                let log = stage.path().join(format!("{name}-{frozen}"));
                let mut keeper = Keeper::start(&shell(text), ENDING, &log).unwrap();
                let pids = logged(&log, 2);
                assert_eq!(pids[1], keeper.pid());
                if frozen {
                    keeper.freeze().unwrap();
                }
                assert!(keeper.is_running());
                keeper.stop();
                assert!(!keeper.is_running());
                assert!(gone(&pids), "{name}, frozen: {frozen}");
            }
        }
    }

    #[test]
    fn sigkill_of_the_process_that_holds_the_pipe_leaves_nothing_behind() {
        let stage = stage();
        let log = stage.path().join("log");
        // `sleep` stands for us: it alone holds the end of the pipe that the keeper listens to.
        let mut pipeline = shell(
            "sleep 900 | sh -c \"$1\" keeper TERM 1 \"$2\" sh -c 'sleep 900 & echo $!; echo $$; wait' >&2 & echo $!; wait",
        );
        pipeline
            .args(["outer", SCRIPT])
            .arg(&log)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut outer = pipeline.spawn().unwrap();
        let pids = logged(&log, 2);
        let holder = Process::all().into_iter().find(|process| {
            let words = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            process.parent == outer.id() && words == b"sleep\0900\0"
        });
        assert!(pids.iter().all(|&pid| alive(pid)));
        send(Signal::Kill, &[holder.unwrap().pid]).unwrap();
        assert!(gone(&pids));
        outer.wait().unwrap();
    }

    #[test]
    fn a_frozen_program_stands_still_until_it_is_thawed() {
        let stage = stage();
        let log = stage.path().join("log");
        let keeper = Keeper::start(&shell("while :; do date; sleep 0.01; done"), ENDING, &log).unwrap();
        let size = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let grows =
            |from: u64| wait_for(Duration::from_millis(300), || Ok((size() > from).then_some(()))).unwrap();
        assert!(grows(0).is_some());
        keeper.freeze().unwrap();
        let still = size();
        assert!(grows(still).is_none());
        keeper.thaw().unwrap();
        assert!(grows(still).is_some());
    }

    #[test]
    fn a_program_that_ends_by_itself_is_seen() {
        let stage = stage();
        let keeper = Keeper::start(&shell("echo bye"), ENDING, &stage.path().join("log")).unwrap();
        assert!(keeper.wait(LIMIT).unwrap());
        assert!(log_tail(keeper.log()).ends_with("\nbye"));
    }
}
