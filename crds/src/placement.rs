//! Which worker has which slot: what the operator writes into the ConfigMap `<job>-placement`, and the workers watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The key of the ConfigMap's data that holds the placement, as JSON.
pub const PLACEMENT_KEY: &str = "placement.json";

/// The ConfigMap with a job's placement.
pub fn placement_name(job: &str) -> String {
    format!("{job}-placement")
}

/// Every slot of a job and its place. Empty until the number of slots is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Placement {
    pub slots: BTreeMap<u32, Place>,
}

/// Where a slot belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    pub pod: String,
    /// Only ever grows: the highest one owns the slot, whoever else may still believe to.
    pub term: u64,
    /// The pod that had it, lives, and lets go of it now: the new one waits for that, so that there is little to replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Placement {
    /// As it is in the ConfigMap.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// One line a slot, for people who look into the ConfigMap.
    pub fn to_json(&self) -> String {
        let line = |(slot, place): (&u32, &Place)| {
            let place = serde_json::json!(place);
            format!("  \"{slot}\": {place}")
        };
        match self.slots.is_empty() {
            true => "{}".to_owned(),
            false => {
                let lines: Vec<String> = self.slots.iter().map(line).collect();
                format!("{{\n{}\n}}", lines.join(",\n"))
            }
        }
    }

    /// The slots of a pod, with their terms.
    pub fn of<'a>(&'a self, pod: &'a str) -> impl Iterator<Item = (u32, &'a Place)> {
        self.slots
            .iter()
            .filter(move |(_, place)| place.pod == pod)
            .map(|(slot, place)| (*slot, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let place = |pod: &str, term, from: Option<&str>| Place {
            pod: pod.to_owned(),
            term,
            from: from.map(str::to_owned),
        };
        let placement = Placement {
            slots: BTreeMap::from([
                (0, place("clicks-0", 7, None)),
                (10, place("clicks-1", 9, Some("clicks-0"))),
            ]),
        };
        let text = placement.to_json();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(Placement::parse(&text).unwrap(), placement);
        assert_eq!(Placement::parse("{}").unwrap(), Placement::default());
        assert_eq!(
            placement
                .of("clicks-1")
                .map(|(slot, _)| slot)
                .collect::<Vec<_>>(),
            [10]
        );
    }
}
