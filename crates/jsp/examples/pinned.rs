//! Three ways to know a server: by its fingerprint, by having met it before, not at all.
//!
//! `cargo run -p jsp --example pinned`

use jsp::{ClientAuth, Endpoint, Identity, Trust};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ada = Identity::generate();
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate())
        .client_auth(ClientAuth::only([ada.fingerprint()]))
        .build()?;
    let addr = server.local_addr()?;
    let client = Endpoint::builder().client_identity(ada).build()?;

    let connection = client.connect(addr, Trust::Pinned(server.fingerprint())).await?;
    if let Some(security) = connection.security() {
        println!("pinned: {:?}, {:?}, {:?}", security.suite, security.kem, security.peer);
    }
    if let Some(accepted) = server.accept().await {
        println!("the server knows its client: {:?}", accepted.peer_identity());
    }

    let wrong = Identity::generate().fingerprint();
    if let Err(error) = client.connect(addr, Trust::Pinned(wrong)).await {
        println!("a wrong pin: {error}");
    }

    let known = std::env::temp_dir().join(format!("jsp-example-known-{}", std::process::id()));
    for visit in ["first", "second"] {
        client.connect(addr, Trust::FirstUse(known.clone())).await?;
        println!("{visit} use: {}", std::fs::read_to_string(&known)?.trim_end());
    }
    std::fs::remove_file(&known)?;
    Ok(())
}
