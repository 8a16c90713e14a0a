//! The init's loop: waits for children, output and requests, and keeps the state that it publishes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::connection::{Connection, Life};
use super::container::{self, Container};
use super::log::Output;
use super::{pages, state};
use crate::protocol::{
    self, End, EndCause, Event, Exec, Frame, FrameKind, History, Request, Run, Sandbox,
    SignalScope, State,
};

/// What comes within this time belongs together; after it the process sleeps for long.
const BUSY_TIME_MS: u16 = 1_000;

type ConnectionId = u64;

pub(super) struct Supervisor {
    directory: PathBuf,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<ConnectionId, Connection>,
    connection_next: ConnectionId,
    containers: BTreeMap<String, Container>,
    execs: BTreeMap<i32, ConnectionId>,
    state: State,
    dirty: bool,
    kills_all_at_end: bool,
    ended: bool,
}

/// What woke the loop.
struct Ready {
    signals: bool,
    listener: bool,
    connections: Vec<ConnectionId>,
    containers: Vec<String>,
}

impl Supervisor {
    pub(super) fn open(directory: &Path, sandbox: &Sandbox) -> anyhow::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().context("blocking SIGCHLD")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags).context("opening a signalfd")?;
        // SAFETY: whoever starts an init hands it its listening socket here, and nobody else uses the number.
        let listener = unsafe { OwnedFd::from_raw_fd(protocol::LISTENER_FD) };
        let cloexec = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&listener, cloexec).context("taking the listening socket")?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let mut state = state::load(directory);
        close_lost_runs(&mut state);
        Ok(Self {
            directory: directory.to_owned(),
            listener,
            signals,
            connections: BTreeMap::new(),
            connection_next: 0,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            state,
            dirty: true,
            kills_all_at_end: sandbox.own_pid_namespace,
            ended: false,
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<()> {
        while !self.ended {
            let ready = self.wait()?;
            if ready.listener {
                self.accept();
            }
            for name in &ready.containers {
                self.read_output(name);
                if let Some(container) = self.containers.get_mut(name) {
                    container.stdin.flush();
                }
            }
            if ready.signals {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            for id in ready.connections {
                self.serve(id);
            }
            self.publish();
            self.flush();
        }
        self.end_all();
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<Ready> {
        let mut files = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for connection in self.connections.values() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, !self.is_held_back(connection));
            flags.set(PollFlags::POLLOUT, connection.wants_write());
            files.push(PollFd::new(connection.stream.as_fd(), flags));
        }
        let mut owners = Vec::new();
        for (name, container) in &self.containers {
            // A container is held back by whoever is attached, as by any reader of a pipe.
            let has_slow_reader = self
                .connections
                .values()
                .any(|one| one.is_attached_to(name) && one.is_behind());
            for file in container.output_files().filter(|_| !has_slow_reader) {
                files.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
                owners.push(name);
            }
            if let Some(file) = container.stdin.waiting() {
                files.push(PollFd::new(file.as_fd(), PollFlags::POLLOUT));
                owners.push(name);
            }
        }
        match poll(&mut files, BUSY_TIME_MS) {
            Ok(0) => {
                pages::shed();
                poll(&mut files, PollTimeout::NONE)
            }
            other => other,
        }
        .or_else(|error| match error {
            nix::Error::EINTR => Ok(0),
            error => Err(error).context("polling"),
        })?;
        let mut woken = files.iter().map(|file| file.any().unwrap_or(false));
        let signals = woken.next().unwrap_or(false);
        let listener = woken.next().unwrap_or(false);
        let connections = self
            .connections
            .keys()
            .copied()
            .filter(|_| woken.next().unwrap_or(false))
            .collect();
        let mut containers: Vec<String> = owners
            .into_iter()
            .filter(|_| woken.next().unwrap_or(false))
            .cloned()
            .collect();
        containers.dedup();
        Ok(Ready {
            signals,
            listener,
            connections,
            containers,
        })
    }

    /// Nothing more is taken for a container that has not taken what came before.
    fn is_held_back(&self, connection: &Connection) -> bool {
        let attached = connection.attached.as_ref();
        attached
            .and_then(|name| self.containers.get(name))
            .is_some_and(|container| container.stdin.waiting().is_some())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Ok(connection) = Connection::accept(stream) {
                self.connections.insert(self.connection_next, connection);
                self.connection_next += 1;
            }
        }
    }

    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (frames, life) = connection.receive();
        for frame in frames {
            self.serve_frame(id, &frame);
        }
        if life == Life::Closed {
            self.close(id);
        }
    }

    fn serve_frame(&mut self, id: ConnectionId, frame: &Frame) {
        match frame.kind {
            FrameKind::Message => match protocol::decode(&frame.payload) {
                Ok(request) => self.answer(id, request),
                Err(error) => self.tell(
                    id,
                    &Event::Refused {
                        reason: error.to_string(),
                    },
                ),
            },
            FrameKind::Stdin => {
                if let Some(container) = self.attached_container(id) {
                    container.stdin.push(&frame.payload);
                }
            }
            FrameKind::StdinEnd => {
                if let Some(container) = self.attached_container(id)
                    && container.spec.stdin == protocol::Stdin::Once
                    && !container.spec.tty
                {
                    container.stdin.end();
                }
            }
            FrameKind::Stdout | FrameKind::Stderr => {}
        }
    }

    fn answer(&mut self, id: ConnectionId, request: Request) {
        match request {
            Request::Watch => {
                let event = Event::State(self.state.clone());
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches = true;
                    connection.send(&event);
                }
            }
            Request::Start(spec) => self.start(*spec),
            Request::Signal {
                container,
                attempt,
                signal,
                scope,
            } => {
                self.signal(&container, attempt, signal, scope);
            }
            Request::Exec(exec) => self.exec(id, &exec),
            Request::Attach { container } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.attached = Some(container);
                    connection.send(&Event::ExecStarted);
                }
            }
            Request::Resize {
                container,
                width,
                height,
            } => {
                let terminal = self
                    .containers
                    .get(&container)
                    .and_then(|one| one.stdin.file());
                if let Some(terminal) = terminal {
                    container::resize(terminal, width, height);
                }
            }
            Request::End => self.ended = true,
        }
    }

    fn start(&mut self, spec: protocol::Container) {
        let known = self
            .state
            .containers
            .get(&spec.name)
            .map(|history| history.current.attempt);
        if known.is_some_and(|attempt| attempt >= spec.attempt) {
            return;
        }
        let (name, attempt, id) = (spec.name.clone(), spec.attempt, spec.id.clone());
        let started_ns = state::now_ns();
        let run = match Container::start(&self.directory, spec) {
            Ok(container) => {
                let pid = container.pid.as_raw();
                self.containers.insert(name.clone(), container);
                Run {
                    attempt,
                    id,
                    pid,
                    started_ns,
                    ended: None,
                }
            }
            Err(error) => {
                let message = format!("{error:#}");
                let ended = start_failure(message);
                Run {
                    attempt,
                    id,
                    pid: 0,
                    started_ns: 0,
                    ended: Some(ended),
                }
            }
        };
        let previous = self
            .state
            .containers
            .remove(&name)
            .map(|history| history.current);
        self.state.containers.insert(
            name,
            History {
                current: run,
                previous,
            },
        );
        self.dirty = true;
    }

    fn signal(&mut self, name: &str, attempt: u32, signal: i32, scope: SignalScope) {
        let Some(container) = self.containers.get(name) else {
            return;
        };
        let Ok(signal) = Signal::try_from(signal) else {
            return;
        };
        if container.spec.attempt != attempt {
            return;
        }
        match scope {
            SignalScope::Main => drop(kill(container.pid, signal)),
            SignalScope::All => container.signal_all(signal),
        }
    }

    fn exec(&mut self, id: ConnectionId, exec: &Exec) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let files = connection.take_files();
        let result = match (files, self.containers.get(&exec.container)) {
            (Some(files), Some(container)) => container.exec(exec, &files),
            (None, _) => Err(anyhow::anyhow!("three descriptors must come with an exec")),
            (_, None) => Err(anyhow::anyhow!(
                "container {:?} is not running",
                exec.container
            )),
        };
        let event = match result {
            Ok(pid) => {
                self.execs.insert(pid.as_raw(), id);
                Event::ExecStarted
            }
            Err(error) => Event::Refused {
                reason: format!("{error:#}"),
            },
        };
        self.tell(id, &event);
    }

    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, Some(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(id) = self.execs.remove(&pid.as_raw()) {
                self.tell(id, &Event::ExecEnded { code, signal });
            }
            let owner = self.containers.iter().find(|(_, one)| one.pid == pid);
            if let Some(name) = owner.map(|(name, _)| name.clone()) {
                self.end_container(&name, code, signal);
            }
        }
    }

    fn end_container(&mut self, name: &str, exit_code: i32, signal: Option<i32>) {
        let Some(mut container) = self.containers.remove(name) else {
            return;
        };
        let connections = &mut self.connections;
        let (cause, message) =
            container.end(|output, bytes| forward(connections, name, output, bytes));
        if let Some(history) = self.state.containers.get_mut(name) {
            let at_ns = state::now_ns();
            history.current.ended = Some(End {
                at_ns,
                exit_code,
                signal,
                cause,
                message,
            });
        }
        for connection in self.connections.values_mut() {
            if connection.is_attached_to(name) {
                connection.send(&Event::ExecEnded {
                    code: exit_code,
                    signal,
                });
            }
        }
        self.dirty = true;
    }

    fn read_output(&mut self, name: &str) {
        let connections = &mut self.connections;
        if let Some(container) = self.containers.get_mut(name) {
            container.read_output(|output, bytes| forward(connections, name, output, bytes));
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if let Err(error) = state::save(&self.directory, &self.state) {
            eprintln!("knarr pod-init: saving the state: {error}");
        }
        let event = Event::State(self.state.clone());
        for connection in self.connections.values_mut().filter(|one| one.watches) {
            connection.send(&event);
        }
    }

    fn flush(&mut self) {
        let closed: Vec<ConnectionId> = self
            .connections
            .iter_mut()
            .filter_map(|(id, connection)| (connection.flush() == Life::Closed).then_some(*id))
            .collect();
        for id in closed {
            self.close(id);
        }
    }

    /// An exec ends with the connection that asked for it.
    fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        for (pid, _) in self.execs.iter().filter(|(_, owner)| **owner == id) {
            let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
        }
        let attached = connection
            .attached
            .and_then(|name| self.containers.get_mut(&name));
        if let Some(container) = attached
            && container.spec.stdin == protocol::Stdin::Once
            && !container.spec.tty
        {
            container.stdin.end();
        }
    }

    fn attached_container(&mut self, id: ConnectionId) -> Option<&mut Container> {
        let name = self.connections.get(&id)?.attached.as_ref()?;
        self.containers.get_mut(name)
    }

    fn tell(&mut self, id: ConnectionId, event: &Event) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.send(event);
        }
    }

    fn end_all(&mut self) {
        if self.kills_all_at_end {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        } else {
            self.containers
                .values()
                .for_each(|one| one.signal_all(Signal::SIGKILL));
        }
    }
}

fn forward(
    connections: &mut BTreeMap<ConnectionId, Connection>,
    name: &str,
    output: Output,
    bytes: &[u8],
) {
    let kind = match output {
        Output::Stdout => FrameKind::Stdout,
        Output::Stderr => FrameKind::Stderr,
    };
    for connection in connections.values_mut() {
        if connection.is_attached_to(name) {
            connection.send_bytes(kind, bytes);
        }
    }
}

/// Runs whose init died with them: the kernel killed their processes.
fn close_lost_runs(state: &mut State) {
    for history in state.containers.values_mut() {
        history.current.ended.get_or_insert_with(|| End {
            at_ns: state::now_ns(),
            exit_code: 128 + libc::SIGKILL,
            signal: Some(libc::SIGKILL),
            cause: EndCause::Exited,
            message: String::new(),
        });
    }
}

fn start_failure(message: String) -> End {
    End {
        at_ns: state::now_ns(),
        exit_code: 128,
        signal: None,
        cause: EndCause::StartFailed,
        message,
    }
}
