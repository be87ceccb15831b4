//! The client step `dp-generator`: labelled synthetic text, differentially private.
//!
//! ```text
//!   public side                                gate                  private side, fresh per unit
//!   public.rs ─ weights ─────────────────────────────────────────────> private.rs
//!       ▲                                                                 │ gradient.rs
//!       └── optimise.rs <── noised mean gradient <── clip, sum, noise <───┘
//!       └── sample.rs ──> samples.jsonl
//! ```
//!
//! A small Llama decoder (`shape.rs`, `model.rs`) starts from public weights and is
//! fine-tuned on records that begin with their label in words, the control code of
//! FDKT (Li et al., 2024, arXiv 2405.14212). Afterwards the same number of texts is
//! drawn for each label. Start reading at `public.rs` and `private.rs`.
//!
//! Deliberately absent: clipping and noise, which are the gate's; and any state that
//! one unit could leave for the next.
#![deny(unsafe_code)]

pub mod attention;
pub mod choose;
pub mod config;
pub mod context;
pub mod decode;
pub mod gradient;
pub mod model;
pub mod ops;
pub mod optimise;
pub mod plan;
pub mod private;
pub mod public;
pub mod sample;
pub mod shape;
pub mod weights;

use noisegate_guest_sdk::{Accum, ClientStep, File, Round, Setup, Tensor, Turn, Unit};

impl ClientStep for public::Generator {
    fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String> {
        public::Generator::start(config, inputs)
    }

    fn next(&mut self, _round: Round) -> Turn {
        self.turn()
    }

    fn absorb(&mut self, released: Vec<f32>) {
        public::Generator::absorb(self, &released);
    }

    fn outputs(&mut self) -> Result<Vec<File>, String> {
        public::Generator::outputs(self)
    }

    fn contribute(
        unit: &Unit,
        setup_context: &[u8],
        _query_context: &[u8],
        tensors: &[&Tensor],
        into: &Accum,
    ) {
        private::contribute(unit, setup_context, tensors, into);
    }
}

#[cfg(target_arch = "wasm32")]
noisegate_guest_sdk::export_step!(crate::public::Generator);
