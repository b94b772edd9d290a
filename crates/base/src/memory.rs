//! Memory of the process as a whole.

/// Returns free memory that the allocator keeps to the system: the memory of parsing a large configuration would
/// otherwise count as used until the process ends. Takes milliseconds where there is much of it, and the locks of the
/// allocator one after the other: for control threads, after large work.
///
/// Does nothing where the C library is not glibc.
#[allow(unsafe_code, reason = "the C library has no safe way to ask for it")]
pub fn release_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) may be called by any thread at any time; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
