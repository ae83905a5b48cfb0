//! What a connection needs to know, from the URL or elsewhere.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(in crate::relay::postgres) const DEFAULT_PORT: u16 = 5432;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(in crate::relay::postgres) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name or an address.
    Tcp(String),
    /// The folder of the socket file.
    Unix(PathBuf),
}

impl Host {
    /// On this machine: no other one sees the traffic.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host) if host.eq_ignore_ascii_case("localhost") => true,
            Self::Tcp(host) => host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback()),
        }
    }
}

/// Whether the connection is encrypted, and what the server's certificate has to prove.
///
/// There is no mode that encrypts without proof: it would hide nothing from an attacker in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    /// A CA that is trusted has signed the certificate, for any name.
    VerifyCa,
    /// As above, and the certificate is for the host that is connected to.
    VerifyFull,
}

/// All that a connection needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: String,
    pub(crate) tls: TlsMode,
    /// The CA that is trusted, in PEM; the system's roots where none is named.
    pub(crate) root_certificate: Option<PathBuf>,
    pub(crate) application_name: String,
    /// For all of a connection's beginning: name, TCP, TLS, login.
    pub(crate) connect_timeout: Duration,
    /// For each query.
    pub(crate) query_timeout: Duration,
    /// How long a server that streams may say nothing. It is asked after half of that time.
    pub(crate) silence: Duration,
}

impl Config {
    /// Returns the path of the socket file, where there is one.
    pub(in crate::relay::postgres) fn socket_file(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Unix(folder) => Some(folder.join(format!(".s.PGSQL.{}", self.port))),
            Host::Tcp(_) => None,
        }
    }

    /// Returns where the server is, for messages.
    pub(crate) fn place(&self) -> String {
        match (&self.host, self.socket_file()) {
            (_, Some(file)) => file.display().to_string(),
            (Host::Tcp(host), _) if host.contains(':') => format!("[{host}]:{}", self.port),
            (Host::Tcp(host), _) => format!("{host}:{}", self.port),
            (Host::Unix(folder), None) => folder.display().to_string(),
        }
    }
}
