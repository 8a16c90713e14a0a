//! `knarr logs`: what a container printed.

use anyhow::Result;
use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use std::io::Write;

use super::Scope;
use crate::{client, settings::Settings};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name of the pod
    pod: String,
    #[command(flatten)]
    scope: Scope,
    /// Container, where the pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Go on printing as more comes
    #[arg(short, long)]
    follow: bool,
    /// Of the container before its last restart
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<()> {
    let Args {
        pod,
        scope,
        container,
        follow,
        previous,
        tail,
        timestamps,
    } = args;
    let client = client::connect(settings)?;
    let name = pod.strip_prefix("pod/").unwrap_or(&pod).to_owned();
    let params = LogParams {
        container,
        follow,
        previous,
        tail_lines: tail,
        timestamps,
        ..LogParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(client, &scope.namespace);
    let mut lines = pods.log_stream(&name, &params).await?.lines();
    let mut out = std::io::stdout().lock();
    while let Some(line) = lines.try_next().await? {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
