//! How the process asks the system for memory. Decides nothing about what is kept there.

use crate::cli::Command;

/// How many heaps the threads of a command share.
///
/// The C library gives each thread a heap of its own, and what one thread frees in its heap no other can use: after a list of everything,
/// parsed on one thread and kept by another, a node agent held twice what it needed. A server's workers allocate with every request and
/// must not wait for each other.
pub(crate) fn count(command: &Command, workers: usize) -> usize {
    match command {
        Command::Up(_) | Command::Server => workers,
        Command::Agent(_)
        | Command::Front(_)
        | Command::Apply(_)
        | Command::Get(_)
        | Command::Delete(_)
        | Command::Logs(_)
        | Command::Exec(_)
        | Command::Explain(_)
        | Command::Status
        | Command::Token
        | Command::Kubeconfig
        | Command::Down
        | Command::Echo(_)
        | Command::PodInit => 1,
    }
}

/// Lets all threads share so many heaps, where the C library has more than one.
pub(crate) fn share(count: usize) {
    #[cfg(target_env = "gnu")]
    if let Ok(count) = libc::c_int::try_from(count) {
        // SAFETY: sets a number that the allocator reads when a thread first allocates.
        let _taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, count) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _only_one = count;
}

/// Has what a long list or a large body took given back to the system when it is done.
pub(crate) fn give_back_large_pieces() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE_BYTES: libc::c_int = 128 << 10;
        // The C library raises this limit by itself as soon as it has met one large piece.
        // SAFETY: sets a number that the allocator compares sizes with.
        let _taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    }
}

/// Gives all free pages of all heaps back to the system: between what is still used, large work leaves many that are not.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes no pointer, and locks each heap while it looks for free pages there.
        let _any_was_free = unsafe { libc::malloc_trim(0) };
    }
}
