//! Port forwarding as the Python client does it: for each port a data and an error channel, one byte of channel first.

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::task::JoinSet;

use super::super::query::Query;
use super::lane::{self, Input, Lane, Sender};
use super::target::Target;
use crate::server::channel::Channel;

/// Two channels a port, and one byte to name them.
const PORTS_MAX: usize = 120;

/// The ports that a request names.
pub(super) fn ports(query: &Query) -> Result<Vec<u16>, String> {
    let words = ["port", "ports"].into_iter().flat_map(|key| query.all(key));
    let ports = words
        .flat_map(|words| words.split(','))
        .map(|word| match word.parse() {
            Ok(0) | Err(_) => Err(format!("invalid port {word:?}")),
            Ok(port) => Ok(port),
        })
        .collect::<Result<Vec<u16>, _>>()?;
    match ports.len() {
        0 => Err("query parameter \"port\" is required".into()),
        1..=PORTS_MAX => Ok(ports),
        count => Err(format!("{count} ports are too many")),
    }
}

/// Connects every port at once and serves them until all are closed or the client is gone.
pub(super) async fn run(socket: WebSocket, target: Target, ports: Vec<u16>) {
    let (sink, messages) = socket.split();
    let (outbound, carry) = lane::outbound(sink);
    let room = lane::room();
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (data, port) in (0_u8..).step_by(2).zip(ports) {
        let error = data + 1;
        let (input, receiver) = room.queue();
        inputs.push(Some(input));
        let (target, outbound) = (target.clone(), outbound.clone());
        connections.spawn(async move {
            for number in [data, error] {
                let greeting = lane::channel(number, &port.to_le_bytes());
                let _ = outbound.send(greeting).await;
            }
            let lane = Lane::Channels { data, error };
            lane::run(lane, target, port, receiver, outbound).await;
        });
    }
    drop(outbound);
    tokio::select! {
        () = receive(messages, inputs) => {}
        // Over as soon as the last connection has dropped its way to the client.
        () = carry => {}
    }
}

async fn receive(mut messages: SplitStream<WebSocket>, mut inputs: Vec<Option<Sender>>) {
    while let Some(Ok(message)) = messages.next().await {
        let Message::Binary(frame) = message else {
            continue;
        };
        let Some((number, payload)) = frame.split_first() else {
            continue;
        };
        let (number, input) = match (*number, payload) {
            (close, [number]) if close == Channel::Close as u8 => (*number, Input::End),
            (_, []) => continue,
            (number, _) => (number, Input::Data(frame.slice(1..))),
        };
        let lane = inputs.get_mut(usize::from(number / 2));
        if let (Some(lane), true) = (lane, number.is_multiple_of(2))
            && let Some(sender) = lane
            && sender.send(input).await.is_err()
        {
            *lane = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_in_any_of_two_forms() {
        let check = |query: &str, expected: Result<&[u16], &str>| {
            let found = ports(&Query::parse(Some(query)));
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        };
        check("port=80&port=81", Ok(&[80, 81]));
        check("ports=80,81", Ok(&[80, 81]));
        check("port=0", Err("invalid port \"0\""));
        check("port=x", Err("invalid port \"x\""));
        check("", Err("query parameter \"port\" is required"));
    }
}
