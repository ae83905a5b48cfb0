//! The rules as they apply to the relations that the log has named so far.

mod known;
mod said;

use std::collections::HashMap;

use super::catalog::Catalog;
use super::names::{Name, Plan, Scratch};
use super::{Rules, TableName};
use crate::relay::change::{Change, Relation};
use crate::relay::counts::Counts;
use crate::relay::message::Bad;
use known::Tables;

/// What a change says of the tables themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// They are as they were, or as the catalog says. Nothing to do.
    Same,
    /// A table was altered: its caches are dropped, and the rules still apply.
    Altered,
    /// A rule no longer applies, or a table may be a partition now. Before the next change, read the
    /// catalog once, [check](super::check::check) and [`Plans::recheck`]. Where a rule does not apply after
    /// that either, every change of its table drops its cache.
    Recheck,
}

/// Applies rules to changes.
#[derive(Debug)]
pub(crate) struct Plans {
    rules: Rules,
    tables: Tables,
    /// By the log's number of the relation.
    relations: HashMap<u32, Planned>,
    scratch: Scratch,
    counts: Counts,
}

#[derive(Debug)]
struct Planned {
    relation: Relation,
    /// The rules that apply, and the plan of each.
    rules: Vec<usize>,
    plans: Vec<Plan>,
    /// Every rule applies as it is meant.
    whole: bool,
}

impl Plans {
    /// Rules that were checked against this catalog.
    ///
    /// Read the catalog before the slot exists: what was altered since then shows in the first Relation
    /// message of its table.
    pub(crate) fn new(rules: Rules, catalog: &Catalog) -> Self {
        Self {
            tables: Tables::new(&rules, catalog),
            rules,
            relations: HashMap::new(),
            scratch: Scratch::default(),
            counts: Counts::default(),
        }
    }

    /// Takes a newer catalog. Returns whether every rule applies to every relation as it is meant; where
    /// one does not, the log may not have reached what the catalog says already, or it must be fixed.
    ///
    /// Drops the caches of rules that begin or end to apply to a relation.
    pub(crate) fn recheck(&mut self, catalog: &Catalog, out: &mut impl Extend<Name>) -> bool {
        self.tables = Tables::new(&self.rules, catalog);
        let mut whole = true;
        for (id, before) in std::mem::take(&mut self.relations) {
            let now = self.plan(before.relation.clone());
            whole &= now.whole;
            for (one, other) in [(&before, &now), (&now, &before)] {
                let differs = |(rule, _): &(&usize, &Plan)| !other.rules.contains(rule);
                let changed = one.rules.iter().zip(&one.plans).filter(differs);
                out.extend(changed.map(|(_, plan)| plan.all()));
            }
            self.relations.insert(id, now);
        }
        whole
    }

    /// Takes a Relation message, which comes before the first row of a table and after each change of it.
    fn relation(&mut self, relation: &Relation, out: &mut impl Extend<Name>) -> Seen {
        let before = self.relations.get(&relation.id);
        let same = before.is_some_and(|before| before.relation == *relation);
        // It may be a partition from now on, and is described as before.
        let joins = before.is_some_and(|before| before.lacks(&self.tables.open));
        if same && !joins {
            return Seen::Same;
        }
        let mut altered = false;
        if let Some(before) = before
            && !same
        {
            altered = true;
            out.extend(before.plans.iter().map(Plan::all));
        }
        let mapped = before.is_some_and(|before| !before.plans.is_empty());
        let mut now = self.plan(relation.clone());
        let known = self.tables.get(&name(relation));
        altered |= known.is_some_and(|known| !now.rules.is_empty() && known.differs(relation));
        // Its table went away under another name.
        now.whole &= known.is_some() || before.is_none_or(|before| before.rules.is_empty());
        if altered || !now.whole {
            out.extend(now.plans.iter().map(Plan::all));
            self.counts.altered += u64::from(mapped || !now.plans.is_empty());
        }
        let whole = now.whole && !joins;
        self.relations.insert(relation.id, now);
        match (whole, altered) {
            (false, _) => Seen::Recheck,
            (true, true) => Seen::Altered,
            (true, false) => Seen::Same,
        }
    }

