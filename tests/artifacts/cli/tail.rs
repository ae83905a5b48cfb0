//! `unstale tail`: events as they come.

use super::*;

/// A `tail` that listens.
fn tail(url: &str, args: &[&str]) -> Child {
    let mut child = program(&[&["tail"], args].concat(), &on(url))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "listening to 1 lane\n");
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_prints_an_event_with_what_is_known_of_it() {
    let server = RedisServer::start();
    let node = node(&server.url(), 1, &source()).await;
    let url = server.url();
    let start = || tail(&url, &["--json", "--cache", "rows", "--count", "2"]);
    let child = tokio::task::block_in_place(start);
    node.cache.invalidate_many([&1, &2]).await.unwrap();
    node.cache.invalidate_all().await.unwrap();
    let ran: Ran = tokio::task::block_in_place(|| child.wait_with_output().unwrap().into());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [keys, all] = &events[..] else {
        panic!("{ran:?}");
    };
    assert_eq!(keys["lane"], 0);
    assert_eq!(keys["origin"].as_str().unwrap().len(), 8);
    let op = &keys["ops"][0];
    assert_eq!(
        (op["cache"].as_str(), op["kind"].as_str()),
        (Some("rows"), Some("key"))
    );
    assert_eq!(op["count"], 2);
    assert_eq!(op["hashes"].as_array().unwrap().len(), 2);
    assert_eq!(all["ops"][0]["kind"], "cache");
    let number = |event: &Value| event["sequence"].as_u64().unwrap();
    assert_eq!(number(all), number(keys) + 1);
    // The member of `status` and the origin of an event are called the same.
    let status = run_on(&url, &["status", "--json"]).json();
    assert_eq!(status["members"][0]["id"], keys["origin"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_reports_a_gap_and_ends_by_time_or_when_its_reader_has_gone() {
    let server = RedisServer::start();
    let url = server.url();
    let mut child = tokio::task::block_in_place(|| tail(&url, &["--json"]));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut admin = Client::connect(server.port());
    admin.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let mut line = String::new();
    tokio::task::block_in_place(|| stdout.read_line(&mut line).unwrap());
    let gap: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(gap["gap"], "disconnected");

    // Like `| head -1`: the next line finds no reader, and that is no error.
    drop(stdout);
    let ended = tokio::task::block_in_place(|| {
        loop {
            run_on(&url, &["invalidate", "rows", "1"]);
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
        }
    });
    assert_eq!(ended.code(), Some(0));

    let mut quiet = tokio::task::block_in_place(|| tail(&url, &["--seconds", "1"]));
    let status = tokio::task::block_in_place(|| quiet.wait().unwrap());
    assert_eq!(status.code(), Some(0));
    let mut text = String::new();
    quiet
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "");
}
