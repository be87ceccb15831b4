//! The content-addressed artifact store, with labels.
//!
//! ```text
//! store/
//!   lock                               held while something is moved into place
//!   public/ab/ab12….folder/            a released or public folder
//!   public/ab/ab12….file/samples.jsonl a file; the same bytes may lie there under more names
//!   private/clinic/cd/cd34….file/…     private to the site `clinic` (folder mode 0700)
//! ```
//!
//! An artifact is a file or a folder, found by the SHA-256 of its content.
//! It is moved into place by one rename, so it is there whole or not at all.
//! Every [`Store::open`] names the site that asks, and a private artifact opens
//! at its owners only. Older stores have `ab12…/` for both; what lies there is read
//! and never written. Deliberately absent: deletion of anything whole, and any index
//! beside the file system.

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

    /// Moves `made`, a file or a folder, into the store; leaves it if the store has it already.
    ///
    /// What is there but damaged is replaced; any number of processes may do this at once.
    ///
    /// # Errors
    /// [`EngineError::Io`]; then every artifact of the store is as it was before.
    pub fn put(&self, name: &str, label: &Label, made: &Path) -> Result<Artifact, EngineError> {
        let file = (!made.is_dir()).then(|| {
            let name = made.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        });
        let artifact = Artifact {
            name: name.to_owned(),
            digest: digest_of(made).map_err(EngineError::io("read", made))?,
            label: label.clone(),
            file,
        };
        if self.holds(&artifact)? {
            return Ok(artifact);
        }
        let place = self.place_of(&artifact);
        let folder = place.parent().expect("a place lies below the root");
        self.make_folder(folder, label)?;
        sync_all(made).map_err(EngineError::io("write to disk", made))?;

        let _lock = self.lock()?;
        if self.holds(&artifact)? {
            return Ok(artifact); // moved there by somebody else in the meantime
        }
        // A rename replaces a file by a file; anything else that is there makes way first.
        let damaged = made.with_file_name(format!("{}.damaged", artifact.digest));
        let in_the_way = place.is_dir() || (place.exists() && artifact.file.is_none());
        if in_the_way {
            fs::rename(&place, &damaged).map_err(EngineError::io("replace", &place))?;
        }
        fs::rename(made, &place).map_err(EngineError::io("move into the store", &place))?;
        for above in folder
            .ancestors()
            .take_while(|it| it.starts_with(&self.root))
        {
            sync_folder(above).map_err(EngineError::io("write to disk", above))?;
        }
        if in_the_way {
            let _ = fs::remove_dir_all(&damaged);
        }
        Ok(artifact)
    }

    /// Whether the store has `artifact`, whole.
    fn holds(&self, artifact: &Artifact) -> Result<bool, EngineError> {
        use io::ErrorKind::{NotADirectory, NotFound};
        let path = self.path_of(artifact);
        match digest_of(&path) {
            Ok(found) => Ok(found == artifact.digest),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
            // What cannot be read may be whole all the same.
            Err(error) => Err(EngineError::io("read", path)(error)),
        }
    }

    /// One process at a time, until the file is dropped.
    fn lock(&self) -> Result<fs::File, EngineError> {
        let path = self.root.join("lock");
        let mut options = fs::OpenOptions::new();
        let locked = options.create(true).append(true).open(&path);
        locked
            .and_then(|file| file.lock().map(|()| file))
            .map_err(EngineError::io("lock", path))
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
            return Err(EngineError::Corrupt { path });
        }
        Ok(path)
    }

    /// Where `artifact` lies, whoever asks: for showing paths, not for reading.
    pub fn path_of(&self, artifact: &Artifact) -> PathBuf {
        let place = self.place_of(artifact);
        let old = self.folder_of(artifact);
        let old = match &artifact.file {
            Some(file) => old.join(file),
            None => old,
        };
        if !place.exists() && old.exists() {
            return old;
        }
        place
    }

    /// Where `artifact` is put. A folder's name is also a digest of bytes that a file may hold,
    /// so the two are kept apart.
    fn place_of(&self, artifact: &Artifact) -> PathBuf {
        let folder = self.folder_of(artifact);
        match &artifact.file {
            Some(file) => folder.with_extension("file").join(file),
            None => folder.with_extension("folder"),
        }
    }

    /// Where older stores have it.
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
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_all(&entry?.path())?;
        }
    }
    fs::File::open(path)?.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store, and a function that makes a file of that name and content outside it.
    fn stage() -> (tempfile::TempDir, Store, impl Fn(&str, &str) -> PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("store"));
        let work = folder.path().join("work");
        let make = move |name: &str, text: &str| {
            let path = work.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        (folder, store, make)
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_same_bytes_stay_readable_under_every_name_they_were_stored_with() {
        let (_folder, store, make) = stage();
        let first = store.put("a.x", &Label::Public, &make("a.jsonl", "[]"));
        let first = first.unwrap();
        let told = store.path_of(&first);
        let second = store.put("b.y", &Label::Public, &make("b.json", "[]"));
        assert_eq!(read(told.clone()), "[]");
        assert_eq!(store.open(&first, "clinic").unwrap(), told);
        assert_eq!(read(store.open(&second.unwrap(), "clinic").unwrap()), "[]");
    }

    #[test]
    fn a_file_and_a_folder_of_one_digest_do_not_touch_each_other() {
        let (_folder, store, make) = stage();
        let inner = digest_of(&make("folder/x", "in a folder")).unwrap();
        let listing = make("listing.txt", &format!("{inner}  x\n"));
        let folder = listing.with_file_name("folder");
        assert_eq!(digest_of(&folder).unwrap(), digest_of(&listing).unwrap());
        let file = store.put("a.x", &Label::Public, &listing).unwrap();
        let folder = store.put("a.y", &Label::Public, &folder).unwrap();
        for artifact in [&file, &folder] {
            store.open(artifact, "clinic").unwrap();
        }
    }

    #[test]
    fn what_is_damaged_is_replaced_and_nothing_else() {
        let (_folder, store, make) = stage();
        let put = |path: &Path| store.put("a.x", &Label::Public, path).unwrap();
        let one = put(&make("one.txt", "text"));
        let other = put(&make("other.txt", "text"));
        fs::write(store.path_of(&one), "te").unwrap();
        put(&make("one.txt", "text"));
        fs::remove_file(store.path_of(&one)).unwrap();
        fs::create_dir(store.path_of(&one)).unwrap();
        put(&make("one.txt", "text"));
        for artifact in [&one, &other] {
            assert_eq!(read(store.open(artifact, "clinic").unwrap()), "text");
        }
        let model = || make("model/weights", "w").parent().unwrap().to_owned();
        let folder = put(&model());
        fs::remove_file(store.path_of(&folder).join("weights")).unwrap();
        store.open(&folder, "clinic").unwrap_err();
        put(&model());
        store.open(&folder, "clinic").unwrap();
    }

    #[test]
    fn an_older_store_stays_readable_and_as_it_was() {
        let (_folder, store, make) = stage();
        let digest = digest_of(&make("a.txt", "text")).unwrap();
        let artifact = |file: &str| Artifact {
            name: "a.x".to_owned(),
            digest: digest.clone(),
            label: Label::Public,
            file: Some(file.to_owned()),
        };
        let old = store.folder_of(&artifact("a.txt"));
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("a.txt"), "text").unwrap();
        for name in ["a.txt", "b.txt"] {
            store
                .put("a.x", &Label::Public, &make(name, "text"))
                .unwrap();
            assert_eq!(read(store.open(&artifact(name), "clinic").unwrap()), "text");
        }
        assert_eq!(store.path_of(&artifact("a.txt")), old.join("a.txt"));
        assert_eq!(files_below(&old).unwrap().len(), 1);
    }

    #[test]
    fn any_number_may_store_the_same_at_once() {
        let (_folder, store, make) = stage();
        for round in 0..20 {
            let made: Vec<PathBuf> = (0..4)
                .map(|at| make(&format!("{at}/model/weights"), &round.to_string()))
                .collect();
            let all_there = std::sync::Barrier::new(made.len());
            std::thread::scope(|scope| {
                for path in &made {
                    scope.spawn(|| {
                        all_there.wait();
                        let folder = path.parent().unwrap();
                        let artifact = store.put("a.x", &Label::Public, folder).unwrap();
                        store.open(&artifact, "clinic").unwrap();
                    });
                }
            });
        }
    }
}
