//! A run that was killed goes on where it stood, and ends with the same weights bit for bit.
//!
//! One safetensors file holds values, moments and the best weights so far; its metadata holds the
//! place in the run, a fingerprint of everything the result depends on, and a checksum: of damaged
//! weights training would go on to another model, and say nothing. Shuffles and dropout
//! masks need no state: they follow from the seed and the step number.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::Validation;
use super::fingerprint::{Fingerprint, Fnv};
use crate::error::SlmError;
use crate::files;
use crate::params::{Array, Parameters};

/// Where and how often a run is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The file. If it exists when a run starts, the run goes on from it.
    pub path: PathBuf,
    /// Optimizer steps between two writes.
    pub every_steps: usize,
}

/// The place in a run, between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// Optimizer steps made.
    pub step: usize,
    /// Epochs completed.
    pub epoch: usize,
    /// Batches made in the current epoch.
    pub done: usize,
    /// The reported loss; none before the first step.
    pub loss: Option<f32>,
}

/// The best weights so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Best {
    /// Epoch they are from, from 1.
    pub epoch: usize,
    /// What they achieved.
    pub validation: Validation,
    /// Weights by name.
    pub weights: Parameters,
}

/// Everything a run needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Checkpoint {
    pub place: Place,
    pub state: Parameters,
    pub best: Option<Best>,
}

const STATE: &str = "state/";
const BEST: &str = "best/";
const CHECKSUM: &str = "checksum";

impl Checkpoint {
    /// Writes the file anew; a reader sees the old one or the new one, never a part. What a killed
    /// process left of a new one is overwritten.
    ///
    /// # Errors
    /// [`SlmError::Write`].
    pub(super) fn write(&self, path: &Path, fingerprint: Fingerprint) -> Result<(), SlmError> {
        let loss = self.place.loss.map_or(String::new(), bits);
        let mut metadata = HashMap::from([
            ("fingerprint".to_owned(), fingerprint.to_string()),
            ("step".to_owned(), self.place.step.to_string()),
            ("epoch".to_owned(), self.place.epoch.to_string()),
            ("done".to_owned(), self.place.done.to_string()),
            ("loss".to_owned(), loss),
        ]);
        let of = |prefix: &str, name: &str| format!("{prefix}{name}");
        let state = self.state.iter();
        let mut arrays: BTreeMap<String, &Array> = state
            .map(|(name, array)| (of(STATE, name), array))
            .collect();
        if let Some(best) = &self.best {
            metadata.insert("best_epoch".to_owned(), best.epoch.to_string());
            metadata.insert("best_loss".to_owned(), bits(best.validation.loss));
            let accuracy = best.validation.accuracy.map_or(String::new(), bits);
            metadata.insert("best_accuracy".to_owned(), accuracy);
            let weights = best.weights.iter();
            arrays.extend(weights.map(|(name, array)| (of(BEST, name), array)));
        }
        metadata.insert(CHECKSUM.to_owned(), checksum(&metadata, &arrays));
        let partial = with_suffix(path, ".partial");
        let written = files::write_arrays(&partial, arrays, metadata);
        let renamed =
            written.and_then(|()| std::fs::rename(&partial, path).map_err(SlmError::write(path)));
        if renamed.is_err() {
            // The write error is already on its way to the caller.
            let _ = std::fs::remove_file(&partial);
        }
        renamed
    }

    /// Reads the file of a run with this fingerprint; `None` if there is none.
    ///
    /// # Errors
    /// [`SlmError::NotACheckpoint`] if it is something else, [`SlmError::CheckpointDamaged`] if it is
    /// not as it was written, [`SlmError::Checkpoint`] if it is of another run.
    pub(super) fn read(path: &Path, fingerprint: Fingerprint) -> Result<Option<Self>, SlmError> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(path).map_err(SlmError::read(path))?;
        let damaged = |reason: String| SlmError::CheckpointDamaged {
            path: path.to_owned(),
            reason,
        };
        let other = || SlmError::NotACheckpoint {
            path: path.to_owned(),
        };
        if !may_be_safetensors(&bytes) {
            return Err(other());
        }
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if !metadata.contains_key("fingerprint") {
            return Err(other());
        }
        let text = |key: &str| metadata.get(key).map_or("", String::as_str);
        if let Some(differs) = fingerprint.differs_from(text("fingerprint")) {
            return Err(SlmError::Checkpoint {
                path: path.to_owned(),
                differs,
            });
        }
        let number = |key: &str| -> Result<usize, SlmError> {
            let parsed = text(key).parse();
            parsed.map_err(|_| damaged(format!("its `{key}` is no number")))
        };
        let (mut state, mut best) = (Parameters::default(), Parameters::default());
        let arrays =
            files::read_arrays(path, &bytes).map_err(|error| damaged(error.to_string()))?;
        let named = arrays.iter().map(|(name, array)| (name.clone(), array));
        if text(CHECKSUM) != checksum(&metadata, &named.collect()) {
            return Err(damaged("it is not as it was written".to_owned()));
        }
        for (name, array) in arrays {
            match (name.strip_prefix(STATE), name.strip_prefix(BEST)) {
                (Some(name), _) => state.insert(name, array),
                (_, Some(name)) => best.insert(name, array),
                _ => return Err(damaged(format!("it holds an unknown tensor `{name}`"))),
            }
        }
        let best = match metadata.contains_key("best_epoch") {
            false => None,
            true => Some(Best {
                epoch: number("best_epoch")?,
                validation: Validation {
                    loss: from_bits(text("best_loss")),
                    accuracy: match text("best_accuracy") {
                        "" => None,
                        bits => Some(from_bits(bits)),
                    },
                },
                weights: best,
            }),
        };
        let place = Place {
            step: number("step")?,
            epoch: number("epoch")?,
            done: number("done")?,
            loss: match text("loss") {
                "" => None,
                bits => Some(from_bits(bits)),
            },
        };
        Ok(Some(Self { place, state, best }))
    }
}

