//! Certificates by ACME (RFC 8555): ordered, proven by HTTP-01, kept in a folder, renewed when a third of their time is left. What is answered to the
//! authority lives in `challenges`.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use orrery_supervise::{Actor, ActorError, Life, Shutdown, clock::Clock};
use tracing::{info, warn};

use crate::{
    challenges::Challenges,
    config::listener::{Acme, Certificate},
    listen::certificates::{CertificateError, Certificates, read_one},
};

/// How often the certificate is looked at.
const EVERY: Duration = Duration::from_secs(3600);
/// The pause after a failed order; each further one doubles it. Authorities count failures.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// How long an order may take without progress that the watchdog sees.
pub const LIMIT: Duration = Duration::from_secs(600);

/// A certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refuses, or is away.
    #[error("the certificate authority: {0}")]
    Authority(#[from] instant_acme::Error),
    /// It offers no proof that we can give.
    #[error("the certificate authority offers no HTTP-01 for '{0}'")]
    NoChallenge(String),
    /// It does not believe the proof.
    #[error(
        "the certificate authority did not believe the proof ({0:?}): port 80 of each name has to lead here"
    )]
    Refused(OrderStatus),
    /// The folder cannot be written.
    #[error("{0}: {1}")]
    Folder(PathBuf, std::io::Error),
    /// What is kept cannot be read.
    #[error("the account that is kept cannot be read: {0}")]
    Kept(#[from] serde_json::Error),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate's times cannot be read.
    #[error("the certificate's times cannot be read")]
    Times,
}

/// Keeps one listener's certificate.
#[derive(Clone)]
pub struct CertificateRenewal {
    /// Where it is put.
    pub certificates: Arc<Certificates>,
    /// The authority and the names.
    pub acme: Acme,
    /// What the authority asks for.
    pub challenges: Challenges,
    /// The time.
    pub clock: Clock,
}

impl Actor for CertificateRenewal {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let shutdown = life.shutdown();
        life.run(self.clone().keep(shutdown));
        Ok(())
    }
}

impl CertificateRenewal {
    /// Keeps it until shutdown; what fails is tried again.
    async fn keep(self, mut shutdown: Shutdown) -> Result<(), AcmeError> {
        let mut renew_at = self.load();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut wait = EVERY;
            if renew_at.is_none_or(|at| at <= self.clock.now()) {
                let ordered = tokio::select! {
                    ordered = self.order() => ordered,
                    () = shutdown.requested() => return Ok(()),
                };
                match ordered {
                    Ok(()) => {
                        info!("a certificate came by ACME");
                        renew_at = self.load();
                        pause = FIRST_PAUSE;
                    }
                    Err(error) => {
                        warn!(%error, "no certificate by ACME; it is tried again");
                        wait = pause;
                        pause = (pause * 2).min(EVERY);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.acme.folder.join(name)
    }

    fn kept(&self) -> Certificate {
        Certificate { chain: self.file("chain.pem"), key: self.file("key.pem") }
    }

    /// Uses what is kept; tells when to renew it, none where there is nothing.
    fn load(&self) -> Option<DateTime<Utc>> {
        let kept = self.kept();
        if !kept.chain.exists() {
            return None;
        }
        let used = read_one(&kept).map_err(AcmeError::from).and_then(|key| {
            let renew_at = key.cert.first().and_then(|leaf| renew_at(leaf)).ok_or(AcmeError::Times)?;
            self.certificates.put(key)?;
            Ok(renew_at)
        });
        used.inspect_err(|error| warn!(%error, "the certificate that is kept cannot be used")).ok()
    }

    async fn order(&self) -> Result<(), AcmeError> {
        let account = self.account().await?;
        let names: Vec<_> = self.acme.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut opened = Vec::new();
        let proven = async {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization?;
                if authorization.status == AuthorizationStatus::Valid {
                    continue;
                }
                let name = authorization.identifier().to_string();
                let mut challenge =
                    authorization.challenge(ChallengeType::Http01).ok_or(AcmeError::NoChallenge(name))?;
                let answer = challenge.key_authorization().as_str().to_owned();
                let token = challenge.token.clone();
                self.challenges.open(token.clone(), answer);
                opened.push(token);
                challenge.set_ready().await?;
            }
            match order.poll_ready(&RetryPolicy::default()).await? {
                OrderStatus::Ready | OrderStatus::Valid => Ok(()),
                status => Err(AcmeError::Refused(status)),
            }
        }
        .await;
        for token in &opened {
            self.challenges.close(token);
        }
        proven?;
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&RetryPolicy::default()).await?;
        // The key first: a chain without its key is not looked at as long as the old chain is there.
        self.write("key.pem", key.as_bytes())?;
        self.write("chain.pem", chain.as_bytes())
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let builder = || match &self.acme.ca_file {
            Some(file) => Account::builder_with_root(file),
            None => Account::builder(),
        };
        let file = self.file("account.json");
        if let Ok(kept) = fs::read(&file) {
            let credentials: AccountCredentials = serde_json::from_slice(&kept)?;
            return Ok(builder()?.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = self.acme.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder()?.create(&new, self.acme.directory.to_string(), None).await?;
        self.write("account.json", &serde_json::to_vec(&credentials)?)?;
        Ok(account)
    }

    /// Writes a file that nobody else may read, whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AcmeError> {
        let failed = |path: &Path, error| AcmeError::Folder(path.to_owned(), error);
        fs::create_dir_all(&self.acme.folder).map_err(|error| failed(&self.acme.folder, error))?;
        let (part, whole) = (self.file(&format!("{name}.part")), self.file(name));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, &whole));
        written.map_err(|error| failed(&whole, error))
    }
}

/// When two thirds of a certificate's time are over.
fn renew_at(leaf: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let (from, until) =
        (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    DateTime::from_timestamp(from + (until - from) / 3 * 2, 0)
}
