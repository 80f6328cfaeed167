//! What can be written on the command line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Event-stream processing with exactly-once results: runs a StreamJob on this machine, with or without Kafka.
#[derive(Debug, Parser)]
#[command(name = "streamjob-worker", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  streamjob-worker validate job.yaml          say all that is wrong with a job, and where
  streamjob-worker explain job.yaml           say how it will run, and what each sink guarantees
  streamjob-worker run job.yaml               run it; run it again to go on where it stopped
  streamjob-worker run job.yaml --fresh       forget where it stopped, and start anew
  streamjob-worker produce job.yaml --source events --rows 100000
                                              fill the topic of a source with made-up events

In a cluster the operator starts `streamjob-worker serve` in pods.

Exit codes: 0 done, 1 bad job file, 2 bad command line, 70 refused to go on (the message says what to do),
75 servers unreachable, 78 another worker has taken over.";

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    Serve(ServeArgs),
    Snapshot(SnapshotArgs),
    Restore(RestoreArgs),
    Forget(ForgetArgs),
    /// Say all that is wrong with a job file, and where
    Validate(JobArgs),
    /// Say how a job will run: its stages, its state, what each sink guarantees
    Explain(JobArgs),
    Produce(ProduceArgs),
}

impl Arguments {
    /// How to log while the command runs.
    pub fn logging(&self) -> (LogFormat, bool) {
        match &self.command {
            Command::Run(run) => (run.host.log_format, run.quiet),
            Command::Serve(serve) => (serve.host.log_format, false),
            Command::Snapshot(snapshot) => (snapshot.host.log_format, false),
            Command::Restore(restore) => (restore.host.log_format, false),
            Command::Forget(forget) => (forget.host.log_format, false),
            Command::Produce(produce) => (LogFormat::Text, produce.quiet),
            Command::Validate(_) | Command::Explain(_) => (LogFormat::Text, true),
        }
    }
}

const RUN_HELP: &str = "\
A job with Kafka keeps its journal there: it goes on from any machine, and a second start takes over from the first, which
then ends with exit code 78. A job without Kafka keeps everything in the state directory. Checkpoints go where the
job says (checkpoint.storage), else to the state directory.

Ctrl-C or SIGTERM commits, checkpoints and ends with exit code 0.

Examples:
  streamjob-worker run job.yaml
  streamjob-worker run job.yaml --slots 0-3 & streamjob-worker run job.yaml --slots 4-7
                                              two processes share a job
  cat job.yaml | streamjob-worker run -       file paths in it start at the current directory
  RUST_LOG=debug streamjob-worker run job.yaml";

/// Run a job in this process, until its input ends or a signal comes
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub host: HostArgs,
    /// Run only these slots here, such as `0,2-3`; other processes run the others
    #[arg(long, value_name = "SLOTS", value_parser = parse_slots)]
    pub slots: Option<Slots>,
    /// Number of this placement; a slot obeys the highest it has seen [default: the last one + 1]
    #[arg(long, value_name = "N")]
    pub term: Option<u64>,
    /// Forget the job's journal and state, and empty its output files
    #[arg(long, conflicts_with = "slots")]
    pub fresh: bool,
    /// Log warnings and errors only, and show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

const SERVE_HELP: &str = "\
Takes the slots that the ConfigMap `<job>-placement` gives to this pod (POD_NAME), and lets go of those that it takes away,
while the others go on. SIGTERM commits, checkpoints and ends with exit code 0.";

/// Run those slots of a job that a cluster places here; the operator starts it in pods
#[derive(Clone, Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct ServeArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub host: HostArgs,
    /// The headless Service through which the job's workers find each other
    #[arg(long, value_name = "NAME")]
    pub service: String,
}

const SNAPSHOT_HELP: &str = "\
The state goes to the job's checkpoint storage, under snapshots/NAME/, where only `forget --snapshot` deletes it. It takes the slots over from workers
that run: stop them before, and start them again afterwards. It does not matter how they ended.

Example:
  streamjob-worker snapshot job.yaml --name before-the-change
  streamjob-worker restore new-job.yaml --from before-the-change
  streamjob-worker run new-job.yaml";

/// Keep the state that a job has now under a name, for another job to go on from
#[derive(Clone, Debug, Args)]
#[command(after_help = SNAPSHOT_HELP)]
pub struct SnapshotArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub host: HostArgs,
    /// Name of the snapshot, which must be new
    #[arg(long, value_name = "NAME", value_parser = parse_uid)]
    pub name: String,
    /// Number of the placement under which it takes the slots [default: the last one + 1]
    #[arg(long, value_name = "N")]
    pub term: Option<u64>,
}

const RESTORE_HELP: &str = "\
The job must be new, with the snapshot's checkpoint storage, inputs, maxParallelism and steps; its sinks may be others. When this ends
with 0, `run` goes on where the snapshot was taken.";

