//! What errors say is missing, and whether the list is whole.

use super::*;
use crate::bus::redis::scripts::{SOURCES, Script};

/// The names of all commands that a script calls literally.
fn called(source: &str) -> BTreeSet<String> {
    let calls = source
        .split("redis.call('")
        .chain(source.split("redis.pcall('"));
    let names = calls.skip(1).filter_map(|rest| rest.split('\'').next());
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase());
    names.filter(is_name).map(str::to_owned).collect()
}

/// The names of all commands that the probe tries.
fn tried() -> BTreeSet<String> {
    let source = SOURCES[Script::Probe as usize];
    let names = source.split("{ '").skip(1);
    let names = names.filter_map(|rest| rest.split('\'').next());
    names.map(str::to_owned).collect()
}

/// What the scripts run, but for the command that publishes, which they name by a variable.
pub(in crate::bus::redis) fn run() -> BTreeSet<String> {
    let scripts = &SOURCES[..Script::Probe as usize];
    scripts.iter().copied().flat_map(called).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_probe_tries_every_command_that_a_script_runs_and_no_other() {
    assert!(run().len() > 20, "{:?}", run());
    // No script may run these, but the server says whether it knows them.
    let outside = set(&["SUBSCRIBE", "ASKING", "SSUBSCRIBE"]);
    let tried: BTreeSet<String> = tried().difference(&outside).cloned().collect();
    assert_eq!(tried, run());
}

#[test]
fn the_documented_rights_are_those_that_scripts_and_connections_need() {
    let documented = |users: &str| -> BTreeSet<String> {
        let line = users.lines().find(|line| line.starts_with("user unstale"));
        let words = line.unwrap().split(' ');
        let names = words.filter_map(|word| word.strip_prefix('+'));
        names.map(str::to_uppercase).collect()
    };
    let needed = |direct: &[&str]| &run() | &set(direct);
    let single = needed(&[
        "CLIENT|ID",
        "EVALSHA",
        "PING",
        "PUBLISH",
        "SCRIPT|LOAD",
        "SELECT",
        "SUBSCRIBE",
    ]);
    let cluster = needed(&[
        "ASKING",
        "CLIENT|ID",
        "CLUSTER|SLOTS",
        "EVALSHA",
        "PING",
        "SCRIPT|LOAD",
        "SPUBLISH",
        "SSUBSCRIBE",
    ]);
    let file = |name| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        documented(&std::fs::read_to_string(root.join("deploy/redis").join(name)).unwrap())
    };
    assert_eq!(file("users.acl"), single);
    assert_eq!(file("demo.acl"), single);
    assert_eq!(file("users-cluster.acl"), cluster);
}

/// What an answer to ZADD says.
enum Says {
    Denied(&'static str),
    Keys,
    Channels,
    Unknown,
    Else,
}

const ANSWERS: &[(&str, Says)] = &[
    (
        "NOPERM this user has no permissions to run the 'zadd' command",
        Says::Denied("zadd"),
    ),
    (
        "NOPERM User app has no permissions to run the 'script|load' command",
        Says::Denied("script|load"),
    ),
    (
        "NOPERM User app has no permissions to run the 'hkeys' command",
        Says::Denied("hkeys"),
    ),
    (
        "NOPERM this user has no permissions to access one of the keys used as arguments",
        Says::Keys,
    ),
    ("NOPERM No permissions to access a key", Says::Keys),
    (
        "NOPERM this user has no permissions to access one of the channels used as arguments",
        Says::Channels,
    ),
    (
        "ERR The user executing the script can't run this command or subcommand script: ab, on @user_script:1.",
        Says::Denied("zadd"),
    ),
    (
        "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
        Says::Keys,
    ),
    (
        "ERR The user executing the script can't publish to the channel mentioned in the command",
        Says::Channels,
    ),
    (
        "ERR ACL failure in script: User app has no permissions to run the 'zadd' command script: ab",
        Says::Denied("zadd"),
    ),
    (
        "ERR ACL failure in script: No permissions to access a key",
        Says::Keys,
    ),
    (
        "ERR ACL failure in script: No permissions to access a channel",
        Says::Channels,
    ),
    (
        "ERR Unknown Redis command called from script script: ab",
        Says::Unknown,
    ),
    (
        "ERR Unknown Valkey command called from script script: ab",
        Says::Unknown,
    ),
    (
        "ERR unknown command 'ZADD', with args beginning with: 'a'",
        Says::Unknown,
    ),
    (
        "ERR unknown subcommand 'INFO'. Try CLIENT HELP.",
        Says::Unknown,
    ),
    (
        "ERR This Redis command is not allowed from script",
        Says::Else,
    ),
    ("WRONGPASS invalid username-password pair", Says::Else),
    ("ERR value is not an integer or out of range", Says::Else),
    (
        "OOM command not allowed when used memory > 'maxmemory'",
        Says::Else,
    ),
];

#[test]
fn refusals_of_every_server_name_what_is_missing() {
    for (details, says) in ANSWERS {
        let missing = match says {
            Says::Denied(name) => Some(MissingRight::Command((*name).to_owned())),
            Says::Keys => Some(MissingRight::Keys),
            Says::Channels => Some(MissingRight::Channels),
            Says::Unknown => Some(MissingRight::Unknown("ZADD".to_owned())),
            Says::Else => None,
        };
        assert_eq!(
            MissingRight::of_command("ZADD", details),
            missing,
            "{details}"
        );
    }
    let direct = MissingRight::of("ERR unknown command `HELLO`, with args beginning with: `3`");
    assert_eq!(direct, Some(MissingRight::Unknown("HELLO".to_owned())));
}

#[test]
fn the_error_says_what_is_missing_and_how_to_give_it() {
    let missing = |rights: &[MissingRight]| rights.iter().cloned().collect::<BTreeSet<_>>();
    let denied = [MissingRight::Command("zadd".into()), MissingRight::Channels];
    let text = error(&missing(&denied), "app", "shop");
    assert_eq!(text.kind(), ErrorKind::Auth);
    let text = text.to_string();
    assert!(
        text.contains("user app: zadd, channels us:{shop:*"),
        "{text}"
    );
    assert!(text.contains("ACL SETUSER app +zadd &us:{shop:*"), "{text}");
    let unknown = error(
        &missing(&[MissingRight::Unknown("XADD".into())]),
        "app",
        "shop",
    );
    assert_eq!(unknown.kind(), ErrorKind::Settings);
    let text = unknown.to_string();
    assert!(
        text.contains("does not know XADD (renamed or forbidden"),
        "{text}"
    );
}
