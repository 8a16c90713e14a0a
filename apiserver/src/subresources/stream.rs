//! Logs, exec, attach and port-forward: the pod's node agent answers, this server only finds it and passes on.

use http::{Method, StatusCode, header};
use knarr_api::{
    kind::Kind,
    meta,
    status::Status,
    value::{items, str_of},
};
use serde_json::Value;

use crate::{
    call::Call,
    proxy::{self, Upstream},
    read,
    request::Query,
    respond::{self, Reply},
};

/// What of the query the agent is told, under which name.
type Parameters = &'static [(&'static str, &'static str)];

const LOG: Parameters = &[
    ("follow", "follow"),
    ("limitBytes", "limitBytes"),
    ("previous", "previous"),
    ("sinceSeconds", "sinceSeconds"),
    ("sinceTime", "sinceTime"),
    ("stream", "stream"),
    ("tailLines", "tailLines"),
    ("timestamps", "timestamps"),
];
const ATTACH: Parameters = &[
    ("stdin", "input"),
    ("stdout", "output"),
    ("stderr", "error"),
    ("tty", "tty"),
];

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let stored = read::stored(call, kind)?;
    let pod = stored.object();
    let place = format!(
        "{}/{}",
        escape(&stored.key.namespace),
        escape(&stored.key.name)
    );
    let node = str_of(&pod["spec"]["nodeName"]);
    let query = &call.query;
    let path_and_query = match call.info.subresource.as_str() {
        "log" => {
            let container = container(&pod, query)?;
            if node.is_empty() {
                return Ok(Reply::raw(respond::text(StatusCode::OK, "")));
            }
            super::log::check(&stored.key.name, query)?;
            let parameters = parameters(query, LOG);
            format!("/containerLogs/{place}/{container}?{parameters}")
        }
        "portforward" => {
            let ports: Vec<String> = query.all("ports").map(|p| pair("port", p)).collect();
            format!("/portForward/{place}?{}", ports.join("&"))
        }
        stream => {
            let container = container(&pod, query)?;
            check_streams(query)?;
            let mut parameters = vec![flags(query, ATTACH)];
            if stream == "exec" {
                let commands = query.all("command").map(|c| pair("command", c));
                parameters.extend(commands);
                if query.text("command").is_none() {
                    let text = "you must specify at least one command for the exec";
                    return Err(Status::bad_request(text));
                }
            }
            format!("/{stream}/{place}/{container}?{}", parameters.join("&"))
        }
    };
    if node.is_empty() {
        let name = meta::name(&pod);
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let is_log = call.info.subresource == "log";
    if !is_log && call.header(header::UPGRADE).is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let backend = proxy::node::agent(&call.state, node)?;
    let upstream = Upstream {
        backend,
        method: Method::GET,
        path_and_query: path_and_query.clone(),
    };
    match proxy::forward(call, upstream).await {
        // A stream's refusal reaches the client as it is, a log's as any other of the API.
        Ok(response) if is_log && !response.status().is_success() => {
            Err(super::log::refusal(&stored.key.name, response).await)
        }
        Ok(response) => Ok(Reply::raw(response)),
        Err(error) => Err(Status::internal(format!(
            "error sending request: Get \"{path_and_query}\": {error}"
        ))),
    }
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, query: &Query) -> Result<String, Status> {
    let name = meta::name(pod);
    let names = |list: &str| -> Vec<String> {
        let containers = items(&pod["spec"][list]).iter();
        containers
            .map(|container| str_of(&container["name"]).to_owned())
            .collect()
    };
    let (regular, init) = (names("containers"), names("initContainers"));
    if let Some(wanted) = query.text("container") {
        let ephemeral = names("ephemeralContainers");
        let known = [regular, init, ephemeral].concat();
        if known.iter().any(|known| known == wanted) {
            return Ok(escape(wanted));
        }
        return Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        )));
    }
    match regular.as_slice() {
        [only] => Ok(escape(only)),
        several => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                text += &format!(" or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(text))
        }
    }
}

fn check_streams(query: &Query) -> Result<(), Status> {
    let wanted = ["stdin", "stdout", "stderr"]
        .iter()
        .any(|stream| query.flag(stream) == Some(true));
    if wanted {
        return Ok(());
    }
    Err(Status::bad_request(
        "you must specify at least 1 of stdin, stdout, stderr",
    ))
}

/// Parameters as they came.
fn parameters(query: &Query, known: Parameters) -> String {
    let pairs = known
        .iter()
        .filter_map(|(name, passed)| query.text(name).map(|value| pair(passed, value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Those flags that are set, as `1`.
fn flags(query: &Query, known: Parameters) -> String {
    let set = known
        .iter()
        .filter(|(name, _)| query.flag(name) == Some(true));
    let pairs: Vec<String> = set.map(|(_, passed)| pair(passed, "1")).collect();
    pairs.join("&")
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}={}", escape(value))
}

/// Percent-encodes everything but what is safe anywhere in a URL.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_named_unless_it_is_the_only_one() {
        let pod = |names: &[&str]| {
            let containers: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
            json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
        };
        let check = |pod: &Value, query: &str, expected: Result<&str, &str>| {
            let found = container(pod, &Query::parse(query)).map_err(|status| status.message);
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected);
        };
        check(&pod(&["a"]), "", Ok("a"));
        check(&pod(&["a", "b"]), "container=b", Ok("b"));
        check(
            &pod(&["a", "b"]),
            "",
            Err("a container name must be specified for pod p, choose one of: [a b]"),
        );
        check(
            &pod(&["a"]),
            "container=x",
            Err("container x is not valid for pod p"),
        );
    }

    #[test]
    fn streams_are_told_in_the_agents_words() {
        let query = Query::parse("stdin=true&stdout=1&stderr=false&command=sh&command=-c");
        assert_eq!(flags(&query, ATTACH), "input=1&output=1");
        assert_eq!(pair("command", "a b&c"), "command=a%20b%26c");
    }
}
