//! `approx_percentile_cont`: a quantile within 1 % of its value, by DDSketch (Masson, Rim, Lee; VLDB 2019).
//!
//! Values are counted in buckets whose bounds grow by a constant ratio, so the relative error of a bucket's middle is
//! bounded. Buckets are held sparsely and none is ever collapsed: there are at most 71,000 of them for every positive and
//! negative double, some hundreds in practice. Counts do not depend on the order of rows and merges.
//! Order: infinities at the ends, NaN above everything, both zeros one.

use super::*;
use arrow::array::Float64Array;

/// Relative error of a quantile.
const ERROR: f64 = 0.01;
/// Ratio of a bucket's bounds.
const RATIO: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// Added to the exponent of a bucket, so that buckets of positive values are above 0: `ln(5e-324) / ln(RATIO) > -37_300`.
const ABOVE_ZERO: i32 = 40_000;
const INFINITE: i32 = i32::MAX - 1;
const NOT_A_NUMBER: i32 = i32::MAX;

pub struct ApproxPercentile {
    /// 0..=1; beyond is taken as the nearer end.
    pub quantile: f64,
}

/// Counts by bucket, buckets in the order of their values.
#[derive(Clone, Debug, Default)]
pub struct Buckets(Vec<(i32, u64)>);

/// The bucket of a value: positive for positive values, mirrored for negative ones, 0 for zero.
fn bucket(value: f64) -> i32 {
    if value.is_nan() {
        return NOT_A_NUMBER;
    }
    let size = value.abs();
    let place = match size {
        0.0 => 0,
        f64::INFINITY => INFINITE,
        _ => (size.ln() / RATIO.ln()).ceil() as i32 + ABOVE_ZERO,
    };
    if value < 0.0 { -place } else { place }
}

/// The value in the middle of a bucket, in the sense that its relative distance to both bounds is the same.
fn middle(bucket: i32) -> f64 {
    let size = match bucket.abs() {
        0 => 0.0,
        NOT_A_NUMBER => return f64::NAN,
        INFINITE => f64::INFINITY,
        place => {
            // The uppermost bucket's upper bound is beyond what a double holds, its middle is not.
            let exponent = f64::from(place - ABOVE_ZERO) * RATIO.ln();
            (exponent + (2.0 / (1.0 + RATIO)).ln()).exp().min(f64::MAX)
        }
    };
    if bucket < 0 { -size } else { size }
}

impl Buckets {
    fn add(&mut self, bucket: i32, count: u64) {
        match self.0.binary_search_by_key(&bucket, |held| held.0) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// The value at rank `floor(quantile * (count - 1))`.
    fn value(&self, quantile: f64) -> Option<f64> {
        let count: u64 = self.0.iter().map(|(_, count)| count).sum();
        let mut rank = (quantile * count.checked_sub(1)? as f64) as u64;
        for (bucket, count) in &self.0 {
            match rank.checked_sub(*count) {
                Some(rest) => rank = rest,
                None => return Some(middle(*bucket)),
            }
        }
        self.0.last().map(|(bucket, _)| middle(*bucket))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 12);
        for (bucket, count) in &self.0 {
            bytes.extend_from_slice(&bucket.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<12>();
        let entry = |bytes: &[u8; 12]| {
            let (bucket, count) = bytes.split_at(4);
            Some((
                i32::from_le_bytes(bucket.try_into().ok()?),
                u64::from_le_bytes(count.try_into().ok()?),
            ))
        };
        let buckets: Vec<(i32, u64)> = entries.iter().map(entry).collect::<Option<_>>()?;
        let sorted = buckets.is_sorted_by(|a, b| a.0 < b.0)
            && buckets.first().is_none_or(|first| first.0 > i32::MIN);
        (rest.is_empty() && sorted).then_some(Buckets(buckets))
    }
}

impl Function for ApproxPercentile {
    type Group = Buckets;

    fn name(&self) -> &'static str {
        "approx_percentile_cont"
    }

    fn update(
        &self,
        groups: &mut [Buckets],
        input: &Input,
        pairs: Pairs<'_>,
    ) -> Result<(), AggregateError> {
        let values = argument::<Float64Array>(input, self.name())?.values();
        for_each(input, pairs, |row, slot| {
            groups[slot].add(bucket(values[row]), 1)
        });
        Ok(())
    }

    fn merge(&self, from: Buckets, into: &mut Buckets) {
        from.0
            .into_iter()
            .for_each(|(bucket, count)| into.add(bucket, count));
    }

    fn finish(&self, groups: &[&Buckets]) -> Result<Finished, AggregateError> {
        let quantile = self.quantile.clamp(0.0, 1.0);
        let values = groups.iter().map(|group| group.value(quantile));
        Ok(Finished::all(Arc::new(Float64Array::from_iter(values))))
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Binary]
    }

    fn save(&self, groups: &[&Buckets]) -> Result<Vec<ArrayRef>, AggregateError> {
        Ok(grouped::encoded(groups, Buckets::to_bytes))
    }

    fn load(&self, saved: &Saved<'_>) -> Result<Vec<Buckets>, AggregateError> {
        saved.decoded(Buckets::from_bytes)
    }
}
