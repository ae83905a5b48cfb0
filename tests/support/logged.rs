//! The lines that the crate logs on this thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Keeps what is logged on the thread that made it, for as long as it lives. Tests that use it run
/// everything on one thread.
pub(crate) struct Logged {
    sink: Sink,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// From here on; `filter` is that of `RUST_LOG`.
    pub(crate) fn at(filter: &str) -> Self {
        let sink = Sink::default();
        let writer = sink.clone();
        let guard = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .set_default();
        Self {
            sink,
            _guard: guard,
        }
    }

    /// From here on, as a service logs.
    pub(crate) fn start() -> Self {
        Self::at("info")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.sink.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Those with this text.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines().into_iter();
        lines.filter(|line| line.contains(text)).collect()
    }

    /// The only one with this text.
    pub(crate) fn one(&self, text: &str) -> String {
        let lines = self.with(text);
        assert_eq!(lines.len(), 1, "{text}: {:#?}", self.lines());
        lines[0].clone()
    }
}
