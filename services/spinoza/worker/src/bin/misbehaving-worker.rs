//! A worker that does what no decoder may, when the file ends with a word that says so.

use std::hint::black_box;
use std::io::{stdin, stdout};

use orrery_picture::{Limits, Optimised, Preset, Rejection};

fn main() -> std::io::Result<()> {
    let memory_bytes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    orrery_picture_worker::serve(memory_bytes, stdin().lock(), stdout().lock(), work)
}

fn work(file: &[u8], preset: &Preset, limits: &Limits) -> Result<Optimised, Rejection> {
    let says = |word: &str| file.ends_with(word.as_bytes());
    if says("TEST:abort") {
        std::process::abort();
    }
    if says("TEST:panic") {
        panic!("as the file says");
    }
    if says("TEST:loop") {
        let mut number = 0_u64;
        while black_box(number) < u64::MAX {
            number = number.wrapping_add(1) & 0xffff;
        }
    }
    if says("TEST:sleep") {
        std::thread::park();
    }
    if says("TEST:memory") {
        // Twice what the job may take, and touched.
        black_box(vec![1_u8; 1 << 30]);
    }
    if says("TEST:open") {
        black_box(std::fs::read("/etc/hostname").is_ok());
    }
    if says("TEST:connect") {
        black_box(std::net::TcpStream::connect("127.0.0.1:5432").is_ok());
    }
    if says("TEST:exec") {
        black_box(std::process::Command::new("/bin/true").status().is_ok());
    }
    orrery_picture::optimise(file, preset, limits)
}
