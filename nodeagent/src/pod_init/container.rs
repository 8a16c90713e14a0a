//! One running container: its process, its output, its stdin, and how it ended.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use super::child::{self, Stdio};
use super::log::{Lines, LogFile, Output};
use super::stdin::Feed;
use super::{mounts, state};
use crate::protocol::{self, Exec, Stdin};

/// The kubelet keeps no more of a termination message.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// What is read of one stream before others have their turn.
const CHUNKS_AT_ONCE: usize = 16;
const LOOKS_AT_END: usize = 8;

pub(super) struct Container {
    pub(super) spec: protocol::Container,
    pub(super) pid: Pid,
    pub(super) stdin: Feed,
    mount_namespace: u64,
    streams: Vec<Stream>,
    log: Option<LogFile>,
    oom_kills_before: u64,
}

struct Stream {
    output: Output,
    file: OwnedFd,
    lines: Lines,
}

impl Stream {
    /// Logs what came without a final newline, and says that the stream is not kept.
    fn close(&mut self, timestamp: &str, log_lines: &mut Vec<u8>) -> bool {
        self.lines.finish(self.output, timestamp, log_lines);
        false
    }
}

/// The parent's and the child's ends of a container's three files.
struct Wiring {
    child: [OwnedFd; 3],
    stdin: Option<OwnedFd>,
    streams: Vec<Stream>,
}

