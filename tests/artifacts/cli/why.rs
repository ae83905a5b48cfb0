//! `unstale why`: which events drop a key, and which instance published them.

use serde_json::json;

use super::*;
use crate::documents::read;
use crate::pages::kinds::kinds;
use crate::support::over_redis::until;

const STATE: &str = "us:{shop:0}s";
const JOURNAL: &str = "us:{shop:0}j";

/// The sentences without their line ends; none is wider than a terminal, or has a colour.
fn sentences(ran: &Ran) -> String {
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!ran.stdout.contains('\x1b'), "{ran:?}");
    words(&ran.stdout)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What it says, in sentences and as an object; it answered.
fn why(url: &str, args: &[&str]) -> (String, Value) {
    let args = [&["why", "rows"], args].concat();
    let ran = run_on(url, &args);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let json = run_on(url, &[&args[..], &["--json"]].concat());
    assert_eq!(
        (json.status, json.stderr.as_str()),
        (Some(0), ""),
        "{json:?}"
    );
    (sentences(&ran), json.json())
}

fn kinds_of(event: &Value) -> Vec<&str> {
    let by = event["by"].as_array().unwrap().iter();
    by.map(|by| by["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_names_the_instance_that_invalidated_the_key_and_where_the_lane_stands() {
    let server = RedisServer::start();
    let url = server.url();
    let (writer, peer) = (
        node(&url, 1, &source()).await,
        node(&url, 1, &source()).await,
    );
    until_known(&url, "rows", 2).await;
    writer.cache.invalidate(&1).await.unwrap();
    peer.cache.invalidate(&2).await.unwrap();
    let (text, json) = why(&url, &["1"]);
    let id = writer.instance.id().to_string();
    let [event] = &json["events"].as_array().unwrap()[..] else {
        panic!("{json}");
    };
    assert_eq!(
        (kinds_of(event), &event["origin"]),
        (vec!["key"], &json!(id))
    );
    assert_eq!(event["origin_is_member"], true);
    assert_eq!((&json["lane"], &json["lanes"]), (&json!(0), &json!(1)));
    assert_eq!(event["events_since"], 1);
    let sequence = event["sequence"].as_u64().unwrap();
    assert_eq!(json["sequence"], sequence + 1);
    // The same in sentences.
    let expected = format!(
        "1 event in the journal drops the key, of 2 that name rows in any lane. The latest first: \
         - sequence {sequence}, 1 event before the latest, names the key. Instance {id} published it, \
         a member now."
    );
    assert!(text.contains(&expected), "{expected}\n{text}");
    let stands = format!(
        "stands at sequence {} in epoch {}.",
        json["sequence"],
        json["epoch"].as_str().unwrap()
    );
    assert!(text.contains(&stands), "{text}");
    let hash = json["key_hash"].as_str().unwrap();
    assert!(text.contains(&format!("has the hash {hash}")), "{text}");
    let reach = format!(
        "2 events, from sequence {} on: all since the epoch began",
        json["journal"]["oldest"]
    );
    assert!(text.contains(&reach), "{text}");
    assert_eq!(json["journal"]["whole_epoch"], true);
    for member in [&writer, &peer] {
        let id = member.instance.id().to_string();
        assert!(text.contains(&format!("- {id} has rows, and was heard of ")));
        let members = json["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["id"] == id).unwrap();
        assert_eq!(
            (&member["has_cache"], &member["alive"]),
            (&json!(true), &json!(true))
        );
    }
    // By its hash the same.
    assert_eq!(why(&url, &["--hash", hash]).1["events"], json["events"]);

    // Nothing has invalidated this one, and an instance that has ended is no member.
    let (text, json) = why(&url, &["13"]);
    assert_eq!(json["events"], json!([]));
    assert!(
        text.contains("No event in the journal names the key"),
        "{text}"
    );
    let ended = peer.instance.id().to_string();
    peer.instance.shutdown().await.unwrap();
    until("the peer is no member", async || {
        why(&url, &["2"])
            .0
            .contains(&format!("Instance {ended} published it, no member now"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_finds_tags_whole_caches_and_whole_lanes_on_the_lane_of_the_key() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 3, &source()).await;
    until_known(&url, "rows", 1).await;
    node.cache.invalidate_tag("tens-0").await.unwrap();
    let (text, json) = why(&url, &["1"]);
    assert_eq!(json["events"], json!([]));
    assert!(text.contains("tags were not looked for"), "{text}");
    let (text, json) = why(&url, &["1", "--tag", "tens-1", "--tag", "tens-0"]);
    let events = json["events"].as_array().unwrap();
    assert_eq!(kinds_of(&events[0]), ["tag"]);
    let hash = events[0]["by"][0]["hash"].as_str().unwrap();
    assert_eq!(hash, json["tag_hashes"][1]);
    assert!(
        text.contains(&format!("names the tag {hash}. Instance ")),
        "{text}"
    );
    assert!(!json.to_string().contains("tens-"), "{json}");

    node.cache.invalidate_all().await.unwrap();
    let (text, json) = why(&url, &["1", "--tag", "tens-0"]);
    let events = json["events"].as_array().unwrap();
    assert_eq!(
        events.len(),
        2,
        "once each, though every lane has both: {json}"
    );
    assert_eq!(kinds_of(&events[1]), ["cache"]);
    assert_eq!(events[1]["lane"], json["lane"]);
    assert!(text.contains("names the whole cache. Instance "), "{text}");

    // Keys of another format, and what cannot be read.
    let ran = run_on(&url, &["invalidate", "rows", "1", "--format", "9"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let state = format!("us:{{shop:{}}}s", json["lane"]);
    let journal = format!("us:{{shop:{}}}j", json["lane"]);
    let add = "local q = string.format('%.0f-0', redis.call('HINCRBY', KEYS[1], 'q', 1)) \
        return redis.call('XADD', KEYS[2], q, 'e', 'noise')";
    Client::connect(server.port()).cmd(&["EVAL", add, "2", &state, &journal]);
    let (text, json) = why(&url, &["1"]);
    let events = json["events"].as_array().unwrap();
    assert_eq!(kinds_of(&events[1]), ["key", "format"]);
    assert_eq!(kinds_of(&events[2]), ["unreadable"]);
    assert_eq!(
        events[1]["origin_is_member"], false,
        "the program is no member"
    );
    assert!(
        text.contains("names the key and keys of format 9"),
        "{text}"
    );
    assert!(
        text.contains("cannot be read with these settings"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_says_when_the_journal_no_longer_reaches() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 1, &source()).await;
    until_known(&url, "rows", 1).await;
    let mut admin = Client::connect(server.port());
    node.cache.invalidate(&1).await.unwrap();
    node.cache.invalidate(&2).await.unwrap();
    node.cache.invalidate(&13).await.unwrap();
    admin.cmd(&["XTRIM", JOURNAL, "MAXLEN", "2"]);
    let (text, json) = why(&url, &["1"]);
    assert_eq!(json["events"], json!([]));
    assert_eq!(json["journal"]["whole_epoch"], false);
    assert_eq!(json["journal"]["events"], 2);
    assert!(
        text.contains("It no longer reaches what came before"),
        "{text}"
    );

    // One of them only.
    let latest = json["journal"]["latest"].to_string();
    admin.cmd(&["XDEL", JOURNAL, &format!("{latest}-0")]);
    let (text, json) = why(&url, &["2"]);
    assert_eq!(
        (&json["journal"]["missing"], kinds_of(&json["events"][0])),
        (&json!(1), vec!["key"])
    );
    assert!(
        text.contains("It lacks 1 event of those that came after"),
        "{text}"
    );

    admin.cmd(&["DEL", JOURNAL]);
    let (text, json) = why(&url, &["2"]);
    assert_eq!(json["journal"]["oldest"], Value::Null);
    assert!(text.contains("Its journal is gone"), "{text}");

    // Another epoch begins with an empty journal; what the instance publishes then is in it.
    let epoch = json["epoch"].clone();
    admin.cmd(&["DEL", STATE]);
    until("another epoch began", async || {
        let ran = run_on(&url, &["why", "rows", "1", "--json"]);
        let json = ran.json();
        json["epoch"] != epoch && json["journal"]["whole_epoch"] == true
    })
    .await;
    node.cache.invalidate(&1).await.unwrap();
    let (text, json) = why(&url, &["1"]);
    let events = json["events"].as_array().unwrap();
    let latest = events.last().unwrap();
    assert_eq!(latest["epoch"], json["epoch"], "{json}");
    assert_eq!(latest["sequence"], json["sequence"], "{json}");
    assert!(
        text.contains("all since the epoch began. A new epoch begins with an empty journal"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_reads_a_journal_of_many_pages_and_lists_the_latest() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 1, &source()).await;
    until_known(&url, "rows", 1).await;
    for _ in 0..400 {
        node.cache.invalidate(&1).await.unwrap();
    }
    let (text, json) = why(&url, &["1"]);
    assert_eq!(json["journal"]["events"], 400);
    let events = json["events"].as_array().unwrap();
    let all = events.len() as u64 + json["earlier_events"].as_u64().unwrap();
    assert_eq!(all, 400);
    assert_eq!(events.last().unwrap()["sequence"], json["sequence"]);
    assert!(
        text.contains("400 events in the journal drop the key"),
        "{text}"
    );
    assert!(
        text.contains("- and 390 earlier; --json has more of them"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_takes_keys_of_several_parts_shows_none_and_finds_one_in_a_foreign_lane() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 2, &source()).await;
    let members = node.instance.cache::<(u64, String), u64>("members");
    let members = members.build().unwrap();
    until_known(&url, "members", 1).await;
    members.invalidate(&(7, "s3cret".to_owned())).await.unwrap();
    let args = ["why", "members", "--parts", "7", "s3cret", "--json"];
    let ran = run_on(&url, &args);
    let json = ran.json();
    assert_eq!(kinds_of(&json["events"][0]), ["key"], "{json}");
    assert_eq!(json["formats"], json!([32]));
    assert!(!ran.stdout.contains("s3cret"), "{ran:?}");
    assert!(!run_on(&url, &args[..5]).stdout.contains("s3cret"));
    // As one part it is another key.
    let ran = run_on(&url, &["why", "members", "7s3cret", "--json"]);
    assert_eq!(ran.json()["events"], json!([]));

    // A writer that has counted the lanes wrongly.
    let own = json["lane"].as_u64().unwrap();
    let name = |lane: u64, end: &str| format!("us:{{shop:{lane}}}{end}");
    let copy = "local e = redis.call('XRANGE', KEYS[1], '0-2', '+')[1][2] \
        local q = string.format('%.0f-0', redis.call('HINCRBY', KEYS[2], 'q', 1)) \
        return redis.call('XADD', KEYS[3], q, 'e', e[2])";
    let (from, other) = (name(own, "j"), 1 - own);
    let to = [name(other, "s"), name(other, "j")];
    Client::connect(server.port()).cmd(&["EVAL", copy, "3", &from, &to[0], &to[1]]);
    let json = run_on(&url, &args).json();
    assert_eq!(json["events"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["in_other_lanes"][0]["lane"], other, "{json}");
    let text = sentences(&run_on(&url, &args[..5]));
    assert!(
        text.contains("a writer has another number of lanes"),
        "{text}"
    );
    drop(members);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_refuses_wrong_usage_and_says_which_name_may_be_wrong() {
    let server = RedisServer::start();
    let url = server.url();
    let wrong: [&[&str]; 8] = [
        &["why"],
        &["why", "rows"],
        &["why", "Rows", "1"],
        &["why", "rows", "1", "2"],
        &["why", "rows", "1", "--hash", "12"],
        &["why", "rows", "--hash", "xyz"],
        &["why", "rows", "1", "--format", "x"],
        &["why", "rows", "1", "--jsno"],
    ];
    for args in wrong {
        let ran = run_on(&url, args);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    let ran = run_on(&url, &["why", "rows", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(
        ran.stderr
            .contains("no instance has ever been in namespace shop"),
        "{ran:?}"
    );

    let node = node(&url, 1, &source()).await;
    until_known(&url, "rows", 1).await;
    let ran = run_on(&url, &["why", "rosw", "1"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let says = "no event in the journals names a cache rosw, and no member has one";
    assert!(ran.stderr.contains(says), "{ran:?}");
    let json = run_on(&url, &["why", "rosw", "1", "--json"]);
    assert_eq!(
        (json.status, &json.json()["cache_known"]),
        (Some(1), &json!(false))
    );
    drop(node);

    let away = format!("redis://app:{PASSWORD}@127.0.0.1:{}", free_port());
    let ran = run_on(&away, &["why", "rows", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("refused"), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_into_a_closed_pipe_is_no_error() {
    let server = RedisServer::start();
    let url = server.url();
    let node = node(&url, 1, &source()).await;
    until_known(&url, "rows", 1).await;
    node.cache.invalidate(&1).await.unwrap();
    for args in [&["why", "rows", "1"][..], &["why", "rows", "1", "--json"]] {
        let mut child = program(args, &on(&url))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran: Ran = tokio::task::block_in_place(|| child.wait_with_output().unwrap().into());
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// The incident of docs/observability.md: an instance names the whole cache for each row that it changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_prints_what_the_incident_shows() {
    let document = read("docs/observability.md");
    let (_, incident) = document.split_once("## An incident").unwrap();
    let (_, block) = incident.split_once("```console\n").unwrap();
    let (command, shown) = block.split_once("```").unwrap().0.split_once('\n').unwrap();
    let args: Vec<_> = command.split(' ').skip(2).collect();
    assert_eq!(args[..2], ["why", "accounts"], "{command}");

    let server = RedisServer::start();
    let url = server.url();
    let mut settings = Settings::default();
    settings.redis_url = Some(url.clone());
    settings.namespace = "shop".to_owned();
    let service = Instance::start(settings.clone()).await.unwrap();
    let importer = Instance::start(settings).await.unwrap();
    let cache = |instance: &Instance| instance.cache::<u64, u64>("accounts").build().unwrap();
    let (accounts, import) = (cache(&service), cache(&importer));
    until_known(&url, "accounts", 2).await;
    accounts.invalidate(&42).await.unwrap();
    for _ in 0..3 {
        import.invalidate_all().await.unwrap();
    }
    let ran = run_on(&url, &args);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    // Where lines end depends on how long the numbers are.
    let said = sentences(&ran);
    assert_eq!(kinds([&*said]), kinds([&*words(shown)]), "{}", ran.stdout);
    let id = importer.id().to_string();
    assert_eq!(
        said.matches(&format!("names the whole cache. Instance {id}"))
            .count(),
        3
    );

    // The alerts and the panels that it tells of are there.
    let alerts = read("dashboards/alerts.yml");
    let names = incident
        .split('`')
        .filter(|word| word.starts_with("Unstale"));
    let names: Vec<_> = names.collect();
    assert_eq!(names[0], "UnstaleMissesRose");
    for name in names {
        assert!(alerts.contains(&format!("alert: {name}\n")), "{name}");
    }
    let boards = read("dashboards/overview.json") + &read("dashboards/incident.json");
    let panels = incident.split('*').skip(1).step_by(2);
    // Between the asterisks of what is bold stands nothing.
    let panels: Vec<_> = panels.filter(|panel| !panel.is_empty()).collect();
    assert!(panels.len() >= 3, "{panels:?}");
    for panel in panels {
        assert!(boards.contains(&format!("\"title\": \"{panel}")), "{panel}");
    }
}
