//! The programs of PostgreSQL, and the user that may run its server.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// Where Debian puts them, in a folder for each version; they are not in `PATH` there.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The user that Debian's package makes for the server.
const USER: &str = "postgres";

/// One of the programs: from the folder `POSTGRES_BIN` if it is set, else of Debian's newest version,
/// else the first in `PATH`.
pub fn binary(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = match env::var_os("POSTGRES_BIN") {
        Some(folder) => vec![folder.into()],
        None => installed(),
    };
    if folders.is_empty() {
        let path = env::var_os("PATH").unwrap_or_default();
        folders.extend(env::split_paths(&path));
    }
    let mut files = folders.iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file()).expect(
        "these tests need the server of PostgreSQL: `scripts/install.sh postgresql`, or \
         `apt-get install postgresql`, or set POSTGRES_BIN to the folder of its programs",
    )
}

/// Debian's folders, the newest version first.
fn installed() -> Vec<PathBuf> {
    let folders = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = folders
        .filter_map(|folder| {
            let version = folder.file_name().to_str()?.parse().ok()?;
            let bin = folder.path().join("bin");
            bin.join("postgres").is_file().then_some((version, bin))
        })
        .collect();
    folders.sort_unstable_by(|one, other| other.cmp(one));
    folders.into_iter().map(|(_, bin)| bin).collect()
}

/// A command that sees nothing of the environment, where `PG...` would lead it elsewhere.
pub fn client(program: impl AsRef<OsStr>) -> Command {
    bare(Command::new(program))
}

/// The same as the user of the server: PostgreSQL refuses to run as root.
pub fn server(program: impl AsRef<OsStr>) -> Command {
    let Some((user, group)) = owner() else {
        return client(program);
    };
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .arg("--clear-groups")
        .arg(program);
    bare(command)
}

fn bare(mut command: Command) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        // The user of the server may not be allowed to see the folder of the test.
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| unreachable!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    text(&output.stdout)
}

/// Gives a file to the user of the server, where that is another.
pub fn give(file: &Path) {
    if let Some((user, group)) = owner() {
        chown(file, Some(user), Some(group)).expect("root may give files away");
    }
}

/// The numbers of the user and group of the server, where the test runs as root.
fn owner() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a system has users");
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        (name == USER).then_some((user, group))
    });
    Some(found.expect("PostgreSQL refuses to run as root, and there is no user postgres"))
}