impl Container {
    /// Starts the container's process.
    pub(super) fn start(directory: &Path, spec: protocol::Container) -> anyhow::Result<Self> {
        let log = LogFile::open(&spec.log_path, spec.log_bytes_max, spec.log_files_max)
            .with_context(|| format!("opening {}", spec.log_path.display()))?;
        let wiring = if spec.tty {
            wire_terminal()?
        } else {
            wire_pipes(spec.stdin)?
        };
        let oom_kills_before = oom_kills(&spec.cgroups);
        let [stdin, stdout, stderr] = &wiring.child;
        let stdio = Stdio {
            files: [stdin, stdout, stderr],
            tty: spec.tty,
        };
        let stage = directory.join("stage");
        let child = child::spawn(&spec.process, &stdio, || {
            join(&spec.cgroups);
            let _ = fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string());
            unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
            mounts::apply(&stage, &spec.mounts, spec.root)
        })?;
        Ok(Self {
            pid: child.pid,
            mount_namespace: child.mount_namespace,
            stdin: wiring.stdin.map(Feed::new).unwrap_or_default(),
            streams: wiring.streams,
            log: Some(log),
            oom_kills_before,
            spec,
        })
    }

    /// Runs one more process in the container's mount namespace and cgroups.
    pub(super) fn exec(&self, exec: &Exec, files: &[OwnedFd; 3]) -> anyhow::Result<Pid> {
        let namespace = File::open(format!("/proc/{}/ns/mnt", self.pid))
            .context("the container is not running")?;
        let [stdin, stdout, stderr] = files;
        let stdio = Stdio {
            files: [stdin, stdout, stderr],
            tty: exec.tty,
        };
        let mut process = exec.process.clone();
        let added = std::mem::take(&mut process.env);
        process.env.clone_from(&self.spec.process.env);
        process.env.extend(added);
        let child = child::spawn(&process, &stdio, || {
            join(&self.spec.cgroups);
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNS)
                .context("entering the container's mount namespace")
        })?;
        Ok(child.pid)
    }

    /// The files to wait on for output.
    pub(super) fn output_files(&self) -> impl Iterator<Item = &OwnedFd> {
        self.streams.iter().map(|stream| &stream.file)
    }

    /// Reads what is there up to a limit, logs it, and hands each chunk to `each`.
    pub(super) fn read_output(&mut self, mut each: impl FnMut(Output, &[u8])) {
        let timestamp = state::timestamp();
        let mut log_lines = Vec::new();
        self.streams.retain_mut(|stream| {
            let mut buffer = [0; 16 * 1024];
            for _ in 0..CHUNKS_AT_ONCE {
                match nix::unistd::read(&stream.file, &mut buffer) {
                    Ok(0) => return stream.close(&timestamp, &mut log_lines),
                    Ok(length) => {
                        let bytes = &buffer[..length];
                        stream
                            .lines
                            .push(stream.output, bytes, &timestamp, &mut log_lines);
                        each(stream.output, bytes);
                    }
                    Err(nix::Error::EAGAIN) => return true,
                    Err(nix::Error::EINTR) => {}
                    // A terminal whose last user is gone reads as EIO.
                    Err(_) => return stream.close(&timestamp, &mut log_lines),
                }
            }
            true
        });
        self.append_log(&log_lines);
    }

    /// Reads the last output, ends what the container left running, and says how it ended.
    pub(super) fn end(
        &mut self,
        mut each: impl FnMut(Output, &[u8]),
    ) -> (protocol::EndCause, String) {
        self.signal_all(Signal::SIGKILL);
        // More than a pipe holds, unless somebody writes on who must not be waited for.
        for _ in 0..LOOKS_AT_END {
            self.read_output(&mut each);
        }
        let timestamp = state::timestamp();
        let mut rest = Vec::new();
        for mut stream in std::mem::take(&mut self.streams) {
            stream.lines.finish(stream.output, &timestamp, &mut rest);
        }
        self.append_log(&rest);
        self.log = None;
        self.stdin = Feed::default();
        let cause = match oom_kills(&self.spec.cgroups) > self.oom_kills_before {
            true => protocol::EndCause::OutOfMemory,
            false => protocol::EndCause::Exited,
        };
        (cause, read_message(&self.spec.termination_log))
    }

    /// Sends a signal to every process in the container's mount namespace.
    pub(super) fn signal_all(&self, signal: Signal) {
        let Ok(entries) = fs::read_dir("/proc") else {
            return;
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in pids.filter(|pid| *pid != 1) {
            if mount_namespace_of(pid) == Some(self.mount_namespace) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    fn append_log(&mut self, lines: &[u8]) {
        if let (Some(log), false) = (&mut self.log, lines.is_empty())
            && let Err(error) = log.append(lines)
        {
            eprintln!(
                "knarr pod-init: writing the log of {}: {error}",
                self.spec.name
            );
        }
    }
}

fn wire_pipes(stdin: Stdin) -> anyhow::Result<Wiring> {
    let null = || {
        File::open("/dev/null")
            .map(OwnedFd::from)
            .context("opening /dev/null")
    };
    let (child_stdin, own_stdin) = match stdin {
        Stdin::Null => (null()?, None),
        Stdin::Open | Stdin::Once => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(&write)?;
            (read, Some(write))
        }
    };
    let (stdout, child_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, child_stderr) = pipe2(OFlag::O_CLOEXEC)?;
    let streams = [(Output::Stdout, stdout), (Output::Stderr, stderr)]
        .into_iter()
        .map(|(output, file)| {
            set_nonblocking(&file)?;
            Ok(Stream {
                output,
                file,
                lines: Lines::default(),
            })
        })
        .collect::<nix::Result<_>>()?;
    Ok(Wiring {
        child: [child_stdin, child_stdout, child_stderr],
        stdin: own_stdin,
        streams,
    })
}

fn wire_terminal() -> anyhow::Result<Wiring> {
    let pair = openpty(None, None).context("opening a terminal")?;
    for end in [&pair.master, &pair.slave] {
        fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    set_nonblocking(&pair.master)?;
    let stream = Stream {
        output: Output::Stdout,
        file: pair.master.try_clone()?,
        lines: Lines::default(),
    };
    let child = [pair.slave.try_clone()?, pair.slave.try_clone()?, pair.slave];
    Ok(Wiring {
        child,
        stdin: Some(pair.master),
        streams: vec![stream],
    })
}

fn set_nonblocking(file: &impl AsFd) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

/// Sets the size of a terminal.
pub(crate) fn resize(terminal: &OwnedFd, width: u16, height: u16) {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let _ = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

fn join(cgroups: &[PathBuf]) {
    for cgroup in cgroups {
        let _ = fs::write(cgroup.join("cgroup.procs"), "0");
    }
}

fn mount_namespace_of(pid: i32) -> Option<u64> {
    let found = fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(std::os::unix::fs::MetadataExt::ino(&found))
}

fn oom_kills(cgroups: &[PathBuf]) -> u64 {
    let count = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
    };
    let files = ["memory.events", "memory.oom_control"];
    cgroups
        .iter()
        .flat_map(|cgroup| files.map(|file| cgroup.join(file)))
        .filter_map(count)
        .sum()
}

fn read_message(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
