//! One isolated system per test: a database, a virtual host, an object store and a mail receiver of its own, a proxy
//! before each, and the services that the test spawns over them. How it is assembled is in `world::builder`.

pub mod builder;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use nix::pty::{OpenptyResult, openpty};

use crate::broker::Broker;
use crate::client::Client;
use crate::database::{Database, has_dead_letters};
use crate::deadline::{eventually, until};
use crate::fresh;
use crate::mail::Mail;
use crate::pages::Page;
use crate::person::Person;
use crate::ports::Port;
use crate::process::{Finished, Process, read_log, tail};
use crate::proxy::Proxy;
use crate::secrets::Secrets;
use crate::service::{Service, Site};
use crate::smtp::SmtpReceiver;
use crate::teardown::{self, report};
use builder::WorldBuilder;

/// The longest that a list of dead letters may take.
const LISTED: Duration = Duration::from_secs(20);

/// The proxies that stand before the real parts; all that services are configured with leads through them.
#[derive(Debug)]
pub struct Proxies {
    /// Before PostgreSQL.
    pub postgres: Proxy,
    /// Before RabbitMQ.
    pub broker: Proxy,
    /// Before the object store.
    pub storage: Proxy,
    /// Before the mail receiver.
    pub smtp: Proxy,
}

/// A test's own system. Dropping it takes everything down and fails the test (by a panic) when a log tells of a panic that was not
/// allowed, when a log, a page for operators or the list of dead letters names a secret, or when a process did not end when it was asked to.
#[derive(Debug)]
pub struct World {
    // In the order in which they are dropped: who uses a part goes before it.
    storage: Mutex<Option<Process>>,
    proxies: Proxies,
    smtp: SmtpReceiver,
    database: Database,
    broker: Broker,
    site: Arc<Site>,
    storage_port: Port,
    secrets: Secrets,
    panics_allowed: bool,
    folder: tempfile::TempDir,
}

impl World {
    /// A world with default settings: all parts, migrated, no service yet.
    ///
    /// # Errors
    /// See [`WorldBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A world with other settings.
    #[must_use]
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// Starts a process that serves the named services (none named: all) and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready within 30 s; the error has the end of its log.
    pub async fn spawn(&self, services: &[&str]) -> Result<Service> {
        self.spawn_with(services, &[]).await
    }

    /// The same with settings of its own over the world's, e.g. another `ORRERY_AUTHA__LISTEN` for a second replica.
    ///
    /// # Errors
    /// As [`World::spawn`].
    pub async fn spawn_with(&self, services: &[&str], settings: &[(&str, &str)]) -> Result<Service> {
        let mut service = self.launch(services, settings)?;
        service.settle().await?;
        Ok(service)
    }

