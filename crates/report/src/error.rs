//! Why a report cannot be made.

use noisegate_privacy::AccountantError;
use thiserror::Error;

/// Why a report cannot be made.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ReportError {
    /// A charge that the accountant cannot price.
    #[error(
        "entry {reservation} of the ledger of site `{site}` has no epsilon: {source}; upgrade to the version that wrote it"
    )]
    Unpriced {
        /// The site.
        site: String,
        /// The ledger's entry.
        reservation: u64,
        /// Why.
        source: AccountantError,
    },
}
