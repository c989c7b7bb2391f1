//! A server, and what a step's directory looks like.

use std::path::{Path, PathBuf};

use api_step::v1::{TransferItem, TransferReport, TransferRequest};
use objects::{Access, StoreConfig};
use testkit_s3::{ACCESS_KEY, SECRET_KEY, Server};

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) bucket: PathBuf,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        std::fs::create_dir(&root).unwrap();
        let server = Server::start(&root).await;
        let bucket = server.bucket("data");
        std::fs::write(dir.path().join("secret"), format!("{SECRET_KEY}\n")).unwrap();
        Self {
            dir,
            server,
            bucket,
        }
    }

    pub(crate) fn config(&self, uri: &str) -> StoreConfig {
        StoreConfig {
            uri: uri.to_owned(),
            endpoint: Some(self.server.endpoint()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key_file: Some(self.dir.path().join("secret")),
            ..StoreConfig::default()
        }
    }

    pub(crate) fn access(&self) -> Access {
        Access::new(
            &[self.config("s3://data"), self.config("minio://")],
            &objects::Environment::default(),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, with the directories above it.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn request(&self, upload: bool, items: &[(&str, &Path)]) -> TransferRequest {
        let item = |(uri, path): &(&str, &Path)| TransferItem {
            name: "model".to_owned(),
            uri: (*uri).to_owned(),
            path: path.display().to_string(),
            sha256: String::new(),
        };
        TransferRequest {
            access_file: String::new(),
            namespace: "default".to_owned(),
            upload,
            items: items.iter().map(item).collect(),
            secrets: false,
        }
    }

    pub(crate) async fn upload(&self, uri: &str, path: &Path) -> TransferReport {
        self.run(&self.request(true, &[(uri, path)])).await
    }

    pub(crate) async fn download(&self, uri: &str, path: &Path) -> TransferReport {
        self.run(&self.request(false, &[(uri, path)])).await
    }

    pub(crate) async fn run(&self, request: &TransferRequest) -> TransferReport {
        let stop = tokio::sync::watch::Sender::new(false);
        objects::transfer::move_all(request, self.access(), stop).await
    }

    /// What a bucket's directory holds apart from what the server keeps for itself.
    pub(crate) fn stored(&self) -> Vec<String> {
        fn walk(dir: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, base, found);
                } else {
                    found.push(path.strip_prefix(base).unwrap().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.bucket, &self.bucket, &mut found);
        found.sort();
        found
    }
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
