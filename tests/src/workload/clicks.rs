//! Click events of about 130 bytes, each made from its number alone: any part of a workload can be made again.
//!
//! Event time moves on by 1 s every `rate` events; an event is up to 2 s off it, so that two neighbours are at most
//! 4 s out of order; late ones are 12 to 30 s behind. A user is active in 60 s of every 120 s, so that sessions close.

use std::io::Write as _;

use super::murmur2;
use crate::oracle::{Column, Job, Kind, WindowStep};
use crate::topic::Cluster;

const BASE: i64 = 1_700_000_000_000;
const KINDS: [&str; 3] = ["click", "view", "purchase"];

/// No event is further out of order than this, but for the late ones.
pub const MAX_DISORDER_MS: i64 = 4_000;

#[derive(Clone, Debug)]
pub struct Clicks {
    pub seed: u64,
    pub users: u64,
    /// Events per second of event time.
    pub rate: u64,
    /// Late events in a thousand.
    pub late: u64,
    pub amounts: Amounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amounts {
    /// Two decimals, as money has.
    Cents,
    /// Multiples of 0.25: sums of doubles are exact, whatever their order.
    Quarters,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Click {
    pub number: u64,
    pub kind: &'static str,
    pub time: i64,
    pub user: u64,
    /// Cents.
    pub amount: u64,
    pub page: u64,
}

impl Default for Clicks {
    fn default() -> Self {
        Clicks {
            seed: 1,
            users: 10_000,
            rate: 5_000,
            late: 0,
            amounts: Amounts::Quarters,
        }
    }
}

impl Clicks {
    pub fn click(&self, number: u64) -> Click {
        let mut random =
            fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let nominal = BASE + (number * 1_000 / self.rate) as i64;
        let user = loop {
            let user = random.u64(0..self.users);
            if (nominal as u64 / 1_000 + user * 7_919) % 120 < 60 {
                break user;
            }
        };
        let mut time = nominal + random.i64(-2_000..=2_000);
        if random.u64(0..1_000) < self.late {
            time -= random.i64(12_000..30_000);
        }
        let amount = match self.amounts {
            Amounts::Cents => random.u64(0..100_000),
            Amounts::Quarters => random.u64(0..4_000) * 25,
        };
        let kind = KINDS[[0, 0, 0, 0, 0, 0, 1, 1, 1, 2][random.usize(0..10)]];
        Click {
            number,
            kind,
            time,
            user,
            amount,
            page: random.u64(0..1_000),
        }
    }

    /// Puts the first events into a topic, keyed by user.
    pub fn fill(
        &self,
        cluster: &Cluster,
        topic: &str,
        partitions: usize,
        events: u64,
    ) -> anyhow::Result<()> {
        let clicks = (0..events).map(|number| self.click(number));
        fill(cluster, topic, partitions, clicks)
    }

    /// The job file from the source's columns to the end of the step `spend`: count, sum and maximum by `group` and 10 s.
    pub fn spend_yaml(group: &str) -> String {
        Self::step_yaml(&format!(
            "      groupBy: [{group}]
      window: {{tumbling: {{size: 10s}}}}
      aggregate: [\"count(*) AS clicks\", \"sum(amount) AS total\", \"max(amount) AS biggest\"]
"
        ))
    }

    /// The same where the step `spend` is a pattern: three views, then a purchase, within a minute.
    pub fn pattern_yaml() -> String {
        Self::step_yaml(
            "      match:
        partitionBy: [user_id]
        pattern: VIEW{3} BUY
        define:
          - {name: VIEW, when: event_type = 'view'}
          - {name: BUY, when: event_type = 'purchase'}
        within: 60s
        measures: [first(VIEW.ts) AS since, BUY.amount AS amount]
",
        )
    }

    fn step_yaml(step: &str) -> String {
        // A backslash at the end of a line would eat the first indentation.
        format!(
            "      columns:
        - {{name: event_id, type: String}}
        - {{name: event_type, type: String}}
        - {{name: ts, type: Timestamp, path: timestamp}}
        - {{name: user_id, type: String}}
        - {{name: amount, type: Double, path: data.amount, nullable: true}}
        - {{name: page, type: String, path: data.page}}
      key: [user_id]
      eventTime: {{column: ts, maxOutOfOrderness: {MAX_DISORDER_MS}ms, idleAfter: 1h}}
  steps:
    - name: spend
      from: events
{step}"
        )
    }

    /// The same for the oracle.
    pub fn job(max_out_of_orderness: i64, window: WindowStep) -> Job {
        Job {
            columns: vec![
                Column::new("event_id", "event_id", Kind::String, false),
                Column::new("event_type", "event_type", Kind::String, false),
                Column::new("ts", "timestamp", Kind::Timestamp, false),
                Column::new("user_id", "user_id", Kind::String, false),
                Column::new("amount", "data.amount", Kind::Double, true),
                Column::new("page", "data.page", Kind::String, false),
            ],
            event_time: "ts".into(),
            max_out_of_orderness,
            max_future: None,
            filter: None,
            window: Some(window),
        }
    }
}

/// Puts clicks into a topic, keyed by user.
pub fn fill(
    cluster: &Cluster,
    topic: &str,
    partitions: usize,
    clicks: impl Iterator<Item = Click>,
) -> anyhow::Result<()> {
    let writer = cluster.writer()?;
    let mut buffer = Vec::new();
    for click in clicks {
        click.render(&mut buffer);
        writer.send(
            topic,
            i32::try_from(click.partition(partitions))?,
            Some(click.key().as_bytes()),
            Some(&buffer),
        )?;
    }
    writer.flush()
}

impl Click {
    /// The Kafka key.
    pub fn key(&self) -> String {
        format!("user{}", self.user)
    }

    pub fn partition(&self, partitions: usize) -> usize {
        murmur2::partition(self.key().as_bytes(), partitions)
    }

    /// The event's bytes, in place of what is in `buffer`.
    pub fn render(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        let Click {
            number,
            kind,
            time,
            user,
            amount,
            page,
        } = self;
        // Writing to a vector cannot fail.
        let _ = write!(
            buffer,
            "{{\"event_id\":\"e{number}\",\"event_type\":\"{kind}\",\"timestamp\":{time},\"user_id\":\"user{user}\",\
             \"data\":{{\"amount\":{}.{:02},\"page\":\"/p/{page}\"}}}}",
            amount / 100,
            amount % 100,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_same_each_time_and_about_130_bytes() {
        let clicks = Clicks {
            amounts: Amounts::Cents,
            ..Clicks::default()
        };
        let mut total = 0;
        let mut buffer = Vec::new();
        for number in 0..1_000 {
            let click = clicks.click(number);
            assert_eq!(click, clicks.click(number));
            click.render(&mut buffer);
            serde_json::from_slice::<serde_json::Value>(&buffer).unwrap();
            total += buffer.len();
        }
        assert!(
            (120..140).contains(&(total / 1_000)),
            "{} bytes",
            total / 1_000
        );
    }

    #[test]
    fn disorder_stays_within_its_bound() {
        let clicks = Clicks::default();
        let mut newest = i64::MIN;
        for number in 0..20_000 {
            let time = clicks.click(number).time;
            assert!(time >= newest.saturating_sub(MAX_DISORDER_MS));
            newest = newest.max(time);
        }
    }
}
