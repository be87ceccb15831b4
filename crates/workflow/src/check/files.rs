//! Two data sets that are one file.
//!
//! Declaring a file twice is allowed as long as it is not private here and public there, which
//! would carry every row around the gate, nor charged under two budgets, each of which would think
//! itself the whole. Sites are not told apart: on one machine they share their files.

use crate::diagnostics::Report;
use crate::error::Problem;
use crate::workflow::{DataSet, Workflow};

use super::budget::Charges;

pub(super) fn check(workflow: &Workflow, charges: &Charges, report: &mut Report) {
    let is_charged = |data: &DataSet| charges.data.iter().any(|one| one.data == data.name.value);
    for (index, second) in workflow.data.iter().enumerate() {
        for first in &workflow.data[..index] {
            let (Some(one), Some(other)) = (first.path.given(), second.path.given()) else {
                continue;
            };
            if !one.value.same_file(&other.value) {
                continue;
            }
            let path = other.value.text.clone();
            match (first.private.value(), second.private.value()) {
                (Some(true), Some(false)) => public_too(first, second, path, report),
                (Some(false), Some(true)) => public_too(second, first, path, report),
                _ if is_charged(first) && is_charged(second) => {
                    let see = format!("`data.{}` is the same file", first.name.value);
                    let (first, second) = (first.name.value.clone(), second.name.value.clone());
                    let problem = Problem::BudgetCountedTwice {
                        first,
                        second,
                        path,
                    };
                    report.error_with(other.place, problem, vec![(see, one.place)]);
                }
                _ => {}
            }
        }
    }
}

fn public_too(private: &DataSet, public: &DataSet, path: String, report: &mut Report) {
    let see = format!("`data.{}` is declared private", private.name.value);
    let problem = Problem::PrivateFilePublicToo {
        private: private.name.value.clone(),
        public: public.name.value.clone(),
        path,
    };
    report.error_with(public.name.place, problem, vec![(see, private.name.place)]);
}
