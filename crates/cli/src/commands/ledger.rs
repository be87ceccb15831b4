//! `ledger show|verify|export|set-cap`: a site's privacy budget.

use std::path::{Path, PathBuf};

use noisegate_ledger::{
    Cap, DataSet, Error, Head, Ledger, OpenOptions, PublicKey, State, Verified, begun, verify,
};
use noisegate_privacy::{Delta, Epsilon};
use noisegate_steps::ledger::{KEY_FILE, LEDGER_FILE, PUBLIC_KEY_FILE, name_of};
use noisegate_workflow::SiteName;
use serde_json::json;

use crate::args::{LedgerCap, LedgerCommand, LedgerVerify, LedgerWhich, Place};
use crate::exit::Exit;
use crate::project;
use crate::show;

/// The privacy budget.
pub fn ledger(place: &Place, what: &LedgerCommand) -> Result<(), Exit> {
    match what {
        LedgerCommand::Show(which) => show_account(place, which),
        LedgerCommand::Verify(which) => verify_file(place, which),
        LedgerCommand::Export(which) => export(place, which),
        LedgerCommand::SetCap(cap) => set_cap(place, cap),
    }
}

fn show_account(place: &Place, which: &LedgerWhich) -> Result<(), Exit> {
    let verified = read(&site(place, which.site.as_deref())?)?;
    if which.json {
        let sets: Result<Vec<_>, Exit> = verified
            .data_sets
            .iter()
            .map(|account| {
                let mut value = serde_json::to_value(account).map_err(Exit::failed)?;
                value["left"] = json!(left(&verified, account));
                Ok(value)
            })
            .collect();
        return show::json_line(&sets?);
    }
    let heading = [
        "data set",
        "unit",
        "charges",
        "spent epsilon",
        "cap",
        "delta",
        "left",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(verified.data_sets.iter().map(|account| {
        let (charges, epsilon) = match &account.spent {
            Some(spent) => (spent.charges.to_string(), format!("{:.4}", spent.epsilon)),
            None => (
                "-".to_owned(),
                "beyond what the accountant can price".to_owned(),
            ),
        };
        let cap = &account.cap;
        vec![
            account.name.clone(),
            account
                .unit
                .clone()
                .unwrap_or_else(|| "not recorded".to_owned()),
            charges,
            epsilon,
            cap.epsilon.get().to_string(),
            format!("{:e}", cap.delta.get()),
            match left(&verified, account) {
                // Rounded down: what is said to fit must fit.
                Some(left) => format!("{:.4}", (left * 1e4).floor() / 1e4),
                None => "nothing".to_owned(),
            },
        ]
    }));
    print!("{}", show::table(&rows));
    if !verified.charges.is_empty() {
        let heading = ["charge", "state", "data set", "for"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(verified.charges.iter().map(|charge| {
            vec![
                charge.reservation.to_string(),
                state(charge.state).to_owned(),
                charge.data_set.clone(),
                charge.note.clone(),
            ]
        }));
        print!("\n{}", show::table(&rows));
    }
    println!(
        "\nhead {} after {} entries",
        verified.head.hash, verified.head.count
    );
    Ok(())
}

/// What is left of a cap, as the epsilon of the largest charge like the last one that still fits:
/// charges are composed, so the difference of two epsilons would say too little.
fn left(verified: &Verified, account: &DataSet) -> Option<f64> {
    let mut charges = verified.charges.iter().rev();
    match charges.find(|charge| charge.data_set == account.name) {
        None => Some(account.cap.epsilon.get()),
        Some(last) => verified.standing(&account.name, &last.events)?.largest,
    }
}

fn verify_file(place: &Place, which: &LedgerVerify) -> Result<(), Exit> {
    let file = match &which.file {
        Some(file) => file.clone(),
        None => site(place, which.site.as_deref())?.join(LEDGER_FILE),
    };
    // Before the key: a ledger that is gone is worse than a key that is.
    if !begun(&file).map_err(refused)? {
        return Err(no_ledger(file.parent().unwrap_or(&file)));
    }
    let key = match &which.public_key {
        Some(given) => parse_key(given)?,
        None => read_key(&file.with_file_name(PUBLIC_KEY_FILE))?,
    };
    let anchor = which.head.as_deref().map(parse_head).transpose()?;
    let verified = verify(&file, &key, anchor.as_ref()).map_err(refused)?;
    let (head, count) = (verified.head.hash, verified.head.count);
    if which.json {
        return show::json_line(&json!({
            "whole": true, "entries": count, "head": head, "public_key": key,
            "charges": verified.charges.len(),
        }));
    }
    println!(
        "whole: {count} entries, every hash and signature is right, and each of {} charges was under its cap when it was made",
        verified.charges.len()
    );
    println!(
        "head {count}:{head}\nnote the head elsewhere and give it to `--head` later, to notice if an older copy was put in this file's place"
    );
    Ok(())
}

fn export(place: &Place, which: &LedgerWhich) -> Result<(), Exit> {
    show::json_line(&read(&site(place, which.site.as_deref())?)?.to_json())
}

fn set_cap(place: &Place, cap: &LedgerCap) -> Result<(), Exit> {
    let folder = site(place, cap.site.as_deref())?;
    let new = Cap {
        epsilon: Epsilon::new(cap.epsilon).map_err(Exit::wrong)?,
        delta: Delta::new(cap.delta).map_err(Exit::wrong)?,
    };
    if !begun(&folder.join(LEDGER_FILE)).map_err(refused)? {
        if !cap.new {
            return Err(no_ledger(&folder));
        }
        real_name(&cap.data_set)?;
        std::fs::create_dir_all(&folder).map_err(|error| {
            Exit::Failed(format!("could not create `{}`: {error}", folder.display()))
        })?;
    }
    let options = OpenOptions::new(folder.join(LEDGER_FILE), folder.join(KEY_FILE));
    let mut ledger = Ledger::open(&options).map_err(refused)?;
    let known = ledger.data_sets().map_err(refused)?;
    let is_known = |name: &str| known.iter().any(|set| set.name == name);
    let data_set = match is_known(&cap.data_set) {
        true => cap.data_set.clone(),
        false => real_name(&cap.data_set)?,
    };
    if !is_known(&data_set) && !cap.new {
        return Err(Exit::Wrong(format!(
            "there is no data set `{data_set}` in this ledger; `noisegate ledger show` lists them, \
             `--new` registers one before its first use"
        )));
    }
    ledger
        .set_cap(&data_set, new, &cap.reason)
        .map_err(refused)?;
    println!(
        "data set `{data_set}` now has a cap of epsilon {} at delta {:e}",
        cap.epsilon, cap.delta
    );
    if !Path::new(&data_set).exists() {
        println!("there is no such file yet: the cap binds a file at that very path");
    }
    Ok(())
}

/// A file's name in the ledger, as a run finds it. A cap under another one would bind nothing.
fn real_name(given: &str) -> Result<String, Exit> {
    let path = Path::new(given);
    if path.is_file() {
        return Ok(name_of(path));
    }
    // A file that will come: its folder is there already.
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) if path.is_absolute() => {
            Ok(folder.join(name).display().to_string())
        }
        (Some(Err(_)), _) if path.is_absolute() => Err(Exit::Wrong(format!(
            "`--data-set {given}`: there is no such folder; make it first, or mend the path"
        ))),
        _ => Err(Exit::Wrong(format!(
            "`--data-set {given}` is neither a data set of this ledger nor a file here; give the \
             file's absolute path"
        ))),
    }
}

