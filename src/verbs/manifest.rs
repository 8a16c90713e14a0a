//! Reads manifests into objects with their kinds. Sends nothing.

use std::{io::Read, path::Path};

use anyhow::Result;
use knarr_api::{kind::Kind, kinds, yaml};
use serde_json::Value;

use crate::exit::{Code, Failure};

/// One object of a manifest.
pub(crate) struct Item {
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) object: Value,
}

impl Item {
    /// `service/web` or `deployment.apps/web`, as kubectl prints it.
    pub(crate) fn label(&self) -> String {
        let group = if self.kind.group.is_empty() {
            String::new()
        } else {
            format!(".{}", self.kind.group)
        };
        format!("{}{group}/{}", self.kind.singular, self.name)
    }
}

/// Reads a file, every manifest of a folder, or `-` for standard input.
pub(crate) fn read(path: &Path, namespace: &str) -> Result<Vec<Item>> {
    if path.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
        files.retain(|f| {
            f.path()
                .extension()
                .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known))
        });
        files.sort_by_key(std::fs::DirEntry::file_name);
        let mut items = Vec::new();
        for file in files {
            items.extend(read(&file.path(), namespace)?);
        }
        return Ok(items);
    }
    let mut text = Vec::new();
    let from_stdin = path == Path::new("-");
    let read = if from_stdin {
        std::io::stdin().read_to_end(&mut text).map(drop)
    } else {
        std::fs::read(path).map(|bytes| text = bytes)
    };
    read.map_err(|error| unreadable(format!("cannot read {}: {error}", path.display())))?;
    let source = if from_stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let documents = yaml::documents(&text).map_err(|error| {
        unreadable(format!("{source}: {error}"))
            .hint("knarr reads the YAML and JSON that kubectl reads")
    })?;
    let mut items = Vec::new();
    for document in documents {
        flatten(document, &source, namespace, &mut items)?;
    }
    Ok(items)
}

fn flatten(document: Value, source: &str, namespace: &str, items: &mut Vec<Item>) -> Result<()> {
    if document.is_null() {
        return Ok(());
    }
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind == "List" {
        let members = document["items"].as_array().cloned().unwrap_or_default();
        return members
            .into_iter()
            .try_for_each(|member| flatten(member, source, namespace, items));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let Some(found) = kinds::by_kind(group, version, &kind) else {
        let what = if kind.is_empty() {
            "a document without a kind".into()
        } else {
            format!("{api_version} {kind} is not served")
        };
        return Err(unreadable(format!("{source}: {what}"))
            .hint("`kubectl api-resources` lists what is served")
            .into());
    };
    let name = document["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if name.is_empty() {
        return Err(unreadable(format!("{source}: a {kind} has no metadata.name")).into());
    }
    let namespace = document["metadata"]["namespace"]
        .as_str()
        .unwrap_or(namespace)
        .to_owned();
    items.push(Item {
        kind: found,
        namespace,
        name,
        object: document,
    });
    Ok(())
}

fn unreadable(message: String) -> Failure {
    Failure::new(Code::Unreadable, message)
}
