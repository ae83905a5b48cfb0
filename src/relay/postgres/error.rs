//! What can go wrong with a connection, and what the server says about it.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

/// Which kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PgErrorKind {
    /// The configuration, or a part of a statement, is wrong: trying again does not help.
    Settings,
    /// The server cannot be reached, or the connection broke.
    Io,
    /// The server's certificate, or how TLS begins.
    Tls,
    /// The server answered with an error; it has a code.
    Server,
    /// A step took too long, or the server was silent.
    Timeout,
    /// The server sent a message that it must not send here.
    Protocol,
}

/// It never shows the statement, the password or the URL.
#[derive(Clone, Debug)]
pub(crate) struct PgError {
    kind: PgErrorKind,
    message: String,
    server: Option<Box<Said>>,
}

/// What the server's error has beside its message.
#[derive(Clone, Debug, Default)]
struct Said {
    code: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl PgError {
    pub(super) fn new(kind: PgErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            server: None,
        }
    }

    pub(super) fn settings(message: impl Into<String>) -> Self {
        Self::new(PgErrorKind::Settings, message)
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(PgErrorKind::Protocol, message)
    }

    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(PgErrorKind::Timeout, message)
    }

    pub(super) fn io(error: &io::Error) -> Self {
        Self::new(
            PgErrorKind::Io,
            format!("the connection to PostgreSQL broke: {error}"),
        )
    }

    /// An error message of the server.
    pub(super) fn of_server(mut fields: ErrorFields<'_>) -> Self {
        let mut message = String::new();
        let mut said = Said::default();
        // What cannot be read is left out: an error that is half known is still the error.
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'M' => message = text(),
                b'C' => said.code = text(),
                b'D' => said.detail = Some(text()),
                b'H' => said.hint = Some(text()),
                _ => {}
            }
        }
        Self {
            kind: PgErrorKind::Server,
            message,
            server: Some(Box::new(said)),
        }
    }

    pub(crate) fn kind(&self) -> PgErrorKind {
        self.kind
    }

    /// Returns the SQLSTATE of a server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        self.server.as_ref().map(|said| &*said.code)
    }

    /// The server does not let this login in, or has no such database.
    pub(crate) fn is_refused(&self) -> bool {
        self.code()
            .is_some_and(|code| code.starts_with("28") || code == "3D000")
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(said) = &self.server else {
            return f.write_str(&self.message);
        };
        write!(f, "PostgreSQL says: {} ({})", self.message, said.code)?;
        if let Some(detail) = &said.detail {
            write!(f, "; {detail}")?;
        }
        match &said.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PgError {}
