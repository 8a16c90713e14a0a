//! The words between the agent and a pod's init: versioned, so that an upgraded agent understands an older init.
//! Frames are a length (u32, little endian), a kind byte and a payload; JSON payloads ignore unknown fields.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Raised when an old init could no longer understand a request.
pub(crate) const VERSION: u32 = 1;
/// Longer frames are refused.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;
/// The socket's file name in a pod's directory.
pub(crate) const SOCKET: &str = "init.sock";
/// The state's file name in a pod's directory.
pub(crate) const STATE: &str = "state.json";
/// The file in a pod's directory that its init reads at start.
pub(crate) const SANDBOX: &str = "sandbox.json";
/// The descriptor on which a new init finds its listening socket.
pub(crate) const LISTENER_FD: i32 = 3;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A [`Request`] or an [`Event`].
    Message = 0,
    Stdout = 1,
    Stderr = 2,
    Stdin = 3,
    StdinEnd = 4,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Message,
            Self::Stdout,
            Self::Stderr,
            Self::Stdin,
            Self::StdinEnd,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One frame taken off a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Vec<u8>,
}

/// A stream that does not follow the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("frame kind {0} is unknown")]
    UnknownKind(u8),
    #[error("decoding a message")]
    Decode(#[source] serde_json::Error),
}

/// Appends one frame to `out`.
pub(crate) fn write_frame(out: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
}

/// Encodes one message as a frame.
pub(crate) fn message(value: &impl Serialize) -> Vec<u8> {
    let payload = serde_json::to_vec(value).unwrap_or_default();
    let mut frame = Vec::with_capacity(payload.len() + 5);
    write_frame(&mut frame, FrameKind::Message, &payload);
    frame
}

/// Takes the first whole frame off `buffer`, if there is one.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Frame>, Error> {
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let [a, b, c, d, kind] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(Error::TooLong(length));
    }
    let kind = FrameKind::from_byte(kind).ok_or(Error::UnknownKind(kind))?;
    let Some(payload) = rest.get(..length).map(<[u8]>::to_vec) else {
        return Ok(None);
    };
    buffer.drain(..5 + length);
    Ok(Some(Frame { kind, payload }))
}

/// Decodes a message frame's payload.
pub(crate) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(Error::Decode)
}

/// What a pod's init is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) hostname: Option<String>,
    pub(crate) domain_name: Option<String>,
    /// The directory whose `bin/knarr` becomes the running executable, and whose `netns` is let go.
    pub(crate) run_dir: PathBuf,
    pub(crate) own_pid_namespace: bool,
    pub(crate) own_ipc_namespace: bool,
    pub(crate) devices: Devices,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) cgroups: Vec<PathBuf>,
}

/// Which devices a pod sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Devices {
    /// A small `/dev` of its own.
    Private,
    /// The host's, for privileged pods.
    Host,
}

/// What the agent asks of an init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Send the state at once and after every change.
    Watch,
    /// Run a container, unless this attempt or a later one ran already.
    Start(Box<Container>),
    /// Send a signal to a container's main process, or to all its processes.
    Signal {
        container: String,
        attempt: u32,
        signal: i32,
        scope: SignalScope,
    },
    /// Run one more process in a running container; its stdin, stdout and stderr come along as descriptors.
    Exec(Box<Exec>),
    /// Copy a running container's output to this connection, and this connection's stdin frames to it.
    Attach { container: String },
    /// Resize the terminal of a container.
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    /// Kill everything and end.
    End,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SignalScope {
    Main,
    All,
}

/// What an init says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The first message on every connection.
    Welcome {
        version: u32,
    },
    State(State),
    ExecStarted,
    /// `signal` wins over `code` when present.
    ExecEnded {
        code: i32,
        signal: Option<i32>,
    },
    Refused {
        reason: String,
    },
}

/// All an init knows about its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) containers: BTreeMap<String, History>,
}

/// The latest run of a container and the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) current: Run,
    pub(crate) previous: Option<Run>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) attempt: u32,
    /// Names this run everywhere: in status, in events, in logs.
    pub(crate) id: String,
    pub(crate) pid: i32,
    /// Nanoseconds since the Unix epoch; 0 if its program could not be started.
    pub(crate) started_ns: i128,
    pub(crate) ended: Option<End>,
}

impl Run {
    /// How long it lasted, if it is over.
    pub(crate) fn length_ns(&self) -> Option<i128> {
        let end = self.ended.as_ref()?;
        Some(match self.started_ns {
            0 => 0,
            started_ns => end.at_ns - started_ns,
        })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at_ns: i128,
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) cause: EndCause,
    pub(crate) message: String,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndCause {
    /// The process ended by itself or by a signal.
    Exited,
    /// The kernel's out-of-memory killer ended it.
    OutOfMemory,
    /// It could not be started at all.
    StartFailed,
}

/// Everything needed to run a container; the init makes no choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) id: String,
    pub(crate) process: Process,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) root: Access,
    pub(crate) stdin: Stdin,
    pub(crate) tty: bool,
    pub(crate) log_path: PathBuf,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_files_max: u32,
    /// Where the container's termination message is, seen from the host.
    pub(crate) termination_log: PathBuf,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) oom_score_adj: i32,
}

/// What a container's stdin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdin {
    Null,
    /// Stays open between attaches.
    Open,
    /// Closes with the first attach that ends.
    Once,
}

/// One process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: Option<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// One bit a capability; the bounding set shrinks to it.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
}

/// One more process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) container: String,
    /// Its environment is added to the container's.
    pub(crate) process: Process,
    pub(crate) tty: bool,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: MountSource,
    pub(crate) target: PathBuf,
    pub(crate) access: Access,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// A path of the host, with what is mounted below it.
    Bind(PathBuf),
}

/// Whether a mount can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_could_not_start_has_no_length() {
        let run = |started_ns, ended_ns: Option<i128>| Run {
            attempt: 0,
            id: String::new(),
            pid: 0,
            started_ns,
            ended: ended_ns.map(|at_ns| End {
                at_ns,
                exit_code: 128,
                signal: None,
                cause: EndCause::StartFailed,
                message: String::new(),
            }),
        };
        assert_eq!(run(0, Some(9)).length_ns(), Some(0));
        assert_eq!(run(3, Some(9)).length_ns(), Some(6));
        assert_eq!(run(3, None).length_ns(), None);
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut stream = message(&Request::Watch);
        write_frame(&mut stream, FrameKind::Stdin, b"hello");
        let cut = stream.split_off(stream.len() - 2);
        let first = take_frame(&mut stream).unwrap().unwrap();
        assert_eq!(decode::<Request>(&first.payload).unwrap(), Request::Watch);
        assert_eq!(take_frame(&mut stream).unwrap(), None);
        stream.extend(cut);
        let second = take_frame(&mut stream).unwrap().unwrap();
        assert_eq!(
            second,
            Frame {
                kind: FrameKind::Stdin,
                payload: b"hello".to_vec()
            }
        );
        assert!(stream.is_empty());
    }

    #[test]
    fn a_hostile_stream_is_refused() {
        assert!(take_frame(&mut vec![0xff; 5]).is_err());
        assert!(take_frame(&mut vec![0, 0, 0, 0, 9]).is_err());
        assert!(decode::<Request>(b"{").is_err());
    }
}
