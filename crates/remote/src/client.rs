//! One request, and what its outcome means: an answer, try again, or never.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use crate::endpoint::Endpoint;
use crate::error::{Error, Result, Said, Trouble};
use crate::secret::Secret;
use crate::wire::{Answer, Question, parse, said};

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What came of a request.
pub(crate) enum Outcome {
    Answered(Answer),
    /// It may go better later; not before `wait`, if the server said so.
    Again {
        trouble: Trouble,
        wait: Option<Duration>,
    },
    /// Asking again would change nothing.
    Never(Error),
}

/// A connection pool to one endpoint.
pub(crate) struct Client {
    agent: Agent,
    pub(crate) endpoint: Endpoint,
    key: Option<Secret>,
}

impl Client {
    /// # Errors
    /// Whatever [`Endpoint::sends_to`] refuses.
    pub(crate) fn new(endpoint: &Endpoint, key: Option<&Secret>) -> Result<Self> {
        endpoint.sends_to()?;
        let proxy = endpoint.proxy.as_deref().map(Proxy::new).transpose();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // Said even where it is none, or the environment's proxy would be used.
            .proxy(proxy.map_err(|_| Error::Proxy)?)
            .tls_config(tls)
            .timeout_global(Some(endpoint.timeout()))
            .timeout_connect(Some(CONNECT_MAX.min(endpoint.timeout())))
            .max_idle_connections_per_host(endpoint.concurrency)
            .user_agent("noisegate")
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint: endpoint.clone(),
            key: key.cloned(),
        })
    }

    pub(crate) fn ask(&self, question: &Question) -> Outcome {
        let address = self.endpoint.address(question.call());
        let body = question.body(&self.endpoint).to_string();
        let mut request = self
            .agent
            .post(&address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.bearer().as_str());
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return self.unanswered(address, error),
        };
        let status = response.status();
        let wait = retry_after(response.headers());
        let text = response
            .body_mut()
            .with_config()
            .limit(question.body_bytes_max())
            .read_to_vec();
        match text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
            Ok(text) if status.is_success() => match parse(&text, &self.endpoint) {
                Ok(answer) => Outcome::Answered(answer.fit(question, self.key.as_ref())),
                Err(problem) => Outcome::Again {
                    trouble: Trouble::Malformed(problem.to_owned()),
                    wait,
                },
            },
            Ok(text) => self.refused(address, status, &text, wait),
            Err(_) if !status.is_success() => self.refused(address, status, "", wait),
            Err(error) => self.unanswered(address, error),
        }
    }

    /// What a status other than success means.
    fn refused(
        &self,
        address: String,
        status: StatusCode,
        body: &str,
        wait: Option<Duration>,
    ) -> Outcome {
        let said = Said(said(body, self.key.as_ref()));
        let status = status.as_u16();
        match status {
            // What is said of a wrong key may hold a part of it.
            401 | 403 => Outcome::Never(Error::Denied {
                address,
                status,
                with_key: self.key.is_some(),
            }),
            404 | 405 => Outcome::Never(Error::NotFound {
                address,
                status,
                model: self.endpoint.model.clone(),
                said,
            }),
            300..=399 => Outcome::Never(Error::Redirected { address, status }),
            429 => Outcome::Again {
                trouble: Trouble::Busy,
                wait,
            },
            408 | 425 | 500.. => Outcome::Again {
                trouble: Trouble::Server { status, said },
                wait,
            },
            _ => Outcome::Never(Error::Rejected {
                address,
                status,
                said,
            }),
        }
    }

    /// What the lack of a status means.
    fn unanswered(&self, address: String, error: ureq::Error) -> Outcome {
        let timeout = Trouble::Timeout {
            seconds: self.endpoint.timeout_seconds,
        };
        let untrusted = |detail: String| {
            Outcome::Never(Error::Untrusted {
                address: address.clone(),
                detail,
            })
        };
        let trouble = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Trouble::Connection("it could not be reached in time".to_owned())
            }
            ureq::Error::Timeout(_) => timeout,
            ureq::Error::Io(error) => match error.kind() {
                std::io::ErrorKind::TimedOut => timeout,
                // How rustls' complaints about a peer arrive.
                std::io::ErrorKind::InvalidData => return untrusted(error.to_string()),
                _ => Trouble::Connection(error.to_string()),
            },
            ureq::Error::HostNotFound => Trouble::Connection("no such host".to_owned()),
            ureq::Error::BodyExceedsLimit(bytes) => Trouble::Malformed(format!(
                "it is larger than {bytes} bytes, more than an answer to this question needs"
            )),
            ureq::Error::Protocol(error) => Trouble::Malformed(error.to_string()),
            ureq::Error::Tls(detail) => return untrusted(detail.to_owned()),
            ureq::Error::Rustls(error) => return untrusted(error.to_string()),
            other => Trouble::Connection(other.to_string()),
        };
        Outcome::Again {
            trouble,
            wait: None,
        }
    }
}

/// Seconds of a `Retry-After` header; its other form, a date, is not used by these servers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
