//! `approx_distinct`: how many different values, exactly while they are few, within about 1 % from then on.
//!
//! Values are hashed with XXH3 (stable across machines and versions). A group keeps the hashes themselves until there
//! are more than `EXACT`; then HyperLogLog registers (Flajolet et al. 2007; 2^14, standard error 0.81 %), estimated by
//! Ertl's improved formula (2017, arXiv:1702.01284), which needs no tables of corrections. Both forms are sets: the
//! order of rows and of merges does not matter.

use super::*;
use arrow::array::{BinaryArray, Float64Array, Int64Array, PrimitiveArray, StringArray};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Number of values counted exactly: their hashes take half as much memory as registers.
const EXACT: usize = 1024;
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// Bits of a hash that a register counts leading zeros of.
const RANK_BITS: u32 = 64 - REGISTER_BITS;

const NAME: &str = "approx_distinct";

const FORM_EXACT: u8 = 0;
const FORM_REGISTERS: u8 = 1;

pub struct ApproxDistinct;

pub enum Sketch {
    /// The hashes: each is its own hash in the table.
    Exact(HashTable<u64>),
    Registers(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch::Exact(HashTable::new())
    }
}

impl Sketch {
    fn add(&mut self, hash: u64) {
        match self {
            Sketch::Registers(registers) => raise(registers, hash),
            Sketch::Exact(hashes) => {
                hashes
                    .entry(hash, |held| *held == hash, |held| *held)
                    .or_insert(hash);
                if hashes.len() > EXACT {
                    let mut registers = vec![0; REGISTERS].into_boxed_slice();
                    hashes.iter().for_each(|hash| raise(&mut registers, *hash));
                    *self = Sketch::Registers(registers);
                }
            }
        }
    }

    fn merge(&mut self, other: Sketch) {
        match (&mut *self, other) {
            (_, Sketch::Exact(hashes)) => hashes.iter().for_each(|hash| self.add(*hash)),
            (Sketch::Registers(mine), Sketch::Registers(theirs)) => {
                mine.iter_mut()
                    .zip(theirs)
                    .for_each(|(mine, theirs)| *mine = (*mine).max(theirs));
            }
            (Sketch::Exact(_), registers) => {
                let mine = std::mem::replace(self, registers);
                self.merge(mine);
            }
        }
    }

    fn count(&self) -> u64 {
        match self {
            Sketch::Exact(hashes) => hashes.len() as u64,
            Sketch::Registers(registers) => estimate(registers).round() as u64,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Sketch::Exact(hashes) => {
                let mut sorted: Vec<u64> = hashes.iter().copied().collect();
                sorted.sort_unstable();
                std::iter::once(FORM_EXACT)
                    .chain(sorted.into_iter().flat_map(u64::to_le_bytes))
                    .collect()
            }
            Sketch::Registers(registers) => std::iter::once(FORM_REGISTERS)
                .chain(registers.iter().copied())
                .collect(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, body) = bytes.split_first()?;
        match *form {
            FORM_EXACT => {
                let (hashes, rest) = body.as_chunks();
                let mut sketch = Sketch::default();
                hashes
                    .iter()
                    .for_each(|hash| sketch.add(u64::from_le_bytes(*hash)));
                rest.is_empty().then_some(sketch)
            }
            FORM_REGISTERS => {
                let valid = body.len() == REGISTERS
                    && body.iter().all(|rank| u32::from(*rank) <= RANK_BITS + 1);
                valid.then(|| Sketch::Registers(body.into()))
            }
            _ => None,
        }
    }
}

/// The first bits of the hash choose a register; it holds the greatest rank (leading zeros + 1) of the others.
fn raise(registers: &mut [u8], hash: u64) {
    let register = &mut registers[(hash >> RANK_BITS) as usize];
    let rank = (hash << REGISTER_BITS).leading_zeros().min(RANK_BITS) + 1;
    *register = (*register).max(rank as u8);
}

fn estimate(registers: &[u8]) -> f64 {
    let mut of_rank = [0u32; RANK_BITS as usize + 2];
    registers
        .iter()
        .for_each(|rank| of_rank[usize::from(*rank)] += 1);
    let m = REGISTERS as f64;
    let full = f64::from(of_rank[RANK_BITS as usize + 1]);
    let mut z = m * tau(1.0 - full / m);
    for rank in of_rank[1..=RANK_BITS as usize].iter().rev() {
        z = 0.5 * (z + f64::from(*rank));
    }
    z += m * sigma(f64::from(of_rank[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// Ertl's correction for registers that are still zero.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's correction for registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Calls `each(slot, hash)` for the value of every pair.
fn hashes(
    input: &Input,
    pairs: Pairs<'_>,
    mut each: impl FnMut(usize, u64),
) -> Result<(), AggregateError> {
    let values = input.values.as_ref().ok_or(AggregateError::Unsupported {
        function: NAME,
        data_type: DataType::Null,
    })?;
    match values.data_type() {
        DataType::Utf8 => {
            let values: &StringArray = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(values.value(row).as_bytes()))
            });
        }
        DataType::Binary => {
            let values: &BinaryArray = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(values.value(row)))
            });
        }
        DataType::Int64 => {
            let values: &Int64Array = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(&values.value(row).to_le_bytes()))
            });
        }
        DataType::Timestamp(TimeUnit::Millisecond, None) => {
            let values: &PrimitiveArray<TimestampMillisecondType> = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(&values.value(row).to_le_bytes()))
            });
        }
        DataType::Decimal128(..) => {
            let values: &PrimitiveArray<Decimal128Type> = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(&values.value(row).to_le_bytes()))
            });
        }
        DataType::Float64 => {
            let values: &Float64Array = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(&same_bits(values.value(row)).to_le_bytes()))
            });
        }
        DataType::Boolean => {
            let values: &BooleanArray = argument(input, NAME)?;
            for_each(input, pairs, |row, slot| {
                each(slot, xxh3_64(&[u8::from(values.value(row))]))
            });
        }
        other => {
            return Err(AggregateError::Unsupported {
                function: NAME,
                data_type: other.clone(),
            });
        }
    }
    Ok(())
}

/// Equal numbers as equal bits: one zero, one NaN.
fn same_bits(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    }
}

impl Function for ApproxDistinct {
    type Group = Sketch;

    fn name(&self) -> &'static str {
        NAME
    }

    fn update(
        &self,
        groups: &mut [Sketch],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        hashes(input, pairs, |slot, hash| groups[slot].add(hash))
    }

    fn merge(&self, from: Sketch, into: &mut Sketch) {
        into.merge(from);
    }

    fn finish(&self, groups: &[&Sketch]) -> Result<Finished, AggregateError> {
        let counts = groups.iter().map(|group| group.count() as i64);
        Ok(Finished::all(Arc::new(Int64Array::from_iter_values(
            counts,
        ))))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Binary]
    }

    fn save(&self, groups: &[&Sketch]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(grouped::encoded(groups, Sketch::to_bytes))
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Sketch>, AggregateError> {
        saved.decoded(Sketch::from_bytes)
    }
}
