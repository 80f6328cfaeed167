//! Events: what a user would ask about later.

use kube::Resource;
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder};
use streamjob_crds::Placement;

use crate::cluster;
use crate::decide::Decided;
use crate::placement::ordinal;

/// What the cluster takes.
const LONGEST: usize = 1000;
const LONGEST_ACTION: usize = 100;

/// Writes an event about a job or a snapshot. One that cannot be written is no reason not to go on.
pub async fn publish(
    events: &Recorder,
    kind: &str,
    object: &DynamicObject,
    type_: EventType,
    reason: &str,
    note: String,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(LONGEST).collect()),
        // Events of one reason and action are told as one, with the note of the first: what reads differently is another action.
        action: note
            .split(": ")
            .next()
            .unwrap_or(reason)
            .chars()
            .take(LONGEST_ACTION)
            .collect(),
        secondary: None,
    };
    let reference = object.object_ref(&cluster::resource(kind));
    if let Err(error) = events.publish(&event, &reference).await {
        tracing::warn!(%error, "cannot write an event");
    }
}

/// What was decided for a job.
pub async fn tell(
    events: &Recorder,
    object: &DynamicObject,
    placed: &Placement,
    decided: &Decided,
) {
    if let Some(scaled) = &decided.scaled {
        let reason = if scaled.applied {
            "Scaled"
        } else {
            "WouldScale"
        };
        let note = format!(
            "{} to {} workers: {}",
            scaled.from, scaled.to, scaled.message
        );
        publish(events, "StreamJob", object, EventType::Normal, reason, note).await;
    }
    let moved: Vec<String> = decided
        .placement
        .slots
        .iter()
        .filter(|(slot, place)| placed.slots.get(slot) != Some(place))
        .map(|(slot, place)| format!("{slot} to {}", ordinal(&place.pod)))
        .collect();
    if !moved.is_empty() {
        let note = format!("slots to workers {}", moved.join(", "));
        publish(
            events,
            "StreamJob",
            object,
            EventType::Normal,
            "SlotsPlaced",
            note,
        )
        .await;
    }
}
