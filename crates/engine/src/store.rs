//! The content-addressed artifact store, with labels.
//!
//! ```text
//! store/
//!   public/ab/ab12…/            released or public artifacts
//!   private/clinic/cd/cd34…/    private to the site `clinic` (folder mode 0700)
//! ```
//!
//! An artifact is a file or a folder; its name is the SHA-256 of its content.
//! It is moved into place by one rename, so it is there whole or not at all.
//! Every [`Store::open`] names the site that asks, and a private artifact opens
//! at its owners only. Deliberately absent: deletion, and any index beside the
//! file system.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use noisegate_workflow::Label;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::EngineError;

/// A stored result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `step.port`.
    pub name: String,
    /// SHA-256 of the content, in hexadecimal.
    pub digest: String,
    /// Who may see it.
    pub label: Label,
    /// The file's name within the artifact, or nothing if the artifact is a folder.
    pub file: Option<String>,
}

/// Where artifacts lie.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store below `root`; folders are made when they are first needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Moves `made`, a file or a folder, into the store.
    ///
    /// # Errors
    /// [`EngineError::Io`]; then the store is as it was before.
    pub fn put(&self, name: &str, label: &Label, made: &Path) -> Result<Artifact, EngineError> {
        let is_folder = made.is_dir();
        let digest = digest_of(made).map_err(EngineError::io("read", made))?;
        let file = (!is_folder).then(|| {
            made.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        });
        let artifact = Artifact {
            name: name.to_owned(),
            digest,
            label: label.clone(),
            file,
        };
        let place = self.folder_of(&artifact);
        if place.exists() {
            let whole =
                digest_of(&self.path_of(&artifact)).is_ok_and(|found| found == artifact.digest);
            if whole {
                return Ok(artifact);
            }
            fs::remove_dir_all(&place).map_err(EngineError::io("replace", &place))?;
        }
        let parent = place
            .parent()
            .expect("an artifact lies two folders below the root");
        self.make_folder(parent, label)?;
        let whole = match &artifact.file {
            None => made.to_owned(),
            Some(file) => {
                let wrapped = made.with_extension("artifact");
                fs::create_dir(&wrapped).map_err(EngineError::io("create", &wrapped))?;
                fs::rename(made, wrapped.join(file)).map_err(EngineError::io("move", made))?;
                wrapped
            }
        };
        sync_all(&whole).map_err(EngineError::io("write to disk", &whole))?;
        fs::rename(&whole, &place).map_err(EngineError::io("move into the store", &place))?;
        sync_folder(parent).map_err(EngineError::io("write to disk", parent))?;
        Ok(artifact)
    }

    /// The path of `artifact`, for a reader at `site`.
    ///
    /// # Errors
    /// [`EngineError::Forbidden`] if the artifact is private to other sites,
    /// [`EngineError::Corrupt`] if its content changed since it was stored.
    pub fn open(&self, artifact: &Artifact, site: &str) -> Result<PathBuf, EngineError> {
        if let Some(owners) = foreign_owners(&artifact.label, site) {
            return Err(EngineError::Forbidden {
                artifact: artifact.name.clone(),
                owners,
                site: site.to_owned(),
            });
        }
        let path = self.path_of(artifact);
        let found = digest_of(&path).map_err(EngineError::io("read", &path))?;
        if found != artifact.digest {
            return Err(EngineError::Corrupt {
                path: self.folder_of(artifact),
            });
        }
        Ok(path)
    }

    /// Where `artifact` lies, whoever asks: for showing paths, not for reading.
    pub fn path_of(&self, artifact: &Artifact) -> PathBuf {
        let folder = self.folder_of(artifact);
        match &artifact.file {
            Some(file) => folder.join(file),
            None => folder,
        }
    }

    fn folder_of(&self, artifact: &Artifact) -> PathBuf {
        let digest = &artifact.digest;
        self.folder_for(&artifact.label)
            .join(&digest[..2])
            .join(digest)
    }

    fn folder_for(&self, label: &Label) -> PathBuf {
        match label {
            Label::Public => self.root.join("public"),
            Label::PrivateTo(sites) => self.root.join("private").join(join(sites)),
        }
    }

    fn make_folder(&self, folder: &Path, label: &Label) -> Result<(), EngineError> {
        fs::create_dir_all(folder).map_err(EngineError::io("create", folder))?;
        #[cfg(unix)]
        if let Label::PrivateTo(_) = label {
            use std::os::unix::fs::PermissionsExt;
            let guarded = self.folder_for(label);
            fs::set_permissions(&guarded, fs::Permissions::from_mode(0o700))
                .map_err(EngineError::io("restrict", &guarded))?;
        }
        Ok(())
    }
}

/// The owners, as text, if a reader at `site` may not see what they own.
fn foreign_owners(label: &Label, site: &str) -> Option<String> {
    match label {
        Label::Public => None,
        Label::PrivateTo(sites) => {
            let alone = sites.len() == 1 && sites.iter().all(|owner| owner.as_str() == site);
            (!alone).then(|| join(sites))
        }
    }
}

fn join<T: ToString>(sites: &BTreeSet<T>) -> String {
    sites
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("+")
}

/// SHA-256 of a file's bytes, or of a folder's sorted (path, digest) lines.
///
/// # Errors
/// Whatever the file system says.
pub fn digest_of(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    if path.is_dir() {
        for (relative, file) in files_below(path)? {
            let line = format!("{}  {relative}\n", digest_of(&file)?);
            hasher.update(line.as_bytes());
        }
    } else {
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Every file below `folder` as (relative path with `/`, path), sorted.
///
/// # Errors
/// Whatever the file system says.
pub fn files_below(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let relative = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                waiting.push((format!("{relative}/"), entry.path()));
            } else {
                found.push((relative, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn sync_all(path: &Path) -> io::Result<()> {
    for (_, file) in files_below(path)? {
        fs::File::open(&file)?.sync_all()?;
    }
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
