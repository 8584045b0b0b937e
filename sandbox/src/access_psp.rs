//! [`AccessPspSandbox`] and its builder.

use std::{fmt, io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    api::{Api, Behavior},
    credentials::Credentials,
    fault::Script,
    gate::Gate,
    issuer::{Issuer, Pace, TOKEN_PATH},
    journal::Journal,
    ledger::{Ledger, Minting},
    server::{Protocols, Server},
    tls::Authority,
};

/// A local AccessPSP: an issuer and an API server on two loopback ports.
///
/// Dropping it closes both ports and ends every task that it started. The [crate documentation](crate) lists what it checks.
pub struct AccessPspSandbox {
    pub(super) issuer: Arc<Issuer>,
    pub(super) api: Arc<Api>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) authority: Authority,
    pub(super) issuer_server: Server,
    pub(super) api_server: Server,
    credentials: Arc<Credentials>,
    client_identity: Option<(String, String)>,
    pub(super) plain: bool,
}

impl AccessPspSandbox {
    /// Starts an instance with the default settings of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// Those of [`AccessPspSandboxBuilder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// The default settings: tokens that live for 30 minutes, no latency, TLS with HTTP/2 and HTTP/1.1.
    pub fn builder() -> AccessPspSandboxBuilder {
        AccessPspSandboxBuilder {
            lifetime: Duration::from_secs(1800),
            latency: Duration::ZERO,
            protocols: Protocols::default(),
            plain: false,
            client_certificate: false,
            token_api_key: false,
            scopes: Vec::new(),
            minting: Minting::default(),
        }
    }

    /// The URL of the token endpoint, for example `https://127.0.0.1:40001/oauth/token`.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.issuer_origin())
    }

    /// The scheme, host and port of the issuer, without a trailing slash.
    pub fn issuer_origin(&self) -> String {
        self.origin(&self.issuer_server)
    }

    /// The scheme, host and port of the API server, without a trailing slash.
    pub fn api_origin(&self) -> String {
        self.origin(&self.api_server)
    }

    /// The certificate of this instance's authority, PEM. It is the only root that a client needs to trust.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The `client_id` that the issuer accepts.
    pub fn client_id(&self) -> &str {
        &self.credentials.client_id
    }

    /// The `client_secret` that the issuer accepts. It contains characters that must be escaped in a form.
    pub fn client_secret(&self) -> &str {
        &self.credentials.client_secret
    }

    /// The `x-api-key` that a sale needs.
    pub fn api_key(&self) -> &str {
        &self.credentials.api_key
    }

    /// The `x-api-key` that the issuer needs with
    /// [`require_token_api_key`](AccessPspSandboxBuilder::require_token_api_key). It differs from [`api_key`](Self::api_key).
    pub fn token_api_key(&self) -> &str {
        &self.credentials.token_api_key
    }

    /// The certificate and the key, both PEM, that a client needs with
    /// [`require_client_certificate`](AccessPspSandboxBuilder::require_client_certificate). `None` without that setting.
    pub fn client_identity_pem(&self) -> Option<(&str, &str)> {
        let (certificate, key) = self.client_identity.as_ref()?;
        Some((certificate, key))
    }

    fn origin(&self, server: &Server) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", server.address())
    }
}

impl fmt::Debug for AccessPspSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessPspSandbox")
            .field("token_url", &self.token_url())
            .field("api_origin", &self.api_origin())
            .finish_non_exhaustive()
    }
}

/// The settings of an [`AccessPspSandbox`].
#[derive(Debug)]
#[must_use]
pub struct AccessPspSandboxBuilder {
    lifetime: Duration,
    latency: Duration,
    protocols: Protocols,
    plain: bool,
    client_certificate: bool,
    token_api_key: bool,
    scopes: Vec<String>,
    minting: Minting,
}

impl AccessPspSandboxBuilder {
    /// Sets how long tokens live. It is rounded up to whole seconds. Default: 30 minutes.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets how long the issuer waits before it processes a request. Default: zero.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the HTTP versions of both servers. Default: HTTP/2 and HTTP/1.1.
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = protocols;
        self
    }

    /// Serves HTTP without TLS.
    pub fn plain_http(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Rejects TLS clients without the certificate of [`client_identity_pem`](AccessPspSandbox::client_identity_pem).
    pub fn require_client_certificate(mut self) -> Self {
        self.client_certificate = true;
        self
    }

    /// Rejects token requests without [`token_api_key`](AccessPspSandbox::token_api_key) with a 403.
    pub fn require_token_api_key(mut self) -> Self {
        self.token_api_key = true;
        self
    }

    /// Accepts this `scope`. Any other `scope`, including an empty one, is an `invalid_request`.
    pub fn allow_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Sets whether each new token revokes all older ones. Default: `false`.
    pub fn single_token(mut self, single: bool) -> Self {
        self.minting.single = single;
        self
    }

    /// Sets whether the issuer returns the last token again until it expires, even if it is revoked. `expires_in` is then
    /// the remaining lifetime. Default: `false`.
    pub fn repeat_token(mut self, repeat: bool) -> Self {
        self.minting.repeat = repeat;
        self
    }

    /// Generates keys and certificates, binds two ports of 127.0.0.1 and starts the servers.
    ///
    /// # Errors
    ///
    /// A key could not be generated, or a port could not be bound.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with I/O and time enabled.
    pub async fn start(self) -> io::Result<AccessPspSandbox> {
        let authority = Authority::new()?;
        let client_identity = match self.client_certificate {
            true => Some(authority.client_identity()?),
            false => None,
        };
        let credentials = Arc::new(Credentials::random(self.token_api_key, self.scopes));
        let subject = credentials.client_id.clone();
        let ledger = Arc::new(Ledger::new(subject, self.minting)?);
        let issuer = Arc::new(Issuer {
            credentials: Arc::clone(&credentials),
            ledger: Arc::clone(&ledger),
            journal: Journal::new(),
            script: Script::default(),
            gate: Gate::new(),
            pace: Mutex::new(Pace { lifetime: self.lifetime, latency: self.latency }),
        });
        let api = Arc::new(Api {
            credentials: Arc::clone(&credentials),
            ledger: Arc::clone(&ledger),
            journal: Journal::new(),
            sessions: Journal::new(),
            sales: Mutex::new(Vec::new()),
            arrivals: Gate::new(),
            responses: Gate::new(),
            behavior: Mutex::new(Behavior::default()),
        });
        let tls = || match self.plain {
            true => Ok(None),
            false => authority.acceptor(self.protocols.alpn(), self.client_certificate).map(Some),
        };
        let issuer_server = Server::http(Arc::clone(&issuer), tls()?, self.protocols).await?;
        let api_server = Server::http(Arc::clone(&api), tls()?, self.protocols).await?;
        Ok(AccessPspSandbox {
            issuer,
            api,
            ledger,
            authority,
            issuer_server,
            api_server,
            credentials,
            client_identity,
            plain: self.plain,
        })
    }
}
