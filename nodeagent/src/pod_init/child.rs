//! Turns a fork into a container's process: its session, its rights, its program. Runs between fork and exec.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{ForkResult, Gid, Pid, Uid, execve, fork, pipe2, setgroups, setsid};

use crate::capability;
use crate::protocol::Process;

/// A started process.
pub(super) struct Child {
    pub(super) pid: Pid,
    /// The inode of its mount namespace, by which its descendants are known.
    pub(super) mount_namespace: u64,
}

/// How a child gets its terminal or pipes.
pub(super) struct Stdio<'a> {
    pub(super) files: [&'a OwnedFd; 3],
    pub(super) tty: bool,
}

/// Forks, runs `prepare` in the child, then the program; returns when the program runs or could not.
pub(super) fn spawn(
    process: &Process,
    stdio: &Stdio<'_>,
    prepare: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Child> {
    let (report, report_end) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("making a pipe")?;
    // SAFETY: the init has one thread, so the child may do anything a process may do.
    match unsafe { fork() }.context("forking")? {
        ForkResult::Child => {
            let mut report_end = File::from(report_end);
            let mut unsent_header: &[u8] = &[0; 8];
            let Err(error) =
                become_process(process, stdio, prepare, &mut report_end, &mut unsent_header);
            let _ = report_end.write_all(unsent_header);
            let _ = report_end.write_all(format!("{error:#}").as_bytes());
            // SAFETY: ends the child at once, without running the parent's exit handlers.
            unsafe { libc::_exit(128) }
        }
        ForkResult::Parent { child } => {
            drop(report_end);
            read_report(report, child)
        }
    }
}

fn read_report(report: OwnedFd, pid: Pid) -> anyhow::Result<Child> {
    let mut bytes = Vec::new();
    File::from(report)
        .read_to_end(&mut bytes)
        .context("reading a child's report")?;
    let (mount_namespace, failure) = match bytes.split_first_chunk::<8>() {
        Some((inode, failure)) => (u64::from_le_bytes(*inode), failure),
        None => (0, bytes.as_slice()),
    };
    if failure.is_empty() && mount_namespace != 0 {
        return Ok(Child {
            pid,
            mount_namespace,
        });
    }
    let _ = nix::sys::wait::waitpid(pid, None);
    anyhow::bail!("{}", String::from_utf8_lossy(failure))
}

fn become_process(
    process: &Process,
    stdio: &Stdio<'_>,
    prepare: impl FnOnce() -> anyhow::Result<()>,
    report: &mut File,
    unsent_header: &mut &[u8],
) -> anyhow::Result<std::convert::Infallible> {
    setsid().context("starting a session")?;
    reset_signals()?;
    prepare()?;
    let inode = std::fs::metadata("/proc/self/ns/mnt")
        .map(|found| std::os::unix::fs::MetadataExt::ino(&found))
        .context("reading the mount namespace")?;
    for (number, file) in stdio.files.iter().enumerate() {
        // SAFETY: both are open descriptors; dup2 clears close-on-exec on the copy.
        if unsafe { libc::dup2(file.as_raw_fd(), number as i32) } < 0 {
            return Err(std::io::Error::last_os_error()).context("wiring the output");
        }
    }
    if stdio.tty {
        // SAFETY: descriptor 0 is the terminal, and the session has none yet.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err(std::io::Error::last_os_error()).context("taking the terminal");
        }
    }
    take_rights(process)?;
    let directory = process.working_dir.as_deref().unwrap_or("/");
    std::env::set_current_dir(directory).with_context(|| format!("chdir to {directory:?}"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let program = find_program(process)?;
    report.write_all(&inode.to_le_bytes())?;
    *unsent_header = &[];
    exec(&program, process)
}

fn reset_signals() -> anyhow::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for number in Signal::iterator() {
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of ours.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
    }
    Ok(())
}

fn take_rights(process: &Process) -> anyhow::Result<()> {
    let granted = process.capabilities & capability::own();
    capability::limit(granted).context("dropping capabilities")?;
    let groups: Vec<Gid> = process
        .groups
        .iter()
        .map(|gid| Gid::from_raw(*gid))
        .collect();
    setgroups(&groups).context("setting groups")?;
    nix::sys::prctl::set_keepcaps(true).context("keeping capabilities")?;
    let gid = Gid::from_raw(process.gid);
    nix::unistd::setresgid(gid, gid, gid).context("setting the group")?;
    let uid = Uid::from_raw(process.uid);
    nix::unistd::setresuid(uid, uid, uid).context("setting the user")?;
    let heir = match process.uid {
        0 => capability::Heir::Root,
        _ => capability::Heir::Other,
    };
    capability::take(granted, heir).context("taking capabilities")?;
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().context("forbidding new privileges")?;
    }
    Ok(())
}

fn find_program(process: &Process) -> anyhow::Result<PathBuf> {
    let Some(name) = process.argv.first() else {
        anyhow::bail!("no command specified")
    };
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Ok(_) => Ok(name.into()),
            Err(error) => Err(error).with_context(|| format!("exec: {name:?}")),
        };
    }
    let path = process
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value);
    path.map(String::as_str)
        .unwrap_or_default()
        .split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| {
            nix::unistd::access(candidate, nix::unistd::AccessFlags::X_OK).is_ok()
                && candidate.is_file()
        })
        .with_context(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

fn exec(program: &Path, process: &Process) -> anyhow::Result<std::convert::Infallible> {
    let text = |text: &str| CString::new(text).context("a zero byte in a string");
    let path = text(&program.to_string_lossy())?;
    let argv = process
        .argv
        .iter()
        .map(|word| text(word))
        .collect::<Result<Vec<_>, _>>()?;
    let env = process
        .env
        .iter()
        .map(|(key, value)| text(&format!("{key}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    execve(&path, &argv, &env).with_context(|| format!("exec: {:?}", program.display()))
}
