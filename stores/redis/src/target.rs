//! Where the store is: the URLs, and what they may be.

use redis::{ConnectionInfo, IntoConnectionInfo as _};
use rustls::crypto::CryptoProvider;
use tower_bearer_auth::ConfigError;

/// Reads the URLs: one, or the nodes of a cluster with commas between them.
///
/// The errors contain no part of a URL.
pub(crate) fn parse(setting: &str, text: &str, is_cluster: bool) -> Result<Vec<ConnectionInfo>, ConfigError> {
    let urls: Vec<&str> = text.split(',').map(str::trim).collect();
    if urls.len() > 1 && !is_cluster {
        return Err(ConfigError::new(setting, "it has more than one URL")
            .with_hint("only a cluster has several nodes; write a comma in a password as %2C"));
    }
    urls.into_iter().map(|url| parse_one(setting, url, is_cluster)).collect()
}

fn parse_one(setting: &str, text: &str, is_cluster: bool) -> Result<ConnectionInfo, ConfigError> {
    let invalid = |reason: &str| {
        ConfigError::new(setting, reason)
            .with_hint("use redis://user:password@host:6379, or rediss:// for TLS, and percent-encode the password")
    };
    let Some(url) = redis::parse_redis_url(text) else {
        return Err(invalid("it is not a URL of Redis"));
    };
    // `#insecure` turns certificate checks off if any crate of the build enables that.
    if url.fragment().is_some() {
        return Err(invalid("a URL with a fragment is not supported"));
    }
    let is_tls = matches!(url.scheme(), "rediss" | "valkeys");
    if is_cluster && !is_tls && !matches!(url.scheme(), "redis" | "valkey") {
        return Err(invalid("the nodes of a cluster have no Unix sockets"));
    }
    // redis panics without one.
    if is_tls && CryptoProvider::get_default().is_none() {
        return Err(ConfigError::new(setting, "TLS needs a default rustls CryptoProvider, and the process has none").with_hint(
            "call rustls::crypto::aws_lc_rs::default_provider().install_default() at the start of the program, or that of ring",
        ));
    }
    url.into_connection_info().map_err(|_| invalid("a part of the URL is invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, is_cluster: bool) -> String {
        parse("url", text, is_cluster).map(|_| ()).unwrap_err().to_string()
    }

    // R96
    #[test]
    fn an_invalid_url_is_an_error_that_does_not_contain_it() {
        for text in [
            "",
            "canary",
            "http://user:canary@host",
            "redis://user:canary@host:port",
            "redis://user:canary@host/canary",
            "redis://user:canary@host/?protocol=canary",
            "redis://user:canary@host#insecure",
            "redis://user:canary@0.0.0.0",
            "redis://user:canary@host,redis://user:canary@other",
        ] {
            let error = error(text, false);
            assert!(error.starts_with("url: ") && !error.contains("canary"), "{text}: {error}");
        }
        assert!(error("redis://host,", true).contains("not a URL"));
        assert!(error("unix:///socket", true).contains("Unix sockets"));
    }

    #[test]
    fn a_url_has_one_server_or_the_nodes_of_a_cluster() {
        for text in ["redis://host", "valkey://user:p%2Cw@host:7000/1", " redis://:p@[::1]\n", "unix:///run/redis.sock"]
        {
            assert_eq!(parse("url", text, false).unwrap().len(), 1, "{text}");
        }
        assert_eq!(parse("url", "redis://a:1, redis://b:2 ,redis://c:3", true).unwrap().len(), 3);
    }

    // No test of this binary installs a provider.
    #[test]
    fn tls_without_a_crypto_provider_is_an_error_that_says_what_to_do() {
        for text in ["rediss://host", "valkeys://host"] {
            assert!(error(text, false).contains("install_default"), "{}", error(text, false));
        }
    }
}
