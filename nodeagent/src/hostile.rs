//! Doors for fuzzing to what reads clients' bytes, without sockets and processes. Used by no part of knarr.

use bytes::Bytes;

use crate::{server, spdy};

/// A SPDY session in two pieces, cut where the first byte says: the cut changes nothing.
///
/// # Panics
/// When it does.
pub fn spdy(bytes: &[u8]) -> String {
    let (cut, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(*cut).min(bytes.len());
    let (first, second) = bytes.split_at(cut);
    let whole = receive(&[bytes]);
    let pieces = receive(&[first, second]);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}");
    match whole {
        Ok((events, answer)) => {
            let outcome = format!("{} events, answered {}", events.len(), answer.len().min(1));
            assert_eq!(Ok((events, answer)), pieces);
            outcome
        }
        Err(error) => error,
    }
}

fn receive(pieces: &[&[u8]]) -> Result<(Vec<spdy::Event>, Bytes), String> {
    let mut session = spdy::Session::new().map_err(|error| error.to_string())?;
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(session.receive(piece).map_err(|error| error.to_string())?);
    }
    Ok((events, session.take_outgoing()))
}

/// A frame of exec, attach or port forwarding, as a WebSocket carries it.
pub fn channel_frame(bytes: &[u8]) -> String {
    let bytes = Bytes::copy_from_slice(bytes);
    server::channel_frame(&bytes).map_or_else(|| "nothing".to_owned(), |kind| kind.to_owned())
}
