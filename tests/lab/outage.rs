//! How long nobody answers: one client that asks again and again from its own namespace.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use super::{wait, world::World};

/// Short, so that a question that is lost hides little of what comes after it.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A client that never stops asking.
pub(crate) struct Asking {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Instant>>>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// Starts asking from the namespace that a file names; the first answer has come.
    pub(crate) fn start(netns: &Path, to: SocketAddr) -> Self {
        let file = File::open(netns).unwrap_or_else(|error| panic!("{}: {error}", netns.display()));
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::default());
        let (stopped, heard): (_, Arc<Mutex<Vec<Instant>>>) = (stop.clone(), Arc::clone(&answers));
        let thread = std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            while !stopped.load(Ordering::Relaxed) {
                if is_answered(to) {
                    heard.lock().expect("nobody panicked").push(Instant::now());
                }
                std::thread::sleep(PAUSE);
            }
        });
        wait::until("a first answer", ANSWER_TIME_MAX, || {
            let first = answers.lock().expect("nobody panicked").first().copied();
            first.ok_or("none")
        });
        Self {
            stop,
            answers,
            thread,
        }
    }

    /// Waits until an answer comes after `since`.
    pub(crate) fn wait_for_answer(&self, world: &World, since: Instant) {
        wait::until("the client is answered", ANSWER_TIME_MAX, || {
            let answers = self.answers.lock().expect("nobody panicked");
            match answers.last() {
                Some(last) if *last > since => Ok(()),
                _ => Err(world.logs()),
            }
        });
    }

    /// Stops; the longest time between two answers, the second after `since`, must be below `max`.
    pub(crate) fn assert_gap_below(self, max: Duration, world: &World, since: Instant) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client asked");
        let answers = self.answers.lock().expect("nobody panicked");
        let pairs = answers.windows(2).filter(|pair| pair[1] > since);
        let gap = pairs.map(|pair| pair[1] - pair[0]).max();
        let gap = gap.expect("answers before and after");
        eprintln!("nobody answered for {gap:?}");
        assert!(gap < max, "{gap:?}\n{}", world.logs());
    }
}

/// One connection, one request.
pub(crate) fn is_answered(to: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
        stream.read(&mut [0; 512])
    };
    ask().is_ok_and(|length| length > 0)
}
