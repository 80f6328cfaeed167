//! `streamjob-operator`: so far it prints what a cluster and a reader must know of the job file.

mod generated;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Runs StreamJob manifests on Kubernetes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`
    Crds,
    /// Print the reference of the job file, in Markdown
    #[command(hide = true)]
    Reference,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds => print!("{}", generated::crds()?),
        Command::Reference => print!("{}", generated::reference()?),
    }
    Ok(())
}
