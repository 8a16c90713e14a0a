//! `/exec`: one more process in a running container, its streams over a WebSocket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use axum::extract::{RawQuery, State as Shared, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use k8s_openapi::api::core::v1::Pod;
use nix::pty::openpty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::channel::{self, Channel, Input};
use super::query::Query;
use super::{Address, Refusal, find, not_running};
use crate::host::Host;
use crate::pod::{self, Identity, link, security};
use crate::protocol::{Exec, Process};

/// How long output may still come after the process has ended: its children can hold the pipe for ever.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(200);

/// Answers a request to run a process.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod, container)): Address,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let found = find(&host.paths, &namespace, &pod)?;
    let history = found.state.containers.get(&container);
    if history.is_none_or(|history| history.current.ended.is_some()) {
        return Err(not_running(&container, &pod));
    }
    let argv: Vec<String> = query.all("command").map(str::to_owned).collect();
    if argv.is_empty() {
        return Err((
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 command".into(),
        ));
    }
    let says = |long: &str, short: &str| query.says(long) || query.says(short);
    let tty = query.says("tty");
    let wants = Wants {
        stdin: says("stdin", "input"),
        stdout: says("stdout", "output"),
        stderr: says("stderr", "error"),
    };
    let api = kube::Api::<Pod>::namespaced(host.client.clone(), &namespace);
    let object = api
        .get(&pod)
        .await
        .map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
    let process = process(&object, &container, argv, tty)?;
    let exec = Exec {
        container,
        process,
        tty,
    };
    let directory = host.paths.pod(&found.record.uid);
    Ok(upgrade
        .protocols(channel::PROTOCOLS)
        .on_upgrade(async move |socket| {
            run(socket, &directory, exec, wants).await;
        }))
}

