//! `/attach`: the streams of a container's own process over a WebSocket or SPDY.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{RawQuery, State as Shared};
use axum::response::Response;

use super::channel::{self, Channel, Input, Wants};
use super::query::Query;
use super::upgrade::{Socket, Upgrade};
use super::{Address, Refusal, find};
use crate::host::Host;
use crate::pod::link;
use crate::protocol::{self, Event, FrameKind, Request};

/// Answers a request to attach.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod, container)): Address,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let wants = Wants::of(&Query::parse(query.as_deref()));
    let found = find(&host.paths, &namespace, &pod)?;
    found.running(&container)?;
    let upgrade = upgrade.agree(&channel::PROTOCOLS)?;
    let directory = host.paths.pod(&found.record.uid);
    Ok(upgrade.on_upgrade(async move |socket| {
        run(socket, &directory, &container, wants).await;
    }))
}

async fn run(socket: Socket, directory: &Path, container: &str, wants: Wants) {
    let Ok((mut sender, mut receiver)) = channel::split(socket, wants).await else {
        return;
    };
    let begun = async {
        let (mut reader, mut writer) = link::connect(directory).await?;
        writer
            .send(&Request::Attach {
                container: container.to_owned(),
            })
            .await?;
        reader.started().await?;
        Ok::<_, link::Error>((reader, writer))
    };
    let (mut reader, mut writer) = match begun.await {
        Ok(halves) => halves,
        Err(error) => return sender.finish(&channel::failure(&error.to_string())).await,
    };
    loop {
        let sent = tokio::select! {
            frame = reader.frame() => match frame {
                Ok(frame) => match show(&mut sender, &frame, wants).await {
                    Shown::More => Ok(()),
                    Shown::Ended => return sender.finish(&channel::exit_status(0)).await,
                    Shown::Left => return,
                },
                Err(_) => return sender.finish(&channel::exit_status(0)).await,
            },
            input = receiver.next() => match input {
                Input::Stdin(bytes) if wants.stdin => writer.send_stdin(&bytes).await,
                Input::StdinEnd if wants.stdin => writer.send_stdin(&[]).await,
                Input::Stdin(_) | Input::StdinEnd => Ok(()),
                Input::Resize { width, height } => {
                    let container = container.to_owned();
                    writer.send(&Request::Resize { container, width, height }).await
                }
                Input::End => return,
            },
        };
        if let Err(error) = sent {
            return sender.finish(&channel::failure(&error.to_string())).await;
        }
    }
}

/// What came of showing a frame to the client.
enum Shown {
    More,
    Ended,
    Left,
}

async fn show(sender: &mut channel::Sender, frame: &protocol::Frame, wants: Wants) -> Shown {
    let channel = match frame.kind {
        FrameKind::Stdout if wants.stdout => Channel::Stdout,
        FrameKind::Stderr if wants.stderr => Channel::Stderr,
        FrameKind::Message => {
            return match protocol::decode(&frame.payload) {
                Ok(Event::ExecEnded { .. }) => Shown::Ended,
                _ => Shown::More,
            };
        }
        FrameKind::Stdout | FrameKind::Stderr | FrameKind::Stdin | FrameKind::StdinEnd => {
            return Shown::More;
        }
    };
    match sender.send(channel, &frame.payload).await {
        Ok(()) => Shown::More,
        Err(_) => Shown::Left,
    }
}
