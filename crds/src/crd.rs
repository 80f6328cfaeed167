//! The CustomResourceDefinitions, as a cluster accepts them without a warning.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{StreamJob, StreamSnapshot};

/// The definition of `StreamJob`. Its schema is also what a job file is checked against on a laptop.
pub fn stream_job_crd() -> CustomResourceDefinition {
    tidied(StreamJob::crd())
}

/// The definition of `StreamSnapshot`.
pub fn stream_snapshot_crd() -> CustomResourceDefinition {
    tidied(StreamSnapshot::crd())
}

fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            tidy(schema);
        }
    }
    crd
}

/// Takes out what the derived schema says and Kubernetes does not take: `additionalProperties: false` (its objects
/// are closed anyway), the formats of unsigned integers, and `nullable`, because a field is given or left out.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => tidy(values),
        Some(JSONSchemaPropsOrBool::Bool(_)) => schema.additional_properties = None,
        None => {}
    }
    if let Some(format) = &schema.format {
        schema.format = match format.as_str() {
            "uint8" | "uint16" | "int32" => Some("int32".into()),
            "uint32" | "uint64" | "int64" => Some("int64".into()),
            other => Some(other.into()),
        };
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    for property in schema.properties.iter_mut().flatten() {
        tidy(property.1);
    }
}

#[cfg(test)]
mod tests;
