//! A streaming replica of a server.

use tokio::task::spawn_blocking;

use super::programs::{binary, run, server};
use super::{PostgresServer, data};

impl PostgresServer {
    /// Starts a replica from a copy of the server's data; it answers reads, and follows the server when
    /// that comes back, too. `SELECT pg_promote()` makes it a primary.
    pub async fn replica(&self) -> Self {
        let primary = self.folder().to_owned();
        let port = self.port().to_string();
        let copy = move || {
            let folder = data::folder();
            run(server(binary("pg_basebackup"))
                .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
                .args(["--username=postgres", "--port", &port, "--host"])
                .arg(primary)
                .arg("--pgdata")
                .arg(folder.path().join("data")));
            folder
        };
        let folder = spawn_blocking(copy).await;
        let folder = folder.expect("a server can be copied");
        // How often it looks whether its primary is back: else every 5 s.
        data::configure(folder.path(), &[("wal_retrieve_retry_interval", "100ms")]);
        Self::start_in(folder).await
    }
}
