//! `knarr logs`: what a container printed.

use anyhow::Result;
use futures_util::{AsyncBufReadExt, TryStreamExt};
use kube::api::LogParams;
use std::io::Write;

use super::Target;
use crate::settings::Settings;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
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
        target,
        follow,
        previous,
        tail,
        timestamps,
    } = args;
    let (pods, name) = target.pods(settings)?;
    let params = LogParams {
        container: target.container.clone(),
        follow,
        previous,
        tail_lines: tail,
        timestamps,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream(name, &params).await?.lines();
    let mut out = std::io::stdout().lock();
    while let Some(line) = lines.try_next().await? {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