/// Of everything in the file but the checksum itself.
fn checksum(metadata: &HashMap<String, String>, arrays: &BTreeMap<String, &Array>) -> String {
    let mut hash = Fnv::new();
    let words: BTreeMap<_, _> = metadata
        .iter()
        .filter(|(key, _)| *key != CHECKSUM)
        .collect();
    hash.add(format!("{words:?}").as_bytes());
    for (name, array) in arrays {
        hash.add(format!("{name} {:?}", array.shape).as_bytes());
        for value in &array.data {
            hash.add(&value.to_le_bytes());
        }
    }
    format!("{:016x}", hash.0)
}

/// Whether the file begins as a safetensors file does: with the length of its header in 8 bytes,
/// the upper ones zero, and `{`. One cut short before that may be one.
fn may_be_safetensors(bytes: &[u8]) -> bool {
    let upper = bytes.iter().skip(5).take(3);
    upper.clone().all(|byte| *byte == 0) && bytes.get(8).is_none_or(|byte| *byte == b'{')
}

/// The file `path` with something behind its whole name: `a.run` and `a.old` have files of their
/// own then.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A float that survives as text bit for bit.
fn bits(value: f32) -> String {
    format!("{:08x}", value.to_bits())
}

fn from_bits(text: &str) -> f32 {
    f32::from_bits(u32::from_str_radix(text, 16).unwrap_or(f32::NAN.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Array;

    fn checkpoint() -> Checkpoint {
        let mut state = Parameters::default();
        state.insert("p", Array::filled(&[2, 3], 0.1));
        Checkpoint {
            place: Place {
                step: 7,
                epoch: 1,
                done: 3,
                loss: Some(0.3),
            },
            best: Some(Best {
                epoch: 1,
                validation: Validation {
                    loss: 0.7,
                    accuracy: Some(0.9),
                },
                weights: state.clone(),
            }),
            state,
        }
    }

    const OURS: Fingerprint = Fingerprint {
        model: 1,
        data: 2,
        options: 3,
    };

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.checkpoint");
        assert_eq!(Checkpoint::read(&path, OURS).unwrap(), None);
        checkpoint().write(&path, OURS).unwrap();
        assert_eq!(Checkpoint::read(&path, OURS).unwrap(), Some(checkpoint()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_files_beside_a_checkpoint_are_its_own() {
        let beside = |name: &str| with_suffix(Path::new(name), ".first");
        assert_eq!(beside("runs/a.first"), Path::new("runs/a.first.first"));
        assert_ne!(beside("runs/a.one"), beside("runs/a.two"));
        // Two runs that write in turns, as at the same time.
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("run.partial");
        std::fs::write(&other, "somebody's file").unwrap();
        checkpoint()
            .write(&folder.path().join("run.checkpoint"), OURS)
            .unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"somebody's file");
    }

    #[test]
    fn a_checkpoint_of_another_run_says_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.checkpoint");
        checkpoint().write(&path, OURS).unwrap();
        let message = |print| Checkpoint::read(&path, print).unwrap_err().to_string();
        let other = Fingerprint { model: 5, ..OURS };
        assert!(message(other).contains("a run with another model; remove"));
        let other = Fingerprint {
            data: 5,
            options: 5,
            ..OURS
        };
        assert!(message(other).contains("other data and other options; remove"));
        let model = Array::filled(&[2], 0.5);
        let arrays = [("a.weight".to_owned(), &model)];
        files::write_arrays(&path, arrays, HashMap::new()).unwrap();
        let other = message(OURS);
        assert!(other.contains("is no checkpoint"), "{other}");
        let bytes = checkpoint_with("fingerprint", "1 2");
        std::fs::write(&path, bytes).unwrap();
        assert!(message(OURS).contains("another version of noisegate; remove"));
    }

    fn checkpoint_with(key: &str, value: &str) -> Vec<u8> {
        let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        files::write_arrays(&path, [], metadata).unwrap();
        std::fs::read(path).unwrap()
    }

    /// Such as the records, named by mistake: nobody is told to remove them.
    #[test]
    fn a_file_that_is_no_checkpoint_is_left_and_called_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        for data in ["{\"text\":\"a\",\"label\":\"b\"}\n", "text,label\na,b\n"] {
            std::fs::write(&path, data).unwrap();
            let error = Checkpoint::read(&path, OURS).unwrap_err().to_string();
            assert!(error.contains("is no checkpoint"), "{error}");
            assert!(!error.contains("remove"), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_with_a_changed_byte_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.checkpoint");
        checkpoint().write(&path, OURS).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 8..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let read = Checkpoint::read(&path, OURS);
            // A header is padded with spaces, which say nothing.
            let padding =
                bytes[at] == b' ' && read.as_ref().is_ok_and(|it| *it == Some(checkpoint()));
            assert!(read.is_err() || padding, "byte {at} of {}", bytes.len());
        }
    }

    #[test]
    fn a_checkpoint_cut_short_says_how_to_start_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.checkpoint");
        checkpoint().write(&path, OURS).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, bytes.len() - 3] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Checkpoint::read(&path, OURS).unwrap_err().to_string();
            assert!(error.contains("remove it to start the run anew"), "{error}");
        }
    }
}
