//! What was typed: every subcommand. The flags that all share are in [`crate::flags`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{echo, flags::Flags, verbs};

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  it failed, or the answer is no
  2  the command line or a manifest cannot be read
  3  the API server cannot be reached
  4  root is needed
  5  something else holds what knarr needs: a port, a directory, an address range";

/// Kubernetes Services without Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "knarr", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run everything on this machine, in the foreground
    Up(Up),
    /// Run the API server and its controllers
    Server,
    /// Run the node agent and the netproxy of one node
    Agent(Join),
    /// Own load-balancer IPs on a machine outside the cluster, and spread their connections over healthy nodes
    Front(Join),
    /// Create or update the objects of manifests
    Apply(verbs::apply::Args),
    /// Print objects
    Get(verbs::get::Args),
    /// Delete objects
    Delete(verbs::delete::Args),
    /// Print the logs of a container
    Logs(verbs::logs::Args),
    /// Run a command in a container
    Exec(verbs::exec::Args),
    /// Say why a Service does or does not route
    Explain(verbs::explain::Args),
    /// Print the health of each part
    Status,
    /// Print the token that `knarr agent` and `knarr front` join with
    Token,
    /// Print a kubeconfig for administrators
    Kubeconfig,
    /// Remove everything knarr put on this host, except its data
    Down,
    /// Answer HTTP and UDP with the pod's name
    Echo(echo::Args),
    /// The parent of a pod's processes
    #[command(hide = true)]
    PodInit,
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Manifest to apply once the API answers (`-` for standard input); may be given more than once
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How long to wait until what was applied is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Join {
    /// URL of the API server, e.g. https://192.0.2.1:6443
    #[arg(long, env = "KNARR_SERVER")]
    pub(crate) server: String,
    /// What `knarr token` printed on the server
    #[arg(long, env = "KNARR_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
}
