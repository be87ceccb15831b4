//! Is this ledger whole? Needs the file and the public key, nothing else.
//!
//! Checks, in this order: SQLite's structure, every signature, every link, every rule of the book,
//! the signed head, every stored output, and that every charge was under the caps in force when it
//! was made. The first bad entry is named.

use std::path::Path;

use noisegate_privacy::{Delta, Event};
use serde::Serialize;

use crate::Digest;
use crate::book::{Book, Charge, made};
use crate::entry::{Entry, Head, SignedBytes};
use crate::error::{Error, Result};
use crate::key::PublicKey;
use crate::noted;
use crate::price::{self, Cap, Made, Spent};
use crate::recheck::first_overspent;
use crate::store::{Store, Writing};

/// A ledger found whole, and what it says.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Which ledger: random, set when it was created.
    pub ledger: Digest,
    /// Who signed it.
    pub public_key: PublicKey,
    /// Where it ends; note it elsewhere to notice an older copy later.
    pub head: Head,
    /// The site's ed25519 signature of the head, hexadecimal.
    pub head_signature: String,
    /// Every entry with its hash, oldest first.
    pub entries: Vec<(Entry, Digest)>,
    /// Every charge with its state, oldest first.
    pub charges: Vec<Charge>,
    /// Every data set with a cap, by name.
    pub data_sets: Vec<DataSet>,
}

/// One data set's account.
#[derive(Debug, Clone, Serialize)]
pub struct DataSet {
    /// Its name.
    pub name: String,
    /// Its cap now.
    pub cap: Cap,
    /// Every cap that a charge must fit under: the one above, and higher ones that it came on top of.
    pub in_force: Vec<Cap>,
    /// The privacy unit that the cap is for; absent if it is not recorded.
    pub unit: Option<String>,
    /// What was spent under it; absent if this program's accountant cannot price the charges.
    pub spent: Option<Spent>,
}

/// What one more charge would mean for a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Standing {
    /// Epsilon of all charges with this one; absent if the accountant has no finite price.
    pub together: Option<f64>,
    /// Whether it fits under every cap in force.
    pub fits: bool,
    /// Epsilon, alone, of the largest charge of this kind (the same steps, other noise) that fits.
    pub largest: Option<f64>,
}

/// A data set before a charge: what a ledger holds of it, and what else is made before that one.
#[derive(Debug, Clone, Copy)]
pub struct Prospect<'a> {
    /// The data set's name.
    pub data_set: &'a str,
    /// Every cap that a charge must fit under, the one set last at the end.
    pub in_force: &'a [Cap],
    /// Charges of the ledger, also of other data sets.
    pub charges: &'a [Charge],
    /// Charges of this data set that this program makes on top of them.
    pub planned: &'a [Vec<Event>],
}

impl Prospect<'_> {
    /// What `charge` would mean, made by this program; `None` without a cap.
    ///
    /// - `delta`: at which the largest is told.
    pub fn standing(&self, charge: &[Event], delta: Delta) -> Option<Standing> {
        let mut before = made(self.charges.iter(), self.data_set);
        before.extend(self.planned.iter().map(|events| Made::now(events)));
        let mut all = before.clone();
        all.push(Made::now(charge));
        let with = |cap: &Cap| price::guaranteed(&all, *cap).ok();
        let fits = |cap: &Cap| with(cap).is_some_and(|together| together <= cap.epsilon.get());
        Some(Standing {
            together: with(self.in_force.last()?).filter(|together| together.is_finite()),
            fits: self.in_force.iter().all(fits),
            largest: price::largest_that_fits(&before, charge, self.in_force, delta),
        })
    }
}

impl Verified {
    /// What `charge` would mean for a data set, as the ledger stands, the largest at the cap's
    /// delta; `None` if it has no cap.
    ///
    /// A request that was answered before is served again and charged nothing.
    pub fn standing(&self, data_set: &str, charge: &[Event]) -> Option<Standing> {
        let account = self.data_sets.iter().find(|set| set.name == data_set)?;
        let prospect = Prospect {
            data_set,
            in_force: &account.in_force,
            charges: &self.charges,
            planned: &[],
        };
        prospect.standing(charge, account.cap.delta)
    }
}

