//! What commands say and ask: results on standard output, the rest on standard error. Nothing of third parties' reaches it unescaped.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    time::{Duration, Instant},
};

use orrery_console::text::{count, grouped};

/// How often progress is told where no terminal can show it in place.
const EVERY: Duration = Duration::from_secs(5);

/// Writes a line of the result.
pub fn out(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Tells the operator something that is not the result. Nobody to tell it to is no fault.
pub fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Whether the reader of the output has gone.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The answer to a question before something is lost.
pub enum Answer {
    /// Go on.
    Yes,
    /// The operator thought better of it.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// Asks, unless `yes` was given.
pub async fn ask(question: &str, yes: bool) -> anyhow::Result<Answer> {
    if yes {
        return Ok(Answer::Yes);
    }
    if !std::io::stdin().is_terminal() {
        tell("orrery: this cannot be undone and there is no terminal to ask at: repeat it with --yes");
        return Ok(Answer::Nobody);
    }
    let question = format!("{question} [y/N] ");
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = std::io::stderr();
        write!(stderr, "{question}")?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })
    .await??;
    Ok(if matches!(answer.trim(), "y" | "Y" | "yes") { Answer::Yes } else { Answer::No })
}

/// How far long work is, on standard error: in place on a terminal, a line now and then otherwise.
pub struct Progress {
    what: &'static str,
    of: &'static str,
    total: u64,
    in_place: bool,
    told: Instant,
    shown: bool,
}

impl Progress {
    /// `what` is done to `total` things, one of which is `of`.
    pub fn new(what: &'static str, of: &'static str, total: u64) -> Self {
        let in_place = std::io::stderr().is_terminal();
        Self { what, of, total, in_place, told: Instant::now(), shown: false }
    }

    /// So many are done.
    pub fn at(&mut self, done: u64) {
        let pause = if self.in_place { Duration::from_millis(200) } else { EVERY };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = format!("{} {} of {}", self.what, grouped(done), count(self.total, self.of));
        if self.in_place {
            self.shown = true;
            write!(std::io::stderr(), "\r{line}\u{1b}[K").ok();
        } else {
            tell(&line);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            write!(std::io::stderr(), "\r\u{1b}[K").ok();
        }
    }
}
