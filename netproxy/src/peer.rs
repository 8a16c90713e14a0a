//! Other machines' health ports: one question, and what the answers say over time.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Who takes longer is taken for silent.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// `HTTP/1.1 200`
const STATUS_BYTES: usize = 12;

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is well.
    Well,
    /// It says that it is not.
    Ill,
    /// Its machine says that nobody listens there.
    Absent,
    /// It says nothing: it may be gone, and a packet may have been lost.
    Silence,
}

/// What is known of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was well when it last said something.
    Well {
        /// Questions since then.
        silences: u32,
    },
    /// It was not, or has been silent for too long.
    Failing,
}

/// Silences in a row that are forgiven, because one packet may get lost.
const SILENCES_MAX: u32 = 1;

/// What one more answer says.
pub(crate) fn judge(known: Option<Known>, answer: Answer) -> Known {
    match (answer, known) {
        (Answer::Well, _) => Known::Well { silences: 0 },
        (Answer::Silence, Some(Known::Well { silences })) if silences < SILENCES_MAX => {
            Known::Well {
                silences: silences + 1,
            }
        }
        (Answer::Ill | Answer::Absent | Answer::Silence, _) => Known::Failing,
    }
}

/// Asks a health port once.
pub(crate) async fn ask(at: SocketAddr) -> Answer {
    match timeout(ANSWER_TIME_MAX, status(at)).await {
        Ok(Ok(true)) => Answer::Well,
        Ok(Ok(false)) => Answer::Ill,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut => Answer::Silence,
            _ => Answer::Absent,
        },
        Err(_) => Answer::Silence,
    }
}

/// Whether the status is 200.
async fn status(at: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; STATUS_BYTES];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn check(said: &'static str, expected: Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 512];
            let _length = stream.read(&mut request).await.expect("a request");
            stream.write_all(said.as_bytes()).await.expect("room");
        };
        let (answer, ()) = tokio::join!(ask(at), serve);
        assert_eq!(answer, expected, "{said:?}");
    }

    #[tokio::test]
    async fn only_200_is_well() {
        check("HTTP/1.1 200 OK\r\n\r\n", Answer::Well).await;
        check("HTTP/1.1 503 Service Unavailable\r\n\r\n", Answer::Ill).await;
        check("", Answer::Absent).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        drop(listener);
        assert_eq!(ask(at).await, Answer::Absent, "nobody listens");
    }

    fn judged(answers: &[Answer], expected: Known) {
        let known = answers
            .iter()
            .fold(None, |known, answer| Some(judge(known, *answer)));
        assert_eq!(known, Some(expected), "{answers:?}");
    }

    #[test]
    fn one_lost_packet_is_forgiven_and_an_answer_is_believed() {
        use Answer::{Absent, Ill, Silence, Well};
        judged(&[Well], Known::Well { silences: 0 });
        judged(&[Well, Silence], Known::Well { silences: 1 });
        judged(&[Well, Silence, Well], Known::Well { silences: 0 });
        judged(&[Well, Silence, Silence], Known::Failing);
        judged(&[Well, Ill], Known::Failing);
        judged(&[Well, Absent], Known::Failing);
        judged(&[Silence], Known::Failing);
        judged(&[Ill, Silence, Well], Known::Well { silences: 0 });
    }
}
