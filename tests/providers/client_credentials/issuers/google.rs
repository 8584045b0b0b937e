use std::time::Duration;
use tower_bearer_auth::{Error, ErrorKind, IssuedToken, TokenProvider, from_fn};

/// `host` is `metadata.google.internal`. `client` uses no proxy and follows no redirect.
fn google(client: reqwest::Client, host: &str) -> impl TokenProvider<Key = ()> {
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    from_fn(move || {
        let request = client.get(&url).header("Metadata-Flavor", "Google").timeout(Duration::from_secs(5)).send();
        async move {
            let unavailable = |error| Error::transient(error).with_kind(ErrorKind::Unavailable);
            let response = request.await.map_err(unavailable)?;
            let status = response.status();
            if status.is_server_error() || status.as_u16() == 429 {
                return Err(Error::transient("the metadata server is busy").with_status(status));
            }
            if !status.is_success() {
                return Err(Error::permanent("the metadata server has no token for this instance").with_status(status));
            }
            let body = response.bytes().await.map_err(unavailable)?;
            // An error of serde_json can quote the body, so it does not become a source.
            let malformed = || Error::transient("not a token").with_kind(ErrorKind::MalformedResponse);
            let body: serde_json::Value = serde_json::from_slice(&body).map_err(|_| malformed())?;
            let token = body["access_token"].as_str().ok_or_else(malformed)?;
            let seconds = body["expires_in"].as_u64().ok_or_else(malformed)?;
            Ok(IssuedToken::bearer(token)?.expires_in(Duration::from_secs(seconds)))
        }
    })
}
