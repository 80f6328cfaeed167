//! Made-up events: event `i` of a `generate` source is a function of the seed and of `i` (and of the clock only where a field is `now`).
//!
//! So a position is an index, any event can be made again, and partitions need no memory: partition `p` of a source without `key` has
//! the events `p`, `p + n`, `p + 2n` …; with a `key`, those whose key Kafka's partitioner puts there, which its
//! reader finds by looking at every index. Looking costs a fraction of making the event.

mod field;
mod problems;
mod template;
#[cfg(test)]
mod tests;

use streamjob_crds::GenerateSource;

pub use self::problems::problems;

use self::field::Field;
use self::template::Template;
use crate::chunk::Millis;
use crate::key::partition_of;
use crate::plan::DecodeColumn;
use crate::problem::Problem;

/// Makes the events of one source.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    rows: Option<u64>,
    partitions: u32,
    fields: Vec<Field>,
    template: Template,
    /// What makes the key's columns; `None` for one that no field makes.
    key: Vec<Option<usize>>,
    /// The key is one String column.
    text_key: bool,
}

impl Generator {
    /// `key` names the columns that the source is partitioned by. The error is what `problems` says.
    pub fn new(
        source: &GenerateSource,
        columns: &[DecodeColumn],
        key: &[String],
    ) -> Result<Self, Vec<Problem>> {
        let found = problems(source, columns, key, "generate");
        if !found.is_empty() {
            return Err(found);
        }
        let column_at = |path: &[String]| columns.iter().find(|column| column.path == path);
        let names: Vec<Vec<String>> = source
            .fields
            .iter()
            .map(|field| field::path(&field.name))
            .collect();
        let fields = source.fields.iter().zip(&names);
        let fields = fields.map(|(field, path)| {
            Field::new(field, column_at(path).map(|column| &column.data_type))
        });
        let key_columns = key
            .iter()
            .map(|name| columns.iter().find(|column| column.name == *name));
        let key_columns: Vec<Option<&DecodeColumn>> = key_columns.collect();
        let maker = |column: &DecodeColumn| names.iter().position(|path| *path == column.path);
        Ok(Generator {
            seed: source.seed,
            rows: source.rows,
            partitions: source.partitions.max(1),
            fields: fields.collect::<Option<_>>().unwrap_or_default(),
            template: Template::new(&names),
            key: key_columns
                .iter()
                .map(|column| column.and_then(maker))
                .collect(),
            text_key: matches!(key_columns.as_slice(), [Some(column)] if column.data_type == arrow::datatypes::DataType::Utf8),
        })
    }

    /// How many events there are; `None`: without end.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Appends event `index`, a JSON object on one line, without a line end.
    pub fn event(&self, index: u64, now: Millis, out: &mut Vec<u8>) {
        self.template.write(out, |field, out| {
            if let Some(made) = self.fields.get(field) {
                made.write(self.seed, index, field, now, out);
            }
        });
    }

    /// Appends the Kafka key of event `index`, as sinks write keys. `false` if it has none.
    pub fn key(&self, index: u64, out: &mut Vec<u8>) -> bool {
        let made =
            |field: &Option<usize>| field.and_then(|field| Some((field, self.fields.get(field)?)));
        match self.key.as_slice() {
            [] => false,
            [field] if self.text_key => match made(field) {
                Some((at, field)) => field.write_text_key(self.seed, index, at, out),
                None => false,
            },
            key => {
                for (position, field) in key.iter().enumerate() {
                    out.push(if position == 0 { b'[' } else { b',' });
                    match made(field) {
                        Some((at, field)) => field.write_key(self.seed, index, at, out),
                        None => out.extend_from_slice(b"null"),
                    }
                }
                out.push(b']');
                true
            }
        }
    }

    /// The partition of event `index`.
    pub fn partition(&self, index: u64) -> u32 {
        let mut key = Vec::new();
        self.partition_with(index, &mut key)
    }

    fn partition_with(&self, index: u64, key: &mut Vec<u8>) -> u32 {
        if self.partitions == 1 {
            return 0;
        }
        key.clear();
        match self.key(index, key) {
            true => partition_of(key, self.partitions),
            false => (index % u64::from(self.partitions)) as u32,
        }
    }

    /// The first event of `partition` with `from <= index < to`. `None`: none is there, read on from `to` (which is
    /// the end if `to` is at or behind `rows`). `to` bounds the search: a partition may have no events at all.
    pub fn next_in(&self, partition: u32, from: u64, to: u64) -> Option<u64> {
        let to = self.rows.map_or(to, |rows| rows.min(to));
        if self.key.is_empty() {
            let (partitions, partition) = (u64::from(self.partitions), u64::from(partition));
            let ahead = (partition + partitions - from % partitions) % partitions;
            return from
                .checked_add(ahead)
                .filter(|index| *index < to && partition < partitions);
        }
        let mut key = Vec::new();
        (from..to).find(|index| self.partition_with(*index, &mut key) == partition)
    }
}