/// Verifies a ledger without changing it.
///
/// - `public_key`: the site's key, obtained from the site and not from this file.
/// - `anchor`: a head noted earlier; the ledger must contain it, and the one noted beside the file, if any.
///
/// # Errors
/// [`Error::Tampered`] with the first bad entry; [`Error::OtherKey`]; [`Error::RolledBack`];
/// [`Error::Missing`], [`Error::Gone`], [`Error::NoteDamaged`], [`Error::NotALedger`],
/// [`Error::OtherVersion`], [`Error::Corrupt`].
pub fn verify(path: &Path, public_key: &PublicKey, anchor: Option<&Head>) -> Result<Verified> {
    noted::begun(path)?;
    let noted = noted::read_unless(path, anchor)?;
    let mut store = Store::open_to_read(path)?;
    let reading = store.begin_read()?;
    if let Some(complaint) = reading.integrity()? {
        return Err(tampered(
            path,
            0,
            format!("the database is damaged: {complaint}"),
        ));
    }
    let mut book = Book::default();
    let entries = follow(&reading, &mut book, public_key)?;
    check_outputs(&reading, &book)?;
    if let Some((entry, problem)) = first_overspent(&entries) {
        return Err(tampered(path, entry, problem));
    }
    if let Some(head) = &noted {
        check_anchor(&reading, head, Some(&noted::path_of(path)))?;
    }
    if let Some(anchor) = anchor {
        check_anchor(&reading, anchor, None)?;
    }
    let signature = reading.heads()?.pop().map(|head| head.signature);
    verified(path, book, entries, &signature.unwrap_or_default())
}

fn verified(
    path: &Path,
    book: Book,
    entries: Vec<(Entry, Digest)>,
    head_signature: &[u8],
) -> Result<Verified> {
    let (Some(ledger), Some(public_key)) = (book.ledger, book.public_key) else {
        return Err(tampered(path, 0, "there are no entries".to_owned()));
    };
    Ok(Verified {
        ledger,
        public_key,
        head: book.head,
        head_signature: hex::encode(head_signature),
        entries,
        data_sets: data_sets(&book),
        charges: book.charges.into_values().collect(),
    })
}

/// Every data set's account, by name.
pub(crate) fn data_sets(book: &Book) -> Vec<DataSet> {
    let account = |(name, caps): (&String, &Vec<Cap>)| {
        let cap = *caps.last()?;
        Some(DataSet {
            name: name.clone(),
            cap,
            in_force: caps.clone(),
            unit: book.units.get(name).cloned(),
            spent: price::spent(&book.charges_of(name), cap).ok(),
        })
    };
    book.caps.iter().filter_map(account).collect()
}

