//! The `stdout` sink: rows as lines, at-least-once. The standard output holds nothing else; logs and progress go to stderr.

use std::io::{self, Write};

use streamjob_core::output::TargetOutput;

use super::{ExternalSink, SinkError, lines};

/// Slots share the stream: an epoch's rows come out together.
#[derive(Debug, Default)]
pub struct StdoutSink {
    buffer: Vec<u8>,
}

impl ExternalSink for StdoutSink {
    fn applied(&mut self, _slot: u32) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn apply(
        &mut self,
        _slot: u32,
        _epoch: u64,
        _sink_timestamp: i64,
        rows: &[&TargetOutput],
    ) -> Result<(), SinkError> {
        lines(rows, &mut self.buffer);
        let mut out = io::stdout().lock();
        out.write_all(&self.buffer)
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => SinkError::ReaderGone,
                _ => SinkError::Stdout(error),
            })
    }
}
