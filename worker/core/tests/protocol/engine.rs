//! A toy engine, deterministic in its input: running sums of two partitions, a row per event and one at the end.

use std::collections::BTreeMap;

pub const PARTITIONS: usize = 2;

/// The values of each partition.
pub type Input = [Vec<i64>; PARTITIONS];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub partition: usize,
    /// Of the event; the end row has the number of events.
    pub offset: i64,
    pub sum: i64,
}

impl Row {
    /// What the keyed external sink keeps one value for.
    pub fn key(&self) -> (usize, i64) {
        (self.partition, self.offset % 3)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    pub next: i64,
    pub sum: i64,
    pub ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engine {
    pub tasks: [Task; PARTITIONS],
}

pub fn name(partition: usize) -> String {
    format!("in/{partition}")
}

impl Engine {
    pub fn advance(&mut self, input: &Input, partition: usize, to: i64, rows: &mut Vec<Row>) {
        let task = &mut self.tasks[partition];
        while task.next < to {
            task.sum += input[partition][task.next as usize];
            rows.push(Row {
                partition,
                offset: task.next,
                sum: task.sum,
            });
            task.next += 1;
        }
    }

    /// Puts rows out without a move of the position.
    pub fn end(&mut self, partition: usize, rows: &mut Vec<Row>) {
        let task = &mut self.tasks[partition];
        if !task.ended {
            task.ended = true;
            rows.push(Row {
                partition,
                offset: task.next,
                sum: task.sum,
            });
        }
    }

    pub fn positions(&self) -> BTreeMap<String, i64> {
        self.tasks
            .iter()
            .enumerate()
            .map(|(p, task)| (name(p), task.next))
            .collect()
    }

    pub fn ended(&self) -> Vec<String> {
        self.tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| task.ended)
            .map(|(p, _)| name(p))
            .collect()
    }
}

pub fn reference(input: &Input) -> [Vec<Row>; PARTITIONS] {
    let mut engine = Engine::default();
    std::array::from_fn(|partition| {
        let mut rows = Vec::new();
        engine.advance(input, partition, input[partition].len() as i64, &mut rows);
        engine.end(partition, &mut rows);
        rows
    })
}

pub fn digest(rows: &[Row]) -> String {
    let fold = |hash: u64, n: i64| (hash ^ n as u64).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = rows.iter().fold(0xcbf2_9ce4_8422_2325, |hash, row| {
        fold(fold(fold(hash, row.partition as i64), row.offset), row.sum)
    });
    format!("{hash:x}")
}
