//! The key of the secrets, and what it seals.
//!
//! Values are sealed with XChaCha20-Poly1305 under a random nonce; what they belong to is authenticated with them, so that
//! no row can take the place of another. The key lies outside the data directory: a copy of the data, such as a backup,
//! holds nothing that can be read without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Why the key or what it sealed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Nobody said where the key is.
    #[error("there is no place for the key of the secrets: set `secrets_key`, or HOME")]
    NoPlace,
    /// The key must not lie with what it protects.
    #[error("the key of the secrets, {}, must not lie in the data directory: set `secrets_key`", .0.display())]
    Inside(PathBuf),
    /// The file is gone.
    #[error("the key of the secrets, {}, is missing: put it back, or store the secret again", .0.display())]
    Missing(PathBuf),
    /// Others may read the file.
    #[error("others may read the key of the secrets: chmod 600 {}", .0.display())]
    Exposed(PathBuf),
    /// The file is no key.
    #[error("{} does not hold a key of the secrets", .0.display())]
    Malformed(PathBuf),
    /// It was sealed with another key, or changed.
    #[error("it was not encrypted with the key in {}: put the right key there, or store it again", .0.display())]
    OtherKey(PathBuf),
    /// The file cannot be used.
    #[error("cannot use the key of the secrets, {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Something sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Which key it needs.
    pub(crate) key_id: String,
    /// The nonce, then the text with its tag.
    pub(crate) body: Vec<u8>,
}

/// The place of the key. The file is read each time: it may be put there, or taken away, while the runner runs.
#[derive(Debug)]
pub(crate) struct Vault {
    path: Option<PathBuf>,
    data_dir: PathBuf,
}

impl Vault {
    /// The key at `path`, or at the place that the environment gives.
    pub(crate) fn new(path: Option<&Path>, env: &[(String, String)], data_dir: &Path) -> Self {
        Self {
            path: path.map(Path::to_owned).or_else(|| default_place(env)),
            data_dir: data_dir.to_owned(),
        }
    }

    /// Seals a text; the first one makes the key.
    pub(crate) fn seal(&self, belongs_to: &str, text: &[u8]) -> Result<Sealed, VaultError> {
        let path = self.place()?;
        let key = match read(path) {
            Err(VaultError::Missing(_)) => make(path)?,
            other => other?,
        };
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce).map_err(io_error(path))?;
        let payload = Payload {
            msg: text,
            aad: belongs_to.as_bytes(),
        };
        let sealed = cipher(&key).encrypt(&XNonce::from(nonce), payload);
        // It fails for texts of many gigabytes alone.
        let sealed = sealed.map_err(|_| VaultError::Malformed(path.to_owned()))?;
        let mut body = nonce.to_vec();
        body.extend(sealed);
        Ok(Sealed {
            key_id: key_id(&key),
            body,
        })
    }

    /// Opens what was sealed for the same purpose.
    pub(crate) fn open(&self, belongs_to: &str, sealed: &Sealed) -> Result<Vec<u8>, VaultError> {
        let path = self.place()?;
        let key = read(path)?;
        let other = || VaultError::OtherKey(path.to_owned());
        if key_id(&key) != sealed.key_id {
            return Err(other());
        }
        let (nonce, text) = sealed
            .body
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(other)?;
        let payload = Payload {
            msg: text,
            aad: belongs_to.as_bytes(),
        };
        let opened = cipher(&key).decrypt(&XNonce::from(*nonce), payload);
        opened.map_err(|_| other())
    }

    fn place(&self) -> Result<&Path, VaultError> {
        let path = self.path.as_deref().ok_or(VaultError::NoPlace)?;
        // Links are followed as far as the path exists.
        let real = path
            .ancestors()
            .find_map(|ancestor| fs::canonicalize(ancestor).ok());
        let inside = real.is_some_and(|real| real.starts_with(&self.data_dir));
        if inside || path.starts_with(&self.data_dir) {
            return Err(VaultError::Inside(path.to_owned()));
        }
        Ok(path)
    }
}

