//! `policy.toml`: what a site's operator requires of the sandbox.
//!
//! ```text
//! <home>/sites/clinic/policy.toml     beside the site's ledger and key; never a workflow's
//! ```
//! A workflow says what it wants to do; this file says under which walls the
//! site lets a guest see its data. Without a file the defaults of
//! [`Isolation`] hold. Read before anything is charged.

use std::path::Path;

use noisegate_sandbox::{Isolation, Layer, Layers};
use serde::Deserialize;

/// The file's name, in the site's folder.
pub const FILE: &str = "policy.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    sandbox: Sandbox,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sandbox {
    /// Layers of the jail, by name, or `all`.
    require: Option<Vec<String>>,
    process_per_unit: bool,
    pad_batches: bool,
    query_ms: u64,
}

/// What the site requires.
///
/// # Errors
/// A message with the file and the place in it, if it cannot be read or understood.
pub fn isolation(site: &Path) -> Result<Isolation, String> {
    let path = site.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Isolation::default());
        }
        Err(error) => return Err(format!("could not read `{}`: {error}", path.display())),
    };
    parse(&text).map_err(|problem| format!("`{}`: {problem}", path.display()))
}

fn parse(text: &str) -> Result<Isolation, String> {
    let policy: Policy = toml::from_str(text).map_err(|error| error.to_string())?;
    let defaults = Isolation::default();
    let required = match &policy.sandbox.require {
        Some(names) => layers(names)?,
        None => defaults.required,
    };
    Ok(Isolation {
        required,
        process_per_unit: policy.sandbox.process_per_unit,
        pad_batches: policy.sandbox.pad_batches,
        query_ms: policy.sandbox.query_ms,
    })
}

fn layers(names: &[String]) -> Result<Layers, String> {
    if names == ["all"] {
        return Ok(Layer::ALL.into_iter().collect());
    }
    names.iter().map(|name| name.parse::<Layer>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_without_a_policy_has_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(isolation(folder.path()), Ok(Isolation::default()));
        assert_eq!(parse(""), Ok(Isolation::default()));
    }

    #[test]
    fn a_policy_is_read_whole() {
        let text = "
            [sandbox]
            require = [\"seccomp\", \"landlock\"]
            process_per_unit = true
            query_ms = 500";
        let found = parse(text).unwrap();
        assert_eq!(found.required.to_string(), "landlock, seccomp");
        assert!(found.process_per_unit && !found.pad_batches);
        assert_eq!(found.query_ms, 500);
        let all = parse("sandbox.require = [\"all\"]").unwrap().required;
        assert!(Layer::ALL.into_iter().all(|layer| all.has(layer)));
    }

    #[test]
    fn a_policy_that_is_not_understood_is_no_policy_at_all() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "[sandbox]\nrequire = [\"firewall\"]",
            "[sandbox]\nrequires = []",
            "[sandbox",
        ] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let problem = isolation(folder.path()).unwrap_err();
            assert!(problem.contains(FILE), "{problem}");
        }
    }
}
