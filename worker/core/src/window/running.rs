//! Where a row of a running aggregate goes: to its group, which lives on from it.

use super::input::Prepared;
use super::store::Held;
use super::{Log, Placed, WindowError, WindowStep};
use crate::chunk::Millis;
use crate::stateful::StepOutput;

impl WindowStep {
    #[inline]
    pub(super) fn place_running(
        &mut self,
        place: usize,
        ttl: Millis,
        prepared: &Prepared,
        log: &Log,
        out: &mut StepOutput,
    ) -> Result<Placed, WindowError> {
        let time = log.times[place];
        let Some(end) = time.checked_add(ttl).and_then(|last| last.checked_add(1)) else {
            return Ok(Placed::Nowhere);
        };
        if self.gone(end, self.watermark) {
            return Ok(Placed::Late);
        }
        let key = match self.found(place, log) {
            Some(key) => key,
            None => self.store.key(prepared.keys.get(place)),
        };
        let slot = match self.store.windows(key).first() {
            Some(held) => {
                let Held { slot, end: old } = *held;
                self.touch(slot, prepared, log, out)?;
                if end > old {
                    let (start, _) = self.bounds(slot);
                    self.store.resize(slot, start, end);
                }
                slot
            }
            None => self.create(key, 0, time, end),
        };
        self.pairs.places.push(place as u32);
        self.pairs.slots.push(slot);
        Ok(Placed::Counted)
    }
}
