//! The second wall: what a worker process may still do if its guest escapes
//! WebAssembly.
//!
//! ```text
//! worker starts ─ closes files ─ engine ─ jail::enforce ─> Ready ─ guest is loaded ─ jail::tighten ─> it runs
//! ```
//! A jailed worker holds one socket and one memory file, both shared with its
//! parent alone, and may ask the kernel for memory and little else. Each layer
//! stands by itself; [`Layers`] says which ones this machine has put up, and
//! [`crate::Isolation`] which ones must be. Layers go up before the first guest
//! byte arrives, so what a worker says of them can be believed.
//!
//! Deliberately absent: anything a guest could configure.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod syscalls;

use std::fmt;
use std::str::FromStr;

use crate::error::SandboxError;
use crate::limits::{Isolation, Limits};
use crate::messages::Role;
use crate::process::Worker;

#[cfg(target_os = "linux")]
pub(crate) use linux::{close_inherited, enforce, tighten};

/// One layer of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// No program started from here gains rights (`no_new_privs`).
    NoNewPrivileges,
    /// System calls outside an allow-list kill the worker (seccomp).
    Seccomp,
    /// No file can be opened, no TCP port, abstract socket or foreign process reached
    /// (Landlock); there only if all of that holds.
    Landlock,
    /// A network namespace of its own, with nothing in it.
    Network,
    /// No capability is held, and none can be gained.
    Capabilities,
    /// Bounds on files, their size, processor time; no core dumps, not traceable.
    Limits,
    /// No clock can be read without a system call: neither the processor's counter nor the
    /// kernel's page of the time (x86-64).
    Clock,
}

impl Layer {
    /// Every layer, in the order in which they go up.
    pub const ALL: [Layer; 7] = [
        Layer::Clock,
        Layer::Limits,
        Layer::Network,
        Layer::Capabilities,
        Layer::NoNewPrivileges,
        Layer::Landlock,
        Layer::Seccomp,
    ];

    /// Its name in a site's policy.
    pub fn name(self) -> &'static str {
        match self {
            Layer::NoNewPrivileges => "no-new-privileges",
            Layer::Seccomp => "seccomp",
            Layer::Landlock => "landlock",
            Layer::Network => "network",
            Layer::Capabilities => "capabilities",
            Layer::Limits => "limits",
            Layer::Clock => "clock",
        }
    }
}

/// Which layers this machine puts up around a worker that runs guests.
///
/// # Errors
/// [`SandboxError::Engine`] if it cannot start one.
pub fn probe() -> Result<Layers, SandboxError> {
    let isolation = Isolation {
        required: Layers::NONE,
        ..Isolation::default()
    };
    let limits = Limits {
        isolation,
        ..Limits::default()
    };
    Ok(Worker::start(Role::Private, &limits)?.layers())
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Layer::ALL
            .into_iter()
            .find(|layer| layer.name() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Layer::ALL.iter().map(|layer| layer.name()).collect();
                format!(
                    "`{text}` is no layer of the jail; write one of {}",
                    known.join(", ")
                )
            })
    }
}

/// A set of layers.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Layers(u32);

impl Layers {
    /// None of them.
    pub const NONE: Layers = Layers(0);

    /// With this one too.
    #[must_use]
    pub const fn with(self, layer: Layer) -> Self {
        Layers(self.0 | 1 << layer as u32)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u32 != 0
    }

    /// Those of `self` that `others` lacks.
    #[must_use]
    pub const fn without(self, others: Layers) -> Self {
        Layers(self.0 & !others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        Layer::ALL.into_iter().filter(move |layer| self.has(*layer))
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Layers(bits)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Layer::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layers({self})")
    }
}

impl FromIterator<Layer> for Layers {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        layers.into_iter().fold(Layers::NONE, Layers::with)
    }
}

/// Elsewhere than on Linux there is no jail, and no worker starts.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::Layers;
    use crate::limits::Limits;
    use crate::messages::Role;

    pub(crate) fn close_inherited() {}

    pub(crate) fn enforce(_role: Role, _limits: &Limits) -> Layers {
        Layers::NONE
    }

    pub(crate) fn tighten(_role: Role) -> bool {
        false
    }
}
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{close_inherited, enforce, tighten};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_known_by_its_name() {
        for layer in Layer::ALL {
            assert_eq!(layer.name().parse::<Layer>(), Ok(layer));
        }
        assert!("firewall".parse::<Layer>().unwrap_err().contains("seccomp"));
    }

    #[test]
    fn sets_of_layers_can_be_compared() {
        let needed: Layers = [Layer::Seccomp, Layer::Landlock].into_iter().collect();
        let present = Layers::NONE.with(Layer::Seccomp);
        assert_eq!(needed.without(present).to_string(), "landlock");
        assert!(needed.without(Layer::ALL.into_iter().collect()).is_empty());
    }
}
