//! Small kubectl-like commands for people without kubectl. They are clients like any other.

pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod logs;
mod manifest;
pub(crate) mod status;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::{client, settings::Settings};

/// Where objects of namespaced kinds are looked for.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Scope {
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

/// One container of a pod.
#[derive(clap::Args, Debug)]
pub(crate) struct Target {
    /// Name of the pod
    pod: String,
    #[command(flatten)]
    scope: Scope,
    /// Container, where the pod has several
    #[arg(short, long)]
    pub(crate) container: Option<String>,
}

impl Target {
    /// The pods of its namespace, and which of them it is.
    pub(crate) fn pods(&self, settings: &Settings) -> Result<(Api<Pod>, &str)> {
        let Self {
            pod,
            scope,
            container: _,
        } = self;
        let pods = Api::namespaced(client::connect(settings)?, &scope.namespace);
        Ok((pods, pod.strip_prefix("pod/").unwrap_or(pod)))
    }
}

/// `TYPE/NAME` or `TYPE` `NAME…`, as kubectl takes them.
pub(crate) fn split_targets(words: &[String]) -> Vec<(String, Option<String>)> {
    if words.iter().any(|word| word.contains('/')) {
        let split = |word: &String| match word.split_once('/') {
            Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
            None => (word.clone(), None),
        };
        return words.iter().map(split).collect();
    }
    let Some((kinds, names)) = words.split_first() else {
        return Vec::new();
    };
    let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
    kinds
        .flat_map(|kind| {
            let named = names
                .iter()
                .map(|name| (kind.to_owned(), Some(name.clone())))
                .collect::<Vec<_>>();
            if named.is_empty() {
                vec![(kind.to_owned(), None)]
            } else {
                named
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_as_kubectl_names_them() {
        let check = |words: &[&str], expected: &[(&str, Option<&str>)]| {
            let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, n)| ((*k).to_owned(), n.map(str::to_owned)))
                .collect();
            assert_eq!(split_targets(&words), expected);
        };
        check(&["svc"], &[("svc", None)]);
        check(&["svc,pods"], &[("svc", None), ("pods", None)]);
        check(
            &["pod", "a", "b"],
            &[("pod", Some("a")), ("pod", Some("b"))],
        );
        check(
            &["pod/a", "svc/b"],
            &[("pod", Some("a")), ("svc", Some("b"))],
        );
    }
}
