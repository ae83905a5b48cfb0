//! What the server and the publication must have, independently of the rules.

use crate::relay::rules::Rules;
use crate::relay::rules::catalog::Catalog;
use crate::relay::rules::problems::Problems;
use crate::relay::rules::quote::identifier;
use crate::relay::rules::sql;

/// The oldest server whose log is read: 12 has neither partitions in publications nor their roots.
const OLDEST: u32 = 130_000;

/// Longest statement in an error: some 20 tables.
const LONGEST_SQL: usize = 1_024;

pub(super) fn check(catalog: &Catalog, problems: &mut Problems) {
    let server = &catalog.server;
    let place = "the server";
    if server.version < OLDEST {
        let version = server.version / 10_000;
        problems.report(place, format!("is PostgreSQL {version}: needs 13 or later"));
    }
    if server.wal_level != "logical" {
        let what = format!(
            "wal_level is {}: ALTER SYSTEM SET wal_level = logical; and restart it",
            server.wal_level
        );
        problems.report(place, what);
    }
    if server.recovering {
        problems.report(
            place,
            "is a replica: connect to the primary, whose log has every change first",
        );
    }
    if !server.replicates {
        let role = identifier(&server.role);
        let what = format!("role {role} may not read the log: ALTER ROLE {role} REPLICATION;");
        problems.report(place, what);
    }
    if server.free_slots < 1 {
        let what = "no replication slot is free: drop one that nothing reads (pg_replication_slots), or \
                    ALTER SYSTEM SET max_replication_slots to more, and restart it";
        problems.report(place, what);
    }
    if server.free_senders < 1 {
        let what = "no sender is free for one more reader of the log: ALTER SYSTEM SET max_wal_senders \
                    to more, and restart it";
        problems.report(place, what);
    }
    if server.durable_slot && server.slot_keeps < 0 {
        let what = "max_slot_wal_keep_size is -1, and the slot of UNSTALE_RELAY_SLOT fills the disk with log while no \
                    relay reads it: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); or \
                    set no UNSTALE_RELAY_SLOT";
        problems.report(place, what);
    }
}

pub(super) fn publication(rules: &Rules, catalog: &Catalog, problems: &mut Problems) {
    let name = identifier(&rules.publication);
    let place = format!("publication {name}");
    let Some(publication) = &catalog.publication else {
        let tables: Vec<_> = rules.rules.iter().map(|rule| &rule.table).collect();
        let mut sql = sql::create_publication(&rules.publication, &tables);
        if sql.len() > LONGEST_SQL {
            sql = "make it with what `unstale relay --print-sql` prints".to_owned();
        }
        problems.report(&place, format!("does not exist: {sql}"));
        return;
    };
    let published = [
        ("INSERT", publication.insert),
        ("UPDATE", publication.update),
        ("DELETE", publication.delete),
        ("TRUNCATE", publication.truncate),
    ];
    let lacks: Vec<&str> = published
        .into_iter()
        .filter_map(|(what, is)| (!is).then_some(what))
        .collect();
    if !lacks.is_empty() {
        let what = format!(
            "does not publish {}: ALTER PUBLICATION {name} SET (publish = '{}');",
            lacks.join(", "),
            sql::OPERATIONS
        );
        problems.report(&place, what);
    }
    if publication.via_root {
        let what = format!(
            "publishes changes of partitions as their root's, which loses TRUNCATE of one partition: \
             ALTER PUBLICATION {name} SET (publish_via_partition_root = false);"
        );
        problems.report(&place, what);
    }
}
