//! TLS by rustls: a certificate and its key from PEM files, which are looked at again while the server runs.
//!
//! A handshake is part of its connection's own task, so that one that dawdles keeps nobody waiting, and it has little
//! time. Whoever speaks HTTP to the port without TLS is told so, in HTTP. Not here: certificates of clients; who may ask
//! what is said by tokens.

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::problem::{Problem, TLS_REQUIRED};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// What is still read of a request that is refused, so that the refusal arrives.
const REFUSED_BYTES_MAX: u64 = 64 << 10;

/// A certificate chain with its key, and the files they come from.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// What the files held when they were opened.
    opened: Pem,
    current: watch::Sender<Arc<ServerConfig>>,
}

/// The bytes of both files.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem")
    }
}

impl Tls {
    /// Reads a certificate chain, the server's own certificate first, and its private key (PKCS #8, PKCS #1 or SEC 1),
    /// both PEM. The error names the file and what is wrong with it, and quotes nothing of it.
    pub fn open(certificate: &Path, key: &Path) -> Result<Tls, String> {
        let opened = read(certificate, key)?;
        let config = config(&opened, certificate, key)?;
        tracing::info!(certificate = %certificate.display(), "connections are encrypted");
        let current = watch::Sender::new(Arc::new(config));
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), opened, current })
    }

    /// Takes over what the files come to hold, for connections from then on. Files that are broken, gone or no pair
    /// change nothing but `broken`, which is then 1, and the log.
    pub(crate) async fn follow(&self, broken: &IntGauge) -> Infallible {
        let mut seen = Ok(self.opened.clone());
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            let (certificate, key) = (self.certificate.clone(), self.key.clone());
            let Ok(found) = tokio::task::spawn_blocking(move || read(&certificate, &key)).await else {
                return pending().await;
            };
            if found == seen {
                continue;
            }
            seen = found;
            let new = seen.as_ref().map_err(Clone::clone).and_then(|pem| config(pem, &self.certificate, &self.key));
            match new {
                Ok(config) => {
                    broken.set(0);
                    tracing::info!(certificate = %self.certificate.display(), "certificate reloaded");
                    self.current.send_replace(Arc::new(config));
                }
                Err(error) => {
                    broken.set(1);
                    tracing::error!(error, "the certificate was not reloaded; the old one is in use");
                }
            }
        }
    }

    /// Makes a connection an encrypted one; `None` if it does not become one, of which the log is told.
    pub(crate) async fn accept(&self, stream: TcpStream, within: Duration) -> Option<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.current.borrow());
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
                refuse(stream).await?;
                return Ok(None);
            }
            TlsAcceptor::from(config).accept(stream).await.map(Some)
        };
        match tokio::time::timeout(within, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let error: std::io::Error = error;
                tracing::debug!(%error, "a connection did not become an encrypted one");
                None
            }
            Err(_) => {
                tracing::debug!("a handshake took too long");
                None
            }
        }
    }
}

/// Tells whoever does not speak TLS that it is needed. No part of what was sent is looked at, and it is not answered.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let problem = Problem::new(TLS_REQUIRED, "this port speaks TLS: ask at https://");
    let body = problem.body();
    let head = format!(
        "HTTP/1.1 {} Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        problem.code.status,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed with bytes unread is reset, and the answer with it.
    tokio::io::copy(&mut (&mut stream).take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await.map(drop)
}

fn read(certificate: &Path, key: &Path) -> Result<Pem, String> {
    let of = |file: &Path| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
    Ok(Pem { certificate: of(certificate)?, key: of(key)? })
}

/// TLS 1.2 and 1.3, HTTP/1.1, the certificate and its key.
fn config(pem: &Pem, certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem.certificate)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{}: not PEM: {e}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: there is no `BEGIN CERTIFICATE` in it", certificate.display()));
    }
    let private = PrivateKeyDer::from_pem_slice(&pem.key)
        .map_err(|_| format!("{}: there is no private key in PEM in it, or it is encrypted", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| match e {
            Error::InconsistentKeys(_) => format!("{} is not the key of {}", key.display(), certificate.display()),
            other => format!("{} and {}: {other}", certificate.display(), key.display()),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
