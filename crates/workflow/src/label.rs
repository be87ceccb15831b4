//! Who may see an artifact.
//!
//! Labels form a small lattice: `Public` at the bottom, then sets of sites. They flow along the
//! graph as a join; only the gate of a guest step lowers one, and that is written in
//! `check::labels`, not here.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::SiteName;

/// Who may see an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// Anyone: never private, or released by the gate.
    Public,
    /// Holds secrets of each of these sites. Never empty.
    PrivateTo(BTreeSet<SiteName>),
}

impl Label {
    /// Private to one site.
    pub fn private_to(site: SiteName) -> Self {
        Self::PrivateTo(BTreeSet::from([site]))
    }

    /// The label of something made from both.
    #[must_use]
    pub fn join(self, other: &Label) -> Label {
        match (self, other) {
            (Label::Public, other) => other.clone(),
            (one, Label::Public) => one,
            (Label::PrivateTo(mut sites), Label::PrivateTo(others)) => {
                sites.extend(others.iter().cloned());
                Label::PrivateTo(sites)
            }
        }
    }

    /// Whether a step on `site` may be handed it at all: public, or no other site's secret.
    pub fn may_be_read_on(&self, site: &SiteName) -> bool {
        match self {
            Label::Public => true,
            Label::PrivateTo(sites) => sites.iter().all(|owner| owner == site),
        }
    }

    /// Whether anyone may see it.
    pub fn is_public(&self) -> bool {
        *self == Label::Public
    }

    /// The sites whose secrets it holds.
    pub fn owners(&self) -> Vec<SiteName> {
        match self {
            Label::Public => Vec::new(),
            Label::PrivateTo(sites) => sites.iter().cloned().collect(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Public => out.write_str("public"),
            Label::PrivateTo(sites) => {
                let sites: Vec<&str> = sites.iter().map(SiteName::as_str).collect();
                write!(out, "private to {}", sites.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteName {
        name.parse().expect("a literal name")
    }

    #[test]
    fn join_never_forgets_an_owner() {
        let both = Label::private_to(site("a")).join(&Label::private_to(site("b")));
        assert_eq!(both.owners(), [site("a"), site("b")]);
        assert_eq!(both.clone().join(&Label::Public), both);
        assert_eq!(Label::Public.join(&both), both);
    }

    #[test]
    fn what_two_sites_own_neither_may_read_alone() {
        let both = Label::private_to(site("a")).join(&Label::private_to(site("b")));
        assert!(!both.may_be_read_on(&site("a")));
        assert!(Label::private_to(site("a")).may_be_read_on(&site("a")));
        assert!(!Label::private_to(site("a")).may_be_read_on(&site("b")));
        assert!(Label::Public.may_be_read_on(&site("b")));
    }
}
