//! A Redis that answers and holds hostile text: commands end with an error, soon, and nothing of it reaches a
//! terminal as more than text.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use super::{Ran, RedisServer, run_on};
use testkit::resp::Client;

const STATE: &str = "us:{shop:0}s";

/// Everything that looks at a fleet, and ends by itself.
const COMMANDS: [&[&str]; 6] = [
    &["status"],
    &["status", "--json"],
    &["doctor"],
    &["invalidate", "accounts", "1"],
    &["why", "accounts", "1"],
    &["why", "accounts", "1", "--json"],
];

/// It ended by itself, by a decision of its own, and showed text only.
fn is_decent(ran: &Ran, what: &str) {
    let shown = [&*ran.stdout, &ran.stderr].concat();
    assert!(matches!(ran.status, Some(0..=2)), "{what}: {ran:?}");
    let harmful = |c: char| c.is_control() && c != '\n';
    assert!(!shown.contains(harmful), "{what}: {shown:?}");
    assert!(shown.len() < 64 << 10, "{what}: {} bytes", shown.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_number_of_lanes_is_an_error_and_no_table_of_that_size() {
    let server = RedisServer::start();
    let mut admin = Client::connect(server.port());
    let numbers = [
        "4294967295",
        "1000000000",
        "100000",
        "1025",
        "0",
        "-1",
        "abc",
        "4\u{1b}[2J",
        "",
    ];
    for lanes in numbers {
        admin.cmd(&["HSET", STATE, "l", lanes]);
        let commands = [
            &["status"][..],
            &["invalidate", "accounts", "1"],
            &["why", "accounts", "1"],
            &["tail"],
        ];
        for args in commands {
            let what = format!("l {lanes:?}, {args:?}");
            let ran = run_on(&server.url(), args);
            is_decent(&ran, &what);
            assert_eq!(ran.status, Some(1), "{what}: {ran:?}");
            assert!(
                ran.stderr.contains("number of lanes in Redis is damaged"),
                "{what}: {ran:?}"
            );
        }
    }
}

/// Bytes of all kinds, and what a parser of numbers may trip over.
fn nonsense(dice: &mut fastrand::Rng) -> Vec<u8> {
    let words: [&[u8]; 10] = [
        b"",
        b"0",
        b"-1",
        b"18446744073709551616",
        b"1e400",
        b"nan",
        b"\x1b]0;pwned\x07\x1b[2J",
        b"\xff\xfe\x00\r\n-ERR x\r\n",
        "\u{202e}\u{9b}31m".as_bytes(),
        &[b'x'; 70_000],
    ];
    match dice.usize(..words.len() + 4) {
        at if at < words.len() => words[at].to_vec(),
        _ => (0..dice.usize(..40)).map(|_| dice.u8(..)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_without_a_panic_whatever_the_namespaces_keys_hold() {
    let server = RedisServer::start();
    let mut admin = Client::connect(server.port());
    for seed in 0..12 {
        let dice = &mut fastrand::Rng::with_seed(seed);
        admin.cmd(&["FLUSHALL"]);
        for field in ["q", "e", "r", "t"] {
            let value = nonsense(dice);
            admin.cmd(&[b"HSET", STATE.as_bytes(), field.as_bytes(), &value]);
        }
        admin.cmd(&["HSET", STATE, "l", "1"]);
        for _ in 0..20 {
            let (member, note, event) = (nonsense(dice), nonsense(dice), nonsense(dice));
            let of = [b"c".as_slice(), &member].concat();
            let beat = b"99999999999999";
            admin.cmd(&[b"ZADD", b"us:{shop:0}m".as_slice(), beat, &member]);
            admin.cmd(&[
                b"HSET",
                b"us:{shop:0}w".as_slice(),
                &member,
                &note,
                &of,
                &note,
            ]);
            admin.cmd(&[b"XADD", b"us:{shop:0}j".as_slice(), b"*", b"e", &event]);
        }
        // A member as they are, with a note that is none.
        let member = b"member-1".as_slice();
        admin.cmd(&[
            b"ZADD",
            b"us:{shop:0}m".as_slice(),
            b"99999999999999",
            member,
        ]);
        admin.cmd(&[
            b"HSET",
            b"us:{shop:0}w".as_slice(),
            b"cmember-1",
            &nonsense(dice),
        ]);
        for args in COMMANDS {
            is_decent(
                &run_on(&server.url(), args),
                &format!("seed {seed}, {args:?}"),
            );
        }
    }
}

/// Answers every command with the same error; the port.
fn refuses_with(error: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), error) = (stream, error.clone()) else {
                return;
            };
            std::thread::spawn(move || {
                while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    if stream.write_all(&error).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_redis_is_shown_as_text_and_cut() {
    let endless = [b"-ERR \x1b[31m".as_slice(), &[b'x'; 1 << 20], b"\r\n"].concat();
    let errors = [
        b"-ERR \x1b]0;pwned\x07\x1b[2J\r\n".to_vec(),
        b"-WRONGPASS \x1b[2J hunter2\r\n".to_vec(),
        b"-LANES 4\x1b[2J\r\n".to_vec(),
        b"-NOPERM this user has no permissions to run the '\x1b[2J' command\r\n".to_vec(),
        endless,
    ];
    for error in errors {
        let what = String::from_utf8_lossy(&error[..30.min(error.len())]).into_owned();
        let url = format!("redis://127.0.0.1:{}", refuses_with(error));
        for args in COMMANDS.iter().copied().chain([&["tail"][..]]) {
            let ran = run_on(&url, args);
            is_decent(&ran, &format!("{what:?}, {args:?}"));
            assert_ne!(ran.status, Some(0), "{what:?}, {args:?}: {ran:?}");
        }
    }
}

/// The labels of a scrape may be hostile, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_of_metrics_are_shown_as_text() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("metrics");
    let lines = "unstale_hits_total{cache=\"a\u{1b}[2Jb\",outcome=\"hit\"} 5\n\
        unstale_misses_total{cache=\"a\u{1b}[2Jb\",cause=\"\u{7}\"} 5\n\
        unstale_settings_info{id=\"\u{1b}]0;x\u{7}\",fleet=\"\u{1b}[2J\"} 1\n";
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    let ran = testkit::program::run(&["status", "--metrics", file], &[]);
    is_decent(&ran, "status --metrics");
    let server = RedisServer::start();
    let ran = run_on(&server.url(), &["doctor", "--metrics", file]);
    is_decent(&ran, "doctor --metrics");
}
