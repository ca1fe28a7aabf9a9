//! Starting the binary in a folder of its own, and waiting for what it says.

use crate::report;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; what takes longer hangs. Counted in ticks, so that a machine
/// that stands still for a while does not use it up.
const DEADLINE_TICKS: u32 = 60;
const TICK: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 20_000;

/// Held by those tests whose verdict depends on when things happen.
static QUIET: Mutex<()> = Mutex::new(());

pub fn quiet() -> MutexGuard<'static, ()> {
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of the test's own, on the file system of the build.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `engine` with these words, in this folder, with no settings in its environment.
    pub fn engine(&self, words: &str) -> Command {
        self.engine_with(words.split_whitespace())
    }

    pub fn engine_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(args).current_dir(self.folder());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINE_")) {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, words: &str) -> Ended {
        finish(&mut self.engine(words))
    }

    /// Runs to `report.json`, which must be consistent, agree with the exit code and come with exit 0.
    pub fn report(&self, words: &str) -> Value {
        let ended = self.run(&format!("{words} --report report.json"));
        assert_eq!(ended.code(), 0, "engine {words}: {ended}");
        self.report_of(&ended, "report.json")
    }

    /// The report that a run left, checked.
    pub fn report_of(&self, ended: &Ended, name: &str) -> Value {
        let report: Value = serde_json::from_slice(&self.read(name)).unwrap();
        report::check(&report);
        assert_eq!(report["exit_code"], ended.code(), "{ended}");
        report
    }

    /// What `verify --json` finds, and its exit code.
    pub fn verify(&self, words: &str) -> (Value, i32) {
        let ended = self.run(&format!("verify --json {words}"));
        let findings =
            serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("verify {words}: {error}\n{ended}"));
        (findings, ended.code())
    }

    /// Verifies, expects nothing damaged, and returns what was found.
    #[track_caller]
    pub fn verify_clean(&self, words: &str) -> Value {
        let (findings, code) = self.verify(words);
        assert_eq!((code, &findings["clean"]), (0, &Value::Bool(true)), "verify {words}: {findings:#}");
        findings
    }
}

/// How a process ended and what it said.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// 128 + the signal's number where one ended it.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is missing: {self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]);
        write!(f, "{}\nstderr:\n{}\nstdout:\n{stdout}", self.status, self.stderr)
    }
}

/// Runs a command to its end; kills it at the deadline, which the assertions on its exit code then show.
pub fn finish(command: &mut Command) -> Ended {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _watch = Watch::over(child.id());
    let output = child.wait_with_output().unwrap();
    Ended { status: output.status, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Runs a tool with text on its stdin.
pub fn feed(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _watch = Watch::over(child.id());
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, input));
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { status: output.status, stdout: output.stdout, stderr }
    })
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}: {status}");
}

/// Kills a process that is still there at the deadline.
pub struct Watch {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn over(pid: u32) -> Self {
        let (over, ended) = channel();
        let thread = std::thread::spawn(move || {
            let still = || ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout);
            if (0..DEADLINE_TICKS).all(|_| still()) {
                let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
            }
        });
        Self { over: Some(over), thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A process that goes on while the test looks at it. Its stderr arrives line by line.
pub struct Live {
    pub child: Child,
    lines: Receiver<String>,
    seen: String,
    _watch: Watch,
}

impl Live {
    /// Stdout goes nowhere unless the command says otherwise before.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let watch = Watch::over(child.id());
        Self { child, lines, seen: String::new(), _watch: watch }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that holds these words.
    #[track_caller]
    pub fn line(&mut self, words: &str) -> String {
        // It comes to an end: the watch kills the process at the deadline.
        while let Ok(line) = self.lines.recv() {
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(words) {
                return line;
            }
        }
        panic!("no line with '{words}':\n{}", self.seen);
    }

    /// The next log line of this event.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let line = self.line(&format!("\"event\":\"{name}\""));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Everything that was read so far, the lines that wait included.
    pub fn seen(&mut self) -> &str {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        &self.seen
    }

    /// Again and again until it has ended: signals that come in a moment are one wish.
    pub fn insist(&mut self, name: &str) {
        poll("the end of it", || {
            self.signal(name);
            self.child.try_wait().unwrap()
        });
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end.
    pub fn ended(mut self) -> Ended {
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout).unwrap();
        }
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv() {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        Ended { status, stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

/// A test that fails leaves nothing running.
impl Drop for Live {
    fn drop(&mut self) {
        // After its end there is nothing to kill and nothing to wait for.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Looks again and again until something is so. What is looked at changes without telling anybody.
#[track_caller]
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (_never, clock) = channel::<()>();
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        let _ = clock.recv_timeout(LOOK);
    }
    panic!("{what}: not after {LOOKS} looks");
}

/// Repository files.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
