//! What the allocator is told before anything else runs.

/// glibc gives threads that meet an arena in use one of their own, up to eight for each core, and each keeps what was freed in it. Two are
/// enough for what allocates at the same time here: a fifth less memory (`./dev bench main`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "mallopt(3) has no other door, and its variable is read before the first line of a program runs"
)]
pub fn keep_little() {
    const ARENAS: libc::c_int = 2;
    // SAFETY: it takes two integers and sets a number of the allocator's, under its own lock.
    let _is_glibc = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) } == 1;
}

/// Other allocators have no such arenas.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_little() {}
