//! A server in a pod's namespace that reads to the end and closes: as little of a program as packets can go to.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns},
    unistd::Pid,
};

use crate::lab::world::World;

const CHUNK_BYTES: usize = 1 << 18;

/// Which end of a connection a thread is; each has a core of its own where there are two.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Listens in the pod, for as long as this process runs.
pub(crate) fn open(world: &World, pod: &str, port: u16) {
    let (ready, listening) = mpsc::channel();
    let netns = world.pod_netns(pod);
    thread::spawn(move || {
        let file = std::fs::File::open(&netns).expect("the pod's namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root");
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port in the pod");
        ready.send(()).expect("somebody waits");
        on_core(Side::Server, || {
            let mut buffer = vec![0; CHUNK_BYTES];
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
            }
        });
    });
    listening.recv().expect("the sink listens");
}

/// Runs `job` on the core of one side, so that the scheduler does not move the ends of a connection about.
pub(crate) fn on_core<T>(side: Side, job: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("Linux");
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let core = match side {
        Side::Server => cores.next(),
        Side::Client => cores.next_back(),
    };
    let mut own = CpuSet::new();
    own.set(core.expect("a core")).expect("a core of the set");
    sched_setaffinity(this, &own).expect("a core that was allowed");
    let answer = job();
    sched_setaffinity(this, &allowed).expect("what was allowed before");
    answer
}

/// A connection from its start to the end of both directions.
pub(crate) struct Visit {
    pub(crate) connect: Duration,
    /// Until the sink had everything and closed: what somebody on the way holds in buffers is not there yet.
    pub(crate) whole: Duration,
}

/// Sends so many bytes.
pub(crate) fn visit(to: SocketAddr, bytes: usize) -> Visit {
    let chunk = vec![0; CHUNK_BYTES.min(bytes)];
    let began = Instant::now();
    let mut stream = TcpStream::connect(to).expect("a connection");
    let connect = began.elapsed();
    let chunks = bytes.checked_div(chunk.len()).unwrap_or(0);
    (0..chunks).for_each(|_| stream.write_all(&chunk).expect("room"));
    stream
        .shutdown(Shutdown::Write)
        .expect("an open connection");
    let ended = stream.read(&mut [0; 1]).expect("the sink's end");
    assert_eq!(ended, 0, "the sink says nothing");
    let whole = began.elapsed();
    Visit { connect, whole }
}
