//! What pool and worker say to each other over the worker's input and output: frames of a length (32 bits, little-endian) and JSON;
//! files follow as they are. The worker greets once, then answers each job.

use orrery_picture::{Limits, OutputFormat, Preset};
use serde::{Deserialize, Serialize};

/// A frame's JSON is never longer; a worker that says otherwise is broken.
pub(crate) const MAX_JSON_BYTES: u32 = 64 * 1024;

/// What a worker says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// What the kernel does not confine it by: empty when everything is in force.
    pub missing: Vec<String>,
}

/// A file to work on, whose bytes follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub file_bytes: u64,
    pub preset: Preset,
    pub max_pixels: u64,
    pub max_side: u32,
    pub min_side: u32,
    /// What the job may take beside what the worker has, in bytes.
    pub memory_bytes: u64,
    /// Processor time that it may take.
    pub cpu_seconds: u64,
}

impl Job {
    pub(crate) const fn limits(&self) -> Limits {
        Limits { max_pixels: self.max_pixels, max_side: self.max_side, min_side: self.min_side }
    }
}

/// What became of a job; the variants' bytes follow, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Made { variants: Vec<Variant>, thumbhash: Vec<u8> },
    Rejected { code: String, reason: String },
    Failed { cause: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variant {
    pub width: u32,
    pub height: u32,
    pub format: OutputFormat,
    pub bytes: u32,
}
