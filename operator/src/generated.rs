//! Files made from the types: the definitions for a cluster, the reference for a reader. `make generated` writes them.

mod reference;

use anyhow::Context;
use streamjob_crds::stream_job_crd;

/// The CustomResourceDefinitions, as YAML documents.
pub fn crds() -> anyhow::Result<String> {
    let yaml = serde_yaml::to_string(&stream_job_crd()).context("cannot write the CRD as YAML")?;
    Ok(format!(
        "# Generated from the types in crds/src by `make generated`.\n{yaml}"
    ))
}

/// The reference of the job file, in Markdown.
pub fn reference() -> anyhow::Result<String> {
    let crd = serde_json::to_value(stream_job_crd()).context("cannot write the CRD as JSON")?;
    Ok(reference::markdown(
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
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
    fn committed_files_are_in_step_with_the_types() {
        in_step(
            crds().unwrap(),
            include_str!("../../crds/yaml/streamjobs.yaml"),
            "crds/yaml/streamjobs.yaml",
        );
        in_step(
            reference().unwrap(),
            include_str!("../../docs/job-file.md"),
            "docs/job-file.md",
        );
    }
}
