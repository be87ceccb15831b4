//! `policy.toml`: what a site's operator requires of the sandbox.
//!
//! ```text
//! <home>/sites/clinic/policy.toml     beside the site's ledger and key; never a workflow's
//! ```
//! A workflow says what it wants to do; this file says under which walls the
//! site lets a guest see its data, and how long a guest may look at one unit.
//! Without a file the defaults of [`Isolation`] and [`FUEL_PER_UNIT_MAX`] hold.
//! Read before anything is charged.

use std::path::Path;

use noisegate_sandbox::{Isolation, Layer, Layers};
use serde::Deserialize;

use crate::plugin::Plugin;

/// The most fuel for one unit that a site accepts if it says nothing: four times what the
/// heaviest guest that comes with noisegate asks for. A guest chooses how much of it a unit takes,
/// so the more there is, the more a duration can tell of one unit.
pub const FUEL_PER_UNIT_MAX: u64 = 200_000_000_000;

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
    fuel_per_unit_max: Option<u64>,
}

/// What a site requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The walls around a guest.
    pub isolation: Isolation,
    /// The most fuel that a guest may ask for, for one unit.
    pub fuel_per_unit_max: u64,
}

impl Accepted {
    /// Whether a guest asks for no more than the site accepts; `site` is the site's folder.
    ///
    /// # Errors
    /// Both figures, and the remedy.
    pub fn accept(&self, guest: &Plugin, site: &Path) -> Result<(), String> {
        let component = guest.manifest.component.as_ref();
        let asked = component.map_or(0, |component| component.fuel_per_unit);
        if asked <= self.fuel_per_unit_max {
            return Ok(());
        }
        Err(format!(
            "guest `{}` asks for fuel of {asked} for one unit, more than the {} that the site \
             accepts, since a long look at one unit can be told from outside; lower \
             `fuel_per_unit` in its `plugin.toml`, or let the operator set `[sandbox] \
             fuel_per_unit_max` in `{}`",
            guest.name(),
            self.fuel_per_unit_max,
            site.join(FILE).display()
        ))
    }
}

/// What the site requires; `site` is its folder.
///
/// # Errors
/// A message with the file and the place in it, if it cannot be read or understood.
pub fn read(site: &Path) -> Result<Accepted, String> {
    let path = site.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A link that leads nowhere was put there by somebody who wanted a policy.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            String::new()
        }
        Err(error) => return Err(format!("could not read `{}`: {error}", path.display())),
    };
    parse(&text).map_err(|problem| format!("`{}`: {problem}", path.display()))
}

fn parse(text: &str) -> Result<Accepted, String> {
    let policy: Policy = toml::from_str(text).map_err(|error| error.to_string())?;
    let defaults = Isolation::default();
    let required = match &policy.sandbox.require {
        Some(names) => layers(names)?,
        None => defaults.required,
    };
    Ok(Accepted {
        isolation: Isolation {
            required,
            process_per_unit: policy.sandbox.process_per_unit,
            pad_batches: policy.sandbox.pad_batches,
            query_ms: policy.sandbox.query_ms,
        },
        fuel_per_unit_max: policy
            .sandbox
            .fuel_per_unit_max
            .unwrap_or(FUEL_PER_UNIT_MAX),
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
        let found = read(folder.path()).unwrap();
        assert_eq!(found.isolation, Isolation::default());
        assert_eq!(found.fuel_per_unit_max, FUEL_PER_UNIT_MAX);
    }

    #[test]
    fn a_policy_is_read_whole() {
        let text = "
            [sandbox]
            require = [\"seccomp\", \"landlock\"]
            process_per_unit = true
            query_ms = 500
            fuel_per_unit_max = 7";
        let found = parse(text).unwrap();
        assert_eq!(found.fuel_per_unit_max, 7);
        let found = found.isolation;
        assert_eq!(found.required.to_string(), "landlock, seccomp");
        assert!(found.process_per_unit && !found.pad_batches);
        assert_eq!(found.query_ms, 500);
        let all = parse("sandbox.require = [\"all\"]").unwrap();
        let all = all.isolation.required;
        assert!(Layer::ALL.into_iter().all(|layer| all.has(layer)));
    }

    #[test]
    fn the_guests_that_come_along_ask_for_a_quarter_of_what_a_site_accepts_at_most() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        let plugins = crate::Plugins::scan(&plugins).unwrap();
        let asked = plugins.0.values().filter_map(|plugin| {
            let component = plugin.manifest.component.as_ref()?;
            Some(component.fuel_per_unit)
        });
        assert!(asked.max().unwrap() <= FUEL_PER_UNIT_MAX / 4);
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
            let problem = read(folder.path()).unwrap_err();
            assert!(problem.contains(FILE), "{problem}");
        }
    }
}
