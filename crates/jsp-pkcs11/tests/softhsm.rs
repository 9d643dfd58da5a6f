//! With a real PKCS#11 module: SoftHSM 2, which keeps its tokens in a folder.
#![cfg(unix)]

mod token_folder;

use std::process::Command;
use std::time::Duration;

use jsp::{Delegation, Endpoint, Identity, Signer, delegate};
use jsp_crypto::identity::signed_message;
use jsp_pkcs11::{TokenError, TokenKey, TokenSigner};
use token_folder::{CONFIG, PIN, TOKEN, Tokens, module};

/// Set in the process that runs a test's body.
const INSIDE: &str = "JSP_PKCS11_INSIDE";

fn key(name: &str) -> TokenKey {
    TokenKey { module: module(), token: TOKEN.to_owned(), key: name.to_owned() }
}

fn open(name: &str, pin: &str) -> Result<TokenSigner, TokenError> {
    TokenSigner::open(&key(name), pin.to_owned())
}

fn generate(name: &str) -> Result<TokenSigner, TokenError> {
    TokenSigner::generate(&key(name), PIN.to_owned())
}

/// Runs `body` in a process of its own, whose environment names a fresh token.
fn with_token(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let tokens = Tokens::new(test);
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CONFIG, tokens.config())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_server_runs_on_a_key_that_a_token_delegated_to() {
    with_token("a_server_runs_on_a_key_that_a_token_delegated_to", || {
        let made = generate("server").unwrap();
        let pin = made.public().fingerprint();
        drop(made);
        // As on another day: the key is found again by its label.
        let signer = open("server", PIN).unwrap();
        assert_eq!(signer.public().fingerprint(), pin);
        let online = Identity::generate();
        let day = Duration::from_secs(24 * 3600);
        let delegation = delegate(&signer, online.public(), day).unwrap();
        drop(signer);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(serve_and_connect(online, delegation, pin));
    });
}

async fn serve_and_connect(online: Identity, delegation: Delegation, pin: jsp::Fingerprint) {
    let server = Endpoint::server("127.0.0.1:0", online.delegated(delegation).unwrap()).unwrap();
    let client = Endpoint::client().unwrap();
    let connection = client.connect(server.local_addr().unwrap(), pin).await.unwrap();
    let peer = connection.peer_identity().unwrap();
    assert!(peer.delegated && peer.fingerprint == pin);
}

#[test]
fn signatures_are_for_their_purpose_from_any_thread() {
    with_token("signatures_are_for_their_purpose_from_any_thread", || {
        let signer = generate("server").unwrap();
        std::thread::scope(|scope| {
            for number in 0..4u8 {
                let signer = &signer;
                scope.spawn(move || {
                    let message = signed_message("test", &[number; 100]);
                    let signature = signer.sign_message(&message).unwrap();
                    assert!(signer.public().verify("test", &[number; 100], &signature));
                    assert!(!signer.public().verify("other", &[number; 100], &signature));
                });
            }
        });
    });
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    with_token("what_is_wrong_with_a_token_is_said", || {
        let signer = generate("server").unwrap();
        assert!(matches!(generate("server"), Err(TokenError::Exists(_))));
        assert!(matches!(open("other", PIN), Err(TokenError::NoKey(_))));
        let elsewhere = TokenKey { token: "elsewhere".to_owned(), ..key("server") };
        let missing = TokenSigner::open(&elsewhere, PIN.to_owned());
        assert!(
            matches!(&missing, Err(TokenError::NoToken { found, .. }) if found.as_slice() == [TOKEN]),
            "{missing:?}"
        );
        let nothing = TokenKey { module: "/nowhere/module.so".into(), ..key("server") };
        let missing = TokenSigner::open(&nothing, PIN.to_owned());
        assert!(matches!(missing, Err(TokenError::Module { .. })), "{missing:?}");
        // A login lasts as long as a session does; then the PIN counts.
        drop(signer);
        assert!(matches!(open("server", "wrong"), Err(TokenError::Pin(_))));
        assert!(open("server", PIN).is_ok());
    });
}
