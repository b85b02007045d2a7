//! The certificates of a listener: from files that are read again when they change, or put here by ACME; chosen by SNI.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use orrery_supervise::{Actor, ActorError, Handle, Life, Tick};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::{info, warn};
use webpki::EndEntityCert;

use crate::config::listener::{Certificate, Tls};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is no PEM of that kind, or not there.
    #[error("{file}: {cause}; it must be a PEM file that the gateway may read")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        cause: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("{0}: holds no certificate")]
    Empty(String),
    /// The key is of no kind that we sign with, or not that of the certificate.
    #[error("{file}: {cause}")]
    Unusable {
        /// The file.
        file: String,
        /// Why.
        cause: rustls::Error,
    },
    /// The certificate names nobody.
    #[error("{file}: {cause}")]
    Nameless {
        /// The file.
        file: String,
        /// Why.
        cause: webpki::Error,
    },
    /// The library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What a name is answered with.
#[derive(Default)]
struct Chosen {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
    /// When each file was written that this was read from.
    written: Vec<(PathBuf, Option<SystemTime>)>,
}

/// The certificates of one listener.
pub struct Certificates {
    files: Vec<Certificate>,
    from_files: ArcSwap<Chosen>,
    from_acme: ArcSwap<Chosen>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn new(tls: &Tls) -> Result<Arc<Self>, CertificateError> {
        let from_files = ArcSwap::from_pointee(read(&tls.certificates)?);
        Ok(Arc::new(Self { files: tls.certificates.clone(), from_files, from_acme: ArcSwap::default() }))
    }

    /// Reads the files again when one has changed. Those in use stay until all new ones can be used.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn refresh(&self) -> Result<bool, CertificateError> {
        let before = self.from_files.load();
        if before.written.iter().all(|(file, when)| written(file) == *when) {
            return Ok(false);
        }
        self.from_files.store(Arc::new(read(&self.files)?));
        Ok(true)
    }

    /// When the first of them ends, in seconds since 1970.
    pub fn end(&self) -> Option<i64> {
        let (files, acme) = (self.from_files.load(), self.from_acme.load());
        files.ends().chain(acme.ends()).min()
    }

    /// Takes a certificate that ACME brought.
    pub fn put(&self, key: CertifiedKey) -> Result<(), CertificateError> {
        let mut chosen = Chosen::default();
        chosen.add(key, "the certificate by ACME")?;
        self.from_acme.store(Arc::new(chosen));
        Ok(())
    }

    /// The settings of a listener with these: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
    ///
    /// # Errors
    /// When the library refuses them.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, CertificateError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (files, acme) = (self.from_files.load(), self.from_acme.load());
        let named = hello.server_name().map(str::to_ascii_lowercase);
        let by_name = named.and_then(|name| files.find(&name).or_else(|| acme.find(&name)));
        by_name.or_else(|| files.first.clone()).or_else(|| acme.first.clone())
    }
}

impl Chosen {
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let wildcard = || name.split_once('.').and_then(|(_, rest)| self.by_name.get(&format!("*.{rest}")));
        self.by_name.get(name).or_else(wildcard).cloned()
    }

    fn ends(&self) -> impl Iterator<Item = i64> {
        self.by_name.values().chain(&self.first).filter_map(|key| {
            let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
            Some(leaf.validity().not_after.timestamp())
        })
    }

    fn add(&mut self, key: CertifiedKey, file: &str) -> Result<(), CertificateError> {
        let key = Arc::new(key);
        let leaf = key.cert.first().ok_or_else(|| CertificateError::Empty(file.to_owned()))?;
        let nameless = |cause| CertificateError::Nameless { file: file.to_owned(), cause };
        let certificate = EndEntityCert::try_from(leaf).map_err(nameless)?;
        for name in certificate.valid_dns_names() {
            self.by_name.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(&key));
        }
        self.first.get_or_insert(key);
        Ok(())
    }
}

/// A chain and its key, proven to belong together.
///
/// # Errors
/// When they do not, or the key is of an unknown kind.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    file: &str,
) -> Result<CertifiedKey, CertificateError> {
    let unusable = |cause| CertificateError::Unusable { file: file.to_owned(), cause };
    let signing = aws_lc_rs::sign::any_supported_type(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(unusable)?;
    Ok(certified)
}

/// One certificate from its files.
///
/// # Errors
/// When it cannot be used.
pub fn read_one(certificate: &Certificate) -> Result<CertifiedKey, CertificateError> {
    let name = |file: &Path| file.display().to_string();
    let unreadable = |file: &Path, cause| CertificateError::Unreadable { file: name(file), cause };
    let chain = CertificateDer::pem_file_iter(&certificate.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unreadable(&certificate.chain, cause))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(name(&certificate.chain)));
    }
    let key = PrivateKeyDer::from_pem_file(&certificate.key)
        .map_err(|cause| unreadable(&certificate.key, cause))?;
    certified(chain, &key, &name(&certificate.key))
}

/// Reads the files again whenever one changes. Those in use stay until all new ones can be used.
#[derive(Clone)]
pub struct Files {
    certificates: Arc<Certificates>,
    /// The fault that was told last.
    told: String,
}

impl Files {
    /// The files of a listener.
    pub fn new(certificates: Arc<Certificates>) -> Self {
        Self { certificates, told: String::new() }
    }
}

impl Actor for Files {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.every(LOOK_EVERY, LOOK_EVERY);
        Ok(())
    }
}

impl Handle<Tick> for Files {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        match self.certificates.refresh() {
            Ok(true) => info!("certificates were read again"),
            Ok(false) => self.told.clear(),
            Err(error) => {
                let fault = error.to_string();
                if fault != self.told {
                    warn!(fault, "new certificates cannot be used; those before stay");
                    self.told = fault;
                }
            }
        }
        std::future::ready(Ok(()))
    }
}

fn read(files: &[Certificate]) -> Result<Chosen, CertificateError> {
    let mut chosen = Chosen::default();
    for certificate in files {
        // The time first: what is written while it is read is read again.
        for file in [&certificate.chain, &certificate.key] {
            chosen.written.push((file.clone(), written(file)));
        }
        chosen.add(read_one(certificate)?, &certificate.chain.display().to_string())?;
    }
    Ok(chosen)
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
