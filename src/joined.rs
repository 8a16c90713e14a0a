//! What `knarr agent` and `knarr front` begin with: a run directory held, and a machine that the server knows.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use kube::Client;

use crate::{
    cli,
    join::{self, Credentials, Newcomer, Part},
    parts,
    renewal::Sign,
    rundir::{self, Held},
    settings::Settings,
};

/// A machine that has joined.
pub(crate) struct Joined {
    pub(crate) client: Client,
    pub(crate) credentials: Credentials,
    pub(crate) ips: Vec<IpAddr>,
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
    let ips = parts::node_ips(settings).await?;
    let newcomer = Newcomer {
        part,
        name: &settings.node_name,
        ips: &ips,
    };
    let dir = settings.data_dir.join(folder);
    let credentials = join::credentials(&dir, server, token, newcomer).await?;
    let client = join::client(server, &credentials)?;
    tracing::info!("{folder} {} joined {server}", settings.node_name);
    let machine = Machine {
        args: args.clone(),
        dir,
        part,
        name: settings.node_name.clone(),
        ips: ips.clone(),
        credentials: credentials.clone(),
    };
    Ok(Joined {
        client,
        credentials,
        ips,
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
    ips: Vec<IpAddr>,
    credentials: Credentials,
}

impl Machine {
    fn sign(self) -> Sign {
        let machine = Arc::new(self);
        Box::new(move || {
            let machine = machine.clone();
            Box::pin(async move {
                let Machine {
                    args: cli::Join { server, token },
                    dir,
                    part,
                    name,
                    ips,
                    credentials,
                } = &*machine;
                let part = *part;
                join::again(
                    dir,
                    server,
                    token,
                    credentials,
                    Newcomer { part, name, ips },
                )
                .await
            })
        })
    }
}
