//! How patient the server is with the other end of a connection, and how much of it there may be.

use std::time::Duration;

/// Head of one request, all its lines.
pub(super) const HEAD_BYTES_MAX: usize = 128 << 10;
/// Lines of it; a user of many groups needs hundreds when somebody impersonates it.
pub(super) const HEAD_LINES_MAX: usize = 512;
/// What Kubernetes allows.
pub(super) const STREAMS_MAX: u32 = 100;
/// What a client may send ahead on one stream, as with Kubernetes, and on all of a connection.
pub(super) const STREAM_WINDOW_BYTES: u32 = 256 << 10;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What is kept of an answer for a client that does not read it.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Times and numbers of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For TLS.
    pub(crate) handshake: Duration,
    /// From there to the first request, as Kubernetes' ReadHeaderTimeout.
    pub(crate) first_request: Duration,
    /// Between requests, as Kubernetes' IdleTimeout.
    pub(crate) idle: Duration,
    /// For a request that neither watches nor streams, until its answer is read. Kubernetes says 60 s
    /// and tells so in the last moment; who has not heard that by then is cut off.
    pub(crate) request: Duration,
    /// How long a watch may leave what it was sent unread.
    pub(crate) unread: Duration,
    /// Connections that ask nothing; the longest quiet one makes room for another.
    pub(crate) quiet_max: usize,
    /// Connections in all.
    pub(crate) connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            request: Duration::from_secs(75),
            unread: Duration::from_secs(60),
            quiet_max: 1_000,
            connections_max: 10_000,
        }
    }
}
