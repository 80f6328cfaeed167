//! One run: a world, the workers in it, somebody who starts and kills them, and the checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use streamjob_core::commit::record::{JournalRecord, RecordKind};
use streamjob_core::commit::{Identity, Lineage, StopReason, Term};
use streamjob_crds::Guarantee;

use crate::bug::Bug;
use crate::engine::{Input, PARTITIONS, Row, reference};
use crate::kafka::Kafka;
use crate::storage::{External, Storage};
use crate::worker::{Ended, Worker};

pub const JOB: &str = "uid";
pub const SINK: &str = "external";

/// Steps after which a run without faults must have ended.
const PATIENCE: u64 = 20_000;

pub struct World {
    pub rng: fastrand::Rng,
    pub kafka: Kafka,
    pub storage: Storage,
    pub external: External,
    pub input: Input,
    pub guarantee: Guarantee,
    pub bug: Option<Bug>,
    /// Whether requests may still go wrong.
    pub faults: bool,
    pub report: Report,
    /// The journal's records as far as they have been checked.
    next_offset: usize,
    last: Option<JournalRecord>,
    violation: Option<String>,
}

/// What happened in a run, to show that the faults did come up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub epochs: u64,
    pub crashes: u64,
    pub taken_over: u64,
    pub unclean: u64,
    pub resent: u64,
    pub skipped: u64,
    pub restored: u64,
    pub fallbacks: u64,
    pub replayed: u64,
    pub deleted: u64,
}

impl Report {
    fn counts(&self) -> [u64; 10] {
        let Report {
            epochs,
            crashes,
            taken_over,
            unclean,
            resent,
            skipped,
            restored,
            fallbacks,
            replayed,
            deleted,
        } = *self;
        [
            epochs, crashes, taken_over, unclean, resent, skipped, restored, fallbacks, replayed,
            deleted,
        ]
    }

    pub fn add(&mut self, other: &Report) {
        let [
            epochs,
            crashes,
            taken_over,
            unclean,
            resent,
            skipped,
            restored,
            fallbacks,
            replayed,
            deleted,
        ] = other.counts();
        self.epochs += epochs;
        self.crashes += crashes;
        self.taken_over += taken_over;
        self.unclean += unclean;
        self.resent += resent;
        self.skipped += skipped;
        self.restored += restored;
        self.fallbacks += fallbacks;
        self.replayed += replayed;
        self.deleted += deleted;
    }

    /// Each kind of event came up, on average, at least once in twenty runs.
    pub fn assert_not_vacuous(&self, runs: u64) {
        let scarce = self.counts().iter().any(|count| *count < runs / 20);
        assert!(!scarce, "the simulation hardly tests anything: {self:?}");
    }
}

impl World {
    fn new(seed: u64, guarantee: Guarantee, bug: Option<Bug>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let input =
            std::array::from_fn(|_| (0..rng.usize(4..24)).map(|_| rng.i64(1..1000)).collect());
        World {
            kafka: Kafka::new(guarantee == Guarantee::ExactlyOnce),
            storage: Storage::default(),
            external: External::default(),
            input,
            guarantee,
            bug,
            faults: true,
            report: Report::default(),
            next_offset: 0,
            last: None,
            violation: None,
            rng,
        }
    }

    /// Whether something goes wrong that does so in `percent` of all cases.
    pub fn fault(&mut self, percent: u8) -> bool {
        self.faults && self.rng.u8(..100) < percent
    }

    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Called before a checkpoint is deleted.
    pub fn check_delete(&mut self, manifest: &str) {
        let last = match self.guarantee {
            Guarantee::ExactlyOnce => self.last.clone(),
            Guarantee::AtLeastOnce => self.line().last().cloned(),
        };
        let named =
            last.is_some_and(|last| last.checkpoints.iter().any(|c| c.manifest == manifest));
        if named {
            self.violated(format!(
                "checkpoint {manifest} is deleted while the journal names it"
            ));
        }
        self.report.deleted += 1;
    }

