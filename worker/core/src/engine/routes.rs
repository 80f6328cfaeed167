//! Who reads which stream within a stage: names became indices in the planner, here indices become slots of a table.

use crate::plan::{Feed, JobPlan, Port};

/// Streams that a node puts out.
pub const PORTS: usize = 5;

/// Number of a feed in a task's table of streams.
pub fn slot_of(feed: Feed) -> usize {
    match feed {
        Feed::Input => 0,
        Feed::Malformed => 1,
        Feed::Node { node, port } => {
            2 + node * PORTS
                + match port {
                    Port::Main => 0,
                    Port::Late => 1,
                    Port::Failed => 2,
                    Port::TimedOut => 3,
                    Port::Overflow => 4,
                }
        }
    }
}

pub fn slots(nodes: usize) -> usize {
    2 + nodes * PORTS
}

/// Sinks that read from a stage, each with the feeds it takes.
pub fn sinks(plan: &JobPlan, stage: usize) -> Vec<(usize, Vec<usize>)> {
    let feeds = |sink: usize| {
        let from = plan.sinks[sink]
            .from
            .iter()
            .filter(|from| from.stage == stage);
        from.map(|from| slot_of(from.feed)).collect::<Vec<_>>()
    };
    (0..plan.sinks.len())
        .map(|sink| (sink, feeds(sink)))
        .filter(|(_, feeds)| !feeds.is_empty())
        .collect()
}

/// Exchanges that a stage feeds.
pub fn exchanges(plan: &JobPlan, stage: usize) -> Vec<(usize, usize)> {
    let from = plan
        .exchanges
        .iter()
        .enumerate()
        .filter(|(_, exchange)| exchange.from.stage == stage);
    from.map(|(index, exchange)| (index, slot_of(exchange.from.feed)))
        .collect()
}
