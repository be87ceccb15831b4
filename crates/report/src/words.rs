//! The sentences of the report that are the same for every run.

/// What adjacency means here.
pub(crate) const ADJACENCY: &str = "Two data sets are neighbours if one has exactly one unit more than the other (add or remove one). Both directions are covered.";
/// What is trusted.
pub(crate) const TRUST: &str = "Central model: each site holds its own private data in the clear and trusts its own operating system, its operators and the native code of noisegate. It trusts what the workflow's `[data.*]` tables say of its files, and neither the guests, nor the rest of the workflow, nor any other site, nor any model.";
/// How the mechanism is implemented.
pub(crate) const MECHANISM: &str = "Each unit's contribution is computed in a fresh sandbox instance, converted to integers, bounded in integers by the step's mechanism (a Gaussian sum shortens it to an L2 norm of at most the bound; votes turn one with more marks than a unit may have to zero), summed in 64-bit integers, and released with noise floor(N(0, 4^24)) of ChaCha20 streams whose keys come from the operating system's randomness: a post-processing of the continuous Gaussian mechanism, with no floating point between contribution and noise. Units are included by independent coins (Poisson sampling). The result is divided by a public figure, never by the true number of units. The sampler's own error is part of the charge (`noise`).";
/// What the noise does to what is released.
pub(crate) const UTILITY: &str = "Every released number is a mean contribution per unit with independent Gaussian noise; the table gives its size beside what one unit can add. How good the outputs made from these numbers are was not measured through the gate: whatever was measured on private rows is private to the site and not in this report.";
/// Whom the mechanism serves worse.
pub(crate) const BIAS: &str = "Clipping shortens unusually large contributions (under votes, too many marks count as nothing), and noise drowns what few units share: rare labels, small groups and unusual records are represented worst, and weaker privacy parameters for them cannot be chosen. Rows with a label that was not declared count as nothing. Samples that a step draws in equal numbers for each declared label do not show how frequent a label is; histograms and votes do, with their noise. Differential privacy neither removes nor reports a bias that the private data have.";
/// What happens before data are read.
pub(crate) const CHARGED_FIRST: &str = "A charge is durable in the site's ledger before the first private row is parsed. A run that dies afterwards has spent it; an identical request gets the same bytes again at no charge; anything else is charged anew.";
/// Security and access control.
pub(crate) const ACCESS: &str = "Artifacts are labelled public or private to sites; `check` proves before a run that nothing private reaches another site, a host step on another site or an export, and the artifact store asks again whenever an artifact is opened. Ledger entries are chained by hashes and signed with the site's ed25519 key; the ledger was verified for this report.";
/// Collection.
pub(crate) const COLLECTION: &str = "Private rows stay in the file that the site named. Before a charge the file is read once as opaque bytes, for its digest in the site's ledger. Rows are read at that site alone: by the gate, after the charge, and by the site's own training and evaluation steps, whose results stay private to it.";
/// Side channels that are closed.
pub(crate) const SIDE_CHANNELS: &str = "Guests import pure numeric kernels and, where their manifest asks for it, a frozen WASI that answers with constants: no clock that moves, no secret randomness, no file, no network, no output. A unit that traps, loops, exhausts its fuel or returns nonsense counts as zero, silently. The number of units, batch sizes, traps and fuel are in no output, log or message, and no message quotes a row.";
/// What is not covered.
pub(crate) const NOT_COVERED: [&str; 8] = [
    "A compromised operating system, hypervisor or site operator, or physical access to the site.",
    "Hardware side channels, and how long a query takes.",
    "Whether a step that reads private records fails, and the file and line of a malformed row, which the site's own messages and the run's events name.",
    "Models trained on private data, their scores and predictions: they are not differentially private and stay private to their site.",
    "Several records of one person, where the unit is a record.",
    "A changed copy of a data set under another file name, and any copy under another home folder: each has a budget of its own. An unchanged copy below the same home is refused.",
    "Whether two runs were served the same stored output, which tells that nothing changed in between.",
    "Anything that left the site by other means than this program.",
];
/// What an audit is worth.
pub(crate) const AUDIT_CAVEAT: &str = "An audit gives lower bounds on epsilon. It can refute a claim, never certify it: the claim rests on the proofs beside the code.";
/// What an audit of a votes step leaves out.
pub(crate) const AUDIT_OF_VOTES: &str = "The audit of a votes step gives each made-up unit one mark and allows one. The rule that turns a unit with more marks than it may have to zero was not attacked.";
/// Where no audit was made.
pub(crate) const NO_AUDIT: &str = "No audit was made of this run; `noisegate audit` makes one.";
