//! Identities in a PKCS#11 token, with the built program and SoftHSM.
#![cfg(all(unix, feature = "pkcs11"))]
#![allow(missing_docs, unreachable_pub)]

mod support;
#[path = "../../jsp-pkcs11/tests/token_folder/mod.rs"]
mod token_folder;

use support::{Finished, Place, Server};
use token_folder::{CONFIG, PIN, TOKEN, Tokens, module};

#[test]
fn a_token_delegates_to_a_server() {
    let place = Place::new("token");
    let tokens = Tokens::new("cli");
    place.write("pin", format!("{PIN}\n").as_bytes());
    let module = module();
    let mut place_of_key = vec!["--pkcs11", module.to_str().unwrap(), "--token", TOKEN];
    place_of_key.extend(["--label", "server", "--pin-file", "pin"]);
    let run = |args: &[&str]| {
        let mut command = place.jsp();
        command.args(["key", "--json"]).args(args).env(CONFIG, tokens.config());
        Finished::of(command.output().unwrap())
    };
    let told = |finished: Finished, key: &str| {
        let finished = finished.left_with(0);
        let row: serde_json::Value = serde_json::from_str(finished.out.trim()).unwrap();
        row[key].as_str().unwrap().to_owned()
    };
    let pin = told(run(&[&["new"], place_of_key.as_slice()].concat()), "fingerprint");
    run(&[&["new"], place_of_key.as_slice()].concat()).left_with(8);
    told(run(&["new", "--out", "online.key"]), "fingerprint");
    let online = told(run(&["public", "--key", "online.key"]), "public");
    let delegate = ["delegate", &online, "--out", "online.delegation"];
    let issued = run(&[delegate.as_slice(), place_of_key.as_slice()].concat());
    assert_eq!(told(issued, "fingerprint"), pin);

    let more = ["--key", "online.key", "--delegation", "online.delegation"];
    let server = Server::start(&place, &place.path("inbox"), &more);
    assert!(server.uri.starts_with(&format!("jsp://{pin}@")), "{}", server.uri);
    place.run(["ping", "-c", "1", &server.uri]).left_with(0);
}
