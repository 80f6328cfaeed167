//! Models of S3 and of an external, keyed, versioned sink.

use std::collections::BTreeMap;

use crate::engine::{PARTITIONS, Row, Task};

#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Part(Task),
    Manifest,
}

#[derive(Default)]
pub struct Storage {
    objects: BTreeMap<String, Object>,
    /// Parts whose checksum is wrong.
    damaged: Vec<String>,
    /// Uploads that the network holds back.
    held: Vec<(String, Object)>,
}

pub fn part(manifest: &str, partition: usize) -> String {
    format!("{manifest}/part-{partition}")
}

impl Storage {
    /// Conditional create: what is there stays.
    pub fn put(&mut self, name: &str, object: Object) {
        self.objects.entry(name.to_string()).or_insert(object);
    }

    pub fn hold(&mut self, name: &str, object: Object) {
        self.held.push((name.to_string(), object));
    }

    pub fn deliver(&mut self, rng: &mut fastrand::Rng) {
        if !self.held.is_empty() && rng.u8(..8) == 0 {
            let (name, object) = self.held.swap_remove(rng.usize(..self.held.len()));
            self.put(&name, object);
        }
    }

    pub fn damage(&mut self, manifest: &str, partition: usize) {
        self.damaged.push(part(manifest, partition));
    }

    pub fn is_damaged(&self, manifest: &str) -> bool {
        self.damaged
            .iter()
            .any(|part| part.starts_with(&format!("{manifest}/")))
    }

    pub fn delete(&mut self, manifest: &str) {
        self.objects.remove(manifest);
        for partition in 0..PARTITIONS {
            self.objects.remove(&part(manifest, partition));
        }
    }

    /// Whether manifest and parts are there, in whatever shape.
    pub fn is_complete(&self, manifest: &str) -> bool {
        self.objects.contains_key(manifest)
            && (0..PARTITIONS).all(|p| self.objects.contains_key(&part(manifest, p)))
    }

    /// The tasks, or `None` if something is missing or damaged.
    pub fn load(&self, manifest: &str) -> Option<[Task; PARTITIONS]> {
        self.objects.get(manifest)?;
        let mut tasks: [Task; PARTITIONS] = Default::default();
        for (partition, task) in tasks.iter_mut().enumerate() {
            let name = part(manifest, partition);
            match self.objects.get(&name) {
                Some(Object::Part(stored)) if !self.damaged.contains(&name) => {
                    *task = stored.clone()
                }
                _ => return None,
            }
        }
        Some(tasks)
    }
}

/// Keeps the row of the highest version by key.
#[derive(Default)]
pub struct External {
    values: BTreeMap<(usize, i64), (i64, Row)>,
}

impl External {
    pub fn apply(&mut self, version: i64, rows: &[Row]) {
        for row in rows {
            let slot = self.values.entry(row.key()).or_insert((version, *row));
            if slot.0 <= version {
                *slot = (version, *row);
            }
        }
    }

    pub fn rows(&self) -> BTreeMap<(usize, i64), Row> {
        self.values
            .iter()
            .map(|(key, (_, row))| (*key, *row))
            .collect()
    }
}
