//! A guest step's dealings with its site's ledger.
//!
//! ```text
//! <home>/sites/clinic/ledger.db    entries, signed
//! <home>/sites/clinic/site.key     ed25519, mode 0600
//! <home>/sites/clinic/site.pub     its public half, for auditors
//! ```

use std::fs::File as Lock;
use std::path::{Path, PathBuf};

use noisegate_engine::StepFailure;
use noisegate_engine::store::digest_of;
use noisegate_ledger::{Digest, Error, Ledger, OpenOptions, Outcome, PublicKey, Request, verify};
use noisegate_sandbox::File;
use serde::{Deserialize, Serialize};

pub use noisegate_ledger::Cap;

/// The ledger's file name below a site's folder.
pub const LEDGER_FILE: &str = "ledger.db";
/// The key's file name below a site's folder.
pub const KEY_FILE: &str = "site.key";

/// The public key's file name below a site's folder; written with the key.
pub const PUBLIC_KEY_FILE: &str = "site.pub";

/// An open ledger.
pub struct Account {
    folder: PathBuf,
    ledger: Ledger,
}

/// What a step asks for.
pub struct Order {
    /// Of the private file.
    pub data: Digest,
    /// The data set's name in the ledger.
    pub data_set: String,
    /// Its lifetime cap.
    pub cap: Cap,
    /// Everything but the data; the data's digest is added here.
    pub events: Vec<noisegate_privacy::Event>,
    /// SHA-256 of the guest.
    pub guest: Digest,
    /// SHA-256 of everything else that the output depends on.
    pub parameters: Digest,
    /// For people.
    pub note: String,
}

/// The answer.
pub enum Answer {
    /// Charged; run the step, then [`Account::seal_and_release`].
    Charged(noisegate_ledger::Reservation),
    /// The same request was answered before: the same bytes again, at no charge.
    Again {
        /// The entry that reserved that answer's charge.
        entry: u64,
        /// The answer.
        files: Vec<File>,
    },
}

impl Account {
    /// Opens, or begins, the ledger below `folder`.
    ///
    /// # Errors
    /// [`StepFailure::Refused`] if it is damaged, of another key or version, or read-only.
    pub fn open(folder: &Path) -> Result<Self, StepFailure> {
        std::fs::create_dir_all(folder).map_err(|error| {
            StepFailure::Failed(format!("could not create `{}`: {error}", folder.display()))
        })?;
        let options = OpenOptions::new(folder.join(LEDGER_FILE), folder.join(KEY_FILE));
        let ledger = Ledger::open(&options).map_err(refused)?;
        Ok(Self {
            folder: folder.to_owned(),
            ledger,
        })
    }

    /// Charges durably, or finds the earlier answer.
    ///
    /// # Errors
    /// [`StepFailure::Refused`] with what is spent, asked and left.
    pub fn reserve(&mut self, order: Order) -> Result<Answer, StepFailure> {
        // Held until the charge is durable: two sites must not look at each other's ledgers at the
        // same moment and both find nothing.
        let _turn = self.take_turn()?;
        self.refuse_second_site(&order.data_set, order.data)?;
        self.ledger
            .ensure_cap(&order.data_set, order.cap)
            .map_err(refused)?;
        let request = Request {
            data_set: order.data_set,
            data: order.data,
            guest: order.guest,
            parameters: order.parameters,
            events: order.events,
            note: order.note,
        };
        match self.ledger.reserve(&request).map_err(refused)? {
            Outcome::Charged(reservation) => Ok(Answer::Charged(reservation)),
            Outcome::Stored(sealed) => Ok(Answer::Again {
                entry: sealed.number(),
                files: unpack(&self.ledger.release(&sealed).map_err(refused)?)?,
            }),
        }
    }

