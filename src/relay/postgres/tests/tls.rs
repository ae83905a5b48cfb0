//! Which certificates are accepted.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server whose superuser has a password, and its certificates.
async fn start() -> (PostgresServer, Certificates) {
    let certificates = Certificates::make("DNS:localhost");
    let server = PostgresServer::start_over(Some(&certificates), &[]).await;
    config(&server, "postgres").await;
    (server, certificates)
}

async fn connect(server: &PostgresServer, host: &str, options: &str) -> Result<Rows, PgError> {
    let (login, port) = (format!("postgres:{PASSWORD}"), server.port());
    let url = format!("postgres://{login}@{host}:{port}/postgres?connect_timeout=120&{options}");
    let mut connection = Connection::connect(&Config::parse(&url).unwrap(), true).await?;
    connection
        .query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .await
}

#[tokio::test]
async fn a_certificate_has_the_right_ca_and_the_right_name() {
    let (server, certificates) = start().await;
    let file = |name| certificates.file(name).display().to_string();
    let (ca, other) = (file("ca.crt"), file("other.crt"));
    let encrypted = Rows::from([vec![Some("t".to_owned())]]);
    for (host, options) in [
        ("localhost", format!("sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ca}")),
    ] {
        let rows = connect(&server, host, &options).await;
        assert_eq!(rows.unwrap(), encrypted, "{host} {options}");
    }
    for (host, options, why) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            "not valid for name",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
            "UnknownIssuer",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            "UnknownIssuer",
        ),
        (
            "localhost",
            "sslmode=verify-full".to_owned(),
            "UnknownIssuer",
        ),
    ] {
        let error = connect(&server, host, &options).await.unwrap_err();
        assert_eq!(error.kind(), PgErrorKind::Tls, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_ca_that_cannot_be_used_is_named() {
    let (server, certificates) = start().await;
    for (file, why) in [
        ("nowhere", "cannot be read"),
        ("ca.key", "holds no certificate"),
    ] {
        let file = certificates.file(file);
        let options = format!("sslmode=verify-ca&sslrootcert={}", file.display());
        let error = connect(&server, "localhost", &options).await.unwrap_err();
        assert_eq!(error.kind(), PgErrorKind::Settings);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://u@localhost:{port}/d?sslmode=verify-full&connect_timeout=120");
    let config = Config::parse(&url).unwrap();
    for (answer, why) in [(b'N', "ssl is off"), (b'E', "not PostgreSQL's")] {
        let serving = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            client.read_exact(&mut request).await.unwrap();
            client.write_all(&[answer]).await.unwrap();
            client
        };
        let (connected, _client) = tokio::join!(Connection::connect(&config, false), serving);
        let error = connected.unwrap_err();
        assert_eq!(error.kind(), PgErrorKind::Tls);
        assert!(error.to_string().contains(why), "{error}");
    }
}