fn default_place(env: &[(String, String)]) -> Option<PathBuf> {
    let get = |name: &str| {
        let found = env.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| PathBuf::from(value))
            .filter(|path| path.is_absolute())
    };
    let config = get("XDG_CONFIG_HOME").or_else(|| Some(get("HOME")?.join(".config")))?;
    Some(config.join("flumina/secrets.key"))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> VaultError + use<> {
    let path = path.to_owned();
    move |source| VaultError::Io { path, source }
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

/// What tells keys apart without telling them.
fn key_id(key: &[u8; KEY_BYTES]) -> String {
    let digest = Sha256::new()
        .chain_update(b"flumina secrets key id")
        .chain_update(key)
        .finalize();
    hex(&digest[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<[u8; KEY_BYTES], VaultError> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VaultError::Missing(path.to_owned()));
        }
        Err(error) => return Err(io_error(path)(error)),
    };
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(VaultError::Exposed(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    parse(text.trim()).ok_or_else(|| VaultError::Malformed(path.to_owned()))
}

fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if text.len() != KEY_BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Makes a key that is whole when it appears and lasts over a power cut; when somebody else was faster, theirs counts.
fn make(path: &Path) -> Result<[u8; KEY_BYTES], VaultError> {
    let mut key = [0; KEY_BYTES];
    random(&mut key).map_err(io_error(path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(io_error(dir))?;
    let mut tail = [0; 8];
    random(&mut tail).map_err(io_error(path))?;
    let temporary = dir.join(format!(".secrets.key.{}", hex(&tail)));
    let write = || {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(format!("{}\n", hex(&key)).as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(dir)?.sync_all(),
        }
    };
    let written = write();
    if let Err(error) = fs::remove_file(&temporary) {
        tracing::debug!(%error, "there is no temporary key to remove");
    }
    written.map_err(io_error(path))?;
    read(path)
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        Vault::new(Some(&dir.join("config/key")), &[], &dir.join("data"))
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_alone() {
        let temp = testkit::temp_dir();
        let vault = vault(temp.path());
        let sealed = vault.seal("secret/a", b"value").unwrap();
        assert!(!sealed.body.windows(5).any(|part| part == b"value"));
        assert_eq!(vault.open("secret/a", &sealed).unwrap(), b"value");
        assert!(matches!(
            vault.open("secret/b", &sealed),
            Err(VaultError::OtherKey(_))
        ));
        let mut changed = sealed.clone();
        *changed.body.last_mut().unwrap() ^= 1;
        assert!(vault.open("secret/a", &changed).is_err());
        assert_ne!(vault.seal("secret/a", b"value").unwrap().body, sealed.body);
    }

    #[test]
    fn the_key_is_for_its_user_alone() {
        let temp = testkit::temp_dir();
        let (vault, key) = (vault(temp.path()), temp.path().join("config/key"));
        let sealed = vault.seal("x", b"value").unwrap();
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            vault.open("x", &sealed),
            Err(VaultError::Exposed(_))
        ));
        fs::remove_file(&key).unwrap();
        assert!(matches!(
            vault.open("x", &sealed),
            Err(VaultError::Missing(_))
        ));
        // Another key is made, and says that it is another.
        vault.seal("x", b"other").unwrap();
        let error = vault.open("x", &sealed).unwrap_err();
        assert!(matches!(error, VaultError::OtherKey(_)), "{error}");
    }

    #[test]
    fn the_key_does_not_lie_with_the_data() {
        let temp = testkit::temp_dir();
        let data = temp.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, temp.path().join("link")).unwrap();
        for place in ["data/key", "data/a/b/key", "link/key"] {
            let vault = Vault::new(Some(&temp.path().join(place)), &[], &data);
            let error = vault.seal("x", b"v").unwrap_err();
            assert!(matches!(error, VaultError::Inside(_)), "{place}: {error}");
        }
        let nowhere = Vault::new(None, &[], &data);
        assert!(matches!(nowhere.seal("x", b"v"), Err(VaultError::NoPlace)));
    }

    #[test]
    fn the_environment_says_where_the_key_is() {
        let var = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let home = var("HOME", "/home/u");
        assert_eq!(
            default_place(&[home.clone(), var("XDG_CONFIG_HOME", "/c")]).unwrap(),
            Path::new("/c/flumina/secrets.key")
        );
        assert_eq!(
            default_place(&[home, var("XDG_CONFIG_HOME", "relative")]).unwrap(),
            Path::new("/home/u/.config/flumina/secrets.key")
        );
        assert_eq!(default_place(&[]), None);
    }
}
