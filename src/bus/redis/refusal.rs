//! Why a connection could not be made: the address that was tried, and whose certificate is refused.

use std::net::SocketAddr;

use fred::error::{Error as FredError, ErrorKind as FredKind};

use super::error::{self, reason};
use super::target::Target;

/// Returns the error of an attempt to connect, for people.
pub(super) fn explain(
    target: &Target,
    address: Option<SocketAddr>,
    name: &str,
    error: &FredError,
) -> FredError {
    let place = target.place();
    let details = error.details();
    if let Some(why) = certificate(details, name) {
        let text = format!("{}{place} is refused: {why}", error::CERTIFICATE);
        return FredError::new(FredKind::IO, text);
    }
    if details.contains("CertificateRequired") {
        let text = "it asks for a client certificate: set UNSTALE_TLS_CERT and UNSTALE_TLS_KEY";
        return FredError::new(FredKind::IO, format!("{place}: {text}"));
    }
    let why = match error.kind() {
        FredKind::Timeout => {
            let time = target.times().connect;
            format!("no answer within {time:?} (UNSTALE_CONNECT_TIMEOUT)")
        }
        FredKind::IO | FredKind::Canceled => reason(details).to_owned(),
        FredKind::Auth => match target.logins().origin() {
            Some(origin) => {
                let text = format!("{details} The password is that of {origin}");
                return FredError::new(FredKind::Auth, text);
            }
            None => return error.clone(),
        },
        _ => return error.clone(),
    };
    let tried = match address {
        Some(address) if address.to_string() != place.to_string() => format!(" (at {address})"),
        _ => String::new(),
    };
    FredError::new(FredKind::IO, format!("{place}{tried}: {why}"))
}

/// Returns what is wrong with a certificate, if that is what rustls says.
fn certificate(details: &str, name: &str) -> Option<String> {
    let (_, why) = details.split_once("InvalidCertificate(")?;
    Some(if why.starts_with("NotValidForName") {
        let names = match presented(why) {
            names if names.is_empty() => "another name".to_owned(),
            names => names.join(" and "),
        };
        format!(
            "it is for {names}, not for {name}. Set UNSTALE_TLS_SERVER_NAME to a name that it has, or \
             have the servers announce their names (cluster-announce-hostname, or for sentinels \
             announce-hostnames)"
        )
    } else if why.starts_with("UnknownIssuer") {
        "no certificate authority that is trusted here has signed it. Set UNSTALE_TLS_CA to the file of \
         the one that has"
            .to_owned()
    } else if why.starts_with("Expired") {
        "it has expired".to_owned()
    } else if why.starts_with("NotValidYet") {
        "it is not valid yet: is the clock of this machine right?".to_owned()
    } else {
        why.trim_end_matches([')', ' ', '}']).to_owned()
    })
}

/// `NotValidForNameContext { expected: .., presented: ["DnsName(\"redis.example\")"] }`.
fn presented(why: &str) -> Vec<String> {
    let list = why.split_once("presented: [").map(|(_, rest)| rest);
    let list = list
        .and_then(|rest| rest.split_once(']'))
        .map(|(list, _)| list);
    let names = list.unwrap_or_default().split(", ").map(|name| {
        let name = name.replace(['\\', '"'], "");
        let inner = name
            .split_once('(')
            .map(|(_, inner)| inner.trim_end_matches(')'));
        inner.unwrap_or(&name).to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_another_name_says_which_and_what_to_do() {
        let details = r#"Custom { kind: InvalidData, error: InvalidCertificate(NotValidForNameContext { expected: IpAddress(V4(Ipv4Addr([127, 0, 0, 1]))), presented: ["DnsName(\"redis.example\")", "DnsName(\"other.example\")"] }) }"#;
        let why = certificate(details, "127.0.0.1").unwrap();
        assert!(
            why.contains("for redis.example and other.example, not for 127.0.0.1"),
            "{why}"
        );
        assert!(why.contains("UNSTALE_TLS_SERVER_NAME"), "{why}");
        assert_eq!(certificate("connection refused", "h"), None);
    }
}
