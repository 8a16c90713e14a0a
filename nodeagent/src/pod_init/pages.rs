//! Gives back the pages of code and constants that were needed only to start; the kernel reads them again on demand.

use std::ffi::{c_int, c_void};

/// Unmaps the pages of every part of the program and its libraries that cannot be written.
///
/// A pod's parent sleeps nearly always, and there are as many of them as pods.
pub(super) fn shed() {
    // SAFETY: the callback keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(shed_object), std::ptr::null_mut()) };
}

unsafe extern "C" fn shed_object(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the loader shows each object with as many headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        (object.dlpi_addr, headers)
    };
    let page = page_bytes();
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        // Whole pages only: the last may be shared with what was written.
        let start = (base + header.p_vaddr).next_multiple_of(page);
        let end = (base + header.p_vaddr + header.p_memsz) / page * page;
        if start < end {
            // SAFETY: these pages were never written, so they come back from the file as they are.
            let _ = unsafe {
                libc::madvise(
                    start as *mut c_void,
                    (end - start) as usize,
                    libc::MADV_DONTNEED,
                )
            };
        }
    }
    0
}

fn page_bytes() -> u64 {
    // SAFETY: takes and returns a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident pages that have a file behind them.
    fn file_pages() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let shared = text.split(' ').nth(2).expect("a third number");
        shared.parse().expect("a number")
    }

    #[test]
    fn what_is_shed_is_gone_and_comes_back_on_demand() {
        // Other tests run meanwhile, and may need as much again.
        let shrank = (0..100).any(|_| {
            let before = file_pages();
            shed();
            file_pages() < before
        });
        assert!(shrank);
        assert_eq!("still here".to_uppercase(), "STILL HERE");
    }
}
