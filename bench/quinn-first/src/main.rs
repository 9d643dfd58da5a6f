//! The first program of `jsp` (`crates/jsp/examples/first.rs`) with quinn: what the two weigh is compared.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// More than either side says.
const MOST_BYTES: usize = 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (identity.cert.der().clone(), identity.signing_key.serialize_der());
    let key = PrivatePkcs8KeyDer::from(key).into();
    let config = quinn::ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    let server = quinn::Endpoint::server(config, "127.0.0.1:0".parse()?)?;
    let addr = server.local_addr()?;
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let question = recv.read_to_end(MOST_BYTES).await.unwrap();
        let question = String::from_utf8(question).unwrap();
        send.write_all(format!("you said: {question}").as_bytes()).await.unwrap();
        send.finish().unwrap();
        server.wait_idle().await;
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    client.set_default_client_config(quinn::ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = client.connect(addr, "localhost")?.await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(b"hello").await?;
    send.finish()?;
    println!("{}", String::from_utf8(recv.read_to_end(MOST_BYTES).await?)?);
    Ok(())
}
