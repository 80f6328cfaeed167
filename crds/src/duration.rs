//! Durations as Kubernetes' Gateway API writes them (GEP-2257): `1h30m`, `250ms`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A length of time: one to four of `<digits><unit>` with the units h, m, s, ms, such as `10s` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    millis: i64,
}

/// The form of GEP-2257, as CRD schemas state it.
pub const DURATION_PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

impl Duration {
    pub const fn from_millis(millis: i64) -> Self {
        Duration { millis }
    }

    pub const fn from_secs(secs: i64) -> Self {
        Duration {
            millis: secs * 1000,
        }
    }

    pub const fn as_millis(self) -> i64 {
        self.millis
    }

    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis as u64)
    }

    /// Parses the GEP-2257 form; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is not a duration: write for example `10s`, `250ms` or `1h30m`");
        let (mut rest, mut millis, mut parts) = (text, 0i64, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) || parts == 4 {
                return Err(bad());
            }
            let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let (unit, factor) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(bad)?;
            rest = &rest[unit.len()..];
            millis += number * factor;
            parts += 1;
        }
        if parts == 0 {
            Err(bad())
        } else {
            Ok(Duration { millis })
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, millis) in [
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("0s", 0),
            ("1m5s10ms", 65_010),
        ] {
            let duration = Duration::parse(text).unwrap();
            assert_eq!(duration.as_millis(), millis);
            assert_eq!(duration.to_string(), text);
        }
        for text in ["", "10", "s", "1d", "-1s", "1.5s", "1h1m1s1ms1h", "123456s"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }
}
