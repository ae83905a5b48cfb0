//! SQL by psql, for administering a test's server; not for what is under test.

use std::ffi::OsStr;
use std::fmt::Write;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::PostgresServer;
use super::programs::{binary, client};

/// Seconds until a server that does not answer is given up. A test that paused its server should not
/// ask it.
const CONNECT_TIMEOUT: &str = "60";

impl PostgresServer {
    /// Runs statements whose success the test relies on, as the superuser in the database `postgres`;
    /// see [`query`].
    ///
    /// # Panics
    ///
    /// With what psql says of an error.
    pub async fn sql(&self, text: &str) -> String {
        self.sql_in("postgres", text).await
    }

    /// The same in another database.
    pub async fn sql_in(&self, database: &str, text: &str) -> String {
        let result = self.try_sql_in(database, text).await;
        result.unwrap_or_else(|error| unreachable!("{text}: {error}"))
    }

    /// Like [`sql`](Self::sql); an error is what psql says of it.
    pub async fn try_sql(&self, text: &str) -> Result<String, String> {
        self.try_sql_in("postgres", text).await
    }

    pub async fn try_sql_in(&self, database: &str, text: &str) -> Result<String, String> {
        let folder = self.folder().display().to_string();
        let port = self.port().to_string();
        let arguments = ["-h", &folder, "-p", &port, "-U", "postgres", "-d", database];
        psql(arguments, text).await
    }
}

/// A URL for libpq and clients in its style.
pub fn url(port: u16, user: &str, password: &str, database: &str) -> String {
    let [user, password, database] = [user, password, database].map(encoded);
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
}

/// Everything that may mean something in a URL, as `%40`.
fn encoded(text: &str) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            write!(all, "%{byte:02X}").expect("text takes text");
        }
    }
    all
}

/// Runs statements, each in a transaction of its own unless they say `BEGIN`, as the user of a URL.
/// Returns one line for each row, with `|` between columns, or psql's text of the error.
pub async fn query(url: &str, text: &str) -> Result<String, String> {
    psql([url], text).await
}

/// The same with these arguments of psql.
async fn psql<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    text: &str,
) -> Result<String, String> {
    let mut command = client(binary("psql"));
    command
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .expect("psql can be executed");
    let mut input = child.stdin.take().expect("stdin is piped");
    // It may end before it has read everything.
    let written = async move { input.write_all(text.as_bytes()).await };
    let (_, output) = tokio::join!(written, child.wait_with_output());
    let output = output.expect("psql can be waited for");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}
