//! The thread that watches the children from outside every runtime: one without progress is cancelled at its await; a blocked thread, which
//! nothing can cancel, ends the process, so that it is started again.

use std::{io::Write, sync::Weak, thread, time::Duration};

use super::{child::Children, polls};

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);
/// The exit code of a process that ended itself: EX_SOFTWARE of sysexits.h.
const BLOCKED: i32 = 70;

/// Starts the thread; it ends with the children.
pub(super) fn start(children: Weak<Children>, blocked_limit: Duration) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        loop {
            thread::sleep(TICK);
            let Some(children) = children.upgrade() else { return };
            children.cancel_stalled();
            for (number, since) in polls::blocked(blocked_limit) {
                if let Some(name) = children.name(number) {
                    end(&name, since);
                }
            }
        }
    })?;
    Ok(())
}

/// The log may be what is blocked: the last line goes to standard error by itself as well.
fn end(name: &str, since: Duration) -> ! {
    let line = format!(
        "orrery: {name} has blocked its thread for {} s: the process ends, to be started again\n",
        since.as_secs()
    );
    let _unseen = std::io::stderr().write_all(line.as_bytes()).is_err();
    std::process::exit(BLOCKED)
}
