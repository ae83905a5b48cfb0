//! The files of `deploy/` that no test can run are accepted by the programs that know their formats, and name what
//! exists.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_yaml_ng::Value;
use tempfile::TempDir;
use unstale::Settings;

use super::{PLACEHOLDER, users};
use testkit::prometheus;
use testkit::python::{run, text, venv};
use testkit::redis::RedisServer;
use testkit::resp::Client;
use testkit::service;

const REQUIREMENTS: &str = "deploy/requirements.txt";

/// Long lines for long queries, and the spaces of `{a: b}` as they are.
const YAMLLINT: &str = "{extends: default, rules: {line-length: {max: 170}, document-start: disable, \
                        braces: {max-spaces-inside: 1}}, ignore: node_modules/}";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

pub(super) fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path)).unwrap()
}

/// `deploy/compose.yaml`, with what its services inherit.
fn compose() -> Value {
    let mut file = yaml("deploy/compose.yaml");
    file.apply_merge().unwrap();
    file
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_sequence().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).collect()
}

/// Runs one of the tools in the repository; it must be content.
fn lint(tool: &str, arguments: &[&str]) {
    let mut command = Command::new(venv(REQUIREMENTS).join(tool));
    run(
        command.args(arguments).current_dir(root()),
        "it found fault",
    );
}

#[test]
fn the_dockerfile_is_well_made() {
    lint("hadolint", &["deploy/Dockerfile"]);
}

#[test]
fn the_compose_file_has_the_form_of_one() {
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    lint(
        "check-jsonschema",
        &[&schema[..], &["deploy/compose.yaml"]].concat(),
    );
}

#[test]
fn every_yaml_file_is_well_formed() {
    lint(
        "yamllint",
        &["--strict", "-d", YAMLLINT, "deploy", "dashboards"],
    );
}

/// What a cluster is given by a folder of `deploy/kubernetes`.
pub(super) fn built(folder: &str) -> String {
    let mut kustomize = Command::new("kubectl");
    let folder = root().join("deploy/kubernetes").join(folder);
    run(
        kustomize.arg("kustomize").arg(folder),
        "`scripts/install.sh kubectl`",
    )
}

/// Which of these objects Kubernetes accepts: all that it knows.
pub(super) fn validated(built: &str) -> String {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    fs::write(&file, built).unwrap();
    let mut validate = Command::new(venv(REQUIREMENTS).join("kubernetes-validate"));
    run(validate.arg("--strict").arg(file), "it found fault")
}

#[test]
fn kubernetes_knows_every_field() {
    let built = built("base");
    let said = validated(&built);
    for kind in [
        "configmap/accounts-unstale-",
        "deployment/accounts ",
        "service/accounts ",
        "poddisruptionbudget/accounts ",
        "networkpolicy/accounts ",
    ] {
        assert!(
            said.contains(&format!("passed for resource {kind}")),
            "{said}"
        );
    }
    // The pods take their settings from the map that was generated, under its hashed name.
    let name = built.split("name: accounts-unstale-").nth(1).unwrap();
    let hash = name.split_whitespace().next().unwrap();
    assert_eq!(
        built.matches(&format!("accounts-unstale-{hash}")).count(),
        2
    );
}

