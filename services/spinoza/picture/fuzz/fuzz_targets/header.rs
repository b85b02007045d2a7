//! However a file is cut into chunks, its header says the same; what it says costs a bounded, known amount.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orrery_picture::{Preset, Scanner, cost, read_header};

fuzz_target!(|input: &[u8]| {
    let whole = read_header(input);
    for chunk in [1, 3, 64] {
        let mut scanner = Scanner::new();
        let pushed = input.chunks(chunk).try_for_each(|part| scanner.push(part).map(drop));
        assert_eq!(pushed.and_then(|()| scanner.finish()), whole);
    }
    if let Ok(header) = whole {
        assert!(cost(&header, 0, &Preset::avatar()).bytes > 0);
    }
});