    /// Waits until no other process charges a site of this home; let go when dropped.
    fn take_turn(&self) -> Result<Lock, StepFailure> {
        let path = self.folder.with_file_name(".turn");
        let locked = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| {
            StepFailure::Refused(format!(
                "could not lock `{}`: {error}; nothing was charged, make its folder writable",
                path.display()
            ))
        })
    }

    /// Refuses a file that another site of this home is charged for already: a new
    /// site's name must not be a new budget.
    fn refuse_second_site(&self, data_set: &str, data: Digest) -> Result<(), StepFailure> {
        let sites = self.folder.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(sites).into_iter().flatten().flatten() {
            let other = entry.path();
            if other == self.folder || !other.join(LEDGER_FILE).is_file() {
                continue;
            }
            let key = PublicKey::read(&other.join(PUBLIC_KEY_FILE)).map_err(refused)?;
            let verified = verify(&other.join(LEDGER_FILE), &key, None).map_err(refused)?;
            let named = verified.data_sets.iter().any(|set| set.name == data_set);
            if named || verified.charges.iter().any(|charge| charge.data == data) {
                return Err(StepFailure::Refused(format!(
                    "`{data_set}` is charged by site `{}` already; one data set has one site, \
                     name that one in the workflow",
                    entry.file_name().to_string_lossy()
                )));
            }
        }
        Ok(())
    }

    /// What the data set has spent under its cap.
    ///
    /// # Errors
    /// [`StepFailure::Refused`] if the accountant cannot price the charges.
    pub fn spent_epsilon(&mut self, data_set: &str) -> Result<f64, StepFailure> {
        let spent = self.ledger.spent(data_set).map_err(refused)?;
        Ok(spent.map_or(0.0, |spent| spent.epsilon))
    }

    /// Stores the outputs under the charge, then hands them out.
    ///
    /// # Errors
    /// [`StepFailure::Refused`]; then nothing is released and the charge stays.
    pub fn seal_and_release(
        &mut self,
        reservation: &noisegate_ledger::Reservation,
        outputs: &[File],
    ) -> Result<Vec<File>, StepFailure> {
        let sealed = self
            .ledger
            .seal(reservation, &pack(outputs)?)
            .map_err(refused)?;
        unpack(&self.ledger.release(&sealed).map_err(refused)?)
    }
}

/// How the ledger names a data set: the real path of its file (decision 002).
#[must_use]
pub fn name_of(data: &Path) -> String {
    data.canonicalize()
        .unwrap_or_else(|_| data.to_owned())
        .display()
        .to_string()
}

/// SHA-256 of the private file, which is read as opaque bytes for that alone.
///
/// # Errors
/// [`StepFailure::BadInput`] if it cannot be read.
pub fn digest(data: &Path) -> Result<Digest, StepFailure> {
    let read = |error: &dyn std::fmt::Display| {
        StepFailure::BadInput(format!("could not read `{}`: {error}", data.display()))
    };
    let text = digest_of(data).map_err(|error| read(&error))?;
    text.parse().map_err(|error: String| read(&error))
}

/// Several files as the one output that a charge seals.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    name: String,
    hex: String,
}

fn pack(files: &[File]) -> Result<Vec<u8>, StepFailure> {
    let packed = |file: &File| Packed {
        name: file.name.clone(),
        hex: hex::encode(&file.data),
    };
    let packed: Vec<Packed> = files.iter().map(packed).collect();
    serde_json::to_vec(&packed).map_err(|error| StepFailure::Failed(error.to_string()))
}

fn unpack(bytes: &[u8]) -> Result<Vec<File>, StepFailure> {
    let damaged = || {
        StepFailure::Refused(
            "a sealed output in the ledger does not unpack; restore the ledger".to_owned(),
        )
    };
    let packed: Vec<Packed> = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    let file = |one: Packed| {
        Some(File {
            name: one.name,
            data: hex::decode(one.hex).ok()?,
        })
    };
    packed
        .into_iter()
        .map(|one| file(one).ok_or_else(damaged))
        .collect()
}

fn refused(error: Error) -> StepFailure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    StepFailure::Refused(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_outputs_unpack_to_the_same_bytes() {
        let files = vec![
            File {
                name: "samples.jsonl".to_owned(),
                data: b"{\"text\":\"\xc3\xa4\"}\n".to_vec(),
            },
            File {
                name: "empty".to_owned(),
                data: Vec::new(),
            },
            File {
                name: "binary".to_owned(),
                data: (0..=255).collect(),
            },
        ];
        let again = unpack(&pack(&files).unwrap()).unwrap();
        assert!(
            files
                .iter()
                .zip(&again)
                .all(|(one, two)| one.name == two.name && one.data == two.data)
        );
        assert_eq!(files.len(), again.len());
    }

    #[test]
    fn a_damaged_output_is_refused() {
        assert!(matches!(
            unpack(b"[{\"name\":\"x\",\"hex\":\"zz\"}]"),
            Err(StepFailure::Refused(_))
        ));
    }
}
