//! The trait of a client step, and the plain values that cross the sandbox's wall.
//!
//! The types mirror `crates/sandbox/wit/client.wit` one to one.

use crate::kernels::{Accum, Tensor};

/// One private record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRecord {
    /// The text itself.
    pub text: String,
    /// Always one of the labels declared public in the workflow.
    pub label: String,
}

/// A privacy unit: one record, or all records of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The unit's records, in the order of the data set.
    pub records: Vec<TextRecord>,
}

/// A named blob: a file of a public input, or an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// For an input `<port>/<relative path>`, for an output the declared file name.
    pub name: String,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What every query of the step has in common.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Length of every contribution.
    pub dim: u32,
    /// How many queries will be asked at most.
    pub queries: u32,
    /// Public tensors that stay the same for all queries.
    pub tensors: Vec<Vec<f32>>,
    /// Public bytes that stay the same for all queries.
    pub context: Vec<u8>,
}

/// One sum over a Poisson sample of the units.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Public tensors of this query, appended to the setup's.
    pub tensors: Vec<Vec<f32>>,
    /// Public bytes of this query.
    pub context: Vec<u8>,
}

/// What the public side wants next.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Run this query through the gate, then call `absorb`.
    Ask(Query),
    /// Public work in progress (done so far, in all).
    Working(u32, u32),
    /// Nothing left to do.
    Done,
}

/// How far the queries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Queries asked so far.
    pub asked: u32,
    /// Queries announced in [`Setup::queries`].
    pub queries: u32,
}

/// A client step: three methods of the public side, one of the private side.
pub trait ClientStep: Sized {
    /// Reads the configuration and the public inputs.
    ///
    /// # Errors
    /// A sentence for the user: place, problem, remedy.
    fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String>;

    /// Adds one unit's contribution to `into`, which is born zero.
    ///
    /// Runs in an instance of its own: no state of the public side exists here.
    /// A panic makes the contribution zero.
    fn contribute(
        unit: &Unit,
        setup_context: &[u8],
        query_context: &[u8],
        tensors: &[&Tensor],
        into: &Accum,
    );

    /// Takes the noised sum divided by the public expected batch size: `dim` numbers.
    fn absorb(&mut self, released: Vec<f32>);

    /// Makes the outputs, once `next` has said [`Turn::Done`].
    ///
    /// # Errors
    /// A sentence for the user: place, problem, remedy.
    fn outputs(&mut self) -> Result<Vec<File>, String>;

    /// Decides what happens next. As given, it asks all queries, each without a context
    /// of its own; a step that adapts its queries writes its own.
    fn next(&mut self, round: Round) -> Turn {
        if round.asked < round.queries {
            Turn::Ask(Query::default())
        } else {
            Turn::Done
        }
    }
}