/// The streams a client asked for.
#[derive(Debug, Clone, Copy)]
struct Wants {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

fn process(object: &Pod, name: &str, argv: Vec<String>, tty: bool) -> Result<Process, Refusal> {
    let refused = |message: String| (StatusCode::BAD_REQUEST, message);
    let identity = Identity::of(object).ok_or_else(|| refused("the pod has no name".into()))?;
    let spec = object.spec.clone().unwrap_or_default();
    let container = pod::container(&spec, name).ok_or_else(|| not_running(name, &identity.name))?;
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

/// The agent's ends of a process's streams.
struct Streams {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    terminal: Option<OwnedFd>,
}

async fn run(socket: WebSocket, directory: &std::path::Path, exec: Exec, wants: Wants) {
    let (mut sender, receiver) = channel::split(socket);
    let prepared = if exec.tty {
        terminal_streams()
    } else {
        pipe_streams(wants)
    };
    let begun = async {
        let (streams, files) = prepared.map_err(|error| error.to_string())?;
        let (mut reader, mut writer) = link::connect(directory)
            .await
            .map_err(|error| error.to_string())?;
        writer
            .send_exec(exec, files)
            .await
            .map_err(|error| error.to_string())?;
        reader.started().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((streams, reader, writer))
    };
    match begun.await {
        Ok((streams, reader, _writer)) => {
            let code = copy(&mut sender, receiver, streams, reader).await;
            if let Some(code) = code {
                sender.finish(&channel::exit_status(code)).await;
            }
        }
        Err(error) => sender.finish(&channel::failure(&error)).await,
    }
}

/// Copies until the process has ended; `None` when the client left first.
async fn copy(
    sender: &mut channel::Sender,
    mut receiver: channel::Receiver,
    mut streams: Streams,
    mut reader: link::Reader,
) -> Option<i32> {
    let ended = reader.ended();
    tokio::pin!(ended);
    let mut stdin = streams.stdin.take();
    let (mut out_buffer, mut err_buffer) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let mut code = None;
    loop {
        let is_draining = code.is_some();
        if is_draining && streams.stdout.is_none() && streams.stderr.is_none() {
            return code;
        }
        tokio::select! {
            biased;
            length = read_some(&mut streams.stdout, &mut out_buffer) => {
                forward(sender, Channel::Stdout, &out_buffer, length, &mut streams.stdout).await?;
            }
            length = read_some(&mut streams.stderr, &mut err_buffer) => {
                forward(sender, Channel::Stderr, &err_buffer, length, &mut streams.stderr).await?;
            }
            result = &mut ended, if !is_draining => code = Some(result.unwrap_or(137)),
            input = receiver.next(), if !is_draining => {
                take_input(input, &mut stdin, streams.terminal.as_ref()).await?;
            }
            () = tokio::time::sleep(DRAIN_TIME_MAX), if is_draining => return code,
        }
    }
}

async fn take_input(
    input: Input,
    stdin: &mut Option<pipe::Sender>,
    terminal: Option<&OwnedFd>,
) -> Option<()> {
    match input {
        Input::Stdin(bytes) => {
            if let Some(pipe) = stdin
                && pipe.write_all(&bytes).await.is_err()
            {
                *stdin = None;
            }
        }
        Input::StdinEnd => *stdin = None,
        Input::Resize { width, height } => {
            if let Some(terminal) = terminal {
                crate::pod_init::resize(terminal, width, height);
            }
        }
        Input::End => return None,
    }
    Some(())
}

async fn forward(
    sender: &mut channel::Sender,
    channel: Channel,
    buffer: &[u8],
    length: usize,
    stream: &mut Option<pipe::Receiver>,
) -> Option<()> {
    if length == 0 {
        *stream = None;
        return Some(());
    }
    sender.send(channel, &buffer[..length]).await.ok()
}

/// Reads from a stream; one that is over never answers, and a broken one reads as over.
async fn read_some(stream: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

fn pipe_streams(wants: Wants) -> std::io::Result<(Streams, [OwnedFd; 3])> {
    let null = || -> std::io::Result<OwnedFd> {
        Ok(std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into())
    };
    let (stdin, child_stdin) = if wants.stdin {
        let (own, child) = pipe::pipe()?;
        (Some(own), child.into_blocking_fd()?)
    } else {
        (None, null()?)
    };
    let output = |wanted: bool| -> std::io::Result<(Option<pipe::Receiver>, OwnedFd)> {
        if !wanted {
            return Ok((None, null()?));
        }
        let (child, own) = pipe::pipe()?;
        Ok((Some(own), child.into_blocking_fd()?))
    };
    let (stdout, child_stdout) = output(wants.stdout)?;
    let (stderr, child_stderr) = output(wants.stderr)?;
    let streams = Streams {
        stdin,
        stdout,
        stderr,
        terminal: None,
    };
    Ok((streams, [child_stdin, child_stdout, child_stderr]))
}

/// The terminal's own end is not a pipe, so two threads carry its bytes.
fn terminal_streams() -> std::io::Result<(Streams, [OwnedFd; 3])> {
    let pair = openpty(None, None)?;
    for end in [pair.master.as_fd(), pair.slave.as_fd()] {
        nix::fcntl::fcntl(
            end,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )?;
    }
    let (own_stdin, to_terminal) = pipe::pipe()?;
    let (from_terminal, own_stdout) = pipe::pipe()?;
    carry(to_terminal.into_blocking_fd()?, pair.master.try_clone()?)?;
    carry(pair.master.try_clone()?, from_terminal.into_blocking_fd()?)?;
    let streams = Streams {
        stdin: Some(own_stdin),
        stdout: Some(own_stdout),
        stderr: None,
        terminal: Some(pair.master),
    };
    Ok((
        streams,
        [pair.slave.try_clone()?, pair.slave.try_clone()?, pair.slave],
    ))
}

fn carry(from: OwnedFd, to: OwnedFd) -> std::io::Result<()> {
    let work = move || std::io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to));
    std::thread::Builder::new()
        .name("knarr-terminal".into())
        .spawn(work)
        .map(drop)
}