fn no_ledger(below: &Path) -> Exit {
    Exit::Wrong(format!(
        "there is no ledger below `{}`; one begins with the first run, or with \
         `noisegate ledger set-cap --site SITE --new`",
        below.display()
    ))
}

/// A site's folder: the named one, or the only one.
fn site(place: &Place, named: Option<&str>) -> Result<PathBuf, Exit> {
    if let Some(name) = named {
        let name: SiteName = name
            .parse()
            .map_err(|problem| Exit::Wrong(format!("`--site`: {problem}")))?;
        return Ok(project::site_folder(&place.home, name.as_str()));
    }
    let sites = place.home.join("sites");
    let unreadable = |error: std::io::Error| {
        Exit::Failed(format!(
            "could not read `{}`: {error}; it may hold ledgers, make it readable for this user",
            sites.display()
        ))
    };
    let entries = match std::fs::read_dir(&sites) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(unreadable)?),
    };
    // One that is gone, or that may not be read, is none that was never there: who reads it says so.
    let may_hold = |path: &PathBuf| {
        path.metadata().map_or(true, |it| it.is_dir())
            && begun(&path.join(LEDGER_FILE)).unwrap_or(true)
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries.into_iter().flatten() {
        found.extend(Some(entry.map_err(unreadable)?.path()).filter(may_hold));
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(no_ledger(&sites)),
        several => {
            let names: Vec<_> = several
                .iter()
                .filter_map(|path| path.file_name()?.to_str())
                .collect();
            Err(Exit::Wrong(format!(
                "several sites have a ledger; name one with `--site`: {}",
                names.join(", ")
            )))
        }
    }
}

/// Reads and verifies the ledger of a site's folder.
///
/// # Errors
/// Exit code 3 if it was tampered with or is gone, 2 if there is none or its public key is missing.
pub fn read(folder: &Path) -> Result<Verified, Exit> {
    let file = folder.join(LEDGER_FILE);
    if !begun(&file).map_err(refused)? {
        return Err(no_ledger(folder));
    }
    let key = PublicKey::beside(&folder.join(KEY_FILE))
        .or_else(|_| read_key(&folder.join(PUBLIC_KEY_FILE)))?;
    verify(&file, &key, None).map_err(refused)
}

fn read_key(path: &Path) -> Result<PublicKey, Exit> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Exit::Wrong(format!(
            "could not read the public key `{}`: {error}; name it with `--public-key`",
            path.display()
        ))
    })?;
    text.parse().map_err(|problem| {
        Exit::Wrong(format!(
            "`{}`: {problem}; where the site's key lies beside it, a run or `noisegate ledger \
                 show` writes it again",
            path.display()
        ))
    })
}

/// `COUNT:HASH`, as `verify` prints it.
fn parse_head(text: &str) -> Result<Head, Exit> {
    let parse = || {
        let (count, hash) = text.split_once(':')?;
        Some(Head {
            count: count.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    };
    parse().ok_or_else(|| {
        Exit::Wrong(format!(
            "`--head {text}` is not of the form COUNT:HASH that `ledger verify` prints"
        ))
    })
}

fn parse_key(given: &str) -> Result<PublicKey, Exit> {
    match Path::new(given) {
        path if path.is_file() => read_key(path),
        _ => given
            .parse()
            .map_err(|problem| Exit::Wrong(format!("`--public-key`: {problem}"))),
    }
}

/// What a ledger refuses, with its causes; exit code 3, 2 for a text that it cannot take, or 1
/// if the disk is full.
pub fn refused(error: Error) -> Exit {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    match error {
        Error::BadText { .. } => Exit::Wrong(text),
        Error::DiskFull { .. } => Exit::Failed(text),
        _ => Exit::Refused(text),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Reserved => "reserved",
        State::Sealed => "sealed",
        State::Released => "released",
        State::Burned => "burned",
    }
}
