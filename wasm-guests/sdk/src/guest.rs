//! The wasm glue: bindings of the WIT world, and the macro that exports a step.
//!
//! Compiled for wasm only. Values are moved between the generated types and the
//! plain ones of [`crate::step`]; nothing is decided here.

/// What wit-bindgen makes of `client.wit`.
#[allow(missing_docs, clippy::undocumented_unsafe_blocks)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../crates/sandbox/wit",
        world: "client-step",
        pub_export_macro: true,
        export_macro_name: "export_client_step",
        default_bindings_module: "noisegate_guest_sdk::guest::bindings",
    });
}

pub use bindings::exports::noisegate::client::{private_side, public_side};

use crate::step::{File, Query, Setup, TextRecord, Turn, Unit};

impl From<public_side::File> for File {
    fn from(file: public_side::File) -> Self {
        File {
            name: file.name,
            data: file.data,
        }
    }
}

impl From<File> for public_side::File {
    fn from(file: File) -> Self {
        public_side::File {
            name: file.name,
            data: file.data,
        }
    }
}

impl From<Setup> for public_side::Setup {
    fn from(setup: Setup) -> Self {
        public_side::Setup {
            dim: setup.dim,
            queries: setup.queries,
            tensors: setup.tensors,
            context: setup.context,
        }
    }
}

impl From<Turn> for public_side::Turn {
    fn from(turn: Turn) -> Self {
        match turn {
            Turn::Ask(Query { tensors, context }) => {
                public_side::Turn::Ask(public_side::Query { tensors, context })
            }
            Turn::Working(done, total) => public_side::Turn::Working((done, total)),
            Turn::Done => public_side::Turn::Done,
        }
    }
}

impl From<private_side::Unit> for Unit {
    fn from(unit: private_side::Unit) -> Self {
        let plain = |record: bindings::noisegate::client::types::TextRecord| TextRecord {
            text: record.text,
            label: record.label,
        };
        Unit {
            records: unit.records.into_iter().map(plain).collect(),
        }
    }
}

/// Exports a [`crate::ClientStep`] as a component of the world `client-step`.
///
/// The public side's state lives in one slot of the instance; the private side
/// never touches it.
#[macro_export]
macro_rules! export_step {
    ($step:ty) => {
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks, missing_docs)]
        mod exported_step {
            use std::cell::RefCell;
            use $crate::guest::{private_side, public_side};
            use $crate::{ClientStep, Round};

            thread_local! {
                static STEP: RefCell<Option<($step, Round)>> = const { RefCell::new(None) };
            }

            fn with_step<R>(act: impl FnOnce(&mut $step, &mut Round) -> R) -> R {
                STEP.with(|slot| {
                    let mut slot = slot.borrow_mut();
                    let (step, round) = slot.as_mut().expect("the host calls `start` first");
                    act(step, round)
                })
            }

            struct Exported;

            impl public_side::Guest for Exported {
                fn start(config: String, inputs: Vec<public_side::File>) -> Result<public_side::Setup, String> {
                    let inputs = inputs.into_iter().map(Into::into).collect();
                    let (step, setup) = <$step as ClientStep>::start(&config, inputs)?;
                    let round = Round { asked: 0, queries: setup.queries };
                    STEP.with(|slot| *slot.borrow_mut() = Some((step, round)));
                    Ok(setup.into())
                }

                fn next() -> public_side::Turn {
                    with_step(|step, round| {
                        let turn = ClientStep::next(step, *round);
                        if matches!(turn, $crate::Turn::Ask(_)) {
                            round.asked += 1;
                        }
                        turn
                    })
                    .into()
                }

                fn absorb(released: Vec<f32>) {
                    with_step(|step, _| ClientStep::absorb(step, released));
                }

                fn outputs() -> Result<Vec<public_side::File>, String> {
                    let files = with_step(|step, _| ClientStep::outputs(step))?;
                    Ok(files.into_iter().map(Into::into).collect())
                }
            }

            impl private_side::Guest for Exported {
                fn contribute(
                    unit: private_side::Unit,
                    setup_context: Vec<u8>,
                    query_context: Vec<u8>,
                    tensors: Vec<$crate::Tensor>,
                    into: &$crate::Accum,
                ) {
                    let unit = unit.into();
                    let tensors: Vec<&$crate::Tensor> = tensors.iter().collect();
                    <$step as ClientStep>::contribute(&unit, &setup_context, &query_context, &tensors, into);
                }
            }

            $crate::guest::bindings::export_client_step!(Exported with_types_in $crate::guest::bindings);
        }
    };
}