    /// Called before rows reach the external sink.
    pub fn check_apply(&mut self, epoch: u64) {
        let committed = self.last.as_ref().map_or(0, |last| last.epoch);
        if self.guarantee == Guarantee::ExactlyOnce && epoch > committed {
            self.violated(format!(
                "epoch {epoch} is applied, committed is {committed}"
            ));
        }
    }

    pub fn line(&self) -> Lineage {
        Lineage::of(
            self.kafka
                .records(self.kafka.start)
                .map(|(_, record)| record.clone())
                .collect(),
        )
    }

    fn step(&mut self) {
        self.kafka.tick(&mut self.rng);
        self.storage.deliver(&mut self.rng);
        if self.guarantee == Guarantee::ExactlyOnce {
            self.check_new_records();
        }
        self.damage();
    }

    fn check_new_records(&mut self) {
        let fresh: Vec<(usize, JournalRecord)> = self
            .kafka
            .decided_records(self.next_offset)
            .map(|(o, record)| (o, record.clone()))
            .collect();
        for (offset, record) in fresh {
            self.next_offset = offset + 1;
            let (epoch, term) = self
                .last
                .as_ref()
                .map_or((0, 0), |last| (last.epoch, last.term));
            let expected = epoch + u64::from(record.kind == RecordKind::Epoch);
            if record.epoch != expected || record.term < term {
                self.violated(format!(
                    "journal: {:?} of epoch {} and term {} after epoch {epoch} and term {term}",
                    record.kind, record.epoch, record.term
                ));
            }
            for named in &record.checkpoints {
                if !self.storage.is_complete(&named.manifest) {
                    self.violated(format!(
                        "epoch {} names {}, which is not there",
                        epoch, named.manifest
                    ));
                }
            }
            self.report.epochs += u64::from(record.kind == RecordKind::Epoch);
            self.last = Some(record);
        }
    }

    /// Bit rot: of one checkpoint, while there is another to fall back to.
    fn damage(&mut self) {
        let Some(last) = self.last.as_ref().filter(|_| self.faults) else {
            return;
        };
        let mut named = last.checkpoints.iter();
        if named.len() >= 2
            && !named.any(|c| self.storage.is_damaged(&c.manifest))
            && self.rng.u8(..30) == 0
        {
            let manifest = last.checkpoints[0].manifest.clone();
            self.storage.damage(&manifest, self.rng.usize(..PARTITIONS));
        }
    }

    fn check_end(&self) -> Result<(), String> {
        let reference = reference(&self.input);
        for (partition, expected) in reference.iter().enumerate() {
            let seen = self.kafka.rows(partition);
            let right = match self.guarantee {
                Guarantee::ExactlyOnce => seen == *expected,
                Guarantee::AtLeastOnce => {
                    expected.iter().all(|row| seen.contains(row))
                        && seen.iter().all(|row| expected.contains(row))
                }
            };
            if !right {
                return Err(format!(
                    "partition {partition} has {seen:?}, not {expected:?}"
                ));
            }
        }
        let mut external: BTreeMap<(usize, i64), Row> = BTreeMap::new();
        external.extend(reference.iter().flatten().map(|row| (row.key(), *row)));
        if self.guarantee == Guarantee::ExactlyOnce && self.external.rows() != external {
            return Err(format!(
                "external sink has {:?}, not {external:?}",
                self.external.rows()
            ));
        }
        Ok(())
    }
}

/// A worker in the world. Dropping it is a crash.
struct Life {
    identity: Identity,
    run: Pin<Box<dyn Future<Output = Ended>>>,
    paused: bool,
}

struct Simulation {
    world: Rc<RefCell<World>>,
    lives: Vec<Life>,
    started: u64,
    term: u64,
    done: bool,
}

/// One run; the error says which promise was broken.
pub fn simulate(seed: u64, guarantee: Guarantee, bug: Option<Bug>) -> Result<Report, String> {
    let world = Rc::new(RefCell::new(World::new(seed, guarantee, bug)));
    let mut simulation = Simulation {
        world: world.clone(),
        lives: Vec::new(),
        started: 0,
        term: 0,
        done: false,
    };
    let faulty_steps = world.borrow_mut().rng.u64(50..700);
    simulation.start_over();
    let mut done_for = 0;
    for step in 0.. {
        if step == faulty_steps {
            simulation.calm();
        }
        if step > faulty_steps + PATIENCE {
            return Err("the job does not end".into());
        }
        simulation.step()?;
        // Zombies and held requests have their chance: what is visible then stays.
        done_for += u64::from(simulation.done);
        if done_for > 100 && world.borrow().kafka.is_settled() {
            break;
        }
    }
    let world = world.borrow();
    world.check_end()?;
    Ok(world.report.clone())
}

