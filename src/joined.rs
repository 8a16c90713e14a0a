//! What `knarr agent` and `knarr front` begin with: a run directory held, and a machine that the server knows.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use kube::Client;

use crate::{
    addresses::{self, Addresses, Follower, Gone},
    cli,
    join::{self, Credentials, Newcomer, Part},
    renewal::Sign,
    rundir::{self, Held},
    settings::Settings,
};

/// A machine that has joined.
pub(crate) struct Joined {
    pub(crate) client: Client,
    pub(crate) credentials: Credentials,
    pub(crate) addresses: Addresses,
    pub(crate) follower: Follower,
    /// How the next certificates are had.
    pub(crate) sign: Sign,
    /// For as long as the parts run.
    pub(crate) held: Held,
}

/// Joins as `part`; the credentials are kept below the data directory in `folder`.
pub(crate) async fn join(
    args: &cli::Join,
    settings: &Settings,
    part: Part,
    folder: &str,
) -> Result<Joined> {
    let cli::Join { server, token } = args;
    rundir::require_root()?;
    let held = rundir::hold(settings)?;
    let (addresses, follower) = addresses::follow(settings, Gone::Forgotten).await?;
    let ips = addresses.node.borrow().clone();
    let newcomer = Newcomer {
        part,
        name: &settings.node_name,
        ips: &ips,
    };
    let dir = settings.data_dir.join(folder);
    let credentials = join::credentials(&dir, server, token, newcomer).await?;
    let client = join::client(server, &credentials, addresses.local.clone())?;
    tracing::info!("{folder} {} joined {server}", settings.node_name);
    let machine = Machine {
        args: args.clone(),
        dir,
        part,
        name: settings.node_name.clone(),
        credentials: credentials.clone(),
    };
    Ok(Joined {
        client,
        credentials,
        addresses,
        follower,
        sign: machine.sign(),
        held,
    })
}

/// Who has its certificates signed again.
struct Machine {
    args: cli::Join,
    dir: PathBuf,
    part: Part,
    name: String,
    credentials: Credentials,
}

impl Machine {
    fn sign(self) -> Sign {
        let machine = Arc::new(self);
        Box::new(move |ips| {
            let machine = machine.clone();
            Box::pin(async move {
                let Machine {
                    args: cli::Join { server, token },
                    dir,
                    part,
                    name,
                    credentials,
                } = &*machine;
                let newcomer = Newcomer {
                    part: *part,
                    name,
                    ips: &ips,
                };
                join::again(dir, server, token, credentials, newcomer).await
            })
        })
    }
}
