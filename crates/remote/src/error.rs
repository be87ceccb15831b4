//! Everything that can go wrong with a served model: place, problem, remedy.
//!
//! No message holds the key, nor any of a prompt.

use std::fmt;
use std::path::PathBuf;

use crate::endpoint::{KEY_PREFIX, Origin};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a served model could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one. It is not quoted, for it may hold a password.
    #[error(
        "the endpoint's `url` is no address: {problem}; write for example `https://gpu.internal:8000/v1`"
    )]
    Url {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Unencrypted HTTP to another machine.
    #[error(
        "`{origin}` is unencrypted HTTP to another machine; use `https`, or set `plain_http = true` if the network between is trusted"
    )]
    PlainHttp {
        /// Where.
        origin: Origin,
    },
    /// A number out of range.
    #[error("the endpoint's `{setting}` is {value}; write a number from {min} to {max}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// As written.
        value: u64,
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// The proxy is not an address.
    #[error(
        "the endpoint's `proxy` is no address; write for example `http://proxy.internal:3128`, without a name or a password"
    )]
    Proxy,
    /// A key in a variable that is not one for keys of endpoints.
    #[error(
        "the endpoint's `key_env` is `{name}`, which does not begin with `{KEY_PREFIX}`; only variables that do are sent to a server: put the key into `{KEY_PREFIX}NAME`"
    )]
    KeyName {
        /// As written.
        name: String,
    },
    /// The key is empty or cannot be sent.
    #[error(
        "the endpoint's key is empty or holds characters that no key in an HTTP header has; set its environment variable to the key alone"
    )]
    Key,
    /// 401 or 403.
    #[error("`{address}` refused {} (HTTP {status}); {}", if *.with_key { "the key" } else { "a request without a key" }, if *.with_key { "check the key, and whether it may use the model" } else { "name the key's environment variable in the endpoint's `key_env`" })]
    Denied {
        /// What was called.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// 404 or 405.
    #[error(
        "`{address}` is not there, or serves no model `{model}` (HTTP {status}){said}; check the endpoint's `url`, which usually ends in `/v1`, and `model`"
    )]
    NotFound {
        /// What was called.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The model asked for.
        model: String,
        /// The server's words.
        said: Said,
    },
    /// Any other status that asking again would not change.
    #[error(
        "`{address}` did not take the request (HTTP {status}){said}; compare the step's parameters and the endpoint's `context` with what the server allows"
    )]
    Rejected {
        /// What was called.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        said: Said,
    },
    /// A redirect, which is never followed: prompts and key go to the named server only.
    #[error(
        "`{address}` redirects elsewhere (HTTP {status}), which is never followed; write the final address as the endpoint's `url`"
    )]
    Redirected {
        /// What was called.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server's certificate does not hold.
    #[error(
        "`{address}` could not be trusted: {detail}; add the authority of its certificate to this system's trust store"
    )]
    Untrusted {
        /// What was called.
        address: String,
        /// The TLS library's words.
        detail: String,
    },
    /// Every attempt failed for a passing reason.
    #[error(
        "`{address}` gave no answer in {attempts} attempts: {trouble}; what was answered before is kept, so a new run asks only for the rest"
    )]
    Exhausted {
        /// What was called.
        address: String,
        /// Attempts made.
        attempts: u32,
        /// What the last one met.
        trouble: Trouble,
    },
    /// The journal could not be read or written.
    #[error("could not {action} the journal `{}`: {source}; free some disk space, or check the folder's permissions", path.display())]
    Journal {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The caller raised the cancel flag.
    #[error("cancelled by the caller")]
    Cancelled,
}

/// A reason to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// 429: too many requests.
    Busy,
    /// 408, 5xx: the server's own trouble.
    Server {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        said: Said,
    },
    /// No answer in time.
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// No connection, or one that broke.
    Connection(String),
    /// A body that is not the JSON of an answer.
    Malformed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => out.write_str(
                "it is asked too often (HTTP 429), lower the endpoint's `concurrency` or raise `retries_max`",
            ),
            Self::Server { status, said } => {
                write!(out, "it has trouble of its own (HTTP {status}){said}, look at its log")
            }
            Self::Timeout { seconds } => write!(
                out,
                "no answer within {seconds} s, raise the endpoint's `timeout_seconds` or lower `concurrency`"
            ),
            Self::Connection(detail) => {
                write!(out, "no connection ({detail}), check that it runs and can be reached")
            }
            Self::Malformed(detail) => {
                write!(out, "its answer is not in the OpenAI format ({detail}), check the endpoint's `url`")
            }
        }
    }
}

/// What a server said of its refusal, cut short; empty if nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(pub String);

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(out, ", saying \"{}\"", self.0)
    }
}