/// Let a new job go on from a snapshot
#[derive(Clone, Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub struct RestoreArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub host: HostArgs,
    /// Name of the snapshot
    #[arg(long, value_name = "NAME", value_parser = parse_uid)]
    pub from: String,
}

const FORGET_HELP: &str = "\
Stop the job's workers first: those that run would begin anew. Rows that the job has put out stay, and so do its snapshots. What is gone
already is no error. With --snapshot it is one snapshot that is deleted, and the job itself is left alone.

Examples:
  streamjob-worker forget job.yaml
  streamjob-worker forget job.yaml --snapshot before-the-change";

/// Delete a job's journal, internal topics and checkpoints, or a snapshot
#[derive(Clone, Debug, Args)]
#[command(after_help = FORGET_HELP)]
pub struct ForgetArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub host: HostArgs,
    /// Name of the snapshot that is deleted instead
    #[arg(long, value_name = "NAME", value_parser = parse_uid)]
    pub snapshot: Option<String>,
}

/// What `run`, `serve` and their like share: where this process keeps and finds things.
#[derive(Clone, Debug, Args)]
pub struct HostArgs {
    /// Folder for what has to survive a restart: checkpoints, and the journal of a job without Kafka
    #[arg(long, value_name = "DIR", default_value = ".streamjob")]
    pub state_dir: PathBuf,
    /// Folder of the job's secrets, a folder each, a file a key [default: `secrets` beside the job file]
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Uid of the job [default: made from its namespace and name]
    #[arg(long, value_name = "UID", value_parser = parse_uid)]
    pub uid: Option<String>,
    /// Serve /metrics, /status, /healthz and /readyz here; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How to write the log, on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What `validate` and `explain` share with the others.
#[derive(Clone, Debug, Args)]
pub struct JobArgs {
    /// The job file; `-` reads it from the standard input
    #[arg(value_name = "JOB.yaml")]
    pub path: PathBuf,
}

const PRODUCE_HELP: &str = "\
Events are made from a source's `generate.fields` where the job has a `generate` source with the same columns, else made up
to fit the columns. They are keyed as the source declares in `key`.

Examples:
  streamjob-worker produce job.yaml --source events --rows 100000 --partitions 4
  streamjob-worker produce job.yaml --source events --file events.ndjson --rate 1000";

/// Fill the Kafka topic of a source with made-up or given events, creating it if it is not there
#[derive(Clone, Debug, Args)]
#[command(after_help = PRODUCE_HELP)]
#[group(id = "events", args = ["file", "rows"], required = true, multiple = false)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Name of the source whose topic is filled
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// Events to send, one a line; `-` reads the standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How many events to make up
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Events a second [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Seed of made-up events: the same seed makes the same events
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Partitions of the topic, if it has to be created
    #[arg(long, value_name = "P", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: u32,
    /// Folder of the job's secrets [default: `secrets` beside the job file]
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Numbers of slots, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(pub Vec<u32>);

/// More than any job has: so that `0-4000000000` is a usage error and no exhausted memory.
const SLOTS_MOST: u32 = 1024;

/// `0,2-3` → 0, 2, 3.
fn parse_slots(text: &str) -> Result<Slots, String> {
    let mut slots = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(number) if number < SLOTS_MOST => Ok(number),
            _ => Err(format!(
                "`{part}` is no slot or range of slots: write numbers below {SLOTS_MOST}, such as `0,2-3`"
            )),
        };
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("`{part}` is empty: the first slot comes first"));
        }
        slots.extend(first..=last);
    }
    Ok(Slots(slots.into_iter().collect()))
}

/// A uid is part of topic names, transactional ids and paths; a snapshot's name of paths.
fn parse_uid(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=100).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        true => Ok(text.to_owned()),
        false => Err(
            "write 1 to 100 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn slots_are_numbers_and_ranges() {
        assert_eq!(parse_slots("3,0-1, 1").unwrap(), Slots(vec![0, 1, 3]));
        for bad in ["", "a", "1-", "3-1", "1,,2", "4000000000", "-1"] {
            assert!(parse_slots(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn produce_wants_events_from_one_place() {
        let parse = |more: &[&str]| {
            let base = ["streamjob-worker", "produce", "j", "--source", "s"];
            Arguments::try_parse_from(base.iter().chain(more)).is_ok()
        };
        assert!(parse(&["--rows", "5"]));
        assert!(parse(&["--file", "f"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--rows", "5", "--file", "f"]));
    }

    #[test]
    fn uids_stay_out_of_paths() {
        assert!(parse_uid("payments.card-fraud").is_ok());
        for bad in ["", "../x", ".hidden", "a b", "a/b"] {
            assert!(parse_uid(bad).is_err(), "{bad}");
        }
    }
}
