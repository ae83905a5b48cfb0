//! A shell in an empty folder, for commands as a reader of a document types them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::built::{self, root};
use super::redis::{end, free_port};

/// The longest command is a demo of some seconds; the rest is for a busy machine.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Pause between two looks at what a command in the background has printed.
const POLL: Duration = Duration::from_millis(10);

/// Every port that the documents name. Tests may use none of them: each gets one that is free.
const PORTS: [&str; 6] = ["5432", "6379", "6397", "8081", "8082", "8083"];

/// What else is typed otherwise than printed.
const SUBSTITUTIONS: [(&str, &str); 3] = [
    // The port that Redis has where none is named, so that it is replaced like the others.
    ("redis://127.0.0.1 ", "redis://127.0.0.1:6379 "),
    // Shorter, the same otherwise.
    ("demo --seconds 20", "demo --seconds 4"),
    ("cli -- demo", "cli -- demo --seconds 4"),
];

/// Replaces cargo: what these commands build was built with this test.
const CARGO: &str = r#"#!/bin/sh
set -eu
case "$*" in
'run --release --features cli -- '*)
    shift 5
    exec "$PROGRAM" "$@" ;;
'install --path . --features cli')
    ln -s "$PROGRAM" bin/unstale ;;
'build --release --example accounts')
    mkdir -p target/release
    ln -s "$EXAMPLES" target/release/examples ;;
'build --release --features relay --example accounts --bin unstale')
    mkdir -p target/release
    ln -s "$EXAMPLES" target/release/examples
    ln -s "$PROGRAM" target/release/unstale ;;
# These change a project of the test's own, as the real cargo does; without a network.
'new shop')
    exec "$CARGO" new --quiet --vcs none shop ;;
'add unstale --features derive')
    exec "$CARGO" add --quiet --offline --path "$ROOT" --features derive ;;
'add tokio --features macros,rt-multi-thread')
    exec "$CARGO" add --quiet --offline tokio --features macros,rt-multi-thread ;;
*)
    echo "the tests do not know: cargo $*" >&2
    exit 101 ;;
esac
"#;

/// A running shell. It and everything it has started are killed when it is dropped.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    input: ChildStdin,
    /// Lines of its standard output, where nothing but [`run`](Self::run) writes.
    ended: Receiver<String>,
    substitutions: Vec<(String, String)>,
    commands: usize,
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Shell {
    /// Starts a shell in a folder that has the `examples`, and where a document names a port, another
    /// is meant: one of these, else a free one.
    pub fn start(ports: &[(&str, u16)]) -> Self {
        let dir = TempDir::with_prefix("shell-").expect("a temporary directory");
        symlink(root().join("examples"), dir.path().join("examples")).expect("an empty folder");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("an empty folder");
        let cargo = bin.join("cargo");
        fs::write(&cargo, CARGO).expect("an empty folder");
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        if let Some(redis) = env::var_os("REDIS_SERVER_BIN") {
            symlink(redis, bin.join("redis-server")).expect("an empty folder");
        }
        let mut command = Command::new("bash");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("UNSTALE_") {
                command.env_remove(name);
            }
        }
        // A group of its own, so that what it leaves in the background can be ended with it.
        let mut child = command
            .env("PATH", path_with(&bin))
            .env(
                "CARGO",
                env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            )
            .env("ROOT", root())
            .env("PROGRAM", built::program())
            .env("EXAMPLES", built::examples())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need bash");
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            input,
            ended,
            substitutions: substitutions(ports),
            commands: 0,
            dir,
        }
    }

    /// Types a line and waits until it has ended, what it starts in the background excepted.
    #[expect(clippy::panic, reason = "a fixture fails its test")]
    pub fn run(&mut self, line: &str) -> Ran {
        let typed = self.typed(line);
        self.commands += 1;
        let number = self.commands;
        let dir = self.dir.path().display();
        // In braces, not in a subshell: what it exports is for the next line as well, and so is its folder.
        let script = format!(
            "{{ {typed}\n}} >{dir}/out.{number} 2>{dir}/err.{number} </dev/null; echo \"end {number} $?\"\n"
        );
        self.input
            .write_all(script.as_bytes())
            .expect("the shell reads");
        let begins = format!("end {number} ");
        let Ok(end) = self.ended.recv_timeout(COMMAND_TIMEOUT) else {
            let so_far = self.printed(number);
            panic!("`{typed}` does not end, or ends the shell: {so_far:?}");
        };
        let status = end.strip_prefix(&begins);
        let status = status.and_then(|status| status.parse().ok());
        let [stdout, stderr] = self.printed(number);
        Ran {
            status: status.unwrap_or_else(|| panic!("`{typed}`: {end}")),
            stdout,
            stderr,
        }
    }

    /// Types a line that must succeed; what it printed to standard output.
    pub fn succeed(&mut self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.status, 0, "`{line}`: {ran:?}");
        ran.stdout
    }

    /// The number of the last line typed, for [`until`](Self::until).
    pub fn last(&self) -> usize {
        self.commands
    }

    /// Waits until a line has printed what is wanted, in the background; what it printed to both
    /// streams, standard error first.
    pub fn until(&self, number: usize, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        loop {
            let [stdout, stderr] = self.printed(number);
            let text = stderr + &stdout;
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "only this was printed: {text}");
            thread::sleep(POLL);
        }
    }

    /// The line with this test's ports.
    fn typed(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (printed, typed) in &self.substitutions {
            line = line.replace(printed, typed);
        }
        line
    }

    /// What a line has printed to standard output and standard error.
    fn printed(&self, number: usize) -> [String; 2] {
        ["out", "err"].map(|stream| {
            let file = self.dir.path().join(format!("{stream}.{number}"));
            String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
        })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell has not been waited for, so that its number is still its own, and its group's.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        end(&mut self.child);
    }
}

fn substitutions(ports: &[(&str, u16)]) -> Vec<(String, String)> {
    let mut all: Vec<_> = SUBSTITUTIONS
        .iter()
        .map(|(printed, typed)| ((*printed).to_owned(), (*typed).to_owned()))
        .collect();
    let mut taken: BTreeSet<u16> = ports.iter().map(|(_, port)| *port).collect();
    for printed in PORTS {
        let given = ports.iter().find(|(port, _)| *port == printed);
        let port = given.map_or_else(|| another_port(&mut taken), |(_, port)| *port);
        all.push((printed.to_owned(), port.to_string()));
    }
    all
}

/// A free port that is none of these, and one of them from now on.
fn another_port(taken: &mut BTreeSet<u16>) -> u16 {
    loop {
        let port = free_port();
        // Not one that a later substitution would replace in turn.
        let digits = port.to_string();
        if !PORTS.iter().any(|printed| digits.contains(printed)) && taken.insert(port) {
            return port;
        }
    }
}

fn path_with(first: &Path) -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(folders).expect("no folder of PATH has a colon in it")
}
