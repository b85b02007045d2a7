//! Spinoza, the image optimiser: from an uploaded picture to its variants. Whose they are is autha's business.

mod accounts;
pub mod config;
mod definition;
mod keys;
mod notifications;
mod optimizer;
mod records;
mod service;
mod writes;

pub use definition::SERVICE;

/// What a worker process does: it makes variants until its input ends, confined, in `memory_bytes` beside what it has already.
///
/// # Errors
/// Input or output breaks off.
pub fn picture_worker(memory_bytes: u64) -> std::io::Result<()> {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    orrery_picture_worker::serve(memory_bytes, input, output, orrery_picture::optimise)
}
