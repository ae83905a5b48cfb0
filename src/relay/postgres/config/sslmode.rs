//! What `sslmode` and `sslrootcert` of a URL mean here.

use super::target::{Host, TlsMode};

/// What `sslrootcert` is for the system's roots, which are the default here.
pub(super) const SYSTEM: &str = "system";

/// Returns what is right for the host, where the URL names no mode; an error, where a mode proves nothing.
pub(super) fn tls(mode: Option<&str>, root: Option<&str>, host: &Host) -> Result<TlsMode, String> {
    let has_own_root = root.is_some_and(|root| root != SYSTEM);
    let mode = match mode {
        None if host.is_local() && root.is_none() => TlsMode::Disable,
        None | Some("verify-full") => TlsMode::VerifyFull,
        Some("disable") => TlsMode::Disable,
        // `require` means the same to libpq where it has a CA.
        Some("verify-ca" | "require") if has_own_root => TlsMode::VerifyCa,
        Some("verify-ca") => {
            return Err(
                "sslmode=verify-ca needs a CA of your own (sslrootcert=FILE): a public one \
                        signs for everyone; without it write sslmode=verify-full"
                    .into(),
            );
        }
        Some("require") => {
            return Err(
                "sslmode=require encrypts without looking at who answers; write \
                        sslmode=verify-full, with sslrootcert=FILE for a CA of your own"
                    .into(),
            );
        }
        Some("prefer" | "allow") => {
            return Err(
                "with this sslmode a connection may be unencrypted without notice; write \
                        sslmode=verify-full or sslmode=disable"
                    .into(),
            );
        }
        Some(_) => {
            return Err(
                "sslmode must be verify-full, verify-ca, require (with sslrootcert) or \
                        disable"
                    .into(),
            );
        }
    };
    match host {
        Host::Unix(_) if mode != TlsMode::Disable => {
            Err("a socket of this machine has no TLS; leave sslmode and sslrootcert out".into())
        }
        _ => Ok(mode),
    }
}
