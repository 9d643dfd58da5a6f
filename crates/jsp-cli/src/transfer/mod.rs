//! Files from one machine to another: read, hashed, sent, checked, stored, confirmed.

mod claim;
pub(crate) mod folder;
pub(crate) mod path;
pub(crate) mod receive;
mod record;
pub(crate) mod resume;
pub(crate) mod send;
mod sink;
pub(crate) mod source;

/// What came of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Files and folders stored.
    pub(crate) stored: u64,
    /// Files and folders that could not be read, were refused or could not be stored.
    pub(crate) failed: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
}

#[cfg(test)]
#[path = "../../../../fuzz/bodies/tools.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod fuzz_body;
#[cfg(test)]
#[path = "../../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;

#[cfg(test)]
mod corpus {
    /// The corpus of the fuzz target, replayed.
    #[test]
    fn tools_records() {
        let sum = super::replay::replay("tools_records", super::fuzz_body::records);
        assert!(sum >= 8, "true records can be read");
    }
}

#[cfg(test)]
pub(crate) mod test_folder {
    use std::path::PathBuf;

    /// An empty folder that goes with its value.
    pub(crate) struct TestFolder(pub(crate) PathBuf);

    impl TestFolder {
        pub(crate) fn new(name: &str) -> Self {
            let name = format!("jsp-cli-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
