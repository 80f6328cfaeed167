//! All metrics, named here and nowhere else. Counters and histograms are counted by the drivers; gauges are read off the
//! board when somebody asks.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::status::{JobIdentity, WorkerStatus};

/// Labels: `job` and `namespace` everywhere, `node` for a source, step or sink, `input` for a partition, `slot`.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Well-formed rows read, by source or exchange.
    pub rows_in: IntCounterVec,
    /// Rows put out, by sink.
    pub rows_out: IntCounterVec,
    /// By source.
    pub malformed: IntCounterVec,
    /// By step.
    pub late: IntCounterVec,
    /// Rows on which an expression failed, by step.
    pub failed: IntCounterVec,
    /// Starts of a pattern that ended without a match, by step.
    pub timed_out: IntCounterVec,
    /// Events that would have started more partial matches than a group may have, by step.
    pub overflow: IntCounterVec,
    /// Committed epochs.
    pub epochs: IntCounter,
    /// From the end of an epoch's input to its known commit.
    pub commit_seconds: Histogram,
    /// Transactional producers that were given up and made anew.
    pub producer_restarts: IntCounter,
    pub checkpoint_seconds: Histogram,
    pub checkpoint_bytes: IntCounter,
    pub checkpoint_failures: IntCounter,
    gauges: Gauges,
}

#[derive(Clone, Debug)]
struct Gauges {
    slot_epoch: IntGaugeVec,
    slot_term: IntGaugeVec,
    lag: IntGaugeVec,
    watermark_lag: IntGaugeVec,
    checkpoint_age: IntGaugeVec,
    state_keys: IntGaugeVec,
    state_windows: IntGaugeVec,
    state_partial_matches: IntGaugeVec,
}

impl Metrics {
    /// Fails only if two metrics had one name.
    pub fn new(job: &JobIdentity) -> prometheus::Result<Self> {
        let labels = [("job", &job.name), ("namespace", &job.namespace)];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.clone()));
        let registry = Registry::new_custom(Some("streamjob".to_owned()), Some(labels.into()))?;
        let named = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let single = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let seconds = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histogram = Histogram::with_opts(histogram)?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        Ok(Metrics {
            rows_in: named("rows_in_total", "Well-formed rows read", "node")?,
            rows_out: named("rows_out_total", "Rows put out", "node")?,
            malformed: named(
                "malformed_total",
                "Events that do not fit the source's columns",
                "node",
            )?,
            late: named(
                "late_total",
                "Rows that came too late for every window, or for a pattern",
                "node",
            )?,
            failed: named("failed_total", "Rows on which an expression failed", "node")?,
            timed_out: named(
                "timed_out_total",
                "Starts of a pattern that ended without a match",
                "node",
            )?,
            overflow: named(
                "overflow_total",
                "Events that would have started more matches of a group than maxPartialMatches",
                "node",
            )?,
            epochs: single("epochs_total", "Committed epochs")?,
            commit_seconds: seconds(
                "commit_seconds",
                "From the end of an epoch's input to its known commit",
                &[
                    0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0,
                ],
            )?,
            producer_restarts: single(
                "producer_restarts_total",
                "Transactional producers given up and made anew",
            )?,
            checkpoint_seconds: seconds(
                "checkpoint_seconds",
                "Duration of checkpoint uploads",
                &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0],
            )?,
            checkpoint_bytes: single("checkpoint_bytes_total", "Bytes of state uploaded")?,
            checkpoint_failures: single("checkpoint_failures_total", "Failed checkpoints")?,
            gauges: Gauges::new(&registry)?,
            registry,
        })
    }

    /// All of them in Prometheus' text format, gauges as `status` has them.
    pub fn render(&self, status: &WorkerStatus) -> prometheus::Result<Vec<u8>> {
        self.gauges.set(status);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";
}

