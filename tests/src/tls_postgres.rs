//! A PostgreSQL server of a test's own, for what the shared one cannot show: its certificates and its `pg_hba.conf`.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use crate::deadline::eventually;
use crate::ports::Port;
use crate::process::{Process, tail};

/// The password of its user `orrery`, a superuser.
const PASSWORD: &str = "a password in the clear";

/// A running server; dropping it stops it and removes its data.
pub struct TlsPostgres {
    process: Process,
    port: Port,
    bin: PathBuf,
    folder: tempfile::TempDir,
}

impl TlsPostgres {
    /// Starts a server that takes the user `orrery` over TLS only, by password, under `certificate` (and with `server.key`),
    /// and the user `postgres` without TLS only, without a password. `prepare` makes the certificates in the folder it is given.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start(certificate: &str, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let bin = bin()?;
        let folder = tempfile::Builder::new().prefix("orrery-postgres-").tempdir()?;
        prepare(folder.path())?;
        give_away(folder.path())?;
        let data = folder.path().join("data");
        let data_text = data.to_str().context("a folder that is no UTF-8")?;
        let initdb =
            ["-D", data_text, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        run(&bin.join("initdb"), &initdb)?;
        std::fs::write(
            data.join("pg_hba.conf"),
            "hostssl all orrery 127.0.0.1/32 scram-sha-256\nhostnossl all postgres 127.0.0.1/32 trust\n",
        )?;
        let port = Port::reserve()?;
        let (number, cert, key) = (
            port.address().port().to_string(),
            format!("ssl_cert_file={}", folder.path().join(certificate).display()),
            format!("ssl_key_file={}", folder.path().join("server.key").display()),
        );
        let postgres = bin.join("postgres");
        let arguments = [
            "-D",
            data_text,
            "-p",
            &number,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
            "-c",
            "ssl=on",
            "-c",
            &cert,
            "-c",
            &key,
        ];
        let log = folder.path().join("postgres.log");
        // Whoever changes its user loses its parent-death signal, so that one is set last.
        let death = ["--pdeathsig", "QUIT", path(&postgres)?];
        let all: Vec<&str> = stepped_down().iter().copied().chain(death).chain(arguments).collect();
        let process =
            Process::spawn(Path::new("/usr/bin/setpriv"), &all, &Default::default(), folder.path(), &log)?;
        let server = Self { process, port, bin, folder };
        let sql = format!("CREATE ROLE orrery SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
        eventually(Duration::from_secs(30), "PostgreSQL", async || server.execute(&sql).await.ok())
            .await
            .with_context(|| tail(&log, 40))?;
        server.execute("CREATE DATABASE orrery OWNER orrery").await?;
        Ok(server)
    }

    /// The user `orrery`'s URL at `host` with these options (`sslmode=require`).
    #[must_use]
    pub fn url(&self, host: &str, options: &str) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!("postgres://orrery:{password}@{host}:{}/orrery?{options}", self.port.address().port())
    }

    /// Where the certificates lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a statement as `postgres` and gives what `psql` prints.
    ///
    /// # Errors
    /// PostgreSQL refuses it.
    pub async fn execute(&self, sql: &str) -> Result<String> {
        let url = format!("postgres://postgres@{}/postgres?sslmode=disable", self.port.address());
        let output = tokio::process::Command::new(self.bin.join("psql"))
            .args(["-XtAc", sql, &url])
            .output()
            .await
            .context("running psql")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for TlsPostgres {
    fn drop(&mut self) {
        // At once, but with its shared memory given back; SIGKILL, which follows, would leave that.
        if self.process.signal(Signal::SIGQUIT).is_ok() {
            let end = std::time::Instant::now() + Duration::from_secs(5);
            while self.process.ended().is_none() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The programs of the newest version that is installed.
fn bin() -> Result<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed: run ./dev test")?;
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin).context("there is no PostgreSQL server in /usr/lib/postgresql")
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

/// What makes root the user `postgres`, since PostgreSQL refuses to run as root.
fn stepped_down() -> &'static [&'static str] {
    if Uid::effective().is_root() {
        &["--reuid", "postgres", "--regid", "postgres", "--init-groups", "/usr/bin/setpriv"]
    } else {
        &[]
    }
}

/// Makes the server's user the owner of the folder and of what lies in it; keys are for it alone.
fn give_away(folder: &Path) -> Result<()> {
    let mut paths = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    for path in paths {
        let mode = if path.is_dir() {
            0o755
        } else if path.extension().is_some_and(|end| end == "key") {
            0o600
        } else {
            0o644
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        if Uid::effective().is_root() {
            let user = User::from_name("postgres")?.context("there is no user postgres")?;
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(())
}

/// Runs a program of PostgreSQL's to its end.
fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = if Uid::effective().is_root() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let output =
        command.args(arguments).output().with_context(|| format!("running {}", program.display()))?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
