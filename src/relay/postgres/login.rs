//! The beginning of a connection: settings of the session, and the password.

use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::PgError;
use super::config::Config;
use super::wire::{Answer, Wire, unreadable};

/// Settings that make values' texts the same on every server.
const SESSION: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
];

/// Ends when the server is ready for a query.
pub(super) async fn log_in(
    wire: &mut Wire,
    config: &Config,
    replication: bool,
) -> Result<(), PgError> {
    start(wire, config, replication)?;
    let mut scram: Option<ScramSha256> = None;
    let mut proven = false;
    loop {
        let Answer::Message(message) = wire.answer().await? else {
            return Err(unexpected());
        };
        match message {
            Message::AuthenticationOk if scram.is_none() || proven => {}
            Message::AuthenticationOk => {
                return Err(PgError::protocol(
                    "the server let us in without proof that it knows the password",
                ));
            }
            Message::AuthenticationCleartextPassword => cleartext(wire, config)?,
            Message::AuthenticationMd5Password(body) => {
                let password = password(config)?.as_bytes();
                let hash = md5_hash(config.user.as_bytes(), password, body.salt());
                send(wire, |out| frontend::password_message(hash.as_bytes(), out))?;
            }
            Message::AuthenticationSasl(body) => {
                let begun = begin_scram(&body, config)?;
                send(wire, |out| {
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), out)
                })?;
                (scram, proven) = (Some(begun), false);
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram = scram.as_mut().ok_or_else(unexpected)?;
                scram.update(body.data()).map_err(unreadable)?;
                send(wire, |out| frontend::sasl_response(scram.message(), out))?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let scram = scram.as_mut().ok_or_else(unexpected)?;
                scram.finish(body.data()).map_err(unreadable)?;
                proven = true;
            }
            Message::BackendKeyData(_) => {}
            Message::ReadyForQuery(_) => return Ok(()),
            Message::ErrorResponse(body) => return Err(PgError::of_server(body.fields())),
            Message::AuthenticationGss
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential
            | Message::AuthenticationSspi => {
                return Err(PgError::settings(
                    "the server wants a login that is not supported; use scram-sha-256 for this \
                     user in pg_hba.conf",
                ));
            }
            _ => return Err(unexpected()),
        }
    }
}

fn start(wire: &mut Wire, config: &Config, replication: bool) -> Result<(), PgError> {
    let mut parameters = vec![
        ("user", &*config.user),
        ("database", &*config.database),
        ("application_name", &*config.application_name),
    ];
    parameters.extend(SESSION);
    // The server frees the slot of a connection that is dead, and answers in time while it decodes.
    let patience = milliseconds(config.silence);
    if replication {
        parameters.extend([
            ("replication", "database"),
            ("statement_timeout", "0"),
            ("wal_sender_timeout", &*patience),
        ]);
    }
    send(wire, |out| frontend::startup_message(parameters, out))
}

/// As the server's settings have it.
pub(super) fn milliseconds(time: Duration) -> String {
    time.as_millis().clamp(1, i32::MAX as u128).to_string()
}

fn password(config: &Config) -> Result<&str, PgError> {
    config
        .password
        .as_ref()
        .map(super::config::Secret::reveal)
        .ok_or_else(|| {
            PgError::settings(format!(
                "PostgreSQL at {} asks for a password, and there is none",
                config.place()
            ))
        })
}

fn cleartext(wire: &mut Wire, config: &Config) -> Result<(), PgError> {
    if !wire.is_private() {
        return Err(PgError::settings(
            "the server asks for the password itself, over a connection that is not encrypted; use \
             sslmode=verify-full, or scram-sha-256 for this user in pg_hba.conf",
        ));
    }
    let password = password(config)?.as_bytes();
    send(wire, |out| frontend::password_message(password, out))
}

fn begin_scram(body: &AuthenticationSaslBody, config: &Config) -> Result<ScramSha256, PgError> {
    let offered = body
        .mechanisms()
        .any(|mechanism| Ok(mechanism == SCRAM_SHA_256))
        .map_err(unreadable)?;
    if !offered {
        return Err(PgError::settings(
            "the server offers no SCRAM-SHA-256, only what is not supported",
        ));
    }
    let password = password(config)?.as_bytes();
    Ok(ScramSha256::new(password, ChannelBinding::unsupported()))
}

/// Puts a message where it leaves with the next read.
pub(super) fn send(
    wire: &mut Wire,
    write: impl FnOnce(&mut bytes::BytesMut) -> std::io::Result<()>,
) -> Result<(), PgError> {
    let before = wire.outbox().len();
    write(wire.outbox()).map_err(|error| {
        wire.outbox().truncate(before);
        PgError::settings(format!("a message to PostgreSQL cannot be made: {error}"))
    })
}

fn unexpected() -> PgError {
    PgError::protocol("PostgreSQL answered the login with a message that does not belong there")
}
