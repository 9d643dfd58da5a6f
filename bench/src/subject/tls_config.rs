//! TLS 1.3 with AES-128-GCM only, for the peers that use rustls.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};

use super::Profile;

/// The name in the server's certificate.
pub(crate) const SERVER_NAME: &str = "localhost";
/// The application protocol, which QUIC demands.
pub(crate) const ALPN: &[u8] = b"bench";

/// Classical profiles use X25519 with ring, or with aws-lc-rs where the profile says so; the post-quantum
/// one aws-lc-rs and X25519MLKEM768 alone: ring has no ML-KEM.
fn provider(profile: Profile) -> Arc<CryptoProvider> {
    let aws = |group| CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
    let mut provider = match profile {
        Profile::PostQuantum => aws(aws_lc_rs::kx_group::X25519MLKEM768),
        Profile::AwsLc => aws(aws_lc_rs::kx_group::X25519),
        _ => ring::default_provider(),
    };
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// A fresh self-signed P-256 certificate, its private key (PKCS#8), and the certificate in hex.
pub(crate) fn identity() -> Result<(Vec<u8>, Vec<u8>, String)> {
    let identity = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()])
        .context("make a certificate")?;
    let certificate = identity.cert.der().to_vec();
    let trust = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((certificate, identity.signing_key.serialize_der(), trust))
}

/// A server with an identity of its own, and its certificate in hex.
pub(crate) fn server(profile: Profile) -> Result<(ServerConfig, String)> {
    let (certificate, key, trust) = identity()?;
    let mut config = ServerConfig::builder_with_provider(provider(profile))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivatePkcs8KeyDer::from(key).into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((config, trust))
}

/// A client that trusts the one certificate `trust` and resumes nothing.
pub(crate) fn client(profile: Profile, trust: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(from_hex(trust)?)).context("trust the server's certificate")?;
    let mut config = ClientConfig::builder_with_provider(provider(profile))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The bytes that pairs of hex digits stand for.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        bail!("{text:?} is not hex");
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_read_what_the_server_hands_out() {
        for profile in [Profile::Default, Profile::AwsLc, Profile::PostQuantum] {
            let (config, trust) = server(profile).unwrap();
            assert_eq!(config.crypto_provider().cipher_suites.len(), 1);
            assert!(client(profile, &trust).is_ok());
        }
        assert!(client(Profile::Default, "zz").is_err());
    }
}
