//! Names of what the worker keeps in Kafka. All carry the job's uid, so that jobs never meet.

/// The topic of the job's journal: one partition a slot.
pub fn journal_topic(uid: &str) -> String {
    format!("streamjob-{uid}-journal")
}

/// The internal topic in front of the step `step`: one partition a slot.
pub fn exchange_topic(uid: &str, step: &str) -> String {
    format!("streamjob-{uid}-to-{}", legal(step))
}

/// Whether a topic is one of those above.
pub fn is_internal(uid: &str, topic: &str) -> bool {
    topic == journal_topic(uid) || topic.starts_with(&exchange_topic(uid, ""))
}

/// The transactional id that fences a slot's owners against each other.
pub fn transactional_id(uid: &str, slot: u32) -> String {
    format!("{uid}-{slot}")
}

/// The consumer group whose offsets are committed as a courtesy to lag tools.
pub fn group(uid: &str) -> String {
    uid.to_owned()
}

/// Topic names take letters, digits, `.`, `_` and `-`. What they do not take is written as its number, so that different
/// steps have different topics.
fn legal(name: &str) -> String {
    let mut legal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => legal.push(c),
            other => legal.push_str(&format!(".{:x}.", u32::from(other))),
        }
    }
    legal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_steps_have_different_topics() {
        assert_eq!(exchange_topic("u1", "by_user"), "streamjob-u1-to-by_user");
        assert_eq!(exchange_topic("u1", "é"), "streamjob-u1-to-.e9.");
        assert_ne!(exchange_topic("u1", "a.b"), exchange_topic("u1", "a b"));
    }

    #[test]
    fn a_job_knows_its_own_topics() {
        for topic in [journal_topic("u1"), exchange_topic("u1", "by_user")] {
            assert!(is_internal("u1", &topic));
            assert!(!is_internal("u", &topic));
            assert!(!is_internal("u1-2", &topic));
        }
        assert!(!is_internal("u1", &journal_topic("u1-2")));
    }
}
