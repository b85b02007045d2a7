//! One worker as the pool sees it: started, given a job, and gone with its process.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::protocol::{Answer, Greeting, Job, MAX_JSON_BYTES};

/// A pipe of this size takes most variants, and a photograph in a few turns. The kernel's default is 64 KiB.
const PIPE_BYTES: usize = 1024 * 1024;

/// No file of a variant is larger; a worker that says so is broken.
const MAX_VARIANT_BYTES: u32 = 64 * 1024 * 1024;

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the memory that it may take, in bytes, comes after them.
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// This program again, with one argument.
    ///
    /// # Errors
    /// The system does not tell where it lies.
    pub fn this_program(argument: &str) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: vec![argument.into()] })
    }
}

/// An answer with its files.
pub(crate) struct Answered {
    pub answer: Answer,
    pub files: Vec<Vec<u8>>,
}

/// A running worker; dropped, it is killed.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    pub missing: Vec<String>,
}

impl Worker {
    /// Starts a worker with an empty environment, where no secret is, and waits until it is confined.
    pub(crate) async fn start(launch: &Launch, memory_bytes: u64) -> io::Result<Self> {
        let mut child = Command::new(&launch.program)
            .args(&launch.arguments)
            .arg(memory_bytes.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the worker has no input or no output"));
        };
        // Only for speed: a kernel that refuses leaves them smaller.
        let _smaller = rustix::pipe::fcntl_setpipe_size(&input, PIPE_BYTES).is_err();
        let _smaller = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES).is_err();
        let mut worker = Self { child, input, output, missing: Vec::new() };
        let Greeting { missing } = worker.read().await?;
        worker.missing = missing;
        Ok(worker)
    }

    pub(crate) async fn run(&mut self, job: &Job, file: &[u8]) -> io::Result<Answered> {
        self.write(job).await?;
        self.input.write_all(file).await?;
        self.input.flush().await?;
        let answer = self.read().await?;
        let mut files = Vec::new();
        if let Answer::Made { variants, .. } = &answer {
            for variant in variants {
                if variant.bytes > MAX_VARIANT_BYTES {
                    return Err(io::Error::other("a variant is too large"));
                }
                let mut bytes = vec![0; usize::try_from(variant.bytes).map_err(io::Error::other)?];
                self.output.read_exact(&mut bytes).await?;
                files.push(bytes);
            }
        }
        Ok(Answered { answer, files })
    }

    /// Ends it, and how it ended: by itself before, or by this.
    pub(crate) async fn end(mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.child.kill().await?;
        self.child.wait().await
    }

    /// How it ended by itself, if it does within a moment: its output closes before its status is there.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    async fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_vec(value)?;
        self.input.write_all(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes()).await?;
        self.input.write_all(&json).await
    }

    async fn read<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let length = self.output.read_u32_le().await?;
        if length > MAX_JSON_BYTES {
            return Err(io::Error::other("the frame is too long"));
        }
        let mut json = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.output.read_exact(&mut json).await?;
        Ok(serde_json::from_slice(&json)?)
    }
}

/// In words, without what the process said.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(libc::SIGABRT), _) => "it aborted, most likely for want of memory".to_owned(),
        (Some(libc::SIGSEGV | libc::SIGBUS), _) => "it touched memory that is not its own".to_owned(),
        (Some(libc::SIGSYS), _) => "it asked the kernel for what it may not do".to_owned(),
        (Some(libc::SIGXCPU), _) => "it took all the processor time that it may have".to_owned(),
        (Some(signal), _) => format!("signal {signal} ended it"),
        (None, Some(code)) => format!("it ended with status {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// Whether somebody else ended it: a person or the kernel for want of memory on the machine, not the file.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP))
}