impl Simulation {
    fn step(&mut self) -> Result<(), String> {
        self.world.borrow_mut().step();
        if self.world.borrow().faults {
            self.meddle();
        }
        if !self.done && self.lives.iter().all(|life| life.paused) {
            match self.lives.first_mut() {
                Some(life) if self.world.borrow().faults => life.paused = false,
                _ => self.start_over(),
            }
        }
        let awake: Vec<usize> = (0..self.lives.len())
            .filter(|index| !self.lives[*index].paused)
            .collect();
        if !awake.is_empty() {
            let index = awake[self.world.borrow_mut().rng.usize(..awake.len())];
            self.poll(index)?;
        }
        match self.world.borrow_mut().violation.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    fn poll(&mut self, index: usize) -> Result<(), String> {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(ended) = self.lives[index].run.as_mut().poll(&mut context) else {
            return Ok(());
        };
        let life = self.lives.swap_remove(index);
        match ended {
            Ended::Done => self.done = true,
            Ended::Stopped(StopReason::TakenOver { .. } | StopReason::TwoOwners { .. }) => {
                self.world.borrow_mut().report.taken_over += 1;
            }
            Ended::Stopped(reason) => {
                return Err(format!("{} stopped: {reason}", life.identity.incarnation));
            }
        }
        Ok(())
    }

    /// Kills, pauses, wakes and starts workers.
    fn meddle(&mut self) {
        let (dice, pick) = {
            let mut world = self.world.borrow_mut();
            (
                world.rng.u16(..1000),
                world.rng.usize(..self.lives.len().max(1)),
            )
        };
        match dice {
            0..12 if !self.lives.is_empty() => {
                let life = self.lives.swap_remove(pick);
                self.world.borrow_mut().report.crashes += 1;
                if dice < 8 {
                    let Identity { term, owner, .. } = life.identity;
                    self.start(term, owner);
                }
            }
            12..22 if !self.lives.is_empty() => self.lives[pick].paused = true,
            22..40 if !self.lives.is_empty() => self.lives[pick].paused = false,
            40..46 if self.lives.len() < 4 => self.start_over(),
            // A second start on a laptop; a pod that the cluster believes dead, started again.
            46..49 if self.lives.len() < 4 => {
                self.start(Term::AfterLast, format!("l{}", self.started))
            }
            49..51 if !self.lives.is_empty() => {
                let Identity { term, owner, .. } = self.lives[pick].identity.clone();
                self.start(term, owner);
            }
            51 if self.lives.len() < 4 => {
                self.start(Term::Given(self.term), format!("t{}", self.started));
            }
            _ => {}
        }
    }

    /// From here on nothing goes wrong, and zombies are awake.
    fn calm(&mut self) {
        self.world.borrow_mut().faults = false;
        self.lives.iter_mut().for_each(|life| life.paused = false);
    }

    /// A placement on another worker.
    fn start_over(&mut self) {
        // A laptop's start may have gone past the operator's count.
        let journal = self
            .world
            .borrow()
            .last
            .as_ref()
            .map_or(0, |last| last.term);
        self.term = self.term.max(journal) + 1;
        self.start(Term::Given(self.term), format!("w{}", self.started));
    }

    fn start(&mut self, term: Term, owner: String) {
        let incarnation = format!("i{}", self.started);
        self.started += 1;
        let identity = Identity {
            job: JOB.into(),
            slot: 0,
            term,
            owner,
            incarnation,
        };
        let worker = Worker::new(self.world.clone(), identity.clone());
        self.lives.push(Life {
            identity,
            run: Box::pin(worker.run()),
            paused: false,
        });
    }
}
