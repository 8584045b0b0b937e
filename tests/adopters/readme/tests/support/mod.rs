//! Runs a program of README.md against the sandbox.

use std::error::Error;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower_bearer_auth_sandbox::AccessPspSandbox;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub const README: &str = include_str!("../../../../crates/tower-bearer-auth/README.md");

/// The configuration that a user of rustls writes. It panics if two cryptography libraries are enabled.
fn tls(sandbox: &AccessPspSandbox) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes())?)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Accepts clear text and passes it on to the issuer over TLS. The program of README.md trusts the bundled roots for the
/// token request, and it has no setting for others. Clear text to loopback is allowed.
async fn clear_text_to(sandbox: &AccessPspSandbox) -> Result<SocketAddr> {
    let issuer: SocketAddr = sandbox.issuer_origin().trim_start_matches("https://").parse()?;
    let connector = TlsConnector::from(tls(sandbox)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(issuer).await?;
                let mut server = connector.connect(ServerName::from(issuer.ip()), server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(address)
}

/// Runs a program with these variables only.
pub async fn run(program: &str, variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    Ok(command.output().await?)
}

/// Runs a program of README.md whose API is the sandbox.
pub async fn run_sandboxed(program: &str, sandbox: &AccessPspSandbox) -> Result<Output> {
    let roots = format!("{}/roots-{}.pem", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&roots, sandbox.ca_pem())?;
    let token_url = format!("http://{}/oauth/token", clear_text_to(sandbox).await?);
    run(
        program,
        &[
            ("ACCESS_PSP_CLIENT_ID", sandbox.client_id()),
            ("ACCESS_PSP_CLIENT_SECRET", sandbox.client_secret()),
            ("ACCESS_PSP_TOKEN_URL", &token_url),
            ("ACCESS_PSP_API_ORIGINS", &sandbox.api_origin()),
            ("SANDBOX_API_ORIGIN", &sandbox.api_origin()),
            ("SSL_CERT_FILE", &roots),
        ],
    )
    .await
}

/// The program has opened one session with one token, and printed nothing else.
pub fn assert_session(output: Output, sandbox: &AccessPspSandbox) -> Result<()> {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout)?, "201 Created\n");
    assert_eq!(String::from_utf8(output.stderr)?, "");
    assert_eq!((sandbox.token_request_count(), sandbox.sessions().len()), (1, 1));
    Ok(())
}
