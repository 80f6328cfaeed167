//! What was resolved at a job's first start and must hold ever after: compared with what is there now.

use super::StopReason;
use super::record::JobFacts;

/// Compares the journal's facts about these `inputs` (names of sources and exchanges) with those observed now. Called at every
/// start of a slot, and by the worker while it runs.
pub fn check_facts(
    journalled: &JobFacts,
    observed: &JobFacts,
    inputs: &[String],
) -> Result<(), StopReason> {
    if journalled.slots != observed.slots {
        return Err(StopReason::SlotsChanged {
            before: journalled.slots,
            now: observed.slots,
        });
    }
    let of_inputs = |name: &String| inputs.contains(name);
    for (name, before) in journalled.topics.iter().filter(|(name, _)| of_inputs(name)) {
        let Some(now) = observed.topics.get(name) else {
            return Err(StopReason::InputMissing {
                input: format!("topic {}", before.topic),
            });
        };
        if before.topic != now.topic {
            return Err(StopReason::InputChanged {
                input: name.clone(),
                before: before.topic.clone(),
                now: now.topic.clone(),
            });
        }
        if before.id != now.id {
            return Err(StopReason::TopicRecreated {
                topic: before.topic.clone(),
                before: before.id.clone(),
                now: now.id.clone(),
            });
        }
        if before.partitions != now.partitions {
            return Err(StopReason::PartitionsChanged {
                topic: before.topic.clone(),
                before: before.partitions,
                now: now.partitions,
            });
        }
    }
    for (source, files) in journalled.files.iter().filter(|(name, _)| of_inputs(name)) {
        let there = observed.files.get(source);
        let missing = files
            .iter()
            .find(|file| !there.is_some_and(|there| there.contains(file)));
        if let Some(file) = missing {
            return Err(StopReason::InputMissing {
                input: format!("file {file} of source {source}"),
            });
        }
    }
    Ok(())
}
