//! The thread that watches the actors from outside every runtime: one without progress is cancelled at its await; a blocked thread, which
//! nothing can cancel, ends the process, so that it is started again.

use std::{
    io::Write,
    sync::{Weak, mpsc},
    thread,
    time::Duration,
};

use super::{polls, record::Records};

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);
/// How long the last line may take.
const LAST_LINE: Duration = Duration::from_secs(1);
/// The exit code of a process that ended itself: EX_SOFTWARE of sysexits.h.
const BLOCKED: i32 = 70;

/// Starts the thread; it ends with the actors.
pub(super) fn start(actors: Weak<Records>, blocked_limit: Duration) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        loop {
            thread::sleep(TICK);
            let Some(actors) = actors.upgrade() else { return };
            actors.cancel_stalled();
            for (number, since) in polls::blocked(blocked_limit) {
                if let Some(name) = actors.name(number) {
                    end(&name, since);
                }
            }
        }
    })?;
    Ok(())
}

/// The last line goes to standard error by itself; that may be what is blocked, so it is not waited for much longer.
fn end(name: &str, since: Duration) -> ! {
    let line = format!(
        "orrery: {name} has blocked its thread for {} s: the process ends, to be started again\n",
        since.as_secs()
    );
    let (written, wait) = mpsc::channel();
    let write = move || written.send(std::io::stderr().write_all(line.as_bytes()));
    if thread::Builder::new().spawn(write).is_ok() {
        let _unseen = wait.recv_timeout(LAST_LINE).is_err();
    }
    std::process::exit(BLOCKED)
}
