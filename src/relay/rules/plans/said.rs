//! What a message of the log invalidates.

use std::collections::BTreeSet;

use super::{Plans, Seen};
use crate::key::cache_id;
use crate::relay::message::{self, Bad, Said};
use crate::relay::rules::names::Name;
use crate::relay::rules::{Rule, TableName};

impl Plans {
    pub(super) fn message(
        &mut self,
        prefix: &str,
        content: &[u8],
        out: &mut impl Extend<Name>,
    ) -> Result<Seen, Bad> {
        if prefix != message::PREFIX {
            return Ok(Seen::Same);
        }
        match message::parse(content) {
            Ok(Said::Altered { schema, table }) => {
                let caches = self.of_table(&TableName {
                    schema,
                    name: table,
                });
                let concerns = !caches.is_empty() || !self.tables.open.is_empty();
                out.extend(caches);
                self.counts.altered += u64::from(concerns);
                // Partitions are added and removed like this, and no Relation message shows it.
                Ok(if concerns { Seen::Recheck } else { Seen::Same })
            }
            Ok(said) => {
                said.names(&self.rules, out);
                Ok(Seen::Same)
            }
            Err(bad) => {
                out.extend(Some(Name::Everything));
                self.counts.garbled += 1;
                Err(bad)
            }
        }
    }

    /// The caches of a table that was altered or dropped. One that the catalog does not have may have been
    /// a partition.
    fn of_table(&self, name: &TableName) -> Vec<Name> {
        let known = self
            .tables
            .get(name)
            .map_or(&self.tables.open, |known| &known.rules);
        let rules = self.rules.rules.iter().enumerate();
        let rules = rules.filter(|(n, rule)| known.contains(n) || rule.table == *name);
        let caches: BTreeSet<(u32, u32)> = rules.map(|(_, rule)| of_rule(rule)).collect();
        let all = caches.into_iter();
        all.map(|(cache, format)| Name::All { cache, format })
            .collect()
    }
}

fn of_rule(rule: &Rule) -> (u32, u32) {
    (cache_id(&rule.cache), rule.format)
}
