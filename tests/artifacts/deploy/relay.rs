//! What `deploy/` has for a relay: accepted by the tools that know its formats, and fit for the service.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_yaml_ng::{Deserializer, Value};
use testkit::built::program;
use testkit::program;

use super::files::{built, memory, operator_says, read, systemd_says, validated};

const OVERLAY: &str = "overlays/relay";

/// The objects of the overlay, by kind and by name without its hash.
fn objects() -> BTreeMap<(String, String), Value> {
    let built = built(OVERLAY);
    let objects = Deserializer::from_str(&built).map(|object| Value::deserialize(object).unwrap());
    let named = objects.map(|object| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let name = match &*kind {
            "ConfigMap" => name.rsplit_once('-').unwrap().0.to_owned(),
            _ => name,
        };
        ((kind, name), object)
    });
    named.collect()
}

fn object<'a>(all: &'a BTreeMap<(String, String), Value>, kind: &str, name: &str) -> &'a Value {
    let key = (kind.to_owned(), name.to_owned());
    all.get(&key).unwrap_or_else(|| unreachable!("{key:?}"))
}

/// The only container of a deployment.
fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

/// The key of a secret that a variable comes from.
fn secret(container: &Value, variable: &str) -> (String, String) {
    let all = container["env"].as_sequence().unwrap();
    let found = all.iter().find(|one| one["name"] == variable);
    let from = &found.unwrap_or_else(|| unreachable!("{variable}"))["valueFrom"]["secretKeyRef"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&from["name"]), text(&from["key"]))
}

#[test]
fn kubernetes_knows_every_field_of_the_overlay() {
    let said = validated(&built(OVERLAY));
    for kind in [
        "configmap/accounts-relay-",
        "deployment/accounts ",
        "deployment/accounts-relay ",
        "poddisruptionbudget/accounts-relay ",
        "networkpolicy/accounts-relay ",
    ] {
        let passed = format!("passed for resource {kind}");
        assert!(said.contains(&passed), "{said}");
    }
    let said = operator_says(&built(OVERLAY));
    assert!(
        said.contains("PodMonitor accounts-relay: accepted"),
        "{said}"
    );
}

#[test]
fn the_relays_are_of_the_fleet_and_read_its_database() {
    let all = objects();
    let [service, relay] =
        ["accounts", "accounts-relay"].map(|name| object(&all, "Deployment", name));
    // One waits.
    assert_eq!(relay["spec"]["replicas"], 2);
    let (serves, relays) = (container(service), container(relay));
    assert_eq!(serves["image"], relays["image"]);
    assert_eq!(serves["envFrom"], relays["envFrom"]);
    let redis = "UNSTALE_REDIS_URL";
    assert_eq!(secret(serves, redis), secret(relays, redis));
    let (shared, url) = secret(serves, "DATABASE_URL");
    let (same, own) = secret(relays, "UNSTALE_RELAY_DATABASE_URL");
    assert_eq!(shared, same);
    assert_ne!(url, own, "the relay's role reads no table");
    let text = read("deploy/README.md");
    for part in [
        &format!("secret generic {shared}"),
        &format!("--from-literal={url}="),
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(text.contains(&format!("--from-literal={own}=")));
    // SQLite is gone, and its volume with it.
    let pod = &service["spec"]["template"]["spec"];
    assert!(pod["volumes"].as_sequence().is_none_or(Vec::is_empty));
    assert!(
        serves["volumeMounts"]
            .as_sequence()
            .is_none_or(Vec::is_empty)
    );
    let arguments = serves["args"].as_sequence().unwrap();
    assert!(!arguments.contains(&"--database".into()), "{arguments:?}");
}

#[test]
fn the_relays_find_their_rules_and_are_asked_for_metrics() {
    let all = objects();
    let relay = object(&all, "Deployment", "accounts-relay");
    let pod = &relay["spec"]["template"];
    let rules = object(&all, "ConfigMap", "accounts-relay");
    assert_eq!(
        pod["spec"]["volumes"][0]["configMap"]["name"],
        rules["metadata"]["name"]
    );
    let mounted = &container(relay)["volumeMounts"][0]["mountPath"];
    let file = format!("{}/rules.toml", mounted.as_str().unwrap());
    assert_eq!(container(relay)["args"][1], Value::from(file));
    assert!(rules["data"]["rules.toml"].is_string());
    let labels = &pod["metadata"]["labels"];
    for (kind, at) in [
        ("PodDisruptionBudget", "selector"),
        ("PodMonitor", "selector"),
        ("NetworkPolicy", "podSelector"),
    ] {
        let spec = &object(&all, kind, "accounts-relay")["spec"];
        assert_eq!(&spec[at]["matchLabels"], labels, "{kind}");
    }
    let port = &container(relay)["ports"][0];
    let monitor = &object(&all, "PodMonitor", "accounts-relay")["spec"];
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], port["name"]);
    let network = &object(&all, "NetworkPolicy", "accounts-relay")["spec"];
    assert_eq!(network["ingress"][0]["ports"][0]["port"], port["name"]);
    let settings = object(&all, "ConfigMap", "accounts-unstale");
    let address = settings["data"]["UNSTALE_METRICS_ADDR"].as_str().unwrap();
    let number = port["containerPort"].as_u64().unwrap();
    assert!(address.ends_with(&format!(":{number}")), "{address}");
}

