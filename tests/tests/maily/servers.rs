//! A postfix and a maildev of the test's own.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use orrery_tests::{deadline::eventually, ports::Port};

const STARTED: Duration = Duration::from_secs(60);
/// Debian's, for who owns what is delivered.
const NOBODY: u32 = 65_534;

/// Where `tests/maily/install` has put things.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.run/maily")
}

/// Runs a program to its end and gives what it wrote.
pub fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(done.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

/// A postfix that takes mail for people.example over STARTTLS and delivers all of it into one Maildir.
pub struct Postfix {
    folder: tempfile::TempDir,
    port: Port,
}

impl Postfix {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("orrery-postfix-").tempdir()?;
        let at = folder.path().to_str().context("a path that is no UTF-8")?.to_owned();
        // Its processes run as users of their own, who have to get through.
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
        for name in ["etc", "spool", "data", "mail"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let postfix: u32 = run("id", &["-u", "postfix"])?.trim().parse()?;
        chown(folder.path().join("data"), Some(postfix), None)?;
        chown(folder.path().join("mail"), Some(NOBODY), Some(NOBODY))?;
        let (key, certificate) = (format!("{at}/etc/key.pem"), format!("{at}/etc/cert.pem"));
        let request =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate];
        let subject = [
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        run("openssl", &[&request[..], &subject[..]].concat())?;
        let port = Port::reserve()?;
        fs::write(format!("{at}/etc/main.cf"), main_cf(&at))?;
        fs::write(format!("{at}/etc/master.cf"), master_cf(port.address()))?;
        fs::write(format!("{at}/etc/dynamicmaps.cf"), "")?;
        let server = Self { folder, port };
        server.control("start")?;
        let address = server.port.address();
        eventually(STARTED, "postfix", async || TcpStream::connect(address).ok()).await?;
        Ok(server)
    }

    fn control(&self, what: &str) -> Result<()> {
        let configuration = self.folder.path().join("etc");
        run("/usr/sbin/postfix", &["-c", configuration.to_str().context("a path that is no UTF-8")?, what])?;
        Ok(())
    }

    /// The settings by which maily sends to it.
    pub fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("ORRERY_MAILY__TRANSPORT", "smtp".to_owned()),
            ("ORRERY_MAILY__SMTP__HOST", "localhost".to_owned()),
            ("ORRERY_MAILY__SMTP__PORT", self.port.address().port().to_string()),
            ("ORRERY_MAILY__SMTP__TLS", "starttls".to_owned()),
            ("ORRERY_MAILY__SMTP__CA_FILE", self.folder.path().join("etc/cert.pem").display().to_string()),
        ]
    }

    /// The messages that were delivered.
    pub fn delivered(&self) -> Vec<PathBuf> {
        let new = fs::read_dir(self.folder.path().join("mail/inbox/new"));
        new.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // What is left is seen by who looks at the machine; the test's own result counts.
        self.control("stop").ok();
    }
}

fn main_cf(at: &str) -> String {
    format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/spool\ndata_directory = {at}/data\ncommand_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nmyhostname = mx.people.example\nmydestination =\nlocal_recipient_maps =\nalias_maps =\n\
         virtual_mailbox_domains = people.example\nvirtual_mailbox_maps = static:inbox/\nvirtual_mailbox_base = {at}/mail\n\
         virtual_minimum_uid = 1\nvirtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\n\
         smtpd_relay_restrictions = reject_unauth_destination\nsmtpd_tls_cert_file = {at}/etc/cert.pem\n\
         smtpd_tls_key_file = {at}/etc/key.pem\nsmtpd_tls_security_level = encrypt\nmaillog_file = {at}/spool/log\n\
         maillog_file_prefixes = {at}\ndisable_dns_lookups = yes\nsmtpd_peername_lookup = no\n"
    )
}

fn master_cf(address: SocketAddr) -> String {
    let services = "pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
        tlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
        defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nverify unix - - n - 1 verify\nflush unix n - n 1000? 0 flush\n\
        proxymap unix - - n - - proxymap\nsmtp unix - - n - - smtp\nerror unix - - n - - error\nretry unix - - n - - error\n\
        discard unix - - n - - discard\nvirtual unix - n n - - virtual\nanvil unix - - n - 1 anvil\nscache unix - - n - 1 scache\n\
        postlog unix-dgram n - n - 1 postlogd\n";
    format!("{address} inet n - n - - smtpd\n{services}")
}

/// maildev: takes everything, and shows it over HTTP.
pub struct Maildev {
    child: Child,
    smtp: Port,
    web: Port,
}

impl Maildev {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let (smtp, web) = (Port::reserve()?, Port::reserve()?);
        let (smtp_port, web_port) = (smtp.address().port().to_string(), web.address().port().to_string());
        let child = Command::new("node")
            .arg(tools().join("node/node_modules/.bin/maildev"))
            .args([
                "--ip",
                "127.0.0.1",
                "--web-ip",
                "127.0.0.1",
                "--smtp",
                &smtp_port,
                "--web",
                &web_port,
                "--silent",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("tests/maily/install puts maildev where it is looked for")?;
        let mut server = Self { child, smtp, web };
        let (smtp, web) = (server.smtp.address(), server.web.address());
        let child = &mut server.child;
        eventually(STARTED, "maildev", async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(anyhow::anyhow!("maildev ended with {status}")));
            }
            (TcpStream::connect(smtp).is_ok() && TcpStream::connect(web).is_ok()).then_some(Ok(()))
        })
        .await??;
        Ok(server)
    }

    /// The settings by which maily sends to it.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("ORRERY_MAILY__TRANSPORT", "smtp".to_owned()),
            ("ORRERY_MAILY__SMTP__HOST", "127.0.0.1".to_owned()),
            ("ORRERY_MAILY__SMTP__PORT", self.smtp.address().port().to_string()),
            ("ORRERY_MAILY__SMTP__TLS", "none".to_owned()),
        ]
    }

    /// What it shows.
    pub async fn mails(&self) -> Result<Vec<serde_json::Value>> {
        let url = format!("http://{}/api/email", self.web.address());
        Ok(reqwest::get(url).await?.error_for_status()?.json().await?)
    }
}

impl Drop for Maildev {
    fn drop(&mut self) {
        // It keeps nothing.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