/// A name that is misspelt in one of them selects nothing, and Kubernetes does not report it.
#[test]
fn everything_in_kubernetes_is_about_the_same_pods_and_ports() {
    let base = "deploy/kubernetes/base";
    let pods = &yaml(&format!("{base}/deployment.yaml"))["spec"]["template"];
    let labels = &pods["metadata"]["labels"];
    let disruption = yaml(&format!("{base}/disruption.yaml"));
    let network = yaml(&format!("{base}/network.yaml"));
    assert_eq!(&disruption["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&network["spec"]["podSelector"]["matchLabels"], labels);
    let ports = pods["spec"]["containers"][0]["ports"]
        .as_sequence()
        .unwrap();
    let names: Vec<&str> = ports
        .iter()
        .map(|port| port["name"].as_str().unwrap())
        .collect();
    let rules = network["spec"]["ingress"].as_sequence().unwrap();
    let opened: Vec<&str> = rules
        .iter()
        .map(|rule| rule["ports"][0]["port"].as_str().unwrap())
        .collect();
    assert_eq!(names, opened);
    // Metrics are for whom they are for.
    assert!(rules[0]["from"].is_null() && !rules[1]["from"].is_null());
}

/// What is wrong with the operator's two kinds among these objects, by their schemas.
pub(super) fn operator_says(objects: &str) -> String {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    fs::write(&file, objects).unwrap();
    let mut check = Command::new(venv(REQUIREMENTS).join("python"));
    check.arg(root().join("tests/artifacts/deploy/monitoring.py"));
    text(&check.arg(file).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn the_operator_knows_every_field() {
    let built = built("base");
    let accepted = "PodMonitor accounts: accepted\nPrometheusRule unstale: accepted\n";
    assert_eq!(operator_says(&built), accepted);
    // An error names its place.
    let wrong = built
        .replacen("podMetricsEndpoints:", "podMetricEndpoints:", 1)
        .replacen("for: 30s", "for: 30 s", 1);
    let said = operator_says(&wrong);
    for fault in [
        "PodMonitor accounts: $.spec: Additional properties are not allowed",
        "PrometheusRule unstale: $.spec.groups[1].rules[0].for: '30 s' does not match",
    ] {
        assert!(said.contains(fault), "{said}");
    }
}

#[test]
fn the_operator_gets_the_rules_and_asks_the_pods() {
    let base = "deploy/kubernetes/base";
    let rule = yaml(&format!("{base}/prometheusrule.yaml"));
    let rules = yaml("dashboards/alerts.yml");
    assert_eq!(rule["spec"], rules, "python3 dashboards/generate.py");
    let (monitor, deployment) = (
        yaml(&format!("{base}/podmonitor.yaml")),
        yaml(&format!("{base}/deployment.yaml")),
    );
    let pods = &deployment["spec"]["template"];
    let selected = &monitor["spec"]["selector"]["matchLabels"];
    assert_eq!(selected, &pods["metadata"]["labels"]);
    assert_eq!(selected, &deployment["spec"]["selector"]["matchLabels"]);
    let service = yaml(&format!("{base}/service.yaml"));
    assert_eq!(selected, &service["spec"]["selector"]);
    let container = &pods["spec"]["containers"][0];
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["port"], container["ports"][1]["name"]);
    let address = format!(
        "UNSTALE_METRICS_ADDR=0.0.0.0:{}",
        container["ports"][1]["containerPort"].as_u64().unwrap()
    );
    assert!(read(&format!("{base}/unstale.env")).contains(&address));
    let target = &service["spec"]["ports"][0]["targetPort"];
    assert_eq!(target, &container["ports"][0]["name"]);
    for (file, kind) in [(&rule, "PrometheusRule"), (&monitor, "PodMonitor")] {
        assert_eq!(file["apiVersion"], "monitoring.coreos.com/v1");
        assert_eq!(file["kind"], kind);
    }
}

/// The rows of a table of memory, in MiB.
pub(super) fn memory(table: &str) -> Vec<(u64, &str)> {
    let rows = table.lines().filter_map(|line| {
        let (mib, what) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some((mib.parse().ok()?, what))
    });
    rows.collect()
}

/// What a pod, or a process, may take is what is written to be needed.
#[test]
fn the_memory_limits_are_the_sum_that_is_written() {
    let text = read("deploy/README.md");
    let (_, table) = text.split_once("### Memory").unwrap();
    let (table, _) = table.split_once("A service with larger rows").unwrap();
    let rows = memory(table);
    let sum: u64 = rows.iter().map(|(mib, _)| mib).sum();
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let limit = container["resources"]["limits"]["memory"].as_str().unwrap();
    let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
    assert!(
        (limit - 32..=limit).contains(&sum),
        "{sum} of {limit}: {rows:?}"
    );
    let unit = read("deploy/systemd/accounts@.service");
    assert!(unit.contains(&format!("MemoryMax={limit}M\n")));
    // The bounds that the sum names are those of the code.
    let of = |what: &str| rows.iter().find(|(_, row)| row.contains(what)).unwrap().0;
    for (file, name, mib) in [
        ("src/bus.rs", "EVENT_BYTES", of("wait to be applied")),
        (
            "src/coherence/inbound.rs",
            "STASH_BYTES",
            of("wait for a repair"),
        ),
    ] {
        let line = format!("const {name}: usize = {mib} << 20;");
        assert!(read(file).contains(&line), "{file}: {line}");
    }
    let capacity = read("deploy/kubernetes/base/unstale.env");
    assert!(capacity.contains("UNSTALE_CAPACITY=50000\n"));
}

/// What systemd says of a unit that is called so, with the program where it is here.
pub(super) fn systemd_says(file: &str, called: &str, installed: &str, here: &Path) -> String {
    let unit = read(&format!("deploy/systemd/{file}"));
    assert!(unit.contains(&format!("ExecStart={installed} ")));
    let dir = TempDir::new().unwrap();
    let unit = unit.replace(installed, here.to_str().unwrap());
    fs::write(dir.path().join(file), unit).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no"]);
    analyze.arg(dir.path().join(called));
    if let Err(error) = Command::new("systemd-analyze").arg("--version").output() {
        // No package registry has it: where there is no systemd, there is nothing to ask.
        assert_eq!(error.kind(), ErrorKind::NotFound);
        return String::new();
    }
    run(&mut analyze, "it found fault")
}

#[test]
fn systemd_knows_every_line() {
    let (file, called) = ("accounts@.service", "accounts@8081.service");
    let said = systemd_says(file, called, "/usr/local/bin/accounts", &service::binary());
    assert!(!said.contains("accounts@"), "{said}");
}

#[test]
fn prometheus_accepts_its_configuration() {
    let dir = TempDir::new().unwrap();
    for file in ["deploy/prometheus/prometheus.yml", "dashboards/alerts.yml"] {
        let name = Path::new(file).file_name().unwrap();
        fs::copy(root().join(file), dir.path().join(name)).unwrap();
    }
    let mut promtool = Command::new(prometheus::binary("promtool"));
    promtool.args(["check", "config", "prometheus.yml"]);
    let said = run(promtool.current_dir(dir.path()), "it found fault");
    assert!(said.contains("1 rule files found"), "{said}");
}

/// What is mounted exists, and so does every service that is asked.
#[test]
fn compose_fits_together() {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();
    let names: BTreeSet<_> = services.keys().filter_map(Value::as_str).collect();
    let volumes = compose["volumes"].as_mapping().unwrap();
    let mut mounted = BTreeSet::new();
    for (name, service) in services {
        for volume in strings(&service["volumes"]) {
            let mut parts = volume.split(':');
            let (from, to) = (parts.next().unwrap(), parts.next().unwrap());
            mounted.insert(to.to_owned());
            let named = volumes.contains_key(from);
            let file = root().join("deploy").join(from);
            assert!(named || from.starts_with('.') && file.exists(), "{volume}");
        }
        let image = service["image"].as_str().unwrap();
        assert!(image.contains(':'), "{name:?}: a version of {image}");
    }
    let file = read("deploy/compose.yaml");
    let prometheus = read("deploy/prometheus/prometheus.yml");
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    let texts = [&*file, &prometheus, &source].concat();
    let addresses = texts.split(['"', ' ', '\n']).filter_map(|word| {
        let word = word.trim_start_matches("--load=");
        let (host, port) = word
            .rsplit_once(['@', '/'])
            .map_or(word, |(_, rest)| rest)
            .split_once(':')?;
        port.parse::<u16>().ok().map(|_| host)
    });
    let addresses: BTreeSet<_> = addresses.collect();
    assert!(addresses.len() >= 5, "{addresses:?}");
    for host in addresses {
        assert!(names.contains(host), "{host} is no service");
    }
    // Grafana's configuration names the boards that it is given.
    let provider = yaml("deploy/grafana/provisioning/dashboards/unstale.yml");
    let folder = provider["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    for board in ["overview.json", "incident.json"] {
        assert!(mounted.contains(&format!("{folder}/{board}")), "{board}");
    }
    let grafana = &services["grafana"]["environment"];
    let home = &grafana["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert!(mounted.contains(home.as_str().unwrap()));
}

/// The variables of a file.
pub(super) fn variables(path: &str) -> Vec<(String, String)> {
    let lines = read(path);
    let lines = lines.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once('=').expect(path));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A variable that the crate does not know would stop the start.
#[test]
fn the_crate_accepts_every_setting() {
    let mut all = vec![
        variables("deploy/kubernetes/base/unstale.env"),
        variables("deploy/systemd/unstale.env"),
        variables("deploy/systemd/relay.env"),
    ];
    let compose = compose();
    let environment = compose["services"]["accounts-1"]["environment"].as_mapping();
    let pairs = environment.unwrap().iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    all.push(pairs.map(|(k, v)| (text(k), text(v))).collect());
    for variables in all {
        assert!(variables.len() >= 3, "{variables:?}");
        Settings::from_vars(variables.clone()).unwrap();
    }
}

/// Compose's Redis has the real user, with a password that is public.
#[test]
fn the_demo_has_the_rights_of_production() {
    let demo = read("deploy/redis/demo.acl");
    let hash = demo.split('#').nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(hash.len(), 64, "{hash}");
    assert_eq!(users().replace(PLACEHOLDER, &format!("#{hash}")), demo);
    let dir = TempDir::new().unwrap();
    let file: PathBuf = dir.path().join("demo.acl");
    fs::write(&file, demo).unwrap();
    let server = RedisServer::start_with(&["--aclfile", file.to_str().unwrap()]);
    let mut client = Client::connect(server.port());
    let url = compose()["services"]["accounts-1"]["environment"]["UNSTALE_REDIS_URL"].clone();
    let user = url.as_str().unwrap().strip_prefix("redis://").unwrap();
    let (user, password) = user.split('@').next().unwrap().split_once(':').unwrap();
    assert_eq!(client.cmd(&["AUTH", user, password]).text(), "OK");
}
