//! Request bodies: read up to a limit, then decoded as their content type says.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Frame;
use knarr_api::{
    decode::{self, Decoded},
    kind::Kind,
    protobuf,
    status::Status,
};
use serde_json::Value;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
    time::timeout,
};

use super::options::FieldValidation;
use crate::{
    inflight::{self, Inflight, LargeBody, Refused, Share},
    negotiate::{self, BodyFormat},
    respond,
};

/// What Kubernetes accepts in one request.
const BODY_BYTES_MAX: usize = 3 << 20;
/// Bodies up to this wait for no others.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// What Kubernetes gives a request from its beginning to its end.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const DRAINED_BYTES_MAX: usize = 32 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a whole body; a large one comes with its place among them, to be held while it is worked on.
///
/// # Errors
/// 413 over the limit, 429 if there is no room for it, 500 if the client stops midway, 504 if it is too slow.
pub(crate) async fn read(
    body: Body,
    inflight: &Inflight,
) -> Result<(Bytes, Option<LargeBody>), Status> {
    read_within(BODY_TIMEOUT, body, inflight).await
}

async fn read_within(
    limit: Duration,
    body: Body,
    inflight: &Inflight,
) -> Result<(Bytes, Option<LargeBody>), Status> {
    timeout(limit, whole(body, inflight))
        .await
        .unwrap_or_else(|_| {
            let text = "Timeout: request did not complete within the allotted timeout";
            Err(Status::failure(504, "Timeout", text))
        })
}

async fn whole(mut body: Body, inflight: &Inflight) -> Result<(Bytes, Option<LargeBody>), Status> {
    let mut bytes = BytesMut::new();
    let mut share = None;
    while let Some(frame) = next(&mut body, share.as_ref()).await? {
        let frame = frame.map_err(|error| unreadable(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            // Nothing of it is needed any more.
            drop((bytes, share));
            drain(body).await;
            return Err(Status::failure(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
            ));
        }
        if bytes.len() + data.len() > SMALL_BYTES_MAX {
            if share.is_none() {
                bytes.reserve(BODY_BYTES_MAX);
            }
            let grown = share.get_or_insert_with(|| inflight.share());
            if let Err(refused) = grown.grow(data.len()).await {
                drop((bytes, share));
                if refused == Refused::Crowded {
                    drain(body).await;
                }
                return Err(no_room(refused));
            }
        }
        bytes.extend_from_slice(&data);
    }
    let large = match share {
        Some(share) => Some(inflight.large_body(share).await),
        None => None,
    };
    Ok((bytes.freeze(), large))
}

/// The next piece of a body; a large one's client may be too slow for those who wait.
async fn next(
    body: &mut Body,
    share: Option<&Share>,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Status> {
    match share {
        Some(share) => share.expect(body.frame()).await.map_err(no_room),
        None => Ok(body.frame().await),
    }
}

fn no_room(refused: Refused) -> Status {
    inflight::come_back(match refused {
        Refused::Slow => "the body came too slowly while others waited, please try again later",
        Refused::Crowded => "too many large bodies at once, please try again later",
    })
}

/// An error that Kubernetes has no class for either.
fn unreadable(error: &axum::Error) -> Status {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
            return respond::unclassified("unexpected EOF");
        }
        cause = error.source();
    }
    respond::unclassified(error.to_string())
}

/// Reads what is left of a body, within reason, so that the client gets to read the answer.
pub(crate) async fn drain(mut body: Body) {
    let mut drained = 0;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAINED_BYTES_MAX {
                return;
            }
        }
    };
    // A client that is too slow loses its connection, as it would without this.
    let _ = timeout(DRAIN_TIMEOUT, rest).await;
}

/// Decodes an object and completes its apiVersion and kind; its problems come back as warnings.
///
/// # Errors
/// 400 for what cannot be decoded and, in strict mode, for problems.
pub(crate) fn object(
    kind: &Kind,
    content_type: Option<&str>,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let (mut object, warnings) = checked(kind.into(), content_type, body, validation)?;
    identify(kind, &mut object);
    Ok((object, warnings))
}

/// As [`object`], of a type that need not be in the registry: scales, bindings, reviews.
///
/// # Errors
/// As [`object`].
pub(crate) fn checked(
    target: decode::Target<'_>,
    content_type: Option<&str>,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let Decoded { object, problems } = decoded(target, content_type, body)?;
    match validation {
        FieldValidation::Ignore => Ok((object, Vec::new())),
        FieldValidation::Warn => Ok((object, problems)),
        FieldValidation::Strict if problems.is_empty() => Ok((object, problems)),
        FieldValidation::Strict => Err(decode::strict_error(target, &problems)),
    }
}