impl Gauges {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, label: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        Ok(Gauges {
            slot_epoch: gauge("slot_epoch", "Last committed epoch", "slot")?,
            slot_term: gauge("slot_term", "Term of the slot's placement here", "slot")?,
            lag: gauge("lag", "Records (files: bytes) not yet read", "input")?,
            watermark_lag: gauge(
                "watermark_lag_milliseconds",
                "Wall clock minus watermark",
                "input",
            )?,
            checkpoint_age: gauge(
                "checkpoint_age_milliseconds",
                "Age of the last checkpoint",
                "slot",
            )?,
            state_keys: gauge("state_keys", "Keys held in windows and patterns", "slot")?,
            state_windows: gauge("state_windows", "Windows held, of all keys", "slot")?,
            state_partial_matches: gauge(
                "state_partial_matches",
                "Partial matches held, of all keys",
                "slot",
            )?,
        })
    }

    fn set(&self, status: &WorkerStatus) {
        let Gauges {
            slot_epoch,
            slot_term,
            lag,
            watermark_lag,
            checkpoint_age,
            state_keys,
            state_windows,
            state_partial_matches,
        } = self;
        // A slot that has gone leaves no series behind.
        for gauge in [
            slot_epoch,
            slot_term,
            lag,
            watermark_lag,
            checkpoint_age,
            state_keys,
            state_windows,
            state_partial_matches,
        ] {
            gauge.reset();
        }
        let set = |gauge: &IntGaugeVec, label: &str, value: i64| {
            gauge.with_label_values(&[label]).set(value);
        };
        let now = status.now;
        for slot in &status.slots {
            let label = slot.slot.to_string();
            set(slot_epoch, &label, clamp(slot.epoch));
            set(slot_term, &label, clamp(slot.term));
            set(state_keys, &label, clamp(slot.state_keys));
            set(state_windows, &label, clamp(slot.state_windows));
            set(
                state_partial_matches,
                &label,
                clamp(slot.state_partial_matches),
            );
            if let Some(checkpoint) = &slot.checkpoint {
                set(checkpoint_age, &label, now.saturating_sub(checkpoint.at));
            }
            for input in &slot.inputs {
                if let Some(records) = input.lag {
                    set(lag, &input.input, records);
                }
                if let Some(watermark) = input.watermark {
                    set(watermark_lag, &input.input, now.saturating_sub(watermark));
                }
            }
        }
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Board, InputStatus, SlotStatus};

    #[test]
    fn renders_counters_and_the_boards_gauges() {
        let job = JobIdentity {
            name: "clicks".to_owned(),
            ..JobIdentity::default()
        };
        let (metrics, board) = (Metrics::new(&job).unwrap(), Board::new(job));
        metrics.rows_in.with_label_values(&["events"]).inc_by(3);
        metrics.commit_seconds.observe(0.02);
        let events = InputStatus {
            input: "events/1".to_owned(),
            lag: Some(42),
            watermark: Some(400),
            ..InputStatus::default()
        };
        board.update(SlotStatus {
            inputs: vec![events],
            ..SlotStatus::default()
        });
        let render = || String::from_utf8(metrics.render(&board.status(1000)).unwrap()).unwrap();
        let text = render();
        for (name, label, value) in [
            ("streamjob_rows_in_total", "node=\"events\"", " 3"),
            ("streamjob_lag", "input=\"events/1\"", " 42"),
            (
                "streamjob_watermark_lag_milliseconds",
                "input=\"events/1\"",
                " 600",
            ),
            ("streamjob_commit_seconds_count", "job=\"clicks\"", " 1"),
        ] {
            // The order of labels is the library's affair.
            let shown = text.lines().any(|line| {
                line.starts_with(&format!("{name}{{"))
                    && line.contains(label)
                    && line.contains("job=\"clicks\"")
                    && line.ends_with(value)
            });
            assert!(shown, "{name}\n{text}");
        }
        board.remove(0);
        assert!(!render().contains("streamjob_lag{"));
    }

    #[test]
    fn the_dashboard_shows_only_what_there_is() {
        const DASHBOARD: &str = include_str!("../../helm/streamjob/dashboards/streamjob.json");
        let metrics = Metrics::new(&JobIdentity::default()).unwrap();
        for labelled in [&metrics.late, &metrics.failed, &metrics.malformed] {
            labelled.with_label_values(&["n"]).inc();
        }
        metrics.rows_in.with_label_values(&["n"]).inc();
        metrics.rows_out.with_label_values(&["n"]).inc();
        let slot = SlotStatus {
            inputs: vec![InputStatus {
                lag: Some(1),
                watermark: Some(1),
                ..InputStatus::default()
            }],
            checkpoint: Some(crate::status::CheckpointStatus::default()),
            ..SlotStatus::default()
        };
        let board = Board::new(JobIdentity::default());
        board.update(slot);
        let text = String::from_utf8(metrics.render(&board.status(1000)).unwrap()).unwrap();
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let named = DASHBOARD.match_indices("streamjob_").map(|(at, _)| {
            let rest = &DASHBOARD[at..];
            &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
        });
        for name in named {
            assert!(text.contains(&format!("\n{name}{{")), "{name}\n{text}");
        }
    }
}
