//! The operator's metrics.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramTimer, IntCounter, IntGauge, Registry, TextEncoder,
};

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    seconds: Histogram,
    pub errors: IntCounter,
    pub leads: IntGauge,
}

impl Metrics {
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";

    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "streamjob_operator_reconcile_seconds",
                "How long looks at a job took; its count is how many there were",
            )
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
        )?;
        let errors = IntCounter::new(
            "streamjob_operator_reconcile_errors_total",
            "Looks at a job that failed",
        )?;
        let leads = IntGauge::new(
            "streamjob_operator_leads",
            "1 while this operator is the one that acts",
        )?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(leads.clone()))?;
        Ok(Metrics {
            registry,
            seconds,
            errors,
            leads,
        })
    }

    /// Counts a look at a job, and how long it takes: until it is dropped.
    pub fn reconciled(&self) -> HistogramTimer {
        self.seconds.start_timer()
    }

    pub fn render(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted() {
        let metrics = Metrics::new().unwrap();
        drop(metrics.reconciled());
        let text = metrics.render().unwrap();
        assert!(
            text.contains("streamjob_operator_reconcile_seconds_count 1"),
            "{text}"
        );
    }
}
