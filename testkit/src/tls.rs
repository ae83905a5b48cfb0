//! Certificates for servers of this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::redis::{binary, free_port};

/// A CA (`ca.crt`), another that signed nothing (`other.crt`), and a certificate of the first for this
/// machine (`tls.crt`, `tls.key`).
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// For a test of TLS; `None` where `REDIS_SERVER_BIN` names a server that was built without it,
    /// after a line that `make servers` counts. The system's own is never skipped: it fails.
    pub fn for_server() -> Option<Self> {
        Self::of("IP:127.0.0.1,DNS:localhost")
    }

    /// The same, of a certificate for these names, as openssl writes them: `DNS:redis.example`.
    pub fn of(names: &str) -> Option<Self> {
        if env::var_os("REDIS_SERVER_BIN").is_some() && !speaks_tls() {
            eprintln!("skipped: this server was built without TLS");
            return None;
        }
        Some(Self::make(names))
    }

    /// The same, for servers other than Redis.
    pub fn make(names: &str) -> Self {
        let dir = TempDir::with_prefix("tls-").expect("a temporary directory");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        for ca in ["ca", "other"] {
            let subject = format!("-keyout {ca}.key -out {ca}.crt -subj /CN={ca}");
            openssl(dir.path(), &format!("req -x509 {key} {subject}"));
        }
        let names = format!("subjectAltName={names}");
        fs::write(dir.path().join("names"), names).expect("a file in it");
        let subject = "-keyout tls.key -out tls.csr -subj /CN=redis";
        openssl(dir.path(), &format!("req {key} {subject}"));
        let ca = "-CA ca.crt -CAkey ca.key -CAcreateserial";
        openssl(
            dir.path(),
            &format!("x509 -req -in tls.csr {ca} -out tls.crt -days 2 -extfile names"),
        );
        Self(dir)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What has a server speak TLS on this port as well. `clients` says whether it asks for
    /// certificates of theirs (`yes`, `no`).
    pub fn settings(&self, port: u16, clients: &str) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            ("tls-port", port.to_string()),
            ("tls-cert-file", file("tls.crt")),
            ("tls-key-file", file("tls.key")),
            ("tls-ca-cert-file", file("ca.crt")),
            ("tls-auth-clients", clients.to_owned()),
        ]
    }

    /// The same as arguments.
    pub fn arguments(&self, port: u16, clients: &str) -> Vec<String> {
        let settings = self.settings(port, clients).into_iter();
        settings
            .flat_map(|(name, value)| [format!("--{name}"), value])
            .collect()
    }
}

/// Returns whether the server was built with TLS: asked for it, it complains of a missing certificate.
pub fn speaks_tls() -> bool {
    let output = Command::new(binary())
        .args(["--port", "0", "--tls-port", &free_port().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("the server can be executed");
    String::from_utf8_lossy(&output.stdout).contains("tls-cert-file")
}

fn openssl(dir: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("these tests need openssl: `scripts/install.sh openssl`");
    assert!(status.success(), "openssl {arguments}");
}
