//! Building one instance.

use std::{fmt, io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Credentials, Mood, Service, people::People, tokens::Tokens};
use crate::{
    fault::Script,
    gate::Gate,
    journal::Journal,
    server::{Protocols, Server},
    tls::Authority,
};

/// An Aeropay of your own, with one merchant: the token endpoint and the API of both versions on one loopback port.
///
/// | request | answered |
/// | --- | --- |
/// | `POST /token`, `POST /v2/token` with the fields of their version, the merchant's id as a number or a string | `{"TTL", "token"}`, a JWT signed with HS256 |
/// | the same for a user who was not confirmed, or with wrong credentials | `AP002` |
/// | `POST /user` with an `email` | a `userId`, the same for the same address; the user is disconnected |
/// | `POST /confirmUser` with a `userId` | the user is connected |
/// | `GET /user`, `GET /aggregatorCredentials`, transactions, refunds and payouts | what Aeropay's pages show of them |
/// | another endpoint of the two tables of scopes | `{"success": true}`, in version 2 `{}` |
/// | any other route | the gateway's 403 `{"message":"Missing Authentication Token"}` |
///
/// Errors come inside of an HTTP 200 in version 1, and with the status of the OpenAPI description in version 2. A token that
/// has expired is `AP007`, one that was revoked or is not this sandbox's `AP008`, one of the wrong scope `AP006`, none at all
/// `AP004`. The tokens of a user who is disconnected are revoked, which Aeropay's pages leave open.
///
/// Dropping it closes the port and ends every task that it started.
pub struct AeropaySandbox {
    pub(super) service: Arc<Service>,
    pub(super) server: Server,
    authority: Authority,
    plain: bool,
}

impl AeropaySandbox {
    /// Starts an instance with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// Those of [`AeropaySandboxBuilder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Starts from: tokens of 30 minutes, no latency, TLS with HTTP/2 and HTTP/1.1.
    pub fn builder() -> AeropaySandboxBuilder {
        AeropaySandboxBuilder {
            lifetime: Duration::from_secs(1800),
            latency: Duration::ZERO,
            protocols: Protocols::default(),
            plain: false,
        }
    }

    /// Scheme, host and port, without a slash at the end.
    pub fn base_url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.server.address())
    }

    /// The certificate of the throw-away authority, PEM: the one root that a client must trust.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The merchant's API key.
    pub fn api_key(&self) -> &str {
        &self.service.credentials.api_key
    }

    /// The merchant's API secret. It holds characters that JSON must escape.
    pub fn api_secret(&self) -> &str {
        &self.service.credentials.api_secret
    }

    /// The merchant's id.
    pub fn merchant_id(&self) -> u64 {
        self.service.credentials.merchant
    }
}

impl fmt::Debug for AeropaySandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropaySandbox").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

/// Settings of an [`AeropaySandbox`].
#[derive(Debug)]
#[must_use]
pub struct AeropaySandboxBuilder {
    lifetime: Duration,
    latency: Duration,
    protocols: Protocols,
    plain: bool,
}

impl AeropaySandboxBuilder {
    /// How long tokens live, in whole seconds, rounded up. Default: 1 800 s.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How long a token endpoint waits before it looks at a request. Default: not at all.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Which HTTP versions the server speaks. Default: both.
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = protocols;
        self
    }

    /// Speaks HTTP without TLS, on loopback as ever.
    pub fn plain_http(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Makes keys and certificates, binds a port of 127.0.0.1 and serves.
    ///
    /// # Errors
    ///
    /// Keys could not be made or the port not bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn start(self) -> io::Result<AeropaySandbox> {
        let authority = Authority::new()?;
        let random = || format!("{:032x}", fastrand::u128(..));
        let credentials = Credentials {
            api_key: random(),
            // Characters that JSON must escape, so that a forgotten escape shows.
            api_secret: format!("s\"\\/{}", random()),
            merchant: fastrand::u64(1000..1_000_000),
        };
        let service = Arc::new(Service {
            tokens: Tokens::new(credentials.merchant),
            credentials,
            people: People::default(),
            token_calls: Journal::new(),
            calls: Journal::new(),
            script: Script::default(),
            issuer_gate: Gate::new(),
            api_gate: Gate::new(),
            mood: Mutex::new(Mood {
                lifetime: self.lifetime,
                latency: self.latency,
                reject_next: 0,
                reject_always: false,
                refusal: None,
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