/// Takes the entries that the book does not hold yet into it, checking each, and then the head.
pub(crate) fn follow(
    reading: &Writing<'_>,
    book: &mut Book,
    public_key: &PublicKey,
) -> Result<Vec<(Entry, Digest)>> {
    let path = reading.path;
    let head = read_head(reading, book.head.count, public_key);
    let nothing_new = book.head.count > 0 && head.as_ref().is_ok_and(|head| *head == book.head);
    if nothing_new {
        let stored = reading.entry_count()?;
        if stored != book.head.count as i64 {
            let problem = format!(
                "the signed head counts {} entries, there are {stored}",
                book.head.count
            );
            return Err(tampered(path, stored as u64, problem));
        }
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for (stored, signed) in reading.entries(book.head.count)? {
        let number = book.head.count;
        if stored != number as i64 {
            let problem = format!("the entry is missing, entry {stored} comes next");
            return Err(tampered(path, number, problem));
        }
        let entry = Entry::open(&signed, public_key)
            .map_err(|problem| other_key_or(path, number, &signed, public_key, problem))?;
        let hash = Entry::hash(&signed.body);
        book.apply(&entry, hash)
            .map_err(|problem| tampered(path, number, problem))?;
        entries.push((entry, hash));
    }
    let head = head?;
    let count = book.head.count;
    if head.count != count {
        let problem = format!(
            "the signed head counts {} entries, there are {count}",
            head.count
        );
        return Err(tampered(path, count.min(head.count), problem));
    }
    if head != book.head {
        let problem = "the signed head has another hash".to_owned();
        return Err(tampered(path, count.saturating_sub(1), problem));
    }
    match book.public_key {
        Some(stated) if stated == *public_key => Ok(entries),
        Some(stated) => Err(Error::OtherKey {
            ledger: path.to_owned(),
            expected: stated.to_string(),
            given: public_key.to_string(),
        }),
        None => Err(tampered(path, 0, "there are no entries".to_owned())),
    }
}

fn read_head(reading: &Writing<'_>, near: u64, public_key: &PublicKey) -> Result<Head> {
    let heads = reading.heads()?;
    let [signed] = heads.as_slice() else {
        let problem = format!("there are {} heads instead of one", heads.len());
        return Err(tampered(reading.path, near, problem));
    };
    Head::open(signed, public_key)
        .map_err(|problem| tampered(reading.path, near, format!("the head: {problem}")))
}

/// A first entry that was signed by the key it names itself is another site's, not a forgery.
fn other_key_or(
    path: &Path,
    number: u64,
    signed: &SignedBytes,
    given: &PublicKey,
    problem: String,
) -> Error {
    if number == 0
        && let Ok(entry) = serde_json::from_slice::<Entry>(&signed.body)
        && let crate::Action::Created { public_key, .. } = entry.action
        && public_key != *given
        && Entry::open(signed, &public_key).is_ok()
    {
        return Error::OtherKey {
            ledger: path.to_owned(),
            expected: public_key.to_string(),
            given: given.to_string(),
        };
    }
    tampered(path, number, problem)
}

/// Every sealed output is there with its digest, and no other.
fn check_outputs(reading: &Writing<'_>, book: &Book) -> Result<()> {
    let mut wanted = std::collections::BTreeSet::new();
    for charge in book.charges.values() {
        let Some(digest) = charge.output else {
            continue;
        };
        read_output(reading, charge.reservation, digest)?;
        wanted.insert(digest.0.to_vec());
    }
    let stored = reading.output_digests()?;
    if stored.iter().any(|digest| !wanted.contains(digest)) {
        let problem = "an output is stored that no entry speaks of".to_owned();
        return Err(tampered(reading.path, book.head.count, problem));
    }
    Ok(())
}

/// The bytes sealed for a charge, checked against their digest.
pub(crate) fn read_output(
    reading: &Writing<'_>,
    reservation: u64,
    digest: Digest,
) -> Result<Vec<u8>> {
    let problem = match reading.output(digest)? {
        Some(bytes) if Digest::of(&bytes) == digest => return Ok(bytes),
        Some(_) => "its stored output was changed",
        None => "its stored output is gone",
    };
    Err(tampered(reading.path, reservation, problem.to_owned()))
}

/// The ledger holds the entry that the anchor ends with.
///
/// - `noted`: the file that it is noted in; `None` for one that was given.
pub(crate) fn check_anchor(
    reading: &Writing<'_>,
    anchor: &Head,
    noted: Option<&Path>,
) -> Result<()> {
    let last = anchor.count.saturating_sub(1);
    let rows = reading.entries(last)?;
    let same = rows.first().is_some_and(|(number, signed)| {
        *number == last as i64 && Entry::hash(&signed.body) == anchor.hash
    });
    if same || anchor.count == 0 {
        return Ok(());
    }
    Err(Error::RolledBack {
        path: reading.path.to_owned(),
        noted: noted.map(Path::to_owned),
        count: anchor.count,
        hash: anchor.hash,
    })
}

pub(crate) fn tampered(path: &Path, entry: u64, problem: String) -> Error {
    Error::Tampered {
        path: path.to_owned(),
        entry,
        problem,
    }
}
