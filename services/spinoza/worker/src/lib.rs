//! Decoders in processes of their own: a worker that is confined and makes variants of one file after another, and the pool of them that
//! spinoza asks. A file that crashes, hangs or swells its worker costs nothing but itself. What is made is `orrery-picture`'s work.

mod child;
mod confine;
mod pool;
mod process;
mod protocol;

pub use child::serve;
pub use pool::{Made, Pool, PoolError, Settings};
pub use process::Launch;
