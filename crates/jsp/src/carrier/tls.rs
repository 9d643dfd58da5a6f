//! TLS around streams: a dress, not a protection. The handshake inside proves who the server is.

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stream::BoxStream;
use crate::remote::Target;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate or the key cannot be read.
    #[error("this is no certificate chain and private key in PEM: {0}")]
    Pem(String),
    /// The certificate or the key is of no use.
    #[error("the certificate is of no use: {0}")]
    Certificate(String),
}

/// How a client wraps itself in TLS.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl TlsClient {
    /// Takes any certificate. Nothing is lost by that: what TLS carries is sealed, and the server
    /// proves its identity inside; and a proxy that opens TLS with a certificate of its own carries
    /// it too.
    // spec: CAR-16
    pub fn new() -> Self {
        let provider = provider();
        let verifier = Anybody(provider.signature_verification_algorithms);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| {
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_no_client_auth()
            });
        match config {
            Ok(config) => Self::with_config(Arc::new(config)),
            Err(error) => unreachable!("the provider knows all versions: {error}"),
        }
    }

    /// Uses this configuration: with roots of trust, a client certificate, application protocols, as
    /// the network wants it.
    pub fn with_config(config: Arc<ClientConfig>) -> Self {
        Self { config, server_name: None }
    }

    /// The name that TLS asks for. Default: the host that is connected to.
    pub fn server_name(mut self, name: impl ToString) -> Self {
        self.server_name = Some(name.to_string());
        self
    }

    pub(super) async fn connect(
        &self,
        stream: BoxStream,
        target: &Target,
    ) -> io::Result<BoxStream> {
        let host = self.server_name.clone().unwrap_or_else(|| target.host());
        let name = ServerName::try_from(host)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect_with(name, stream, limit_buffer).await?;
        Ok(Box::new(stream))
    }
}

impl Default for TlsClient {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that TLS may hold before the stream below has taken them.
const BUFFER: usize = 16 << 10;

fn limit_buffer(connection: &mut rustls::ClientConnection) {
    connection.set_buffer_limit(Some(BUFFER));
}

/// How a server wraps itself in TLS.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Shows this chain of certificates, with its private key, both as PEM.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let unreadable = |error: rustls::pki_types::pem::Error| TlsError::Pem(error.to_string());
        let chain =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(unreadable)?;
        Self::with_chain(chain, key)
    }

    /// Makes a certificate for these names, signed by itself. Clients of this library take it; to
    /// others, and to middleboxes that look, it is nobody's.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn self_signed<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, TlsError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::with_chain(vec![made.cert.der().clone()], key.into())
    }

    /// Uses this configuration.
    pub fn with_config(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }

    fn with_chain(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let useless = |error: rustls::Error| TlsError::Certificate(error.to_string());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(useless)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(useless)?;
        Ok(Self::with_config(Arc::new(config)))
    }

    pub(super) async fn accept(&self, stream: BoxStream) -> io::Result<BoxStream> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let limit = |connection: &mut rustls::ServerConnection| {
            connection.set_buffer_limit(Some(BUFFER));
        };
        Ok(Box::new(acceptor.accept_with(stream, limit).await?))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes every certificate whose owner signs for it.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}