    /// Plans the rules that apply to a relation, according to the catalog.
    fn plan(&self, relation: Relation) -> Planned {
        let Some(known) = self.tables.get(&name(&relation)) else {
            return self.unplanned(relation);
        };
        let form = |index| known.form(&relation, index);
        let rules = known.rules.iter();
        let plans =
            rules.filter_map(|n| Some(Plan::new(self.rules.rules.get(*n)?, &relation, form)));
        let (plans, applies): (Vec<Plan>, Vec<bool>) = plans.unzip();
        Planned {
            rules: known.rules.clone(),
            plans,
            whole: applies.into_iter().all(|applies| applies),
            relation,
        }
    }

    /// A relation that the catalog does not have may be a partition: each change drops what it may concern.
    fn unplanned(&self, relation: Relation) -> Planned {
        let rules = self.tables.open.iter();
        let plans =
            rules.filter_map(|n| Some(Plan::new(self.rules.rules.get(*n)?, &relation, |_| None)));
        Planned {
            rules: self.tables.open.clone(),
            plans: plans.map(|(plan, _)| plan).collect(),
            whole: self.tables.open.is_empty(),
            relation,
        }
    }

    /// Appends what a change invalidates, and says whether tables changed.
    ///
    /// # Errors
    ///
    /// A message of ours that cannot be read; `out` has [`Name::Everything`] then.
    pub(crate) fn names(
        &mut self,
        change: &Change<'_>,
        out: &mut impl Extend<Name>,
    ) -> Result<Seen, Bad> {
        match change {
            Change::Relation(relation) => return Ok(self.relation(relation, out)),
            Change::Insert { relation, new } => {
                let mapped = self.each(*relation, out, |plan, scratch, out| {
                    plan.inserted(new, scratch, out)
                });
                self.count_row(mapped);
            }
            Change::Update { relation, old, new } => {
                let old = old.as_ref();
                let mapped = self.each(*relation, out, |plan, scratch, out| {
                    plan.updated(old, new, scratch, out);
                });
                self.count_row(mapped);
            }
            Change::Delete { relation, old } => {
                let mapped = self.each(*relation, out, |plan, scratch, out| {
                    plan.deleted(old, scratch, out)
                });
                self.count_row(mapped);
            }
            Change::Truncate { relations } => {
                for relation in relations {
                    let whole = |plan: &Plan, _: &mut _, out: &mut _| drop_whole(plan, out);
                    self.counts.truncated += u64::from(self.each(*relation, out, whole));
                }
            }
            Change::TooLarge { relation } => {
                let whole = |plan: &Plan, _: &mut _, out: &mut _| drop_whole(plan, out);
                let mapped = self.each(*relation, out, whole);
                self.counts.large += u64::from(mapped);
                self.count_row(mapped);
            }
            Change::Message {
                prefix, content, ..
            } => return self.message(prefix, content, out),
            Change::Commit { .. } => self.counts.commits += 1,
            Change::Begin { .. } | Change::Other => {}
        }
        Ok(Seen::Same)
    }

    /// Returns the names of all mapped caches: what a relay that begins, or has lost its place, invalidates.
    pub(crate) fn all(&self) -> impl Iterator<Item = Name> {
        let caches = self.rules.caches().into_iter();
        caches.map(|(cache, format)| Name::All { cache, format })
    }

    #[cfg(test)]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns what was counted since this was called last.
    pub(crate) fn counts(&mut self) -> Counts {
        let missing = self.scratch.missing();
        Counts {
            missing,
            ..std::mem::take(&mut self.counts)
        }
    }

    fn count_row(&mut self, mapped: bool) {
        self.counts.rows += 1;
        self.counts.unmapped += u64::from(!mapped);
    }

    /// Runs through the plans of a relation, and returns whether it has any. For a relation that the log never named,
    /// drops all caches.
    fn each<E: Extend<Name>>(
        &mut self,
        relation: u32,
        out: &mut E,
        mut run: impl FnMut(&Plan, &mut Scratch, &mut E),
    ) -> bool {
        let Some(planned) = self.relations.get(&relation) else {
            out.extend(self.all());
            return true;
        };
        for plan in &planned.plans {
            run(plan, &mut self.scratch, out);
        }
        !planned.plans.is_empty()
    }
}

impl Planned {
    /// Returns whether one of these rules is none of its own.
    fn lacks(&self, rules: &[usize]) -> bool {
        rules.iter().any(|rule| !self.rules.contains(rule))
    }
}

fn drop_whole(plan: &Plan, out: &mut impl Extend<Name>) {
    out.extend(Some(plan.all()));
}

fn name(relation: &Relation) -> TableName {
    TableName::new(&relation.schema, &relation.table)
}

#[cfg(test)]
mod tests;
