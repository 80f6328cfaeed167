//! What the planner knows of a stream: its columns, and where some of them come from.
//!
//! A projection may pass a column on under another name, or under several, or not at all. `Lineage` follows a list of
//! columns through it: for each, the names under which it can be had.

use std::collections::BTreeSet;

use arrow::datatypes::{Schema, SchemaRef};

use crate::expr::Item;

/// For each column of a list, its present names; none when it was left out.
pub(super) type Lineage = Vec<BTreeSet<String>>;

/// What tells the rows of groups apart.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub groups: Lineage,
    /// `window_start` and `window_end`, where there are windows.
    pub bounds: Lineage,
}

impl Identity {
    /// The columns that a key must cover to mean one row: `window_start` decides `window_end`, for all windows but
    /// cumulating ones. None: there is but one row.
    pub fn key(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.groups.iter().chain(self.bounds.first())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub schema: SchemaRef,
    /// What its rows are partitioned by; empty: all are in one task. `None`: not by anything.
    pub key: Option<Lineage>,
    /// The source's event time column; `None` behind a window, whose rows carry their time beside them.
    pub time: Option<BTreeSet<String>>,
    /// Behind groups: the columns that tell its rows apart.
    pub identity: Option<Identity>,
    /// Whether rows may be emitted again or withdrawn.
    pub updating: bool,
    /// Whether it is a side stream, or comes from one: nothing with event time may follow.
    pub side: bool,
}

impl Stream {
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
    }

    /// The stream behind a projection.
    pub fn projected(&self, items: &[Item], schema: SchemaRef) -> Self {
        let follow = |names: &BTreeSet<String>| follow(names, items);
        Stream {
            schema,
            key: self
                .key
                .as_ref()
                .map(|key| key.iter().map(follow).collect()),
            time: self.time.as_ref().map(follow),
            identity: self.identity.as_ref().map(|identity| Identity {
                groups: identity.groups.iter().map(follow).collect(),
                bounds: identity.bounds.iter().map(follow).collect(),
            }),
            ..*self
        }
    }

    /// A side stream of a step that reads this one.
    pub fn aside(&self, schema: SchemaRef) -> Self {
        Stream {
            schema,
            key: None,
            time: None,
            identity: None,
            updating: false,
            side: true,
        }
    }

    /// Columns whose value no update of a row changes.
    pub fn fixed_columns(&self) -> BTreeSet<&str> {
        self.identity
            .iter()
            .flat_map(|identity| identity.groups.iter().chain(&identity.bounds))
            .flatten()
            .map(String::as_str)
            .collect()
    }
}

/// The names that a column has behind a projection.
pub(super) fn follow(names: &BTreeSet<String>, items: &[Item]) -> BTreeSet<String> {
    let passed = items.iter().filter(|item| {
        item.compiled
            .as_column()
            .is_some_and(|column| names.contains(column.name()))
    });
    passed.map(|item| item.name.clone()).collect()
}

/// Names of a schema's columns.
pub(super) fn names_of(schema: &Schema) -> BTreeSet<String> {
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}
