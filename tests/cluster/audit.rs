//! What the operator and the workers asked of the cluster, by its audit log, and what they are permitted to ask.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use streamjob_tests::process::lock;

use crate::watched::{NAMESPACE, Watched};

/// Who, verb, group and resource.
type Permission = (String, String, String);

/// Over all stories of this run: one alone does not use everything.
static USED: Mutex<BTreeSet<Permission>> = Mutex::new(BTreeSet::new());

impl Watched {
    /// Nothing may have been refused to them; what they may do and have never done is told.
    pub fn audit(&self) -> Result<()> {
        let log = fs::read_to_string(self.kubernetes.audit_log())?;
        let granted = self.granted()?;
        let mut refused = BTreeSet::new();
        for line in log.lines() {
            let event: Value = serde_json::from_str(line)
                .with_context(|| format!("no line of an audit log: {line}"))?;
            let Some(permission) = asked(&event) else {
                continue;
            };
            if event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
                let why = event["responseStatus"]["message"].to_string();
                // An apiserver that has just started does not find roles that are there: it has not read them yet.
                let unread = why.contains("RBAC: role") && why.contains("not found");
                if !(unread && granted.contains(&permission)) {
                    refused.insert((permission, why));
                }
            } else {
                // Who applies what is not there needs both.
                if permission.1 == "patch" && event["responseStatus"]["code"] == 201 {
                    let (who, _, resource) = permission.clone();
                    lock(&USED).insert((who, "create".to_owned(), resource));
                }
                lock(&USED).insert(permission);
            }
        }
        ensure!(refused.is_empty(), "the cluster refused: {refused:#?}");
        let unused: Vec<_> = granted.difference(&lock(&USED)).cloned().collect();
        eprintln!(
            "{} permissions are granted, {} of them never used so far:",
            granted.len(),
            unused.len()
        );
        for (who, verb, resource) in unused {
            eprintln!("  {who}: {verb} {resource}");
        }
        Ok(())
    }

    /// By the roles of the chart, and by those that the operator makes.
    fn granted(&self) -> Result<BTreeSet<Permission>> {
        let roles: Value = serde_json::from_str(&self.kubectl(["get", "roles", "-o", "json"])?)?;
        let mut granted = BTreeSet::new();
        for role in roles["items"].as_array().into_iter().flatten() {
            let name = role["metadata"]["name"].as_str().unwrap_or_default();
            for rule in role["rules"].as_array().into_iter().flatten() {
                for verb in texts(&rule["verbs"]) {
                    for resource in texts(&rule["resources"]) {
                        let group = texts(&rule["apiGroups"]).next().unwrap_or_default();
                        let resource = full(group, resource);
                        granted.insert((who(name).to_owned(), verb.to_owned(), resource));
                    }
                }
            }
        }
        Ok(granted)
    }
}

/// What an account of the story's namespace asked for.
fn asked(event: &Value) -> Option<Permission> {
    let user = event["user"]["username"].as_str()?;
    let account = user.strip_prefix(&format!("system:serviceaccount:{NAMESPACE}:"))?;
    let object = &event["objectRef"];
    let mut resource = object["resource"].as_str()?.to_owned();
    if let Some(part) = object["subresource"].as_str() {
        resource = format!("{resource}/{part}");
    }
    let group = object["apiGroup"].as_str().unwrap_or_default();
    let verb = event["verb"].as_str()?.to_owned();
    Some((who(account).to_owned(), verb, full(group, &resource)))
}

/// All workers are alike, and the operator has several roles.
fn who(name: &str) -> &str {
    match name.ends_with("-worker") {
        true => "workers",
        false => "operator",
    }
}

fn full(group: &str, resource: &str) -> String {
    match group {
        "" => resource.to_owned(),
        _ => format!("{resource}.{group}"),
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
