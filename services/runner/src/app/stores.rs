//! What a step gets so that its artifacts can come from stores of the network and go there.
//!
//! Credentials are in no assignment: a file per namespace, which only its owner can read, says how to sign in. It is written
//! again at each start, so that a step that ends under a new configuration uses the new credentials.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use api_step::v1::{Step, Transfer};
use objects::{Access, Environment};

use crate::config::Config;

/// Below the data directory.
const DIR: &str = "stores";

/// The stores of the network as steps see them.
#[derive(Debug)]
pub(crate) struct Stores {
    access: Access,
    dir: PathBuf,
    command: Vec<String>,
    /// Namespaces whose file is up to date.
    written: Mutex<HashSet<String>>,
}

impl Stores {
    /// Prepares what the configuration says; files of namespaces that are there are brought up to date.
    pub(crate) fn new(config: &Config, environment: &[(String, String)]) -> io::Result<Self> {
        let variables = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let stores = Self {
            access: Access::new(&config.stores, &Environment::of(variables)),
            dir: config.data_dir.join(DIR),
            command: command(config)?,
            written: Mutex::default(),
        };
        let entries = match fs::read_dir(&stores.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(stores),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            if let Some(namespace) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                stores.file(namespace)?;
            }
        }
        Ok(stores)
    }

    /// The secrets of a namespace that a step needs to reach its artifacts.
    pub(crate) fn secrets(&self, namespace: &str, step: &Step) -> BTreeSet<String> {
        if !self.access.has_secrets() {
            return BTreeSet::new();
        }
        let outputs = step.output_artifacts.iter();
        let texts = outputs
            .map(|artifact| artifact.uri.as_str())
            .chain([step.inputs_json.as_str()]);
        let found = texts.flat_map(|text| self.access.secrets_for(namespace, text));
        found.map(str::to_owned).collect()
    }

    /// Whether any store is signed in to with a secret.
    pub(crate) fn has_secrets(&self) -> bool {
        self.access.has_secrets()
    }

    /// How a step moves artifacts; none for a step that has none in stores of the network.
    pub(crate) fn transfer(&self, namespace: &str, step: &Step) -> io::Result<Option<Transfer>> {
        let remote = |uri: &str| step::places::is_remote(uri);
        let outputs = step
            .output_artifacts
            .iter()
            .any(|artifact| remote(&artifact.uri));
        // A text that looks like a URI costs an entry that nobody uses.
        if !outputs && !step.inputs_json.contains("://") {
            return Ok(None);
        }
        Ok(Some(Transfer {
            command: self.command.clone(),
            access_file: self.file(namespace)?.display().to_string(),
            namespace: namespace.to_owned(),
        }))
    }

    /// The file of a namespace, written when that has not been done yet.
    fn file(&self, namespace: &str) -> io::Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if namespace.is_empty() || namespace.starts_with('.') || !namespace.bytes().all(plain) {
            return Err(io::Error::other(format!(
                "{namespace:?} is no name of a namespace"
            )));
        }
        let path = self.dir.join(format!("{namespace}.json"));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.contains(namespace) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)?;
            let content =
                serde_json::to_vec(&self.access.of(namespace)).map_err(io::Error::other)?;
            write(&path, &content)?;
            written.insert(namespace.to_owned());
        }
        Ok(path)
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

/// The program for transfers. This one gets a second name in the data directory, under which it stays what it is when it
/// is replaced by an upgrade while steps run.
fn command(config: &Config) -> io::Result<Vec<String>> {
    if !config.transfer.is_empty() {
        return Ok(config.transfer.clone());
    }
    let this = std::env::current_exe()?;
    let meta = fs::metadata(&this)?;
    let bin = config.data_dir.join("bin");
    let name = format!("flumina-transfer-{:x}-{:x}", meta.ino(), meta.mtime());
    let link = bin.join(name);
    let linked = fs::create_dir_all(&bin).and_then(|()| fs::hard_link(&this, &link));
    let program = match linked {
        Ok(()) => link,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => link,
        // Another file system, or one without links.
        Err(_) => this,
    };
    Ok(vec![program.display().to_string(), "transfer".to_owned()])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use api_step::v1::OutputArtifact;
    use objects::StoreConfig;

    use super::*;

    fn config(dir: &Path) -> Config {
        Config {
            data_dir: dir.to_owned(),
            stores: vec![
                StoreConfig {
                    uri: "s3://ours".to_owned(),
                    namespaces: vec!["team".to_owned()],
                    ..StoreConfig::default()
                },
                StoreConfig {
                    uri: "s3://all".to_owned(),
                    ..StoreConfig::default()
                },
            ],
            ..Config::default()
        }
    }

    fn step(uri: &str) -> Step {
        Step {
            output_artifacts: vec![OutputArtifact {
                uri: uri.to_owned(),
                ..OutputArtifact::default()
            }],
            ..Step::default()
        }
    }

    #[test]
    fn steps_of_a_namespace_see_its_stores_in_a_private_file() {
        let dir = testkit::temp_dir();
        let environment = [("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())];
        let stores = Stores::new(&config(dir.path()), &environment).unwrap();
        assert_eq!(stores.transfer("team", &step("/local/x")).unwrap(), None);
        let read = |namespace: &str| {
            let transfer = stores
                .transfer(namespace, &step("s3://all/x"))
                .unwrap()
                .unwrap();
            assert_eq!(
                transfer.command.last().map(String::as_str),
                Some("transfer")
            );
            let mode = fs::metadata(&transfer.access_file)
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            fs::read_to_string(transfer.access_file).unwrap()
        };
        let (team, other) = (read("team"), read("other"));
        assert!(team.contains("s3://ours") && team.contains("hush"));
        assert!(!other.contains("s3://ours") && other.contains("s3://all"));
        assert!(stores.transfer("../x", &step("s3://all/x")).is_err());
        let shown = format!("{stores:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_restart_brings_the_files_up_to_date() {
        let dir = testkit::temp_dir();
        let before = Stores::new(&config(dir.path()), &[]).unwrap();
        let transfer = before
            .transfer("team", &step("s3://all/x"))
            .unwrap()
            .unwrap();
        let mut changed = config(dir.path());
        changed.stores.truncate(1);
        Stores::new(&changed, &[]).unwrap();
        let now = fs::read_to_string(transfer.access_file).unwrap();
        assert!(now.contains("s3://ours") && !now.contains("s3://all"));
    }
}
