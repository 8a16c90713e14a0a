//! One request and its answer: how long it may take, and who keeps whom waiting. Ends nothing itself.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::{connection::Connection, limits::Limits};
use crate::inflight::{Seat, Span};

/// A request under way on a connection.
pub(crate) struct Exchange {
    began: Instant,
    progress: Mutex<Progress>,
    connection: Arc<Connection>,
}

struct Progress {
    span: Span,
    /// Since when the client has not asked for more than it was given.
    unread_since: Option<Instant>,
    seat: Option<Seat>,
}

impl Exchange {
    pub(super) fn begin(connection: &Arc<Connection>) -> Arc<Exchange> {
        let exchange = Arc::new(Exchange {
            began: Instant::now(),
            progress: Mutex::new(Progress {
                span: Span::Bounded,
                unread_since: None,
                seat: None,
            }),
            connection: connection.clone(),
        });
        connection.began(&exchange);
        exchange
    }

    pub(crate) fn will_take(&self, span: Span) {
        self.progress().span = span;
    }

    /// Keeps a seat until the answer was read.
    pub(crate) fn keep(&self, seat: Seat) {
        self.progress().seat = Some(seat);
    }

    /// Whether the client has had its time.
    pub(super) fn is_overdue(&self, now: Instant, limits: &Limits) -> bool {
        let progress = self.progress();
        match progress.span {
            Span::Bounded => now.duration_since(self.began) >= limits.request,
            Span::Watch => {
                let since = progress.unread_since;
                since.is_some_and(|since| now.duration_since(since) >= limits.unread)
            }
            Span::Stream => false,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.ended();
    }
}

/// An answer's body that knows whether it is read, and ends its exchange with itself.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) exchange: Arc<Exchange>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // Whoever sends asks for more as soon as there is room for it.
        let unread_since = frame.is_ready().then(Instant::now);
        self.exchange.progress().unread_since = unread_since;
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
