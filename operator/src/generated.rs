//! Files made from the types: the definitions for a cluster, the reference for a reader. `make generated` writes them.

mod reference;

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use streamjob_crds::{stream_job_crd, stream_snapshot_crd};

/// The CustomResourceDefinitions, as YAML documents: all, or the one with this plural.
pub fn crds(plural: Option<&str>) -> anyhow::Result<String> {
    let mut text = String::from("# Generated from the types in crds/src by `make generated`.\n");
    let all = [stream_job_crd(), stream_snapshot_crd()];
    let wanted = |crd: &CustomResourceDefinition| {
        plural.is_none_or(|plural| plural == crd.spec.names.plural)
    };
    for (index, crd) in all.iter().filter(|crd| wanted(crd)).enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        let yaml = serde_yaml::to_string(crd).context("cannot write the CRD as YAML")?;
        text.extend(yaml.split_inclusive('\n').map(quoted));
    }
    Ok(text)
}

/// What kubectl and Helm, which read YAML 1.1, take for truth values where they are not quoted: a join's `on`, the `n` of the top `n`.
const TRUTH_VALUES: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];

/// A line of YAML with such a word quoted, where it is a name or an item.
fn quoted(line: &str) -> String {
    let word = line.trim().trim_start_matches("- ").trim_end_matches(':');
    match TRUTH_VALUES.contains(&word) {
        true => line.replacen(word, &format!("'{word}'"), 1),
        false => line.to_owned(),
    }
}

/// The reference of the job file, in Markdown.
pub fn reference() -> anyhow::Result<String> {
    let spec = |crd| {
        let crd = serde_json::to_value(crd).context("cannot write the CRD as JSON")?;
        anyhow::Ok(
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone(),
        )
    };
    Ok(reference::markdown(
        &spec(stream_job_crd())?,
        &spec(stream_snapshot_crd())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_step(generated: String, committed: &str, path: &str) {
        assert!(
            generated == committed,
            "{path} is not what the types say: run `make generated`"
        );
    }

    #[test]
    fn no_name_is_a_truth_value_to_older_readers() {
        let text = crds(None).unwrap();
        assert!(text.contains("'on':") && text.contains("- 'on'"));
        let bare = |line: &&str| {
            TRUTH_VALUES.contains(&line.trim().trim_start_matches("- ").trim_end_matches(':'))
        };
        assert_eq!(text.lines().find(bare), None);
    }

    #[test]
    fn committed_files_are_in_step_with_the_types() {
        in_step(
            crds(Some("streamjobs")).unwrap(),
            include_str!("../../crds/yaml/streamjobs.yaml"),
            "crds/yaml/streamjobs.yaml",
        );
        in_step(
            crds(Some("streamsnapshots")).unwrap(),
            include_str!("../../crds/yaml/streamsnapshots.yaml"),
            "crds/yaml/streamsnapshots.yaml",
        );
        in_step(
            reference().unwrap(),
            include_str!("../../docs/job-file.md"),
            "docs/job-file.md",
        );
    }
}
