//! Everything that can be seen of a service, and whether a secret is in it.

use std::thread;

use super::resp::{Client, Value};

/// What must not occur, in the forms in which something might print it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let encoded = secret.replace('-', "%2D");
    let mut forms = vec![bytes.to_vec(), bytes.iter().rev().copied().collect()];
    forms.extend([hex.to_uppercase(), hex, list, encoded].map(String::into_bytes));
    forms
}

/// Everything that was seen, by where.
#[derive(Default)]
pub struct Seen(Vec<(&'static str, Vec<u8>)>);

impl Seen {
    pub fn add(&mut self, place: &'static str, what: impl Into<Vec<u8>>) {
        self.0.push((place, what.into()));
    }

    /// How often a text occurs in a place.
    pub fn count(&self, of: &str, text: &[u8]) -> usize {
        let places = self.0.iter().filter(|(place, _)| *place == of);
        places
            .map(|(_, what)| what.windows(text.len()).filter(|it| *it == text).count())
            .sum()
    }

    pub fn assert_clean(&self, secrets: &[&str]) {
        for (place, what) in &self.0 {
            for secret in secrets {
                for form in forms(secret) {
                    let found = what.windows(form.len()).any(|it| it == form);
                    let text = String::from_utf8_lossy(what);
                    assert!(!found, "{secret} in {place}: {text}");
                }
            }
        }
    }
}

/// Every command that this client's server is sent from now on, until it stops.
pub fn monitor(mut client: Client) -> thread::JoinHandle<Vec<u8>> {
    client.cmd(&["MONITOR"]);
    thread::spawn(move || {
        let mut all = Vec::new();
        while let Ok(Value::Text(line)) = client.read() {
            all.extend_from_slice(&line);
            all.push(b'\n');
        }
        all
    })
}

/// The names of all keys, and what they hold.
#[expect(clippy::panic, reason = "a test that cannot go on fails")]
pub fn contents(mut client: Client) -> Vec<u8> {
    let mut all = Vec::new();
    for name in client.cmd(&["KEYS", "*"]).array().to_vec() {
        let name = name.text();
        all.extend_from_slice(name.as_bytes());
        let read: &[&str] = match client.cmd(&["TYPE", &name]).text().as_str() {
            "hash" => &["HGETALL", &name],
            "zset" => &["ZRANGE", &name, "0", "-1"],
            "string" => &["GET", &name],
            "stream" => &["XRANGE", &name, "-", "+"],
            other => panic!("{name} is a {other}"),
        };
        flatten(&client.cmd(read), &mut all);
    }
    all
}

fn flatten(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(bytes) => out.extend_from_slice(bytes),
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        other => out.extend_from_slice(other.text().as_bytes()),
    }
}
