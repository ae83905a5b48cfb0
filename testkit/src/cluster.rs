//! Three primaries of a cluster, and a replica of the first.

use super::redis::{RedisServer, free_port};
use super::resp::{Client, Value};
use super::sentinel::wait;
use super::tls::Certificates;

const PRIMARIES: usize = 3;

/// See the module's documentation.
#[derive(Debug)]
pub struct ClusterFleet {
    /// The first serves the slot that the fleet was started with.
    pub primaries: Vec<RedisServer>,
    pub replica: RedisServer,
    url: String,
}

impl ClusterFleet {
    /// Starts all of them and waits until they agree. The first primary serves this key's slot.
    pub fn start(key: &str) -> Self {
        Self::start_over(key, None)
    }

    /// The same; with certificates only this fixture speaks to any of them without TLS.
    pub fn start_over(key: &str, tls: Option<&Certificates>) -> Self {
        Self::start_with(key, tls, &[])
    }

    /// The same, with these arguments for each.
    pub fn start_with(key: &str, tls: Option<&Certificates>, arguments: &[&str]) -> Self {
        let server = |tls| server(tls, arguments);
        let started = (0..PRIMARIES).map(|_| server(tls));
        let (primaries, ports): (Vec<RedisServer>, Vec<u16>) = started.unzip();
        let (replica, _) = server(tls);
        let scheme = if tls.is_some() { "rediss" } else { "redis" };
        let url = format!("{scheme}-cluster://127.0.0.1:{}", ports[1]);
        let admin = |server: &RedisServer, command: &[&str]| {
            Client::connect(server.port()).cmd(command).text()
        };
        let slot = admin(&replica, &["CLUSTER", "KEYSLOT", key]);
        let first = slot.parse::<usize>().unwrap() / 5_462;
        for (at, server) in primaries.iter().enumerate() {
            let third = (first + at) % PRIMARIES;
            let (from, to) = (third * 5_462, (third * 5_462 + 5_461).min(16_383));
            let range = [
                "CLUSTER",
                "ADDSLOTSRANGE",
                &from.to_string(),
                &to.to_string(),
            ];
            admin(server, &range);
            let epoch = (at + 1).to_string();
            admin(server, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
        let fleet = Self {
            primaries,
            replica,
            url,
        };
        for server in fleet.all().skip(1) {
            // The port of the others' bus is the first's own choice, so that they do the meeting.
            let bus = bus_port(&fleet.primaries[0]);
            let meet = [
                "CLUSTER",
                "MEET",
                "127.0.0.1",
                &fleet.primaries[0].port().to_string(),
                &bus,
            ];
            admin(server, &meet);
        }
        wait("the nodes know each other", || {
            fleet.all().all(|server| {
                admin(server, &["CLUSTER", "INFO"]).contains("cluster_known_nodes:4\r")
            })
        });
        let id = admin(&fleet.primaries[0], &["CLUSTER", "MYID"]);
        wait("the replica is one", || {
            let replicate = ["CLUSTER", "REPLICATE", &id];
            let answer = Client::connect(fleet.replica.port()).try_cmd(&replicate);
            answer.is_ok_and(|answer| !matches!(answer, Value::Error(_)))
        });
        wait("the cluster", || {
            let known = |server| {
                let slots = Client::connect(RedisServer::port(server)).cmd(&["CLUSTER", "SLOTS"]);
                let nodes = slots.array().iter().map(|range| range.array().len() - 2);
                nodes.sum::<usize>() == PRIMARIES + 1
                    && admin(server, &["CLUSTER", "INFO"]).contains("cluster_state:ok")
            };
            let in_step = admin(&fleet.replica, &["INFO", "replication"]);
            fleet.all().all(known) && in_step.contains("master_link_status:up")
        });
        fleet
    }

    fn all(&self) -> impl Iterator<Item = &RedisServer> {
        self.primaries.iter().chain([&self.replica])
    }

    /// The URL for instances. Names one primary: the others are found.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns whether most of the others name the replica as the primary of this key.
    pub fn is_promoted(&self, key: &str) -> bool {
        let moved = format!(":{}", self.replica.port());
        self.primaries[1..].iter().all(|server| {
            let answer = Client::connect(server.port()).try_cmd(&["EXISTS", key]);
            matches!(answer, Ok(Value::Error(text)) if text.ends_with(&moved))
        })
    }

    /// Has the replica take the first primary's place while neither side knows the other any longer, so
    /// that the primary goes on as before.
    ///
    /// A node that forgets another reports it to those it still knows: in answers to their pings (Redis 7.2),
    /// or at once (Valkey 9); they forget it too, for a minute. So the others forget the primary first,
    /// and what one node does happens in one transaction, before it sends anything. Between the two
    /// transactions nothing of the primary may reach the replica, and nothing of the replica the primary,
    /// so the primary stands still from before the promotion until it forgets:
    ///
    /// 1. the primary forgets the replica and the two others;
    /// 2. the replica still pings it;
    /// 3. its answer has the replica forget the two others;
    /// 4. the promotion reaches only nodes that know the replica: a minute later.
    pub fn replace_unnoticed(&self, key: &str) {
        let old = &self.primaries[0];
        let own = id(old);
        let forget = |server: &RedisServer| vec!["CLUSTER".into(), "FORGET".into(), id(server)];
        let others = self.all().skip(1);
        let forgets: Vec<_> = others.map(forget).collect();
        let takeover = ["CLUSTER", "FAILOVER", "TAKEOVER"].map(str::to_owned);
        let promotion = [takeover.into(), forget(old)];
        let coverage = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        let mut primary = Client::connect(old.port());
        primary.cmd(&coverage);
        for other in &self.primaries[1..] {
            let answer = Client::connect(other.port()).try_cmd(&["CLUSTER", "FORGET", &own]);
            let done = match &answer {
                // The other one's word was quicker.
                Ok(Value::Error(text)) => text.contains("Unknown node"),
                answer => answer.is_ok(),
            };
            assert!(done, "{answer:?}");
        }
        old.stop();
        // It reads them before any message that reaches it after it has gone on.
        send_transaction(&mut primary, &forgets);
        let mut replica = Client::connect(self.replica.port());
        send_transaction(&mut replica, &promotion);
        read_transaction(&mut replica, promotion.len());
        old.cont();
        read_transaction(&mut primary, forgets.len());
        self.wait_for_promotion(key);
        for (server, knows) in self.all().zip([1, PRIMARIES, PRIMARIES, PRIMARIES]) {
            let info = Client::connect(server.port())
                .cmd(&["CLUSTER", "INFO"])
                .text();
            let known = format!("cluster_known_nodes:{knows}\r");
            assert!(info.contains(&known), "not {knows}: {info}");
        }
    }

    /// Has the second primary call all nodes by a name of this machine, where the others say addresses.
    pub fn call_by_name(&self) {
        let set = |server: &RedisServer, name: &str, value: &str| {
            Client::connect(server.port()).cmd(&["CONFIG", "SET", name, value]);
        };
        for server in self.all() {
            set(server, "cluster-announce-hostname", "localhost");
        }
        let caller = &self.primaries[1];
        set(caller, "cluster-preferred-endpoint-type", "hostname");
        wait("all names are known there", || {
            let slots = Client::connect(caller.port()).cmd(&["CLUSTER", "SLOTS"]);
            let nodes = slots.array().iter().flat_map(|range| &range.array()[2..]);
            nodes
                .map(|node| node.array()[0].text())
                .all(|host| host == "localhost")
        });
    }

    pub fn wait_for_promotion(&self, key: &str) {
        wait("the promotion", || self.is_promoted(key));
    }
}

fn id(server: &RedisServer) -> String {
    Client::connect(server.port())
        .cmd(&["CLUSTER", "MYID"])
        .text()
}

/// Has the server run the commands with nothing in between, not even its own work.
fn send_transaction(client: &mut Client, commands: &[Vec<String>]) {
    let all = [
        &[vec!["MULTI".to_owned()]],
        commands,
        &[vec!["EXEC".to_owned()]],
    ]
    .concat();
    for command in all {
        client.send(&command).expect("redis-server reads");
    }
}

fn read_transaction(client: &mut Client, commands: usize) {
    for _ in 0..=commands {
        client.read().expect("redis-server answers");
    }
    let answers = client.read().expect("redis-server answers");
    let done = answers
        .array()
        .iter()
        .filter(|answer| !matches!(answer, Value::Error(_)));
    assert_eq!(done.count(), commands, "{answers:?}");
}

fn bus_port(server: &RedisServer) -> String {
    let nodes = Client::connect(server.port())
        .cmd(&["CLUSTER", "NODES"])
        .text();
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
    let (_, port) = own.split_once('@').unwrap();
    port.split([' ', ',']).next().unwrap().to_owned()
}

/// A server, and the port where instances find it: over TLS another than its own.
fn server(tls: Option<&Certificates>, arguments: &[&str]) -> (RedisServer, u16) {
    let (bus, port) = (free_port().to_string(), free_port());
    let secured = tls.map_or_else(Vec::new, |tls| tls.arguments(port, "no"));
    let mut all = vec![
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ];
    if tls.is_some() {
        all.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
        all.extend(secured.iter().map(String::as_str));
    }
    all.extend(arguments);
    let server = RedisServer::start_with(&all);
    let port = if tls.is_some() { port } else { server.port() };
    (server, port)
}
