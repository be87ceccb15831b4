//! A guest step's dealings with its site's ledger.
//!
//! ```text
//! <home>/sites/clinic/ledger.db    entries, signed
//! <home>/sites/clinic/site.key     ed25519, mode 0600
//! <home>/sites/clinic/site.pub     its public half, for auditors
//! ```

use std::collections::BTreeMap;
use std::fs::{File as Lock, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use noisegate_engine::{Input, StepFailure};
use noisegate_ledger::{
    Digest, Error, Ledger, OpenOptions, Outcome, PublicKey, Request, Verified, begun, check_names,
    key_fits, verify,
};
use noisegate_records::digest_unpacked;
use noisegate_sandbox::File;
use serde::{Deserialize, Serialize};

use crate::resolve::kind_of;

pub use noisegate_ledger::Cap;

/// The ledger's file name below a site's folder.
pub const LEDGER_FILE: &str = "ledger.db";
/// The key's file name below a site's folder.
pub const KEY_FILE: &str = "site.key";

/// The public key's file name below a site's folder; written with the key.
pub const PUBLIC_KEY_FILE: &str = "site.pub";

/// Between two tries to charge while another process does.
const TURN_PAUSE: Duration = Duration::from_millis(50);
/// A wait that nobody needs to be told of.
const TURN_MOMENT: Duration = Duration::from_secs(1);

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
    /// The privacy unit: `record`, or the column that names it.
    pub unit: String,
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
    /// - `cancel`: once it is seen to be set, nothing is charged.
    /// - `wait`: called once if others charge for longer than a moment.
    ///
    /// # Errors
    /// [`StepFailure::Refused`] with what is spent, asked and left; [`StepFailure::Cancelled`].
    pub fn reserve(
        &mut self,
        order: Order,
        cancel: &AtomicBool,
        wait: impl FnOnce(),
    ) -> Result<Answer, StepFailure> {
        // Held until the charge is durable: two sites must not look at each other's ledgers at the
        // same moment and both find nothing.
        let _turn = self.take_turn(cancel, wait)?;
        self.refuse_second_site(&order.data_set, order.data)?;
        let request = Request {
            data_set: order.data_set,
            data: order.data,
            guest: order.guest,
            parameters: order.parameters,
            unit: order.unit,
            cap: Some(order.cap),
            events: order.events,
            note: order.note,
        };
        // As late as can be: the other sites' ledgers were read in between.
        go_on(cancel)?;
        match self.ledger.reserve(&request).map_err(refused)? {
            Outcome::Charged(reservation) => Ok(Answer::Charged(reservation)),
            Outcome::Stored(sealed) => Ok(Answer::Again {
                entry: sealed.number(),
                files: unpack(&self.ledger.release(&sealed).map_err(refused)?)?,
            }),
        }
    }

    /// Waits until nobody else charges a site of this home; let go when dropped.
    fn take_turn(&self, cancel: &AtomicBool, wait: impl FnOnce()) -> Result<Lock, StepFailure> {
        let path = self.folder.with_file_name(".turn");
        let failed = |error: std::io::Error| {
            StepFailure::Refused(format!(
                "could not lock `{}`: {error}; nothing was charged, make its folder writable",
                path.display()
            ))
        };
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(failed)?;
        let (since, mut wait) = (Instant::now(), Some(wait));
        loop {
            go_on(cancel)?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if since.elapsed() >= TURN_MOMENT
                && let Some(wait) = wait.take()
            {
                wait();
            }
            std::thread::sleep(TURN_PAUSE);
        }
    }

    /// Refuses a file that another site of this home is charged for already: a new
    /// site's name must not be a new budget. What a ledger that is gone was charged for nobody
    /// knows, so it is refused whatever the file.
    fn refuse_second_site(&self, data_set: &str, data: Digest) -> Result<(), StepFailure> {
        let sites = self.folder.parent().unwrap_or(Path::new("."));
        for (site, ledger) in ledgers(sites, Some(&self.folder))? {
            if charged_elsewhere(&ledger, data_set, Some(data)) {
                return Err(StepFailure::Refused(second_site(data_set, &site)));
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
    /// [`StepFailure::Refused`], or [`StepFailure::Failed`] on a full disk; then nothing is released
    /// and the charge stays.
    pub fn seal_and_release(
        &mut self,
        reservation: &noisegate_ledger::Reservation,
        outputs: &[File],
    ) -> Result<Vec<File>, StepFailure> {
        let sealed = self.ledger.seal(reservation, &pack(outputs)?);
        let sealed = sealed.map_err(|error| still_charged(refused(error)))?;
        let released = self.ledger.release(&sealed);
        unpack(&released.map_err(|error| still_charged(refused(error)))?)
    }
}

/// Every ledger that was begun below `sites`, by site, verified; but not that of the folder `but`.
///
/// # Errors
/// [`StepFailure::Refused`] if one is not whole or gone, or cannot be looked for.
pub(crate) fn ledgers(
    sites: &Path,
    but: Option<&Path>,
) -> Result<BTreeMap<String, Verified>, StepFailure> {
    let unreadable = |error: std::io::Error| {
        StepFailure::Refused(format!(
            "could not read `{}`: {error}; nothing was charged, make it readable: the ledgers of \
             all its sites are looked at before a charge",
            sites.display()
        ))
    };
    let mut found = BTreeMap::new();
    let entries = match std::fs::read_dir(sites) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let folder = entry.path();
        if but == Some(&folder) || !folder.is_dir() {
            continue;
        }
        let ledger = folder.join(LEDGER_FILE);
        if begun(&ledger).map_err(refused)? {
            let key = PublicKey::beside(&folder.join(KEY_FILE)).map_err(refused)?;
            let verified = verify(&ledger, &key, None).map_err(refused)?;
            found.insert(entry.file_name().to_string_lossy().into_owned(), verified);
        }
    }
    Ok(found)
}

/// Whether a ledger can register a data set of that name with that unit.
///
/// # Errors
/// [`StepFailure::Refused`] for one with control characters, or too long.
pub(crate) fn names_are_fit(data_set: &str, unit: &str) -> Result<(), StepFailure> {
    check_names(data_set, unit).map_err(refused)
}

/// Whether a site's key can sign its ledger, as opening that for a charge would find.
///
/// # Errors
/// [`StepFailure::Refused`] if the key is exposed, damaged, or missing beside a ledger.
pub(crate) fn key_is_fit(site: &Path) -> Result<(), StepFailure> {
    key_fits(&site.join(KEY_FILE), &site.join(LEDGER_FILE)).map_err(refused)
}

/// Whether another site's ledger speaks of that file, or of the same data.
pub(crate) fn charged_elsewhere(ledger: &Verified, data_set: &str, data: Option<Digest>) -> bool {
    let mut charges = ledger.charges.iter();
    ledger.data_sets.iter().any(|set| set.name == data_set)
        || charges.any(|charge| Some(charge.data) == data)
}

/// Why a site may not charge what another one does.
pub(crate) fn second_site(data_set: &str, owner: &str) -> String {
    format!(
        "`{data_set}` is charged by site `{owner}` already; one data set has one site, name that \
         one in the workflow"
    )
}

/// Stops here if the run is to stop.
fn go_on(cancel: &AtomicBool) -> Result<(), StepFailure> {
    match cancel.load(Ordering::Relaxed) {
        true => Err(StepFailure::Cancelled),
        false => Ok(()),
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

/// SHA-256 of the private file, unpacked, which is read as opaque bytes for that alone: packed
/// another way it is the same data (decision 003).
///
/// # Errors
/// [`StepFailure::BadInput`] if it cannot be read or unpacked.
pub fn digest(input: &Input) -> Result<Digest, StepFailure> {
    let Input::Data { data, path, .. } = input else {
        return Err(StepFailure::Failed(
            "a data set was expected here".to_owned(),
        ));
    };
    let bad = |error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name));
    let kind = kind_of(data, path).map_err(bad)?;
    digest_unpacked(path, kind.compression)
        .map(Digest)
        .map_err(bad)
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
    match error {
        Error::DiskFull { .. } => StepFailure::Failed(text),
        _ => StepFailure::Refused(text),
    }
}

/// A failure between charge and release, which says what became of the charge.
fn still_charged(failure: StepFailure) -> StepFailure {
    let say = |text: String| format!("{text}; what was charged stays charged");
    match failure {
        StepFailure::Failed(text) => StepFailure::Failed(say(text)),
        StepFailure::Refused(text) => StepFailure::Refused(say(text)),
        other => other,
    }
}

#[cfg(test)]
mod tests;
