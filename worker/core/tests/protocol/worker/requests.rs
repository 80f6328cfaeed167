//! Journal and producer: every request may be lost, held back, answered twice or not at all.

use super::*;

impl Worker {
    pub(super) async fn read_journal(&mut self) {
        self.pause().await;
        let mut records: Vec<JournalRecord> = {
            let world = self.world();
            world
                .kafka
                .records(world.kafka.start)
                .map(|(_, record)| record.clone())
                .collect()
        };
        let trimmed = self.world().kafka.start > 0;
        let behind_fence = std::mem::replace(&mut self.fenced, false);
        if self.has(Bug::IgnoreTerm) {
            self.take_for_own(&mut records);
        }
        let epoch = self.protocol.next_epoch().saturating_sub(1);
        let uncertain = self.running && self.kept.get(&epoch).is_some_and(|kept| kept.sent);
        if uncertain && behind_fence && records.last().is_some_and(|last| last.epoch == epoch) {
            self.world().report.skipped += 1;
        }
        let again = self.has(Bug::SkipSecondRead) && !self.running
            || self.has(Bug::ResendWithoutReading) && uncertain;
        if behind_fence && again {
            records = self.last_read.clone();
        }
        if behind_fence && uncertain && self.has(Bug::BoundaryByPosition) {
            self.judge_by_position(&mut records);
        }
        self.last_read = records.clone();
        self.pause().await;
        self.take(Fact::JournalRead { records, trimmed });
    }

    pub(super) async fn initialise(&mut self) {
        self.producer = None;
        let guarantee = self.world().guarantee;
        let id = match guarantee {
            Guarantee::ExactlyOnce if !self.has(Bug::ClaimWithoutFencing) => JOB.to_string(),
            _ => format!("{JOB}-{}", self.identity.incarnation),
        };
        loop {
            self.pause().await;
            let result = self.world().kafka.initialise(&id);
            let lost = self.world().fault(5);
            match result {
                Ok(producer) if !lost => {
                    self.producer = Some(producer);
                    self.fenced = true;
                    return self.take(Fact::ProducerReady);
                }
                Ok(_) if self.world().rng.bool() => {
                    return self.take(Fact::ProducerFailed(Failure::Uncertain));
                }
                _ => {}
            }
        }
    }

    pub(super) async fn commit(&mut self, record: JournalRecord) {
        let epoch = record.epoch;
        if record.kind == RecordKind::Epoch {
            self.before_commit(&record);
        }
        let outcome = self.transact(&record).await;
        if outcome == Err(Failure::Uncertain) {
            self.world().report.unclean += 1;
        }
        if record.kind == RecordKind::Epoch
            && let Some(kept) = self.kept.get_mut(&epoch)
        {
            kept.sent = true;
        }
        match outcome {
            Ok(()) => {
                self.last_read.push(record);
                self.take(Fact::Committed);
            }
            Err(failure) => self.take(Fact::CommitFailed(failure)),
        }
    }

    /// Output, then the record, then the end.
    pub(super) async fn transact(&mut self, record: &JournalRecord) -> Result<(), Failure> {
        let mut sends: Vec<(usize, Payload)> = Vec::new();
        if record.kind == RecordKind::Epoch {
            let rows = self
                .kept
                .get(&record.epoch)
                .map(|kept| kept.rows.clone())
                .unwrap_or_default();
            sends.extend(
                rows.into_iter()
                    .map(|row| (row.partition, Payload::Row(row))),
            );
        }
        sends.push((JOURNAL, Payload::Record(Box::new(record.clone()))));
        for (target, payload) in sends {
            self.send(target, payload).await?;
        }
        if self.world().guarantee == Guarantee::AtLeastOnce {
            return Ok(());
        }
        let abort = self.world().fault(4);
        self.end(!abort).await
    }

    pub(super) async fn send(&mut self, target: usize, payload: Payload) -> Result<(), Failure> {
        let Some(mut producer) = self.producer.take() else {
            return Err(Failure::Uncertain);
        };
        let sequence = producer.sequences.entry(target).or_default();
        *sequence += 1;
        let sequence = *sequence;
        self.producer = Some(producer.clone());
        loop {
            self.pause().await;
            let dice = if self.world().fault(6) {
                self.world().rng.u8(..4)
            } else {
                4
            };
            match dice {
                0 => {}
                1 => self
                    .world()
                    .kafka
                    .hold_produce(&producer, target, sequence, payload.clone()),
                2 => {
                    let _ =
                        self.world()
                            .kafka
                            .produce(&producer, target, sequence, payload.clone());
                }
                3 => return Err(Failure::Uncertain),
                _ => {
                    let result =
                        self.world()
                            .kafka
                            .produce(&producer, target, sequence, payload.clone());
                    match result {
                        Ok(()) => return Ok(()),
                        Err(Error::Concurrent) => {}
                        Err(Error::Fenced) => return Err(Failure::Fenced),
                        Err(Error::Invalid) => return Err(Failure::Uncertain),
                    }
                }
            }
        }
    }

    /// As librdkafka does it: tries again on its own, and in the end says "Ok".
    pub(super) async fn end(&mut self, commit: bool) -> Result<(), Failure> {
        let Some(producer) = self.producer.clone() else {
            return Err(Failure::Uncertain);
        };
        let mut clean = commit;
        loop {
            self.pause().await;
            let dice = if self.world().fault(15) {
                self.world().rng.u8(..4)
            } else {
                4
            };
            match dice {
                0 => clean = false,
                1 => {
                    self.world().kafka.hold_end(&producer, commit);
                    clean = false;
                }
                2 => {
                    let _ = self.world().kafka.end(&producer, commit);
                    clean = false;
                }
                3 => return Err(Failure::Uncertain),
                _ => {
                    let result = self.world().kafka.end(&producer, commit);
                    match result {
                        Ok(()) if clean || commit && self.has(Bug::ReuseProducer) => return Ok(()),
                        Ok(()) | Err(Error::Invalid) => return Err(Failure::Uncertain),
                        Err(Error::Fenced) => return Err(Failure::Fenced),
                        Err(Error::Concurrent) => clean = false,
                    }
                }
            }
        }
    }
}
