//! Where a model is served, and how patiently it is asked.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

/// How the name of a key's environment variable begins: whoever writes an endpoint may not have
/// just any variable of the machine sent away.
pub const KEY_PREFIX: &str = "NOISEGATE_KEY_";

/// A day.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// A served model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where the API begins, usually with `/v1` at its end.
    pub url: String,
    /// The model's name at the server.
    pub model: String,
    /// The environment variable that holds the key, one of [`KEY_PREFIX`]; whoever calls this
    /// crate reads it.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Tokens that a prompt and its answer may have together.
    #[serde(default = "context")]
    pub context: usize,
    /// Longest wait for one answer, in seconds.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Requests under way at once.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Attempts after the first for a request that failed for a passing reason.
    #[serde(default = "retries_max")]
    pub retries_max: u32,
    /// Allows unencrypted HTTP to another machine.
    #[serde(default)]
    pub plain_http: bool,
    /// A proxy, such as `http://proxy.internal:3128`; the environment's is never used.
    #[serde(default)]
    pub proxy: Option<String>,
}

fn context() -> usize {
    8192
}

fn timeout_seconds() -> u64 {
    120
}

fn concurrency() -> usize {
    8
}

fn retries_max() -> u32 {
    5
}

/// Scheme, host and port of an address: what a site allows or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads the origin of a URL. Only the form that this crate sends to is accepted:
    /// `http` or `https`, a host, perhaps a port and a path; no user, query or fragment.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn of(url: &str) -> Result<Self> {
        let refuse = |problem| Err(Error::Url { problem });
        let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return refuse("it begins with neither `https://` nor `http://`"),
        };
        if rest.contains(['?', '#', '@', '\\']) || rest.chars().any(|c| !c.is_ascii_graphic()) {
            return refuse("it may hold a host, a port and a path only, and no name or password");
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            // An IPv6 address stands in brackets, which hold colons of their own.
            Some((host, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return refuse("its port is no number up to 65535"),
            },
            _ => (authority, if https { 443 } else { 80 }),
        };
        if host.is_empty() {
            return refuse("it names no host");
        }
        Ok(Self {
            https,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Whether it is this machine, where nobody listens in between.
    fn is_loopback(&self) -> bool {
        let address = self.host.trim_start_matches('[').trim_end_matches(']');
        let parsed = address.parse::<std::net::IpAddr>();
        self.host == "localhost" || parsed.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(out, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    /// Every machine that sees what is sent, as far as it is named here: its own, and the proxy's,
    /// which reads along where the rest of the way is not encrypted.
    ///
    /// # Errors
    /// [`Error::Url`]; [`Error::Proxy`]; [`Error::PlainHttp`] for unencrypted HTTP to another
    /// machine, by way of a proxy or not, without [`Endpoint::plain_http`]; [`Error::KeyName`];
    /// [`Error::Setting`] for a number out of range.
    pub fn sends_to(&self) -> Result<Vec<Origin>> {
        let origin = Origin::of(&self.url)?;
        let proxy = self.proxy.as_deref().map(Origin::of).transpose();
        let proxy = proxy.map_err(|_| Error::Proxy)?;
        let stays = origin.is_loopback() && proxy.as_ref().is_none_or(Origin::is_loopback);
        if !origin.https && !stays && !self.plain_http {
            return Err(Error::PlainHttp { origin });
        }
        if let Some(name) = self
            .key_env
            .as_ref()
            .filter(|name| !name.starts_with(KEY_PREFIX))
        {
            let name = name.clone();
            return Err(Error::KeyName { name });
        }
        for (setting, value, min, max) in [
            ("context", self.context as u64, 1, 100_000_000),
            ("concurrency", self.concurrency as u64, 1, 1000),
            (
                "timeout_seconds",
                self.timeout_seconds,
                1,
                TIMEOUT_SECONDS_MAX,
            ),
            ("retries_max", self.retries_max.into(), 0, 100),
        ] {
            if !(min..=max).contains(&value) {
                return Err(Error::Setting {
                    setting,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(std::iter::once(origin).chain(proxy).collect())
    }

    /// The address of a call such as `chat/completions`.
    pub(crate) fn address(&self, call: &str) -> String {
        format!("{}/{call}", self.url.trim_end_matches('/'))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.min(TIMEOUT_SECONDS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        let settings = serde_json::json!({ "url": url, "model": "m" });
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, origin) in [
            ("https://GPU.internal/v1", "https://gpu.internal:443"),
            ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://[2001:db8::1]/v1", "https://[2001:db8::1]:443"),
        ] {
            assert_eq!(Origin::of(url).unwrap().to_string(), origin);
        }
    }

    #[test]
    fn what_hides_another_host_or_a_password_is_refused() {
        for url in [
            "ftp://host/v1",
            "host:80/v1",
            "https://user:secret@host/v1",
            "user:secret@host/v1",
            "https://host/v1?key=secret",
            "https://good.example\\@bad.example",
            "https://host/v1?to=other",
            "https://:80/v1",
            "https://host:99999/v1",
            "https://ho st/v1",
        ] {
            let error = Origin::of(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn plain_http_leaves_this_machine_only_if_it_is_said() {
        assert!(endpoint("http://localhost:8000/v1").sends_to().is_ok());
        let mut far = endpoint("http://gpu.internal:8000/v1");
        let message = far.sends_to().unwrap_err().to_string();
        assert!(message.contains("plain_http"), "{message}");
        far.plain_http = true;
        assert!(far.sends_to().is_ok());
        let idle = Endpoint {
            concurrency: 0,
            ..endpoint("https://gpu.internal/v1")
        };
        assert!(idle.sends_to().is_err());
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        for (setting, value, range) in [
            ("context", 0, "1 to 100000000"),
            ("concurrency", 1001, "1 to 1000"),
            ("timeout_seconds", u64::MAX, "1 to 86400"),
            ("timeout_seconds", (1 << 63) - 1, "1 to 86400"),
            ("retries_max", 4_294_967_295, "0 to 100"),
        ] {
            let mut settings = serde_json::json!(endpoint("https://gpu.internal/v1"));
            settings[setting] = value.into();
            let endpoint: Endpoint = serde_json::from_value(settings).unwrap();
            let message = endpoint.sends_to().unwrap_err().to_string();
            let said = format!("`{setting}` is {value}; write a number from {range}");
            assert!(message.ends_with(&said), "{message}");
        }
    }

    #[test]
    fn a_proxy_is_a_place_that_is_sent_to() {
        let through = |url: &str, proxy: &str| Endpoint {
            proxy: Some(proxy.to_owned()),
            ..endpoint(url)
        };
        let origins = through("https://gpu.internal/v1", "http://proxy.internal:3128").sends_to();
        let origins: Vec<String> = origins.unwrap().iter().map(Origin::to_string).collect();
        assert_eq!(
            origins,
            ["https://gpu.internal:443", "http://proxy.internal:3128"]
        );
        let here = through("http://127.0.0.1:8080/v1", "http://proxy.internal:3128");
        assert!(matches!(here.sends_to(), Err(Error::PlainHttp { .. })));
        assert!(
            through("http://127.0.0.1:8080/v1", "http://[::1]:3128")
                .sends_to()
                .is_ok()
        );
        for no in [
            "proxy.internal:3128",
            "socks5://proxy.internal",
            "http://user:word@proxy",
        ] {
            let refused = through("https://gpu.internal/v1", no).sends_to();
            assert!(matches!(refused, Err(Error::Proxy)), "{no}");
        }
    }

    #[test]
    fn a_key_has_a_name_of_its_own() {
        for (name, allowed) in [
            ("NOISEGATE_KEY_WARD", true),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("", false),
        ] {
            let endpoint = Endpoint {
                key_env: Some(name.to_owned()),
                ..endpoint("https://gpu.internal/v1")
            };
            assert_eq!(endpoint.sends_to().is_ok(), allowed, "{name}");
        }
    }
}
