//! Where memory comes from, and how it goes back.

/// It gives freed memory back: what a run holds then does not grow with what it has read. The C library keeps the pages
/// of large blocks for itself, the more the longer it runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Huge pages are cleared as a whole when they are first touched, and stay whole however little of them is used: without
/// them large joins take less time, and everything less memory.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the kernel is told by a call of its own")]
pub(crate) fn use_small_pages() {
    // SAFETY: it sets a flag of this process. Where it is not taken, more memory is used.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn use_small_pages() {}

/// Lets memory go back as soon as it is free, for as long as the process runs. By itself the allocator waits for a moment
/// in which nothing is asked of it, which does not come while records of a topic keep coming, and what is held grows with
/// them. It costs a twentieth of such a run, and a tenth of one over files, which ends.
#[cfg(feature = "kafka")]
pub(crate) fn give_back_at_once() {
    give_back_pages();
    give_back_of_c_library();
}

#[cfg(feature = "kafka")]
#[expect(unsafe_code, reason = "the allocator is told by a call of its own")]
fn give_back_pages() {
    /// `mi_option_purge_delay`, in milliseconds, of `mimalloc.h`.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: it writes one word, of which other threads see what it was or what it is. What the environment says of it
    // stays.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 0) };
}

/// The client of the brokers allocates there.
#[cfg(all(feature = "kafka", target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library is told by calls of its own")]
fn give_back_of_c_library() {
    // SAFETY: they set limits, and any thread may call them at any time.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
    }
}

#[cfg(all(feature = "kafka", not(all(target_os = "linux", target_env = "gnu"))))]
fn give_back_of_c_library() {}
