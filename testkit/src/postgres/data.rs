//! The folder of a server: what initdb makes, which takes a second, is made once and copied.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use tempfile::TempDir;

use super::programs::{binary, client, give, run, server};
use crate::built::kept;
use crate::tls::Certificates;

/// Small segments of the log, since every server gets one.
const INITDB: &str = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --wal-segsize=1 \
                      --no-sync --no-instructions";

/// Where Linux has files in memory.
const MEMORY: &str = "/dev/shm";

/// Free bytes that are plenty: a server takes 30 MB.
const PLENTY: u64 = 4 << 30;

/// What every server has unless its test says otherwise. A crash of processes loses nothing with
/// `fsync` off: what the kernel was given stays. Shared memory in files is gone with the folder.
const SETTINGS: [(&str, &str); 11] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("max_wal_senders", "32"),
    ("max_replication_slots", "32"),
    ("max_connections", "200"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "16MB"),
    ("dynamic_shared_memory_type", "mmap"),
    ("password_encryption", "scram-sha-256"),
    ("timezone", "UTC"),
];

/// An empty folder that belongs to the user of the server: in memory where there is plenty and `TMPDIR`
/// names no other place, since a server is a thousand files, which take some disks longer than a second.
pub fn folder() -> TempDir {
    let free = statvfs(MEMORY).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
    let folder = if free >= PLENTY && env::var_os("TMPDIR").is_none() {
        TempDir::with_prefix_in("postgres-", MEMORY)
    } else {
        TempDir::with_prefix("postgres-")
    };
    let folder = folder.expect("a temporary directory");
    give(folder.path());
    folder
}

/// A folder whose `data` is a new server's, with an identifier of its own.
pub fn create() -> TempDir {
    let folder = folder();
    let archive = File::open(template()).expect("the template was made");
    let unpack = server("tar")
        .arg("-C")
        .arg(folder.path())
        .arg("-xpf-")
        .stdin(archive)
        .output();
    let unpack = unpack.expect("these tests need tar");
    let errors = String::from_utf8_lossy(&unpack.stderr);
    assert!(unpack.status.success(), "tar: {errors}");
    identify(&folder.path().join("data"));
    folder
}

/// Gives the copy an identifier, as initdb does: servers of one identifier pass for one another.
fn identify(data: &Path) {
    let control = data.join("global/pg_control");
    let file = OpenOptions::new().write(true).open(control);
    let identifier = RandomState::new().hash_one(()) >> 1;
    file.and_then(|mut file| file.write_all(&identifier.to_ne_bytes()))
        .expect("the identifier comes first in this file");
    // Writes the file with its checksum, and a log that names the identifier.
    run(server(binary("pg_resetwal")).args(["-f", "-D"]).arg(data));
}

/// The archive of a folder `data`, made once and kept with what cargo builds.
fn template() -> PathBuf {
    let version = run(client(binary("postgres")).arg("--version"));
    let mut hasher = DefaultHasher::new();
    (version, INITDB).hash(&mut hasher);
    let kept = kept();
    let archive = kept.join(format!("postgres-{:016x}.tar", hasher.finish()));
    // Tests that need it at the same time make it once.
    let lock = File::create(kept.join("postgres.lock")).expect("cargo's folder can be written");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
    if !archive.exists() {
        let folder = folder();
        let mut initdb = server(binary("initdb"));
        initdb.arg("-D").arg(folder.path().join("data"));
        run(initdb.args(INITDB.split(' ')));
        let part = archive.with_extension("part");
        let mut tar = client("tar");
        tar.arg("-C").arg(folder.path()).arg("-cf").arg(&part);
        run(tar.arg("data"));
        fs::rename(part, &archive).expect("a file of ours");
    }
    archive
}

/// Adds settings to those of a folder; the last of a name counts.
pub fn configure(folder: &Path, settings: &[(&str, &str)]) {
    let mut lines = String::new();
    for (name, value) in settings {
        let value = value.replace('\'', "''");
        writeln!(lines, "{name} = '{value}'").expect("text takes text");
    }
    let file = OpenOptions::new()
        .append(true)
        .open(folder.join("data/postgresql.conf"));
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .expect("the settings can be written");
}

/// Writes the fixture's own settings and who may connect: the superuser by the socket, every
/// other role with a password, over TCP only by TLS if there are certificates.
pub fn secure(folder: &Path, tls: Option<&Certificates>) {
    configure(folder, &SETTINGS);
    let host = if tls.is_some() { "hostssl" } else { "host" };
    let rules = format!(
        "local all,replication postgres trust\n\
         local all,replication all scram-sha-256\n\
         {host} all,replication all 127.0.0.1/32 scram-sha-256\n"
    );
    let data = folder.join("data");
    fs::write(data.join("pg_hba.conf"), rules).expect("the rules can be written");
    let Some(tls) = tls else { return };
    for file in ["ca.crt", "tls.crt", "tls.key"] {
        let copy = data.join(file);
        fs::copy(tls.file(file), &copy).expect("the certificates are there");
        give(&copy);
    }
    let settings = [
        ("ssl", "on"),
        ("ssl_ca_file", "ca.crt"),
        ("ssl_cert_file", "tls.crt"),
        ("ssl_key_file", "tls.key"),
    ];
    configure(folder, &settings);
}

/// Removes the piece of shared memory by which a crashed server would have known that it still runs.
pub fn forget(folder: &Path) {
    let Ok(text) = fs::read_to_string(folder.join("data/postmaster.pid")) else {
        return;
    };
    // Its key and its number.
    let line = text.lines().nth(6).unwrap_or_default();
    if let Some(number) = line.split_whitespace().nth(1) {
        let _ = client("ipcrm").args(["-m", number]).output();
    }
}
