//! The one door to new processes of the host: clones a pod's init into its namespaces, finds it again, ends it.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, SigmaskHow};
use serde::{Deserialize, Serialize};

use crate::protocol::{LISTENER_FD, SOCKET};

/// What can go wrong with an init.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("preparing {}", .0.display())]
    Prepare(PathBuf, #[source] io::Error),
    #[error("cloning a pod's init")]
    Clone(#[source] io::Error),
    #[error("opening init {0}")]
    Open(i32, #[source] io::Error),
}

/// A path with a zero byte, which no kernel call takes.
#[derive(Debug, thiserror::Error)]
#[error("a path holds a zero byte")]
struct ZeroByte;

/// Where an init's process is noted, so that a restarted agent finds it.
const NOTE: &str = "init.json";

/// An init's process, told from a later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: i32,
    start_ticks: u64,
}

/// A running init.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

/// The namespaces an init gets of its own; mount and uts always are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaces {
    pub(crate) pid: bool,
    pub(crate) ipc: bool,
}

/// Clones an init into the namespaces, with its socket already listening in `directory`.
pub(crate) fn spawn_init(
    directory: &Path,
    netns: Option<&Path>,
    namespaces: Namespaces,
) -> Result<Init, Error> {
    let failed = |error| Error::Prepare(directory.to_owned(), error);
    let listener = listen(directory).map_err(failed)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("init.log"))
        .map_err(failed)?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(failed)?;
    let netns = netns.map(File::open).transpose().map_err(failed)?;
    let argument = CString::new(directory.as_os_str().as_encoded_bytes())
        .map_err(|_| failed(io::Error::other(ZeroByte)))?;
    let argv = [
        c"knarr".as_ptr(),
        c"pod-init".as_ptr(),
        argument.as_ptr(),
        std::ptr::null(),
    ];
    let plan = ChildPlan {
        netns: netns.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        files: [
            null.as_raw_fd(),
            null.as_raw_fd(),
            log.as_raw_fd(),
            listener.as_raw_fd(),
        ],
        argv: &argv,
        envp: &[std::ptr::null()],
    };
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
    if namespaces.pid {
        flags |= libc::CLONE_NEWPID;
    }
    if namespaces.ipc {
        flags |= libc::CLONE_NEWIPC;
    }
    let init = clone_init(flags, &plan)?;
    let note = Note {
        pid: init.pid,
        start_ticks: start_ticks(init.pid).unwrap_or_default(),
    };
    let text = serde_json::to_vec(&note).unwrap_or_default();
    fs::write(directory.join(NOTE), text).map_err(failed)?;
    Ok(init)
}

/// Finds the init that an earlier agent started in `directory`, if it still runs.
pub(crate) fn find_init(directory: &Path) -> Option<Init> {
    let note: Note = serde_json::from_slice(&fs::read(directory.join(NOTE)).ok()?).ok()?;
    let pidfd = open_pidfd(note.pid).ok()?;
    // Checked after opening: from here on the descriptor cannot mean another process.
    (start_ticks(note.pid)? == note.start_ticks).then_some(Init {
        pid: note.pid,
        pidfd,
    })
}

impl Init {
    /// Kills the init, and with it every process of its pid namespace.
    pub(crate) fn kill(&self) {
        // SAFETY: the descriptor is open, and a null siginfo is allowed.
        let _ = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    /// Collects the init's exit if it is this process's child; a stranger's child is not ours to collect.
    pub(crate) fn collect(&self) {
        // SAFETY: an all-zero siginfo is a valid one to overwrite.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open and `found` outlives the call.
        let _ = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                self.pidfd.as_raw_fd() as libc::id_t,
                &raw mut found,
                libc::WEXITED | libc::WNOHANG,
            )
        };
    }

    /// A descriptor that reads as ready once the init has ended.
    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    /// Waits, blocking, until the init has ended or the time is over.
    pub(crate) fn wait(&self, timeout: std::time::Duration) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut files = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(
            &mut files,
            PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
        );
        self.collect();
    }
}

/// Everything the child needs, prepared before the clone: afterwards it may not even allocate.
struct ChildPlan<'a> {
    netns: RawFd,
    files: [RawFd; 4],
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
}

/// Clones a child that borrows our memory until it execs: copying the page tables of an agent with much in
/// them would take longer than all namespaces, and slow every thread of it down afterwards.
fn clone_init(flags: libc::c_int, plan: &ChildPlan<'_>) -> Result<Init, Error> {
    const STACK_BYTES: usize = 64 * 1024;
    let mut stack: Vec<u128> = vec![0; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: RawFd = -1;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let plan = std::ptr::from_ref(plan).cast_mut().cast();
    // A handler of ours must not run in the child, on our memory.
    let unblocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    // SAFETY: this thread sleeps until the child has execed or ended, so stack and plan outlive the child's use of
    // them; stacks grow down from an end that is aligned to 16; the kernel writes the descriptor before it returns.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(start_init, top, flags, plan, &raw mut pidfd)
    };
    let failure = io::Error::last_os_error();
    if let Ok(unblocked) = unblocked {
        let _ = unblocked.thread_set_mask();
    }
    if pid < 0 {
        return Err(Error::Clone(failure));
    }
    // SAFETY: the kernel just installed this descriptor for us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Init { pid, pidfd })
}

extern "C" fn start_init(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passes a plan, and sleeps as long as we use it.
    become_init(unsafe { &*plan.cast::<ChildPlan<'_>>() })
}

/// Runs in the child, on its parent's memory: system calls only, no allocation, no locks.
fn become_init(plan: &ChildPlan<'_>) -> ! {
    const SIGNAL_MAX: libc::c_int = 64;
    // SAFETY: each call takes plain numbers or pointers into the parent's memory, which waits; handlers and
    // descriptors are the child's own copies.
    unsafe {
        for signal in 1..=SIGNAL_MAX {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::setsid();
        if plan.netns >= 0 && libc::setns(plan.netns, libc::CLONE_NEWNET) != 0 {
            libc::_exit(127);
        }
        for (number, file) in (0..).zip(plan.files) {
            // A descriptor already in place would keep its close-on-exec mark.
            let moved = libc::fcntl(file, libc::F_DUPFD, 100);
            libc::dup2(moved, number);
            libc::close(moved);
        }
        const _: () = assert!(LISTENER_FD == 3, "the listener is the fourth file");
        libc::execve(
            c"/proc/self/exe".as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
        );
        libc::_exit(127)
    }
}

fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

fn open_pidfd(pid: i32) -> Result<OwnedFd, Error> {
    // SAFETY: takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(Error::Open(pid, io::Error::last_os_error()));
    }
    // SAFETY: the kernel just installed this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Field 22 of `/proc/PID/stat`.
fn start_ticks(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks and brackets; the fields after it do not.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}