/// Fills in apiVersion and kind; that they are no others the decoder has seen to.
fn identify(kind: &Kind, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
}

/// Decodes a body whose unknown fields are nobody's business: options.
pub(crate) fn value(
    target: decode::Target<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Value, Status> {
    Ok(decoded(target, content_type, body)?.object)
}

fn decoded(
    target: decode::Target<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Decoded, Status> {
    let format = negotiate::body_format(content_type)?;
    let decode = || match format {
        BodyFormat::Json => decode::json_as(target, body),
        BodyFormat::Yaml => decode::yaml_as(target, body),
        BodyFormat::Protobuf => protobuf::decode(target, body),
    };
    if body.len() > SMALL_BYTES_MAX {
        aside(decode)
    } else {
        decode()
    }
}

/// Does what takes long where it keeps no other request waiting.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::try_current();
    match runtime.map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::freed::Freed;

    fn inflight_without_end() -> Inflight {
        Inflight::new(0, 0, &Freed::new(|| ()))
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let inflight = inflight_without_end();
        let body = |length: usize| Body::from(vec![b'x'; length]);
        let refused = read(body(BODY_BYTES_MAX + 1), &inflight).await;
        assert_eq!(refused.err().map(|status| status.code), Some(413));
        let (bytes, _seat) = read(body(BODY_BYTES_MAX), &inflight).await.unwrap();
        assert_eq!(bytes.len(), BODY_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>("{")]);
        let endless = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        let body = Body::from_stream(endless);
        let outcome = read_within(Duration::from_millis(20), body, &inflight_without_end()).await;
        assert_eq!(outcome.err().map(|status| status.code), Some(504));
    }

    #[tokio::test]
    async fn large_bodies_wait_for_each_other_and_small_ones_for_none() {
        let inflight = inflight_without_end();
        let body = |length: usize| Body::from(vec![b'x'; length]);
        let mut held = Vec::new();
        let soon = Duration::from_millis(20);
        while let Ok((_, large)) = read_within(soon, body(BODY_BYTES_MAX), &inflight).await {
            held.push(large);
        }
        assert!((1..100).contains(&held.len()), "{}", held.len());
        let small = read_within(soon, body(SMALL_BYTES_MAX), &inflight).await;
        assert!(small.is_ok());
        held.pop();
        let large = read_within(soon, body(BODY_BYTES_MAX), &inflight).await;
        assert!(large.is_ok());
    }

    /// All but the last byte of a large body, and then nothing for ever.
    fn stuck() -> Body {
        let most = vec![b'x'; BODY_BYTES_MAX - 1];
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(most)]);
        let endless = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Body::from_stream(endless)
    }

    #[tokio::test]
    async fn slow_senders_keep_no_place_from_others_and_give_up_their_room() {
        let inflight = Arc::new(inflight_without_end());
        let read_all = |count: usize, body: fn() -> Body| {
            let inflight = inflight.clone();
            let read = move || {
                let inflight = inflight.clone();
                tokio::spawn(async move { read(body(), &inflight).await.map(|(bytes, _)| bytes) })
            };
            (0..count).map(|_| read()).collect::<Vec<_>>()
        };
        let honest = || Body::from(vec![b'x'; BODY_BYTES_MAX]);
        let answers = async |reads: Vec<tokio::task::JoinHandle<_>>| {
            let mut codes = Vec::new();
            for read in reads {
                let read: Result<Bytes, Status> = read.await.unwrap();
                codes.push(read.map_or_else(|status| status.code, |_| 200));
            }
            codes
        };
        // They all fit, so nobody has to go.
        let mut slow = read_all(20, stuck);
        assert_eq!(answers(read_all(1, honest)).await, [200]);
        assert!(slow.iter().all(|read| !read.is_finished()));
        slow.extend(read_all(20, stuck));
        assert_eq!(answers(read_all(4, honest)).await, [200; 4]);
        let (gone, still_there): (Vec<_>, Vec<_>) = slow
            .into_iter()
            .partition(tokio::task::JoinHandle::is_finished);
        still_there.iter().for_each(tokio::task::JoinHandle::abort);
        let first = gone.into_iter().next().expect("somebody made room");
        let refused = first.await.unwrap().unwrap_err();
        assert_eq!(refused.code, 429);
        let details = refused.details.unwrap();
        assert_eq!(details.retry_after_seconds, Some(1));
    }
}
