//! What the allocator is told before anything else runs, so that what is freed goes back to the system (`./dev bench main`, `./dev test chaos`).

/// Few arenas: glibc gives threads that meet one in use another of their own, up to eight for each core, and each keeps what was freed in it.
/// Fixed thresholds: by itself glibc maps ever larger pieces less often, and then keeps the buffers of every connection that was lost.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "mallopt(3) has no other door, and its variables are read before the first line of a program runs"
)]
pub fn keep_little() {
    const SETTINGS: [(libc::c_int, libc::c_int); 3] =
        [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, 128 * 1024), (libc::M_TRIM_THRESHOLD, 128 * 1024)];
    for (parameter, value) in SETTINGS {
        // SAFETY: it takes two integers and sets a number of the allocator's, under its own lock.
        let _is_known = unsafe { libc::mallopt(parameter, value) } == 1;
    }
}

/// Other allocators have their own ways.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_little() {}
