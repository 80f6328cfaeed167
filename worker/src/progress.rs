//! Progress on stderr: on a terminal one line that is drawn anew each second, elsewhere a log line every ten.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use streamjob_core::chunk::Millis;

use crate::http::now;
use crate::status::{Board, WorkerStatus};
use crate::ticker::Ticker;

const TICK: Duration = Duration::from_secs(1);
/// Ticks from one log line to the next.
const LOG_EVERY: u64 = 10;

/// The line that is on the terminal now; empty: none.
static LINE: Mutex<String> = Mutex::new(String::new());

/// Prints `text` where the progress line is, and the line again below it.
pub(crate) fn print_above(text: &[u8]) -> io::Result<()> {
    let line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stderr = io::stderr().lock();
    if line.is_empty() {
        return stderr.write_all(text);
    }
    let mut all = b"\r\x1b[K".to_vec();
    all.extend_from_slice(text);
    all.extend_from_slice(line.as_bytes());
    stderr.write_all(&all)
}

fn draw(text: String) {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    *line = text;
    // A terminal that has gone takes the progress with it, and nothing else.
    let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Line,
    Log,
    Nothing,
}

impl Show {
    /// A line on a terminal, unless rows or JSON logs go there too.
    pub fn suitable(quiet: bool, json: bool, rows_on_stdout: bool) -> Self {
        let shared = rows_on_stdout && io::stdout().is_terminal();
        match (quiet, json || shared || !io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Log,
            (false, false) => Show::Line,
        }
    }
}

/// Measures the board's rates each second and shows how the job is; until dropped.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    ticker: Option<Ticker>,
}

impl Progress {
    pub fn start(board: Arc<Board>, show: Show) -> io::Result<Self> {
        board.measure(Instant::now());
        let mut ticks = 0u64;
        let ticker = Ticker::start("progress", TICK, move || {
            ticks += 1;
            board.measure(Instant::now());
            tell(&board.status(now()), show, ticks);
        })?;
        Ok(Progress {
            show,
            ticker: Some(ticker),
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Nothing draws the line again once it is gone.
        self.ticker = None;
        if self.show == Show::Line {
            draw(String::new());
        }
    }
}

fn tell(status: &WorkerStatus, show: Show, ticks: u64) {
    match show {
        Show::Line => draw(cut(line(status), columns())),
        Show::Log if ticks.is_multiple_of(LOG_EVERY) => tracing::info!(
            rows_in = status.rows_in,
            rows_out = status.rows_out,
            rows_in_per_second = status.rows_in_per_second,
            rows_out_per_second = status.rows_out_per_second,
            watermark = status.watermark,
            watermark_delay_ms = status.watermark_delay_ms,
            lag = status.lag,
            checkpoint_age_ms = status.checkpoint_age_ms,
            "progress"
        ),
        Show::Log | Show::Nothing => {}
    }
}

/// `in 120,304/s · out 812/s · watermark 2026-01-01 00:10:00 (3s behind) · lag 12,000 · checkpoint 4s ago`
fn line(status: &WorkerStatus) -> String {
    let mut parts = vec![
        format!("in {}/s", grouped(status.rows_in_per_second)),
        format!("out {}/s", grouped(status.rows_out_per_second)),
    ];
    if !status.ready {
        parts.insert(0, "starting".to_owned());
    }
    if let (Some(watermark), Some(delay)) = (status.watermark, status.watermark_delay_ms) {
        parts.push(format!(
            "watermark {} ({})",
            clock(watermark),
            match delay {
                0.. => format!("{} behind", length(delay)),
                _ => format!("{} ahead", length(delay.saturating_neg())),
            }
        ));
    }
    if let Some(lag) = status.lag {
        parts.push(format!("lag {}", grouped(lag.unsigned_abs())));
    }
    if let Some(age) = status.checkpoint_age_ms {
        parts.push(format!("checkpoint {} ago", length(age)));
    }
    parts.extend(
        status
            .conditions
            .iter()
            .map(|condition| condition.kind.clone()),
    );
    parts.join(" · ")
}

/// `1234567` → `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds in the largest unit that fits.
fn length(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn clock(watermark: Millis) -> String {
    match jiff::Timestamp::from_millisecond(watermark) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => watermark.to_string(),
    }
}

/// Cuts a line that would wrap, for a wrapped line cannot be drawn over.
fn cut(line: String, columns: usize) -> String {
    match line.chars().count() >= columns {
        true => line
            .chars()
            .take(columns.saturating_sub(2))
            .chain(['…'])
            .collect(),
        false => line,
    }
}

fn columns() -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes a winsize to the address given, which is one.
    let told = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size) };
    match (told, size.ws_col) {
        (0, 1..) => usize::from(size.ws_col),
        _ => 80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CheckpointStatus, InputStatus, JobIdentity, Phase, SlotStatus};

    #[test]
    fn one_line_says_it_all() {
        let board = Board::new(JobIdentity::default());
        board.expect(1);
        let start = Instant::now();
        board.measure(start);
        let now = 1_767_225_605_000;
        board.update(SlotStatus {
            phase: Phase::Running,
            rows_in: 2_469_000,
            rows_out: 20,
            inputs: vec![InputStatus {
                lag: Some(12_000),
                watermark: Some(now - 5000),
                ..InputStatus::default()
            }],
            checkpoint: Some(CheckpointStatus {
                at: now - 4000,
                ..CheckpointStatus::default()
            }),
            ..SlotStatus::default()
        });
        board.measure(start + Duration::from_secs(2));
        let line = line(&board.status(now));
        assert_eq!(
            line,
            "in 1,234,500/s · out 10/s · watermark 2026-01-01 00:00:00 (5s behind) · lag 12,000 · checkpoint 4s ago"
        );
        assert_eq!(cut(line, 12), "in 1,234,5…");
    }
}
