//! `knarr apply`: server-side apply of manifests, saying what changed.

use std::path::PathBuf;

use anyhow::Result;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::Value;

pub(crate) use super::manifest::Item;
use super::{Scope, manifest};
use crate::{
    client::{self, Call},
    settings::Settings,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Manifest, folder of manifests, or `-`; may be given more than once
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    scope: Scope,
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<()> {
    let items = read_all(&args.files, &args.scope.namespace)?;
    let client = client::connect(settings)?;
    for item in &items {
        println!("{} {}", item.label(), apply(&client, item).await?);
    }
    Ok(())
}

/// Reads every file before anything is sent, so that a typo in the last one changes nothing.
pub(crate) fn read_all(files: &[PathBuf], namespace: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for file in files {
        items.extend(manifest::read(file, namespace)?);
    }
    Ok(items)
}

/// Applies one object; the answer is `created`, `configured` or `unchanged`.
pub(crate) async fn apply(client: &Client, item: &Item) -> Result<&'static str> {
    let path = client::object_path(item.kind, &item.namespace, &item.name);
    let (found, before) = client::send(client, Call::get(path.clone())).await?;
    let call = Call {
        method: Method::PATCH,
        path,
        query: "fieldManager=knarr&force=true&fieldValidation=Strict",
        content_type: client::APPLY,
        accept: client::JSON,
        body: item.object.to_string().into_bytes(),
    };
    let after = client::ask(client, call).await?;
    let revision = |object: &Value| object["metadata"]["resourceVersion"].clone();
    Ok(match found {
        StatusCode::NOT_FOUND => "created",
        _ if revision(&before) == revision(&after) => "unchanged",
        _ => "configured",
    })
}
