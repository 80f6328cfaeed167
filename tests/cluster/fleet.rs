//! A fleet under load: it grows and shrinks, its workers, operators and cluster are killed, and every row is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use streamjob_tests::failure;
use streamjob_tests::process::wait_until;

use crate::commits::{Commits, Micros, now};
use crate::support::{Setup, Story, by_form};
use crate::watched::{PATIENCE, Watched, pods};

const JOB: &str = "fleet";
const WORKER: &str = "streamjob-worker";
/// What a user is promised for the slots of a worker that was killed.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// And for a slot that moves, nineteen times in twenty.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest silence of a slot that does not move. An epoch is 25 ms, but pods that start and whatever else runs take the
/// two cores of a test machine; what waits for a lease, a restart or a move is longer.
const GOES_ON: Duration = Duration::from_secs(3);

#[test]
fn a_fleet_rescales_and_outlives_faults_and_every_row_is_there_once() -> failure::Result {
    let watched = Watched::start()?;
    let seconds = by_form(90, 600);
    let events = 1_200 * seconds;
    let mut setup = Setup::new(
        JOB,
        watched.kafka.bootstrap(),
        events,
        Duration::from_secs(seconds),
    );
    setup.s3 = Some(watched.s3.endpoint());
    let mut story = Story::begin(setup)?;
    watched.apply(&crate::manifest(&story, "replicas: 1"))?;
    watched.await_workers(JOB, 1)?;
    story.uid = watched.uid(JOB)?;
    let commits = Commits::follow(&story.cluster, &format!("streamjob-{}-journal", story.uid))?;
    let fleet = Fleet {
        watched: &watched,
        story: &story,
        commits: &commits,
    };
    fleet.steady()?;
    let mut pauses = fleet.rescale(4)?;
    for _ in 0..by_form(1, 3) {
        fleet.pod_deleted()?;
        fleet.container_killed()?;
    }
    for turn in 0..by_form(1, 10) {
        fleet.leader_killed(turn % 2 == 0)?;
    }
    fleet.operator_gone(Duration::from_secs(by_form(0, 120)))?;
    fleet.apiserver_restarted()?;
    fleet.kubelet_stopped()?;
    pauses.extend(fleet.rescale(2)?);
    for _ in 0..by_form(0, 5) {
        pauses.extend(fleet.rescale(4)?);
        pauses.extend(fleet.rescale(1)?);
    }
    pauses.sort_unstable();
    let p95 = pauses[(pauses.len() * 95).div_ceil(100) - 1];
    watched.tell(&format!(
        "{} slots moved in good order, p95 of their pauses {p95:?}: {pauses:?}",
        pauses.len()
    ));
    assert!(p95 < PAUSE, "slots that move pause for too long");
    eprintln!("{}", watched.kubectl(["get", "sj"])?);
    story.finish(Vec::new())?;
    watched.tell("every row is there, once");
    watched.audit()?;
    Ok(())
}

struct Fleet<'a> {
    watched: &'a Watched,
    story: &'a Story,
    commits: &'a Commits,
}