    /// The same without waiting: for a start that must fail or wait.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch(&self, services: &[&str], settings: &[(&str, &str)]) -> Result<Service> {
        Service::launch(&self.site, services, settings)
    }

    /// Runs `orrery` with these arguments and the world's settings to its end.
    ///
    /// # Errors
    /// It still runs after `deadline`, or cannot be started; a failure is no error but in its status.
    pub async fn run(&self, arguments: &[&str], deadline: Duration) -> Result<Finished> {
        self.run_with(arguments, &[], deadline).await
    }

    /// The same with settings of its own over the world's.
    ///
    /// # Errors
    /// As [`World::run`].
    pub async fn run_with(
        &self,
        arguments: &[&str],
        settings: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Finished> {
        let (mut process, log) = self.command(arguments, settings)?;
        let status = process.wait(deadline).await?;
        Ok(Finished { status, output: read_log(&log) })
    }

    /// The same for a command that is asked to name secrets: what it writes is not searched for them.
    ///
    /// # Errors
    /// As [`World::run`].
    pub async fn run_revealing(
        &self,
        arguments: &[&str],
        settings: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Finished> {
        let log = self.folder.path().join(format!("revealed-{}.log", fresh::uuid().simple()));
        let status = self.start_command(Stdio::null(), arguments, settings, &log)?.wait(deadline).await?;
        Ok(Finished { status, output: read_log(&log) })
    }

    /// The same as [`World::run`] at a terminal, where somebody types `answer` when asked.
    ///
    /// # Errors
    /// As [`World::run`], or nothing is asked within `deadline`.
    pub async fn run_answering(
        &self,
        arguments: &[&str],
        answer: &str,
        deadline: Duration,
    ) -> Result<Finished> {
        let OpenptyResult { master, slave } = openpty(None, None).context("opening a terminal")?;
        let log = self.site.new_log(arguments.first().copied().unwrap_or("orrery"));
        let mut process = self.start_command(slave.into(), arguments, &[], &log)?;
        until(deadline, "a question", async || read_log(&log).ends_with("[y/N] ")).await?;
        let mut keyboard = File::from(master);
        keyboard.write_all(format!("{answer}\n").as_bytes())?;
        let status = process.wait(deadline).await?;
        Ok(Finished { status, output: read_log(&log) })
    }

    /// Starts `orrery` with these arguments, and settings of its own over the world's, without waiting for its end; gives the file
    /// that it writes to, too.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Result<(Process, PathBuf)> {
        let log = self.site.new_log(arguments.first().copied().unwrap_or("orrery"));
        Ok((self.start_command(Stdio::null(), arguments, settings, &log)?, log))
    }

    fn start_command(
        &self,
        input: Stdio,
        arguments: &[&str],
        settings: &[(&str, &str)],
        log: &Path,
    ) -> Result<Process> {
        let site = &self.site;
        let mut all = site.settings.clone();
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Process::spawn_reading(input, &site.binary, arguments, &all, &site.folder, log)
    }

    /// Runs `orrery migrate`, as [`World::start`] does by itself.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub async fn migrate(&self) -> Result<()> {
        let finished = self.run(&["migrate"], Duration::from_secs(60)).await?;
        if !finished.status.success() {
            bail!("orrery migrate ended with {}:\n{}", finished.status, finished.output)
        }
        Ok(())
    }

    /// A client of the gateway; whom it signs up and what tokens it gets count as secrets.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.gateway_url())?.keeping(&self.secrets))
    }

    /// A client of another address than the gateway's; it keeps secrets as that of [`World::client`] does.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn client_of(&self, base: &str) -> Result<Client> {
        Ok(Client::new(base)?.keeping(&self.secrets))
    }

    /// Autha's own address as a URL, past the gateway.
    #[must_use]
    pub fn autha_url(&self) -> String {
        format!("http://{}", self.site.autha.address())
    }

    /// The gateway's address as a URL: the public URL of this world.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.site.gateway.address())
    }

    /// The address of discovery as a URL, past the gateway.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("http://{}", self.site.discovery.address())
    }

    /// The proxies, to cut, pause and withhold.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The database, asked directly.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The virtual host, asked directly.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The mail receiver, to script and read.
    #[must_use]
    pub fn smtp(&self) -> &SmtpReceiver {
        &self.smtp
    }

    /// A folder of the test's own; services work in it, and have their temporary files in its `tmp`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The mails that services captured as files, in no order, for a world made with `capture`.
    ///
    /// # Errors
    /// A file cannot be read; one that vanishes meanwhile is skipped.
    pub fn captured(&self) -> Result<Vec<Mail>> {
        let mails = files(&self.folder.path().join("mail"))?.into_iter();
        let mails = mails.filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
        Ok(mails
            .filter_map(|path| std::fs::read(path).ok())
            .map(|raw| Mail::parse(String::new(), Vec::new(), Bytes::from(raw)))
            .collect())
    }

    /// The keys of the objects in the store, sorted, without what the store keeps for itself.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub fn objects(&self) -> Result<Vec<String>> {
        let bucket = self.folder.path().join("s3").join(builder::BUCKET);
        let keys = files(&bucket)?.into_iter().filter_map(|path| {
            let key = path.strip_prefix(&bucket).ok()?.to_str()?.to_owned();
            (!key.split('/').any(|part| part.starts_with('.'))).then_some(key)
        });
        let mut keys: Vec<String> = keys.collect();
        keys.sort();
        Ok(keys)
    }

    /// The folder that holds the bucket's objects, each under its key.
    #[must_use]
    pub fn storage_root(&self) -> PathBuf {
        self.folder.path().join("s3").join(builder::BUCKET)
    }

    /// How the object store is reached, as settings of a backup's own bucket in it.
    #[must_use]
    pub fn storage_settings(&self) -> Vec<(String, String)> {
        let own = |key: &String| {
            key.strip_prefix("ORRERY_STORAGE__").filter(|key| *key != "BUCKET").map(str::to_owned)
        };
        let settings = self.site.settings.iter();
        settings
            .filter_map(|(key, value)| {
                Some((format!("ORRERY_BACKUP__STORAGE__{}", own(key)?), value.clone()))
            })
            .collect()
    }

    /// Loses everything that the database and the object store hold, as a machine does that burns. No service may run.
    ///
    /// # Errors
    /// A part refuses.
    pub async fn wipe(&self) -> Result<()> {
        let schemas = "DO $$ DECLARE schema text; BEGIN \
            FOR schema IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('public', 'information_schema') LOOP \
                EXECUTE format('DROP SCHEMA %I CASCADE', schema); \
            END LOOP; END $$";
        self.database.execute(schemas).await?;
        self.kill_storage();
        match std::fs::remove_dir_all(self.storage_root()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.start_storage().await
    }

    /// SIGKILL to the object store; its objects stay on disk.
    pub fn kill_storage(&self) {
        // Dropping the process kills it.
        self.storage.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Starts the object store at its address, again if need be, and waits until it accepts connections.
    ///
    /// # Errors
    /// It ends, or does not accept within 15 s.
    pub async fn start_storage(&self) -> Result<()> {
        self.kill_storage();
        let (site, address) = (&self.site, self.storage_port.address());
        let log = site.new_log("s3");
        let (listen, root) = (address.to_string(), self.folder.path().join("s3"));
        let root = root.to_str().context("a folder that is no UTF-8")?;
        let arguments = ["s3", "--listen", &listen, "--root", root];
        let mut process = Process::spawn(&site.binary, &arguments, &site.settings, &site.folder, &log)?;
        let ready = eventually(Duration::from_secs(15), "the object store", async || {
            if let Some(status) = process.ended() {
                return Some(Err(anyhow::anyhow!("orrery s3 ended with {status}")));
            }
            tokio::net::TcpStream::connect(address).await.is_ok().then_some(Ok(()))
        })
        .await;
        ready.and_then(|ended| ended).with_context(|| tail(&log, 40))?;
        *self.storage.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Registers a string that neither a log nor a metric nor a list of dead letters may hold: a name, an address, a token, a password.
    /// Less than 6 characters are ignored, since they would be found by chance.
    pub fn secret(&self, secret: &str) {
        self.secrets.add(secret);
    }

    /// The same of what a person is called and types.
    pub fn keep(&self, person: &Person) {
        [&person.id, &person.email, &person.password].into_iter().for_each(|secret| self.secret(secret));
    }

    /// Writes the list of dead letters to logs, in both of its forms, to be searched like all others.
    ///
    /// It goes past the proxies, which may be cut, and which stand still while a test's only thread is here.
    fn list_dead_letters(&self) {
        let url = self.database.url().to_owned();
        // Most worlds have none, and a database that is down lists none.
        let asked = teardown::ask(async move { has_dead_letters(&url).await });
        if !asked.unwrap_or(false) {
            return;
        }
        let database = ("ORRERY_DATABASE__URL", self.database.url());
        let list = ["queues", "dead", "list", "--limit", "1000"];
        let json = [&list[..], &["--json"][..]].concat();
        for (name, arguments) in [("dead-list", &list[..]), ("dead-list-json", json.as_slice())] {
            let log = self.site.new_log(name);
            let listed = self.start_command(Stdio::null(), arguments, &[database], &log);
            let listed = listed.and_then(|mut process| process.wait_blocking(LISTED));
            match listed {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    report(&format!("the dead letters were not listed: {status}\n{}", tail(&log, 10)));
                }
                Err(error) => report(&format!("the dead letters were not listed: {error:#}")),
            }
        }
    }

    /// What is told that must not be, so far: panics that are not allowed, secrets, processes that did not end.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let logs = self.site.logs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = Vec::new();
        for log in logs {
            let text = read_log(&log);
            let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !self.panics_allowed {
                let panics = text.lines().filter(|line| line.contains("panicked at"));
                found.extend(panics.map(|line| format!("{name} tells of a panic: {line}")));
            }
            let leaks = self.secrets.found_in(&text).into_iter();
            found.extend(leaks.map(|line| format!("{name} names a secret in line {line}")));
        }
        for Page { name, text } in self.site.pages.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let leaks = self.secrets.found_in(text).into_iter();
            found.extend(leaks.map(|line| format!("{name} names a secret in line {line}")));
        }
        found.extend(self.site.faults.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.site.is_closed.store(true, Ordering::SeqCst);
        self.kill_storage();
        // The runner shows this only when the test fails, by a panic or by an error that we cannot see from here.
        for log in self.site.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            report(&tail(log, 30));
        }
        if !std::thread::panicking() {
            self.list_dead_letters();
        }
        let leftovers = self.leftovers();
        if leftovers.is_empty() {
            return;
        }
        let leftovers = leftovers.join("\n");
        if std::thread::panicking() {
            report(&leftovers);
        } else {
            panic!("left behind:\n{leftovers}");
        }
    }
}

/// All files below a folder, in no order; none where it is missing.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    Ok(found)
}
