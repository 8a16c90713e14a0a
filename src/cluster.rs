//! What is settled at the first start and kept: the address ranges; and what administrators ask of the data directory.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use knarr_api::yaml;

use crate::{
    durable,
    exit::{Code, Failure},
    host,
    ranges::{self, Ranges, Wanted},
    settings::Settings,
};

const FILE: &str = "cluster.yaml";

/// The ranges of this data directory: those of the first start, or new ones that fit the host.
pub(crate) async fn ranges(settings: &Settings) -> Result<Ranges> {
    let path = settings.data_dir.join(FILE);
    if let Ok(text) = fs::read_to_string(&path) {
        let kept: Ranges =
            yaml::typed(&text).with_context(|| format!("cannot read {}", path.display()))?;
        refuse_change(&settings.wanted, &kept)?;
        return Ok(Ranges {
            lb_pool: or(&settings.wanted.lb_pool, &kept.lb_pool),
            ..kept
        });
    }
    let host = host::observe().await?;
    let (ranges, notes) = ranges::choose(&settings.wanted, &host.networks()).map_err(|error| {
        Failure::new(Code::InUse, error)
            .hint("choose others with --service-cidr, --cluster-cidr and --lb-pool")
    })?;
    for note in notes {
        tracing::info!("{note}");
    }
    keep(&path, &ranges)?;
    Ok(ranges)
}

/// Objects already hold addresses of the first ranges, so these cannot move.
fn refuse_change(wanted: &Wanted, kept: &Ranges) -> Result<()> {
    let moved =
        |wanted: &[ipnet::IpNet], kept: &[ipnet::IpNet]| !wanted.is_empty() && wanted != kept;
    for (flag, wanted, kept) in [
        ("--cluster-cidr", &wanted.cluster_cidr, &kept.cluster_cidr),
        ("--service-cidr", &wanted.service_cidr, &kept.service_cidr),
    ] {
        if moved(wanted, kept) {
            let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
            return Err(Failure::new(
                Code::InUse,
                format!("{flag} is {} since the first start", kept.join(",")),
            )
            .hint("leave the flag out, or start anew with another --data-dir")
            .into());
        }
    }
    Ok(())
}

fn or(first: &[String], second: &[String]) -> Vec<String> {
    if first.is_empty() {
        second.to_vec()
    } else {
        first.to_vec()
    }
}

fn keep(path: &Path, ranges: &Ranges) -> Result<()> {
    let text = serde_saphyr::to_string(ranges).context("cannot write the ranges as YAML")?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    }
    durable::write(path, &text, 0o644).with_context(|| format!("cannot write {}", path.display()))
}

/// `knarr token`: what `knarr agent --token` takes.
pub(crate) fn print_token(settings: &Settings) -> Result<()> {
    println!(
        "{}",
        knarr_apiserver::join_token(&settings.data_dir)
            .map_err(|error| not_started(settings, error))?
    );
    Ok(())
}

/// `knarr kubeconfig`: the administrator's, on standard output.
pub(crate) fn print_kubeconfig(settings: &Settings) -> Result<()> {
    let text = fs::read_to_string(settings.data_dir.join("kubeconfig.yaml"))
        .map_err(|e| not_started(settings, e))?;
    print!("{text}");
    Ok(())
}

fn not_started(settings: &Settings, error: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::Failed,
        format!("{} holds no cluster: {error}", settings.data_dir.display()),
    )
    .hint("start one with `knarr up` or `knarr server`, or name its --data-dir")
}