impl Fleet<'_> {
    /// Load without change, to compare with.
    fn steady(&self) -> Result<()> {
        let from = now();
        while now() < from + 5_000_000 {
            self.progress()?;
        }
        let gap = self.longest_gap(from);
        self.watched.tell(&format!("steady: longest gap {gap:?}"));
        ensure!(gap.is_some(), "nothing is seen of the journal");
        Ok(())
    }

    /// Of all slots, since then.
    fn longest_gap(&self, from: Micros) -> Option<Duration> {
        let slots = self.commits.since(from).into_iter();
        slots.map(|slot| slot.longest_gap).max()
    }

    /// How long the slots that have moved stood still. The others must have gone on.
    fn rescale(&self, workers: usize) -> Result<Vec<Duration>> {
        let from = now();
        self.watched.scale(JOB, workers)?;
        self.watched.await_workers(JOB, workers)?;
        let passages = self.commits.since(from);
        let of = |moved: bool| {
            let all = passages.iter().filter(move |slot| slot.moved == moved);
            all.map(|slot| slot.longest_gap).collect::<Vec<_>>()
        };
        let (moved, stayed) = (of(true), of(false));
        self.watched.tell(&format!(
            "{workers} workers: gaps of slots that moved {moved:?}, that stayed {stayed:?}"
        ));
        ensure!(!moved.is_empty(), "no slot has moved");
        ensure!(
            stayed.iter().all(|gap| *gap < GOES_ON),
            "slots that did not move stood still"
        );
        self.progress()?;
        Ok(moved)
    }

    fn pod_deleted(&self) -> Result<()> {
        let pod = self.some_worker()?;
        self.survives(&format!("pod {pod} deleted by force"), &pod, || {
            self.watched
                .kubectl(["delete", "pod", &pod, "--grace-period=0", "--force"])?;
            Ok(())
        })
    }

    fn container_killed(&self) -> Result<()> {
        let pod = self.some_worker()?;
        self.survives(&format!("container of {pod} killed"), &pod, || {
            self.watched
                .kubernetes
                .signal_pod(WORKER, &pod, libc::SIGKILL)
        })
    }

    /// Nobody starts the worker anew, and the cluster does not notice for a while.
    fn kubelet_stopped(&self) -> Result<()> {
        let kubernetes = &self.watched.kubernetes;
        kubernetes.signal("kubelet", libc::SIGSTOP)?;
        let pod = self.some_worker()?;
        self.survives(&format!("kubelet stopped, {pod} killed"), &pod, || {
            kubernetes.signal_pod(WORKER, &pod, libc::SIGKILL)
        })?;
        kubernetes.signal("kubelet", libc::SIGCONT)?;
        self.watched.await_workers(JOB, 4)?;
        self.watched
            .tell("the kubelet goes on, four workers are back");
        Ok(())
    }

    /// The pod's slots must come to life elsewhere, or there again, in time; then the fleet must be whole again.
    fn survives(&self, what: &str, pod: &str, fault: impl FnOnce() -> Result<()>) -> Result<()> {
        let slots = self.slots_of(pod)?;
        let mut owners = self.commits.owners();
        owners.retain(|slot, _| slots.contains(slot));
        let from: Micros = now();
        fault()?;
        let back = wait_until(PATIENCE, || self.commits.taken_over(from, &owners));
        let back: BTreeMap<usize, Duration> = back.context("slots do not come back")?;
        self.watched
            .tell(&format!("{what}: slots are back after {back:?}"));
        ensure!(
            back.values().all(|after| *after < BACK_WITHIN),
            "{what}: it took too long"
        );
        self.progress()
    }

    /// The next one must take over and do its work. One that dies at once does not let go of its lease.
    fn leader_killed(&self, at_once: bool) -> Result<()> {
        self.watched.await_workers(JOB, 4)?;
        let from = now();
        let leader = self.watched.leader()?;
        if at_once {
            let kubernetes = &self.watched.kubernetes;
            kubernetes.signal_pod("streamjob-operator", &leader, libc::SIGKILL)?;
        }
        let killed = ["delete", "pod", &leader, "--grace-period=0", "--force"];
        self.watched.kubectl(killed)?;
        let next = wait_until(PATIENCE, || {
            self.watched.leader().ok().filter(|next| *next != leader)
        });
        let next = next.context("nobody takes over")?;
        let took = Duration::from_micros((now() - from).unsigned_abs());
        let gap = self.longest_gap(from);
        self.watched.tell(&format!(
            "leader {leader} killed: {next} leads after {took:?}, longest gap of rows {gap:?}"
        ));
        ensure!(
            gap.is_some_and(|gap| gap < GOES_ON),
            "rows stood still while nobody led"
        );
        self.progress()
    }

    fn operator_gone(&self, away: Duration) -> Result<()> {
        self.watched.operators(0)?;
        let from = now();
        let until = from + away.as_micros() as Micros;
        self.progress()?;
        while now() < until {
            self.progress()?;
        }
        let gap = self.longest_gap(from);
        self.watched.operators(2)?;
        self.watched.await_workers(JOB, 4)?;
        self.watched.tell(&format!(
            "operators away for {away:?} and more: longest gap of rows {gap:?}"
        ));
        ensure!(
            gap.is_some_and(|gap| gap < GOES_ON),
            "rows stood still without the operator"
        );
        Ok(())
    }

    fn apiserver_restarted(&self) -> Result<()> {
        let kubernetes = &self.watched.kubernetes;
        let from = now();
        kubernetes.signal("kube-apiserver", libc::SIGKILL)?;
        let down = wait_until(PATIENCE, || self.watched.job(JOB).is_err().then_some(()));
        down.context("the apiserver does not go")?;
        self.watched.await_workers(JOB, 4)?;
        let gap = self.longest_gap(from);
        self.watched
            .tell(&format!("apiserver restarted: longest gap of rows {gap:?}"));
        ensure!(
            gap.is_some_and(|gap| gap < GOES_ON),
            "rows stood still without the apiserver"
        );
        self.progress()
    }

    fn progress(&self) -> Result<()> {
        let more = self.story.await_progress()?;
        ensure!(more, "the input ended too early to show anything");
        Ok(())
    }

    /// One that has slots.
    fn some_worker(&self) -> Result<String> {
        self.watched.await_workers(JOB, 4)?;
        let status = self.watched.job(JOB)?["status"].take();
        let pods = pods(&status).unwrap_or_default();
        let number = fastrand::usize(..pods.len().max(1));
        let pod = pods.get(number).context("no worker has slots")?;
        Ok((*pod).to_owned())
    }

    fn slots_of(&self, pod: &str) -> Result<Vec<usize>> {
        let status = self.watched.job(JOB)?["status"].take();
        let slots = status["slots"].as_array().context("no slots")?.iter();
        let own = slots.filter(|slot| slot["pod"] == pod);
        let numbers = own.filter_map(|slot| usize::try_from(slot["slot"].as_u64()?).ok());
        Ok(numbers.collect())
    }
}
