//! A SoftHSM token in a folder of its own.
#![allow(unreachable_pub)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where distributions keep the module.
const MODULES: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];
const INSTALL: &str =
    "SoftHSM 2 is missing: apt-get install softhsm2 (Debian), or brew install softhsm";
/// The module reads its configuration where this variable points, once in a process.
pub const CONFIG: &str = "SOFTHSM2_CONF";
pub const PIN: &str = "not-so-secret";
/// The token's label.
pub const TOKEN: &str = "identities";

/// The module, or how to get it.
pub fn module() -> PathBuf {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists()).expect(INSTALL)
}

/// A folder with one initialized token.
pub struct Tokens(PathBuf);

impl Tokens {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("jsp-pkcs11-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tokens")).unwrap();
        let config =
            format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", folder.display());
        fs::write(folder.join("conf"), config).unwrap();
        let tokens = Self(folder);
        let status = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", TOKEN, "--so-pin", "12345678"])
            .args(["--pin", PIN])
            .env(CONFIG, tokens.config())
            .status()
            .expect(INSTALL);
        assert!(status.success());
        tokens
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("conf")
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