/// The rules are right: what is missing is the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_accepts_its_rules() {
    let rules = "deploy/kubernetes/components/relay/rules.toml";
    let all = objects();
    let source = &container(object(&all, "Deployment", "accounts"))["args"];
    let source = source.as_sequence().unwrap().last().unwrap();
    let named = format!("source = \"{}\"\n", source.as_str().unwrap());
    assert!(read(rules).contains(&named), "{named}");
    // No server is there: what it prints is for any.
    let variables = [(
        "UNSTALE_RELAY_DATABASE_URL",
        "postgres://relay@127.0.0.1:1/shop",
    )];
    let file = testkit::built::root().join(rules);
    let args = ["relay", "--rules", file.to_str().unwrap(), "--print-sql"];
    let ran = program::run(&args, &variables);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(r#"'"public"."accounts"'"#), "{ran:?}");
}

#[test]
fn systemd_knows_every_line_of_the_relay() {
    let file = "unstale-relay.service";
    let said = systemd_says(file, file, "/usr/local/bin/unstale", &program());
    assert!(!said.contains("unstale-relay"), "{said}");
}

#[test]
fn the_image_has_a_relay() {
    let file = read("deploy/Dockerfile");
    assert!(file.contains("--features relay --example accounts --bin unstale"));
}

#[test]
fn a_relays_memory_is_the_sum_that_is_written() {
    let text = read("deploy/README.md");
    let (_, table) = text.split_once("The 128 MiB of a relay are:").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = memory(table);
    let sum: u64 = rows.iter().map(|(mib, _)| mib).sum();
    assert!((96..=128).contains(&sum), "{sum}: {rows:?}");
    let relay = objects();
    let limits = &container(object(&relay, "Deployment", "accounts-relay"))["resources"]["limits"];
    assert_eq!(limits["memory"], "128Mi");
    assert!(read("deploy/systemd/unstale-relay.service").contains("MemoryMax=128M\n"));
    let of = |what: &str| rows.iter().find(|(_, row)| row.contains(what)).unwrap().0;
    let (frames, statement) = ("src/relay/postgres/frames.rs", "src/instance/statement.rs");
    let largest = format!("LARGEST: usize = {} * 1024 * 1024;", of("largest row"));
    assert!(read(frames).contains(&largest), "{largest}");
    // Eight bytes each.
    assert!(read(statement).contains("MOST_HASHES: usize = 262_144;"));
    assert_eq!(of("names of"), (262_144 * 8) >> 20);
}
