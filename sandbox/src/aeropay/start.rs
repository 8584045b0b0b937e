//! [`AeropaySandbox`] and its builder.

use std::{fmt, io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Behavior, Credentials, Service, merchant::Merchant, tokens::Tokens};
use crate::{
    fault::Script,
    gate::Gate,
    journal::Journal,
    server::{Protocols, Server},
    tls::Authority,
};

/// A local Aeropay with one merchant: the token endpoints and the API of both versions on one loopback port.
///
/// | request | response |
/// | --- | --- |
/// | `POST /token`, `POST /v2/token` with the fields of their version, the merchant id as a number or a string | `{"TTL", "token"}`, a JWT signed with HS256 |
/// | the same for a user that is not confirmed, or with wrong credentials | `AP002` |
/// | `POST /user` with an `email` | a `userId`, the same for the same address; the user is disconnected |
/// | `POST /confirmUser` with a `userId` | the user is connected |
/// | `GET /user`, `GET /aggregatorCredentials`, transactions, refunds and payouts | the documented response |
/// | another endpoint of the two tables of scopes | `{"success": true}`, in version 2 `{}` |
/// | any other route | 403 `{"message":"Missing Authentication Token"}` |
///
/// Version 1 sends errors in an HTTP 200. Version 2 sends them with the status of the OpenAPI description.
///
/// | token | code |
/// | --- | --- |
/// | missing | `AP004` |
/// | of the wrong scope | `AP006` |
/// | expired | `AP007` |
/// | revoked, or not signed by this sandbox | `AP008` |
///
/// When a user is disconnected, the sandbox revokes the tokens of that user. The documentation of Aeropay does not say what the
/// real service does.
///
/// Dropping it closes the port and ends every task that it started.
pub struct AeropaySandbox {
    pub(super) service: Arc<Service>,
    pub(super) server: Server,
    authority: Authority,
    plain: bool,
}

impl AeropaySandbox {
    /// Starts an instance with the default settings of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// Those of [`AeropaySandboxBuilder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// The default settings: tokens that live for 30 minutes, no latency, TLS with HTTP/2 and HTTP/1.1.
    pub fn builder() -> AeropaySandboxBuilder {
        AeropaySandboxBuilder {
            lifetime: Duration::from_secs(1800),
            latency: Duration::ZERO,
            protocols: Protocols::default(),
            plain: false,
        }
    }

    /// The scheme, host and port, without a trailing slash.
    pub fn base_url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.server.address())
    }

    /// The certificate of this instance's authority, PEM. It is the only root that a client needs to trust.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The API key of the merchant.
    pub fn api_key(&self) -> &str {
        &self.service.credentials.api_key
    }

    /// The API secret of the merchant. It contains characters that must be escaped in JSON.
    pub fn api_secret(&self) -> &str {
        &self.service.credentials.api_secret
    }

    /// The id of the merchant.
    pub fn merchant_id(&self) -> u64 {
        self.service.credentials.merchant
    }
}

impl fmt::Debug for AeropaySandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropaySandbox").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

/// The settings of an [`AeropaySandbox`].
#[derive(Debug)]
#[must_use]
pub struct AeropaySandboxBuilder {
    lifetime: Duration,
    latency: Duration,
    protocols: Protocols,
    plain: bool,
}

impl AeropaySandboxBuilder {
    /// Sets how long tokens live. It is rounded up to whole seconds. Default: 30 minutes.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets how long a token endpoint waits before it processes a request. Default: zero.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the HTTP versions of the server. Default: HTTP/2 and HTTP/1.1.
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = protocols;
        self
    }

    /// Serves HTTP without TLS.
    pub fn plain_http(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Generates keys and certificates, binds a port of 127.0.0.1 and starts the server.
    ///
    /// # Errors
    ///
    /// A key could not be generated, or the port could not be bound.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O and time enabled.
    pub async fn start(self) -> io::Result<AeropaySandbox> {
        let authority = Authority::new()?;
        let random = || format!("{:032x}", fastrand::u128(..));
        let credentials = Credentials {
            api_key: random(),
            // These characters must be escaped in JSON. A client that does not escape them fails.
            api_secret: format!("s\"\\/{}", random()),
            merchant: fastrand::u64(1000..1_000_000),
        };
        let service = Arc::new(Service {
            tokens: Tokens::new(credentials.merchant),
            credentials,
            merchant: Merchant::default(),
            token_calls: Journal::new(),
            calls: Journal::new(),
            script: Script::default(),
            issuer_gate: Gate::new(),
            api_gate: Gate::new(),
            behavior: Mutex::new(Behavior {
                lifetime: self.lifetime,
                latency: self.latency,
                reject_next: 0,
                reject_always: false,
                rejection: None,
                script: std::collections::VecDeque::new(),
            }),
        });
        let tls = match self.plain {
            true => None,
            false => Some(authority.acceptor(self.protocols.alpn(), false)?),
        };
        let server = Server::http(Arc::clone(&service), tls, self.protocols).await?;
        Ok(AeropaySandbox { service, server, authority, plain: self.plain })
    }
}
