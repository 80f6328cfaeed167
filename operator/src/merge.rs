//! A user's pod template under the operator's own fields, as Kubernetes merges: objects by field, lists of named
//! things by name. Pure.

use serde_json::Value;

/// `over` wins where both say something.
pub fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (field, value) in over {
                let merged = match base.remove(&field) {
                    Some(under) => merge(under, value),
                    None => value,
                };
                base.insert(field, merged);
            }
            Value::Object(base)
        }
        (Value::Array(base), Value::Array(over)) if named(&base) && named(&over) => {
            Value::Array(merge_named(base, over))
        }
        (_, over) => over,
    }
}

fn named(list: &[Value]) -> bool {
    list.iter().all(|element| element["name"].is_string())
}

/// The operator's come first, each over the user's of the same name; then what only the user has.
fn merge_named(mut base: Vec<Value>, over: Vec<Value>) -> Vec<Value> {
    let mut merged = Vec::new();
    for element in over {
        let same = base
            .iter()
            .position(|under| under["name"] == element["name"]);
        merged.push(match same {
            Some(index) => merge(base.remove(index), element),
            None => element,
        });
    }
    merged.extend(base);
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_operator_wins_and_the_rest_stays() {
        let user = json!({
            "metadata": {"labels": {"team": "shop", "app": "mine"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "containers": [
                    {"name": "sidecar", "image": "s"},
                    {"name": "worker", "image": "evil", "env": [{"name": "RUST_LOG", "value": "debug"}]},
                ],
            },
        });
        let own = json!({
            "metadata": {"labels": {"app": "ours"}},
            "spec": {"containers": [
                {"name": "worker", "image": "good", "args": ["serve"], "env": [{"name": "POD_NAME", "value": "p"}]},
            ]},
        });
        assert_eq!(
            merge(user, own),
            json!({
                "metadata": {"labels": {"team": "shop", "app": "ours"}},
                "spec": {
                    "nodeSelector": {"disk": "ssd"},
                    "containers": [
                        {"name": "worker", "image": "good", "args": ["serve"], "env": [
                            {"name": "POD_NAME", "value": "p"},
                            {"name": "RUST_LOG", "value": "debug"},
                        ]},
                        {"name": "sidecar", "image": "s"},
                    ],
                },
            })
        );
    }
}
