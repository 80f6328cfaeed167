//! What each task of a step reads, in order: from its own partition, or behind an exchange.
//!
//! Behind an exchange the order depends on the epochs: at the end of each, every producer in turn (input by input, each by
//! partition) sends its rows of the epoch, then its watermark. A task's watermark is the least of its producers'.

use std::collections::BTreeMap;

use super::Row;

/// An event of an input, or what a step made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    pub row: Row,
    pub time: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// A row of an input, with the watermark from before it.
    Row {
        input: usize,
        row: Timed,
        before: i64,
    },
    /// From here on the watermark is this.
    Watermark(i64),
    /// An epoch ends.
    Close,
}

/// What happens to the partitions of a job's inputs, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next row of an input's partition.
    Row { input: usize, partition: usize },
    /// An epoch ends.
    Close,
    /// A crash after a checkpoint, at the end of an epoch.
    Restore,
}

/// An input: its partitions, and how far rows may be out of order.
#[derive(Clone, Debug)]
pub struct Input {
    pub partitions: Vec<Vec<Timed>>,
    pub max_out_of_orderness: i64,
}

/// What the tasks of an input's partitions read: all of its rows, of which those not `taken` only move the watermark.
pub fn in_place(
    input: &Input,
    number: usize,
    actions: &[Action],
    taken: impl Fn(&Row) -> bool,
) -> Vec<Vec<Read>> {
    let tasks = input.partitions.len();
    let mut positions = vec![0; tasks];
    let mut watermarks = vec![i64::MIN; tasks];
    let mut reads = vec![Vec::new(); tasks];
    for action in actions {
        match action {
            Action::Row { input: of, .. } if *of != number => {}
            Action::Row { partition, .. } => {
                let row = &input.partitions[*partition][positions[*partition]];
                positions[*partition] += 1;
                let w = &mut watermarks[*partition];
                if taken(&row.row) {
                    reads[*partition].push(Read::Row {
                        input: number,
                        row: row.clone(),
                        before: *w,
                    });
                }
                *w = (*w).max(row.time.saturating_sub(input.max_out_of_orderness));
                reads[*partition].push(Read::Watermark(*w));
            }
            Action::Close | Action::Restore => {
                reads.iter_mut().for_each(|reads| reads.push(Read::Close));
            }
        }
    }
    for reads in &mut reads {
        reads.extend([Read::Watermark(i64::MAX), Read::Close]);
    }
    reads
}

/// What `tasks` tasks behind an exchange read, when watermarks are told at the end of every epoch. `owner` says which
/// task a row of an input goes to; none: it is left out.
pub fn exchanged(
    inputs: &[Input],
    actions: &[Action],
    tasks: usize,
    owner: impl Fn(usize, &Row) -> Option<usize>,
) -> Vec<Vec<Read>> {
    let mut producers = BTreeMap::new();
    for (input, read) in inputs.iter().enumerate() {
        for partition in 0..read.partitions.len() {
            producers.insert((input, partition), Producer::default());
        }
    }
    let mut told = vec![vec![i64::MIN; producers.len()]; tasks];
    let mut reads = vec![Vec::new(); tasks];
    let all_ends = [Action::Close];
    for (at, action) in actions.iter().chain(&all_ends).enumerate() {
        match action {
            Action::Row { input, partition } => {
                let producer = producers.entry((*input, *partition)).or_default();
                let row = &inputs[*input].partitions[*partition][producer.position];
                producer.position += 1;
                producer.epoch.push((row.clone(), producer.w));
                let bound = row.time.saturating_sub(inputs[*input].max_out_of_orderness);
                producer.w = producer.w.max(bound);
            }
            Action::Close | Action::Restore => {
                let end = at == actions.len();
                for (number, ((input, _), producer)) in producers.iter_mut().enumerate() {
                    if end {
                        producer.w = i64::MAX;
                    }
                    let epoch = std::mem::take(&mut producer.epoch);
                    for (row, w) in epoch {
                        let Some(task) = owner(*input, &row.row) else {
                            continue;
                        };
                        told[task][number] = told[task][number].max(w);
                        reads[task].push(Read::Row {
                            input: *input,
                            row,
                            before: least(&told[task]),
                        });
                    }
                    for (task, told) in told.iter_mut().enumerate() {
                        told[number] = told[number].max(producer.w);
                        reads[task].push(Read::Watermark(least(told)));
                    }
                }
                reads.iter_mut().for_each(|reads| reads.push(Read::Close));
            }
        }
    }
    reads
}

struct Producer {
    position: usize,
    w: i64,
    epoch: Vec<(Timed, i64)>,
}

impl Default for Producer {
    fn default() -> Self {
        Producer {
            position: 0,
            w: i64::MIN,
            epoch: Vec::new(),
        }
    }
}

fn least(told: &[i64]) -> i64 {
    told.iter().copied().min().unwrap_or(i64::MAX)
}
