//! What a guest is run under: its limits, its mechanism, and what it is told of both.
//!
//! ```text
//! plugin.toml, with, epsilon, delta ──> Terms ──> Declaration   for the gate
//!                                            └──> JSON          for the guest
//! ```
//!
//! Used for a step of a workflow ([`crate::guest`]) and for trying a guest out
//! ([`crate::trial`]), which must not differ.

use std::fs;

use noisegate_engine::StepFailure;
use noisegate_privacy::{ClipBound, NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{Declaration, Digest, Guest, Isolation, Limits, Mechanism, Wasi};
use serde_json::{Map, Value, json};

use crate::catalog::VOTES_PER_UNIT;
use crate::guest::{bad_input, before_the_charge, defect};
use crate::plugin::{Component, MechanismKind, Plugin};
use crate::schedule::Schedule;
use crate::with::With;

/// The mechanism of one step, its noise calibrated.
pub(crate) struct Terms {
    pub gated: Mechanism,
    pub sampling_rate: SamplingRate,
    pub noise_multiplier: NoiseMultiplier,
    pub steps: u32,
    pub units_public: u64,
}

impl Terms {
    /// From a step's parameters, defaults filled in, and its calibrated schedule.
    ///
    /// # Errors
    /// [`StepFailure::BadInput`] for a bound that the gate cannot run.
    pub fn new(
        plugin: &Plugin,
        with: &Map<String, Value>,
        schedule: Schedule,
        units_public: u64,
    ) -> Result<Self, StepFailure> {
        Ok(Self {
            gated: gated(plugin, &With(with))?,
            sampling_rate: schedule.sampling_rate,
            noise_multiplier: schedule.noise_multiplier,
            steps: schedule.steps,
            units_public,
        })
    }

    /// What the gate is told.
    pub fn declaration(&self) -> Declaration {
        Declaration {
            mechanism: self.gated,
            noise_multiplier: self.noise_multiplier,
            sampling_rate: self.sampling_rate,
            units_public: self.units_public,
            steps: self.steps,
        }
    }

    /// What the guest is told: its own parameters, and public facts.
    pub fn config(&self, plugin: &Plugin, with: &Map<String, Value>, labels: &[String]) -> Value {
        let own = |name: &String| plugin.manifest.with.iter().any(|own| own.name == *name);
        let own: Map<String, Value> = with
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        json!({
            "with": own,
            "labels": labels,
            "mechanism": {
                "sampling_rate": self.sampling_rate.get(),
                "noise_multiplier": self.noise_multiplier.get(),
                "clip": self.gated.sensitivity(),
                "votes_per_unit": with.get(VOTES_PER_UNIT),
                "steps": self.steps,
                "expected_batch": self.expected_batch(),
            },
            "seed": with.get("seed"),
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a public figure, far below 2^53"
    )]
    fn expected_batch(&self) -> f64 {
        self.sampling_rate.get() * self.units_public as f64
    }
}

/// What a unit may contribute, by the manifest's mechanism and the step's parameters.
fn gated(plugin: &Plugin, with: &With<'_>) -> Result<Mechanism, StepFailure> {
    let mechanism = plugin.manifest.mechanism.as_ref();
    let mechanism = mechanism.ok_or_else(|| defect("the plugin has no mechanism"))?;
    Ok(match mechanism.kind {
        MechanismKind::GaussianSum => Mechanism::GaussianSum {
            clip: ClipBound::new(with.float("clip")?).map_err(bad_input)?,
        },
        MechanismKind::Votes => Mechanism::Votes {
            per_unit: u32::try_from(with.count(VOTES_PER_UNIT)?).map_err(bad_input)?,
        },
    })
}

/// The plugin's component.
///
/// # Errors
/// [`StepFailure::Failed`] if it has none, which reading the manifest refuses.
pub(crate) fn component(plugin: &Plugin) -> Result<&Component, StepFailure> {
    let component = plugin.manifest.component.as_ref();
    component.ok_or_else(|| defect("the plugin has no component"))
}

/// The limits that a manifest asks for.
///
/// # Errors
/// [`StepFailure::BadInput`] for more memory than can be addressed.
pub fn limits(
    component: &Component,
    threads: usize,
    isolation: Isolation,
) -> Result<Limits, StepFailure> {
    let mut limits = Limits {
        threads,
        isolation,
        ..Limits::default()
    };
    if component.wasi.is_some() {
        limits.wasi = Wasi::Frozen;
    }
    limits.private.fuel_per_call = component.fuel_per_unit;
    limits.private.memory_bytes_max =
        usize::try_from(component.memory_bytes_max).map_err(bad_input)?;
    Ok(limits)
}

/// Loads the plugin's component, if its bytes are the pinned ones.
///
/// # Errors
/// [`StepFailure::BadInput`] with the sandbox's reason.
pub(crate) fn load(
    plugin: &Plugin,
    threads: usize,
    isolation: Isolation,
) -> Result<Guest, StepFailure> {
    let component = component(plugin)?;
    let path = plugin.folder.join(&component.file);
    let bytes = fs::read(&path).map_err(|error| {
        StepFailure::BadInput(format!(
            "could not read the guest `{}`: {error}",
            path.display()
        ))
    })?;
    let pinned: Digest = component.sha256.parse().map_err(bad_input)?;
    let limits = limits(component, threads, isolation)?;
    Guest::load(&bytes, Some(&pinned), &limits).map_err(before_the_charge)
}
