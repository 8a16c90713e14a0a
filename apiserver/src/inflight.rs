//! How many requests are answered at once, as kube-apiserver bounds them. Only says whether there is room for one more.

mod room;

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode, header};
use knarr_api::status::{Details, Status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::room::Room;
pub(crate) use self::room::{Refused, Share};
use crate::{
    User,
    authorize::MASTERS,
    freed::Freed,
    request::{RequestInfo, Verb},
    respond,
};

/// Watches at once; Kubernetes bounds only how fast they begin.
const WATCHES_MAX: usize = 20_000;
/// Bodies over 64 KiB that are worked on at once; the others wait, within their request's time.
const LARGE_BODIES_MAX: usize = 8;
/// What such bodies may hold until they are worked on.
const LARGE_BODIES_BYTES_MAX: usize = 64 << 20;
/// What Kubernetes asks those to wait who are refused.
const RETRY_AFTER_SECONDS: u16 = 1;

/// What a request is counted among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Reading,
    Mutating,
    Watching,
    /// Whether the server is well is answered whatever else is asked.
    Probing,
    /// Logs, exec, proxies: theirs is the load, and it is bounded by connections.
    Uncounted,
}

/// Room for requests of each sort; `None` is room without end.
pub struct Inflight {
    reading: Option<Arc<Semaphore>>,
    mutating: Option<Arc<Semaphore>>,
    watching: Arc<Semaphore>,
    large_bodies: Arc<Semaphore>,
    room: Arc<Room>,
}

/// A large body's place among those that are worked on, and the room that it takes.
pub(crate) struct LargeBody {
    #[expect(dead_code, reason = "held, not read")]
    seat: Seat,
    #[expect(dead_code, reason = "held, not read")]
    share: Share,
}

/// One request's place among those under way.
pub(crate) struct Seat(
    #[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>,
);

impl Inflight {
    /// Zero is no bound, as with kube-apiserver.
    pub(crate) fn new(reading_max: usize, mutating_max: usize, freed: &Arc<Freed>) -> Self {
        let room = |max: usize| {
            let max = max.min(Semaphore::MAX_PERMITS);
            (max > 0).then(|| Arc::new(Semaphore::new(max)))
        };
        Inflight {
            reading: room(reading_max),
            mutating: room(mutating_max),
            watching: Arc::new(Semaphore::new(WATCHES_MAX)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            room: Room::new(LARGE_BODIES_BYTES_MAX, freed.clone()),
        }
    }

    /// Room for a body that turns out to be large, none of it taken yet.
    pub(crate) fn share(&self) -> Share {
        self.room.enter()
    }

    /// A place for a large body that is all there, as soon as there is one.
    pub(crate) async fn large_body(&self, mut share: Share) -> LargeBody {
        share.is_whole();
        // The semaphore is never closed.
        let seat = Seat(self.large_bodies.clone().acquire_owned().await.ok());
        LargeBody { seat, share }
    }

    /// A place for a request; administrators get an answer even where there is none left.
    pub(crate) fn seat(&self, load: Load, user: &User) -> Option<Seat> {
        let room = match load {
            Load::Reading => self.reading.as_ref(),
            Load::Mutating => self.mutating.as_ref(),
            Load::Watching => Some(&self.watching),
            Load::Probing | Load::Uncounted => None,
        };
        let Some(room) = room else {
            return Some(Seat(None));
        };
        match room.clone().try_acquire_owned() {
            Ok(permit) => Some(Seat(Some(permit))),
            Err(_) => user
                .groups
                .iter()
                .any(|group| group == MASTERS)
                .then_some(Seat(None)),
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// As long as any request.
    Bounded,
    /// As long as somebody reads it.
    Watch,
    /// Until either end is done: logs, exec, proxies.
    Stream,
}

impl Load {
    pub(crate) fn of(info: &RequestInfo, verb: Verb) -> Load {
        let streams = ["attach", "exec", "log", "portforward", "proxy"];
        match verb {
            _ if streams.contains(&info.subresource.as_str()) => Load::Uncounted,
            Verb::Watch => Load::Watching,
            Verb::Get | Verb::List => Load::Reading,
            Verb::Create
            | Verb::Update
            | Verb::Patch
            | Verb::Delete
            | Verb::DeleteCollection
            | Verb::Unnamed => Load::Mutating,
        }
    }

    /// Of a request that is for no objects.
    pub(crate) fn of_path(method: &Method, path: &str) -> Load {
        let first = path.split('/').nth(1).unwrap_or_default();
        match *method {
            Method::GET if ["healthz", "livez", "readyz"].contains(&first) => Load::Probing,
            Method::GET => Load::Reading,
            _ => Load::Mutating,
        }
    }

    pub(crate) fn span(self) -> Span {
        match self {
            Load::Reading | Load::Mutating | Load::Probing => Span::Bounded,
            Load::Watching => Span::Watch,
            Load::Uncounted => Span::Stream,
        }
    }
}

/// 429 in the words of an object's request.
pub(crate) fn come_back(message: &str) -> Status {
    let details = Details {
        retry_after_seconds: Some(RETRY_AFTER_SECONDS.into()),
        ..Details::default()
    };
    Status::failure(429, "TooManyRequests", message).with_details(details)
}

/// 429, in plain text as with Kubernetes.
pub(crate) fn refusal() -> Response {
    let text = "Too many requests, please try again later.\n";
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, text);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    respond::unsniffed(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_refused_unless_it_is_an_administrators() {
        let inflight = Inflight::new(1, 0, &Freed::new(|| ()));
        let (user, master) = (User::new("jo", &[]), User::new("root", &[MASTERS]));
        let first = inflight.seat(Load::Reading, &user);
        assert!(first.is_some());
        assert!(inflight.seat(Load::Reading, &user).is_none());
        assert!(inflight.seat(Load::Reading, &master).is_some());
        for load in [Load::Mutating, Load::Watching, Load::Uncounted] {
            assert!(inflight.seat(load, &user).is_some(), "{load:?}");
        }
        drop(first);
        assert!(inflight.seat(Load::Reading, &user).is_some());
    }

    #[test]
    fn long_requests_are_not_counted_among_short_ones() {
        let check = |path: &str, verb: Verb, expected: Load| {
            let crate::request::Route::Resource(info) = crate::request::path::parse(path) else {
                panic!("{path} leads to no resource");
            };
            assert_eq!(Load::of(&info, verb), expected, "{path}");
        };
        check("/api/v1/pods", Verb::List, Load::Reading);
        check("/api/v1/pods", Verb::Watch, Load::Watching);
        check("/api/v1/pods", Verb::DeleteCollection, Load::Mutating);
        let pod = "/api/v1/namespaces/n/pods/p";
        check(&format!("{pod}/log"), Verb::Get, Load::Uncounted);
        check(&format!("{pod}/exec"), Verb::Create, Load::Uncounted);
        check(&format!("{pod}/proxy/x"), Verb::Update, Load::Uncounted);
        check(&format!("{pod}/status"), Verb::Patch, Load::Mutating);
    }
}
