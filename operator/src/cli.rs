//! What can be written on the command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::webhook::Webhook;

/// Runs StreamJob manifests on Kubernetes
#[derive(Debug, Parser)]
#[command(name = "streamjob-operator", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`
    Crds {
        /// Only this one
        #[arg(value_parser = ["streamjobs", "streamsnapshots"])]
        plural: Option<String>,
    },
    /// Print the reference of the job file, in Markdown
    #[command(hide = true)]
    Reference,
}

const RUN_HELP: &str = "\
For each StreamJob the operator makes a StatefulSet of workers, tells them by the ConfigMap `<job>-placement` which slots are
whose, asks them once a second how they are, moves slots away from those that do not answer, and scales where the job has
`autoscaling`. Workers go on without it.

Several operators may run: one leads (by the Lease `streamjob-operator` in its namespace), the others wait.

Examples:
  streamjob-operator run --worker-image streamjob:0.1.0
                                    in a pod: looks after the jobs of its own namespace
  streamjob-operator run --worker-image streamjob:0.1.0 --all-namespaces
                                    looks after all jobs; needs a ClusterRole
  kubectl get streamjobs -w         what it has made of them
  kubectl describe sj NAME          conditions and events of one";

/// Look after the StreamJobs of a cluster
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunArgs {
    /// Image of the workers: it has /usr/bin/streamjob-worker
    #[arg(long, value_name = "IMAGE", env = "STREAMJOB_WORKER_IMAGE")]
    pub worker_image: String,
    /// `Always`, `IfNotPresent` or `Never` [default: the cluster's]
    #[arg(long, value_name = "POLICY", env = "STREAMJOB_WORKER_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub worker_image_pull_policy: Option<String>,
    /// Look after the jobs of this namespace [default: the operator's own]
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Look after the jobs of all namespaces
    #[arg(long)]
    pub all_namespaces: bool,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The ValidatingWebhookConfiguration that sends jobs here before they are stored; it is given our certificate [default: none, no webhook]
    #[arg(long, value_name = "NAME", requires = "webhook_host")]
    pub webhook_configuration: Option<String>,
    /// The name by which the cluster dials the webhook: <service>.<namespace>.svc
    #[arg(long, value_name = "HOST")]
    pub webhook_host: Option<String>,
    /// Serve the webhook here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    pub webhook_listen: SocketAddr,
}

impl RunArgs {
    pub fn webhook(&self) -> Option<Webhook> {
        Some(Webhook {
            configuration: self.webhook_configuration.clone()?,
            host: self.webhook_host.clone()?,
            listen: self.webhook_listen,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
