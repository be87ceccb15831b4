//! The site's signing key: one small file that only its owner may read.
//!
//! Deliberately absent: passwords, key rotation, hardware tokens. Who can read the file can sign.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::durable::{self, sync_folder_of};
use crate::error::{Error, Result};

const KEY_PREFIX: &str = "noisegate-site-key-1 ";

/// The public half of a site key, printed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a public key file, such as the `.pub` file that is made beside a site key.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::KeyMalformed`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(text).unwrap_or_default();
        text.parse().map_err(|_| Error::KeyMalformed {
            path: path.to_owned(),
        })
    }

    /// The public half of a site key, from the `.pub` file beside it; where a crash left none, or a
    /// part of one, it is written again from the site key.
    ///
    /// # Errors
    /// As [`PublicKey::read`] if there is no site key either, or what is there is no crash's work.
    pub fn beside(key: &Path) -> Result<Self> {
        let public = public_path(key);
        let read = Self::read(&public);
        if read.is_ok() {
            return read;
        }
        match load(key)? {
            Some(secret) => {
                publish(key, &Self::of(&secret))?;
                Self::read(&public)
            }
            None => read,
        }
    }

    pub(crate) fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }

    pub(crate) fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0.as_bytes()))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| "a public key is 64 hexadecimal digits".to_owned())?;
        let key = VerifyingKey::from_bytes(&bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or("these 64 hexadecimal digits are no ed25519 public key")?;
        Ok(Self(key))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// Whether a site key can sign its ledger, as opening that would find, without making either.
///
/// # Errors
/// [`Error::KeyExposed`], [`Error::KeyMalformed`], [`Error::File`]; [`Error::KeyMissing`] if there is
/// a ledger without it, [`Error::Gone`] if that is gone.
pub fn key_fits(key: &Path, ledger: &Path) -> Result<()> {
    match load(key)? {
        None if crate::noted::begun(ledger)? => Err(Error::KeyMissing {
            key: key.to_owned(),
            ledger: ledger.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Reads a key file; `None` if there is none.
pub(crate) fn load(path: &Path) -> Result<Option<SigningKey>> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(file_error)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::KeyExposed {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let mut secret = [0; 32];
    let parsed = text
        .trim_end()
        .strip_prefix(KEY_PREFIX)
        .is_some_and(|digits| hex::decode_to_slice(digits, &mut secret).is_ok());
    if !parsed {
        return Err(Error::KeyMalformed {
            path: path.to_owned(),
        });
    }
    Ok(Some(SigningKey::from_bytes(&secret)))
}

/// Creates a key file with mode 0600, durable before this returns.
///
/// If another process creates it at the same moment, exactly one of the two keys is kept and both
/// processes return that one: the finished file is linked into place, which fails if one is there.
pub(crate) fn create(path: &Path) -> Result<SigningKey> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|_| Error::NoEntropy { what: "site key" })?;
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut part_name = path.file_name().unwrap_or_default().to_owned();
    part_name.push(format!(
        ".{}.{}.part",
        std::process::id(),
        hex::encode(random::<8>()?)
    ));
    let part = path.with_file_name(part_name);
    let written = write_private(&part, &format!("{KEY_PREFIX}{}\n", hex::encode(secret)));
    #[cfg(test)]
    crate::kill_point::pass();
    let linked = written.and_then(|()| match fs::hard_link(&part, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&part);
    linked.and(removed).map_err(file_error)?;
    sync_folder_of(path).map_err(file_error)?;
    let key = load(path)?.ok_or_else(|| Error::KeyMalformed {
        path: path.to_owned(),
    })?;
    Ok(key)
}

/// Writes the public half beside a site key unless one is there: `site.pub` for `site.key`.
///
/// What a crash left of one, nothing or a part of it, is written again. Anything else is left alone:
/// then somebody put it there.
pub(crate) fn publish(path: &Path, key: &PublicKey) -> Result<()> {
    let (public, text) = (public_path(path), format!("{key}\n"));
    let left_by_a_crash = match fs::read(&public) {
        Ok(left) => {
            let whole = left.trim_ascii() == text.trim_ascii().as_bytes();
            !whole && (text.as_bytes().starts_with(&left) || left.iter().all(|byte| *byte == 0))
        }
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !left_by_a_crash {
        return Ok(());
    }
    durable::replace(&public, &text)
        .and_then(|()| sync_folder_of(&public))
        .map_err(|source| Error::File {
            path: public,
            source,
        })
}

/// Where the public half of a site key is written.
fn public_path(key: &Path) -> std::path::PathBuf {
    key.with_extension("pub")
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoEntropy { what: "ledger" })?;
    Ok(bytes)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_key_is_private_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        assert!(load(&path).unwrap().is_none());
        let key = create(&path).unwrap();
        assert_eq!(load(&path).unwrap().unwrap().to_bytes(), key.to_bytes());
        assert_eq!(create(&path).unwrap().to_bytes(), key.to_bytes());
        publish(&path, &PublicKey::of(&key)).unwrap();
        assert_eq!(
            PublicKey::read(&public_path(&path)).unwrap(),
            PublicKey::of(&key)
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(
                error.contains("mode 640") && error.contains("chmod 600"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_public_key_that_a_crash_emptied_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        let public = PublicKey::of(&create(&path).unwrap());
        let half = &public.to_string()[..32];
        for left in [None, Some(""), Some(half), Some("\0\0")] {
            let _ = fs::remove_file(public_path(&path));
            if let Some(left) = left {
                fs::write(public_path(&path), left).unwrap();
            }
            publish(&path, &public).unwrap();
            assert_eq!(PublicKey::read(&public_path(&path)).unwrap(), public);
            fs::write(public_path(&path), left.unwrap_or_default()).unwrap();
            assert_eq!(PublicKey::beside(&path).unwrap(), public);
            assert_eq!(PublicKey::read(&public_path(&path)).unwrap(), public);
        }
        // No crash writes these.
        let other = PublicKey::of(&SigningKey::from_bytes(&[7; 32]));
        for put in [other.to_string(), "00".repeat(32)] {
            fs::write(public_path(&path), &put).unwrap();
            publish(&path, &public).unwrap();
            assert_eq!(fs::read_to_string(public_path(&path)).unwrap(), put);
        }
        fs::remove_file(&path).unwrap();
        fs::write(public_path(&path), "").unwrap();
        assert!(PublicKey::beside(&path).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_refused_without_quoting_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, Error::KeyMalformed { .. }));
        assert!(!error.to_string().contains(&text[30..50]));
    }
}
