//! `knarr delete`: by name, by label, or by manifest.

use std::path::PathBuf;

use anyhow::Result;
use http::{Method, StatusCode};
use kube::Client;

use super::{Scope, apply, manifest::Item, split_targets};
use crate::{
    client::{self, Call},
    exit::{Code, Failure},
    settings::Settings,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// `TYPE NAME…` or `TYPE/NAME…`
    targets: Vec<String>,
    /// Delete what these manifests name
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        conflicts_with = "targets"
    )]
    files: Vec<PathBuf>,
    /// Delete what bears these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    scope: Scope,
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<()> {
    let items = apply::read_all(&args.files, &args.scope.namespace)?;
    if items.is_empty() && args.targets.is_empty() {
        return Err(Failure::new(Code::Unreadable, "nothing to delete")
            .hint("name TYPE/NAME or give -f FILE")
            .into());
    }
    let client = client::connect(settings)?;
    // What was applied first is what the rest may live in.
    for Item {
        kind,
        namespace,
        name,
        ..
    } in items.iter().rev()
    {
        delete(
            &client,
            client::object_path(kind, namespace, name),
            &format!("{} {name:?}", kind.group_resource()),
        )
        .await?;
    }
    for (kind, name) in split_targets(&args.targets) {
        let kind = client::kind_named(&kind)?;
        match (name, &args.selector) {
            (Some(name), _) => {
                let path = client::object_path(kind, &args.scope.namespace, &name);
                delete(
                    &client,
                    path,
                    &format!("{} {name:?}", kind.group_resource()),
                )
                .await?;
            }
            (None, Some(selector)) => {
                let path = client::collection_path(kind, Some(&args.scope.namespace));
                let list = client::ask(
                    &client,
                    Call {
                        query: &format!("labelSelector={}", client::encode(selector)),
                        ..Call::get(path.clone())
                    },
                )
                .await?;
                for item in list["items"].as_array().into_iter().flatten() {
                    let name = item["metadata"]["name"].as_str().unwrap_or_default();
                    delete(
                        &client,
                        format!("{path}/{name}"),
                        &format!("{} {name:?}", kind.group_resource()),
                    )
                    .await?;
                }
            }
            (None, None) => {
                return Err(
                    Failure::new(Code::Unreadable, format!("which {}?", kind.plural))
                        .hint("give names or -l LABELS")
                        .into(),
                );
            }
        }
    }
    Ok(())
}

async fn delete(client: &Client, path: String, label: &str) -> Result<()> {
    let call = Call {
        method: Method::DELETE,
        body: br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#
            .to_vec(),
        ..Call::get(path)
    };
    match client::send(client, call).await? {
        (status, _) if status.is_success() => println!("{label} deleted"),
        (StatusCode::NOT_FOUND, _) => println!("{label} not found"),
        (_, body) => return Err(client::refusal(&body)),
    }
    Ok(())
}
