//! `/exec`: one more process in a running container, its streams over a WebSocket or SPDY.

mod copy;
mod streams;

use std::path::Path;
use std::sync::Arc;

use axum::extract::{RawQuery, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use k8s_openapi::api::core::v1::Pod;

use super::channel::{self, Wants};
use super::query::Query;
use super::upgrade::{Socket, Upgrade};
use super::{Address, Refusal, find};
use crate::host::Host;
use crate::pod::{self, Identity, link, security};
use crate::protocol::{Exec, Process};
use streams::Streams;

/// Answers a request to run a process.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod, container)): Address,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let found = find(&host.paths, &namespace, &pod)?;
    found.running(&container)?;
    let argv: Vec<String> = query.all("command").map(str::to_owned).collect();
    if argv.is_empty() {
        let message = "you must specify at least 1 command".into();
        return Err((StatusCode::BAD_REQUEST, message));
    }
    let wants = Wants::of(&query);
    let tty = wants.tty;
    let upgrade = upgrade.agree(&channel::PROTOCOLS)?;
    let api = knarr_client::Api::<Pod>::namespaced(host.client.clone(), &namespace);
    let object = api
        .get(&pod)
        .await
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let process = process(&object, &container, argv, tty)?;
    let exec = Exec {
        container,
        process,
        tty,
    };
    let directory = host.paths.pod(&found.record.uid);
    Ok(upgrade.on_upgrade(async move |socket| {
        run(socket, &directory, exec, wants).await;
    }))
}

fn process(object: &Pod, name: &str, argv: Vec<String>, tty: bool) -> Result<Process, Refusal> {
    let refused = |message: String| (StatusCode::INTERNAL_SERVER_ERROR, message);
    let identity = Identity::of(object).ok_or_else(|| refused("pod does not exist".into()))?;
    let spec = object.spec.clone().unwrap_or_default();
    let container = pod::container(&spec, name)
        .ok_or_else(|| refused(format!("container not found ({name:?})")))?;
    let rights = security::rights(&identity, &spec, container, &security::read_passwd())
        .map_err(|error| refused(error.to_string()))?;
    Ok(Process {
        argv,
        env: if tty {
            vec![("TERM".into(), "xterm".into())]
        } else {
            Vec::new()
        },
        working_dir: container.working_dir.clone(),
        uid: rights.uid,
        gid: rights.gid,
        groups: rights.groups,
        capabilities: rights.capabilities,
        no_new_privileges: rights.no_new_privileges,
    })
}

/// Runs the process to its end, or until the client is gone: the init kills what loses its connection.
async fn run(socket: Socket, directory: &Path, exec: Exec, wants: Wants) {
    let Ok((mut sender, receiver)) = channel::split(socket, wants).await else {
        return;
    };
    match begin(directory, exec, wants).await {
        Ok((streams, reader, _writer)) => {
            let code = copy::run(&mut sender, receiver, streams, reader).await;
            if let Some(code) = code {
                sender.finish(&channel::exit_status(code)).await;
            }
        }
        Err(error) => {
            let message = format!("failed to exec in container: {error}");
            sender.finish(&channel::failure(&message)).await;
        }
    }
}

async fn begin(
    directory: &Path,
    exec: Exec,
    wants: Wants,
) -> Result<(Streams, link::Reader, link::Writer), link::Error> {
    let (streams, files) = if exec.tty {
        Streams::terminal()?
    } else {
        Streams::pipes(wants)?
    };
    let (mut reader, mut writer) = link::connect(directory).await?;
    writer.send_exec(exec, files).await?;
    reader.started().await?;
    Ok((streams, reader, writer))
}
