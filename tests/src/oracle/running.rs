//! `running`, the slow way: a group keeps its rows and computes its aggregates from them from scratch.

use std::collections::BTreeMap;

use super::aggregate::{Taken, aggregate};
use super::reads::{Read, Timed};
use super::{Aggregate, Condition, Emission, Key, Row};

pub struct RunningStep {
    pub group: Vec<String>,
    pub aggregates: Vec<Aggregate>,
    /// Over the emitted row.
    pub having: Option<Condition>,
    pub ttl: i64,
}

#[derive(Debug, Default)]
pub struct Ran {
    /// Epoch by epoch, as the engine puts them out.
    pub emitted: Vec<Emission>,
    pub late: Vec<Row>,
}

#[derive(Default)]
struct Group {
    rows: Vec<Taken>,
    newest: i64,
    shown: Option<Row>,
    changed: bool,
}

/// What a task puts out.
pub fn running(step: &RunningStep, reads: &[Read]) -> Ran {
    let mut ran = Ran::default();
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for (order, read) in reads.iter().enumerate() {
        match read {
            Read::Row { row, before, .. } => {
                forget(step, &mut groups, *before, &mut ran.emitted);
                let Timed { row, time } = row.clone();
                if i128::from(time) + i128::from(step.ttl) < i128::from(*before) {
                    ran.late.push(row);
                    continue;
                }
                let group = groups.entry(Key::of(&row, &step.group)).or_default();
                group.newest = match group.rows.is_empty() {
                    true => time,
                    false => group.newest.max(time),
                };
                group.rows.push(Taken { order, time, row });
                group.changed = true;
            }
            Read::Watermark(w) => forget(step, &mut groups, *w, &mut ran.emitted),
            Read::Close => {
                for key in by_age(&groups, |_| true) {
                    show(step, &mut groups, &key, &mut ran.emitted);
                }
            }
        }
    }
    ran
}

/// Groups that are wanted, by newest row, then key.
fn by_age(groups: &BTreeMap<Key, Group>, wanted: impl Fn(&Group) -> bool) -> Vec<Key> {
    let mut found: Vec<(i64, Key)> = groups
        .iter()
        .filter(|(_, group)| wanted(group))
        .map(|(key, group)| (group.newest, key.clone()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, key)| key).collect()
}

fn show(step: &RunningStep, groups: &mut BTreeMap<Key, Group>, key: &Key, out: &mut Vec<Emission>) {
    let group = groups.get_mut(key).expect("a group that was found");
    if !std::mem::take(&mut group.changed) {
        return;
    }
    let values = key.values().iter().cloned();
    let mut row: Row = step.group.iter().cloned().zip(values).collect();
    for item in &step.aggregates {
        row.insert(item.name.clone(), aggregate(item, &group.rows));
    }
    if step.having.as_ref().is_none_or(|having| having(&row)) {
        if group.shown.as_ref() != Some(&row) {
            group.shown = Some(row.clone());
            out.push(Emission::Row(row));
        }
    } else {
        out.extend(group.shown.take().map(Emission::Withdrawn));
    }
}

/// The end of the input forgets nothing.
fn forget(step: &RunningStep, groups: &mut BTreeMap<Key, Group>, w: i64, out: &mut Vec<Emission>) {
    let old = by_age(groups, |group| {
        w != i64::MAX && i128::from(group.newest) + i128::from(step.ttl) < i128::from(w)
    });
    for key in &old {
        show(step, groups, key, out);
    }
    for key in &old {
        let group = groups.remove(key).expect("a group that was found");
        out.extend(group.shown.map(Emission::Withdrawn));
    }
}
