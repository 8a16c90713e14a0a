//! `knarr get`: objects as the server's tables, YAML or JSON.

use anyhow::Result;
use clap::ValueEnum;
use knarr_api::kind::Kind;
use serde_json::Value;

use super::{Scope, split_targets};
use crate::{
    client::{self, Call},
    exit::{Code, Failure},
    settings::Settings,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// `TYPE`, `TYPE NAME…`, `TYPE/NAME…` or `TYPE,TYPE`
    #[arg(required = true)]
    targets: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// Of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only what bears these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Wide,
    Yaml,
    Json,
    Name,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<()> {
    let client = client::connect(settings)?;
    let targets = split_targets(&args.targets);
    let many = targets.len() > 1;
    let query = args
        .selector
        .as_ref()
        .map(|s| format!("labelSelector={}", client::encode(s)))
        .unwrap_or_default();
    for (index, (kind, name)) in targets.iter().enumerate() {
        let kind = client::kind_named(kind)?;
        let namespace = (!args.all_namespaces).then_some(args.scope.namespace.as_str());
        let path = match name {
            Some(name) => client::object_path(kind, &args.scope.namespace, name),
            None => client::collection_path(kind, namespace),
        };
        let accept = match args.output {
            None | Some(Output::Wide) => TABLE,
            Some(Output::Yaml | Output::Json | Output::Name) => client::JSON,
        };
        let answer = client::ask(
            &client,
            Call {
                query: &query,
                accept,
                ..Call::get(path)
            },
        )
        .await?;
        let text = show(&answer, kind, &args, many)?;
        if many && index > 0 && !text.is_empty() && args.output != Some(Output::Name) {
            println!();
        }
        print!("{text}");
    }
    Ok(())
}

fn show(answer: &Value, kind: &Kind, args: &Args, many: bool) -> Result<String> {
    Ok(match args.output {
        Some(Output::Json) => format!("{}\n", serde_json::to_string_pretty(answer)?),
        Some(Output::Yaml) => {
            let text = serde_saphyr::to_string(answer).map_err(|error| {
                Failure::new(Code::Failed, format!("cannot print YAML: {error}"))
            })?;
            if many { format!("---\n{text}") } else { text }
        }
        Some(Output::Name) => names(answer, kind),
        None | Some(Output::Wide) => {
            let priority_max = args.output.map_or(0, |_| i64::MAX);
            let with_namespace = args.all_namespaces && kind.is_namespaced();
            let text = table(answer, priority_max, with_namespace);
            if text.is_empty() {
                eprintln!("No resources found.");
            }
            text
        }
    })
}

fn names(answer: &Value, kind: &Kind) -> String {
    let single = std::slice::from_ref(answer);
    let items = answer["items"].as_array().map_or(single, Vec::as_slice);
    items
        .iter()
        .map(|item| {
            format!(
                "{}/{}\n",
                kind.singular,
                item["metadata"]["name"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

/// Lays a `meta.k8s.io/v1 Table` out in columns, three spaces apart; those of a priority above 0 are for `-o wide`.
fn table(table: &Value, priority_max: i64, with_namespace: bool) -> String {
    let columns = table["columnDefinitions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shown: Vec<usize> = (0..columns.len())
        .filter(|&i| columns[i]["priority"].as_i64().unwrap_or(0) <= priority_max)
        .collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let heading = shown.iter().map(|&i| {
        columns[i]["name"]
            .as_str()
            .unwrap_or_default()
            .to_uppercase()
    });
    lines.push(
        with_namespace
            .then(|| "NAMESPACE".to_owned())
            .into_iter()
            .chain(heading)
            .collect(),
    );
    for row in table["rows"].as_array().into_iter().flatten() {
        let namespace = row["object"]["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default();
        let cells = shown.iter().map(|&i| match &row["cells"][i] {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".into(),
            other => other.to_string(),
        });
        lines.push(
            with_namespace
                .then(|| namespace.to_owned())
                .into_iter()
                .chain(cells)
                .collect(),
        );
    }
    if lines.len() == 1 {
        String::new()
    } else {
        align(&lines)
    }
}

/// Pads every column but the last to its widest cell.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let column_count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|l| l.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..column_count).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        out.push_str(padded.join("   ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_laid_out_as_kubectl_lays_them_out() {
        let answer = json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Type", "priority": 0}, {"name": "Selector", "priority": 1}],
            "rows": [
                {"cells": ["kubernetes", "ClusterIP", "<none>"], "object": {"metadata": {"namespace": "default"}}},
                {"cells": ["web", null, "app=web"], "object": {"metadata": {"namespace": "shop"}}},
            ],
        });
        assert_eq!(
            table(&answer, 0, false),
            "NAME         TYPE\nkubernetes   ClusterIP\nweb          <none>\n"
        );
        let expected = "NAMESPACE   NAME         TYPE        SELECTOR\n\
                        default     kubernetes   ClusterIP   <none>\n\
                        shop        web          <none>      app=web\n";
        assert_eq!(table(&answer, i64::MAX, true), expected);
    }
}
