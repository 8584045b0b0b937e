//! Secrets from files and functions: what they hold, and what their errors print.

use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    AccessPsp, BoxError, ClientCredentials, Error, ErrorKind, FetchContext, Secret, TokenProvider as _,
};

use super::wire::client;
use crate::support::canary::shown_in;

const CANARY: &str = "vR7nK2pX-pasted/secret+1";

/// Display, Debug and all sources of an error.
fn everything(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(|error| format!("{error}\n{error:?}\n{error:#?}\n")).collect()
}

/// A FIFO without a writer: a read of it does not end, like that of a mount whose server is gone.
#[cfg(target_os = "linux")]
mod hung {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::runtime::Builder;
    use tower_bearer_auth::Secret;

    use crate::support::wait::within;

    struct Fifo(PathBuf);

    impl Fifo {
        /// A secret whose file has become a FIFO.
        fn new(name: &str) -> (Self, Secret) {
            let path = std::env::temp_dir().join(format!("tower-bearer-auth-{name}-{}", std::process::id()));
            std::fs::write(&path, "old").unwrap();
            let secret = Secret::from_file(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            (Self(path), secret)
        }
    }

    impl Drop for Fifo {
        fn drop(&mut self) {
            // The writer ends the read, so the thread ends.
            drop(std::fs::OpenOptions::new().write(true).open(&self.0));
            let _ = std::fs::remove_file(&self.0);
        }
    }

    // R81
    #[test]
    fn two_thousand_loads_of_a_file_that_hangs_hold_one_thread_of_the_blocking_pool() {
        let (_fifo, secret) = Fifo::new("pool");
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .on_thread_start(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        runtime.block_on(async {
            let loads = tokio::spawn({
                let secret = secret.clone();
                async move { join_all((0..2000).map(|_| secret.load())).await }
            });
            while started.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            // Other work, for example a DNS look-up, finds a free thread.
            within("a free thread", tokio::task::spawn_blocking(|| ())).await.unwrap();
            assert!(!loads.is_finished());
            let loads = loads.await.unwrap();
            assert!(loads.into_iter().all(|loaded| loaded.unwrap().expose_secret() == "old"));
            assert!(secret.last_error().unwrap().to_string().contains("2 seconds"));
        });
        assert!(started.load(Ordering::SeqCst) <= 2, "{started:?} threads");
    }

    // R81: with several files on the mount, the waits would add up, fetch after fetch.
    #[test]
    fn after_one_load_of_a_file_that_hangs_the_next_one_does_not_wait() {
        let (fifo, secret) = Fifo::new("again");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(secret.load().await.unwrap().expose_secret(), "old");
            let mut again = Box::pin(secret.load());
            let std::task::Poll::Ready(again) = futures::poll!(&mut again) else { panic!("it waits") };
            assert_eq!(again.unwrap().expose_secret(), "old");
            assert!(secret.last_error().unwrap().to_string().contains("2 seconds"));
            // The mount is back: the read that hangs ends.
            std::fs::write(&fifo.0, "new").unwrap();
            std::fs::remove_file(&fifo.0).unwrap();
            std::fs::write(&fifo.0, "new").unwrap();
            while secret.load().await.unwrap().expose_secret() == "old" {
                tokio::task::yield_now().await;
            }
        });
    }

    // R81: the loads of one runtime share a wait in its blocking pool.
    #[test]
    fn a_load_does_not_wait_for_the_blocking_pool_of_another_runtime() {
        let (_fifo, secret) = Fifo::new("runtimes");
        let single = || Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let (first, second) = (single(), single());
        // The only thread of the pool is busy, so the wait of the first load never begins.
        let (end, busy) = std::sync::mpsc::channel::<()>();
        first.spawn_blocking(move || busy.recv());
        first.block_on(async {
            let mut load = Box::pin(secret.load());
            assert!(futures::poll!(&mut load).is_pending());
        });
        assert_eq!(second.block_on(secret.load()).unwrap().expose_secret(), "old");
        assert!(secret.last_error().unwrap().to_string().contains("2 seconds"));
        drop(end);
        first.block_on(secret.load()).unwrap();
    }
}

/// Searches the memory of this process.
#[cfg(target_os = "linux")]
mod memory {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::service_fn;
    use tower_bearer_auth::token_endpoint::{TokenClient, TokenEndpoint, TokenRequest};
    use tower_bearer_auth::{BoxError, Secret};

    const LENGTH: usize = 200;
    /// The part that is searched for. An allocator overwrites the beginning of a buffer that was released.
    const PART: std::ops::Range<usize> = 32..64;

    /// A search copies what it reads, so another search must not run at the same time.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A character of a secret. The secret is in memory only where the tested code puts it.
    fn character(seed: usize, at: usize) -> u8 {
        match at % 5 {
            0 => b'/',
            _ => b'A' + u8::try_from((at * 7 + at / 26 + seed) % 26).unwrap(),
        }
    }

    /// How many copies the buffers of this process contain, used or released.
    fn copies(seed: usize) -> usize {
        let part: Vec<u8> = PART.map(|at| character(seed, at) ^ 0xff).collect();
        let memory = File::open("/proc/self/mem").unwrap();
        let mut found = 0;
        for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Private and anonymous: the heap.
            if fields[1] != "rw-p" || fields.get(5).is_some_and(|name| *name != "[heap]") {
                continue;
            }
            let (start, end) = fields[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut chunk = vec![0; 64 * 1024];
            let zeros = chunk.clone();
            for address in (start..end).step_by(chunk.len() - part.len()) {
                let Ok(read) = memory.read_at(&mut chunk, address) else { continue };
                // Most of the memory of a process is zero, and this comparison is fast.
                if chunk[..read] == zeros[..read] {
                    continue;
                }
                let begins = chunk[..read].iter().enumerate().filter(|(_, byte)| **byte == part[0] ^ 0xff);
                let is_copy = |at: usize| (1..part.len()).all(|i| chunk.get(at + i) == Some(&(part[i] ^ 0xff)));
                found += begins.filter(|(at, _)| is_copy(*at)).count();
                chunk.fill(0);
            }
        }
        found
    }

    // R82
    #[tokio::test]
    async fn a_token_that_is_escaped_in_json_leaves_no_copy_that_is_not_wiped() {
        let _one = ONE.lock().await;
        for (seed, escaped) in [(1, false), (2, true)] {
            let mut body = String::with_capacity(8 * LENGTH);
            body.push_str(r#"{"access_token":""#);
            for byte in (0..LENGTH).map(|at| character(seed, at)) {
                match (escaped, byte) {
                    (true, byte) => body.push_str(&format!(r"\u00{byte:02x}")),
                    (false, b'/') => body.push_str(r"\/"),
                    (false, byte) => body.push(char::from(byte)),
                }
            }
            body.push_str(r#""}"#);
            let body = Bytes::from(body);
            let client = TokenClient::new(service_fn(move |_: Request<Bytes>| {
                let response = Response::new(Full::new(body.clone()));
                async { Ok::<_, BoxError>(response) }
            }));
            let endpoint = TokenEndpoint::new("https://issuer.test/token", client).unwrap();
            let response = endpoint.call(TokenRequest::form(&[])).await.unwrap();
            let token = response.bearer_token().unwrap();
            let secret = token.expose_secret().bytes().enumerate();
            assert_eq!(secret.filter(|(at, byte)| *byte == character(seed, *at)).count(), LENGTH);
            assert!(copies(seed) >= 1, "the token is in memory while it is used");
            drop((token, response));
            assert_eq!(copies(seed), 0, "escaped: {escaped}");
        }
    }

    // R82
    #[test]
    fn a_string_with_spare_capacity_that_becomes_a_secret_is_wiped() {
        let _one = ONE.blocking_lock();
        let mut text = String::with_capacity(4 * LENGTH);
        text.extend((0..LENGTH).map(|at| char::from(character(3, at))));
        let secret = Secret::from(text);
        assert!(copies(3) >= 1, "the secret is in memory while it is used");
        drop(secret);
        assert_eq!(copies(3), 0);
        // What was removed from a string remains in its spare capacity.
        let mut text = String::with_capacity(LENGTH);
        text.extend((0..LENGTH).map(|at| char::from(character(4, at))));
        text.truncate(8);
        drop(Secret::from(text));
        assert_eq!(copies(4), 0);
    }
}

// R83: `NAME_FILE` with the value instead of a path.
#[test]
fn a_secret_that_was_set_in_place_of_a_path_is_not_printed() {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n");
    let long = format!("{CANARY}{}", "x".repeat(5000));
    for pasted in [CANARY, &format!("/{CANARY}"), &CANARY.replace('/', ""), &pem, &long, &format!("{CANARY}\0")] {
        let error = Secret::from_file(pasted).unwrap_err();
        let shown = everything(&error);
        assert_eq!(shown_in(&shown, &[CANARY]), None, "{shown}");
        assert!(error.hint().unwrap().contains("path"), "{error}");
    }
    // A path in a directory that exists is printed, even if a directory below it is missing.
    let missing = std::env::temp_dir().join("no-such-directory").join("no-such-file");
    let error = Secret::from_file(&missing).unwrap_err();
    assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
}

/// A body that fails with this text.
struct Failing(String);

impl Body for Failing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::Error::other(self.0.clone()))))
    }
}

// R83: reqwest prints the whole URL, and other clients print parts of it.
#[tokio::test]
async fn no_spelling_of_a_key_in_the_token_url_is_in_the_errors_of_another_client() {
    const KEY: &str = "vR7nK2pX pasted\"9+1";
    let encoded: String = form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
    let hex: String = KEY.bytes().map(|b| format!("%{b:02x}")).collect();
    let spellings = [
        encoded.clone(),
        encoded.to_lowercase(),
        KEY.to_owned(),
        KEY.escape_debug().to_string(),
        hex.to_uppercase(),
        hex,
        encoded.replace('%', "%25"),
        base64::engine::general_purpose::STANDARD.encode(KEY),
        KEY[..8].to_owned(),
        KEY[5..].to_owned(),
    ];
    let urls = [format!("https://issuer.test/token?v=1&key={encoded}"), format!("https://issuer.test/{encoded}/token")];
    for (url, spelling) in urls.iter().flat_map(|url| spellings.iter().map(move |spelling| (url, spelling))) {
        let text = format!("error sending request for url (https://issuer.test/token?key={spelling})");
        let in_head = TokenClient::new(service_fn({
            let text = text.clone();
            move |_: Request<Full<Bytes>>| ready(Err::<Response<Full<Bytes>>, _>(BoxError::from(text.clone())))
        }));
        let in_body = TokenClient::new(service_fn({
            let text = text.clone();
            move |_: Request<Full<Bytes>>| ready(Ok::<_, BoxError>(Response::new(Failing(text.clone()))))
        }));
        let in_own_error = TokenClient::new(service_fn(move |_: Request<Full<Bytes>>| {
            let error = Error::transient(text.clone()).with_kind(ErrorKind::Unavailable);
            ready(Err::<Response<Full<Bytes>>, _>(BoxError::from(error)))
        }));
        for client in [in_head, in_body, in_own_error] {
            let endpoint = TokenEndpoint::new(url, client).unwrap();
            let error = endpoint.call(TokenRequest::form(&[])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let shown = everything(&error);
            assert!(!shown.contains(spelling) && !shown.contains("token?"), "{shown}");
        }
    }
}

// R83: the kind of an I/O error is not text of the client.
#[tokio::test]
async fn the_kind_of_an_io_error_remains_if_the_token_url_has_a_query() {
    let refused = std::io::ErrorKind::ConnectionRefused;
    let client = TokenClient::new(service_fn(move |_: Request<Full<Bytes>>| {
        ready(Err::<Response<Full<Bytes>>, _>(std::io::Error::new(refused, CANARY)))
    }));
    let endpoint = TokenEndpoint::new("https://issuer.test/token?key=1", client).unwrap();
    let error = endpoint.call(TokenRequest::form(&[])).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), refused);
    assert_eq!(shown_in(&everything(&error), &[CANARY]), None);
    // The crate's own client prints no URL, so its errors are kept.
    for client in [TokenClient::new(HttpClient::new().unwrap()), HttpClient::new().unwrap().into()] {
        let endpoint = TokenEndpoint::new(&format!("http://127.0.0.1:1/token?key={CANARY}"), client).unwrap();
        let error = endpoint.call(TokenRequest::form(&[])).await.unwrap_err();
        let shown = everything(&error);
        assert!(shown.contains("client error (Connect)"), "{shown}");
        assert_eq!(shown_in(&shown, &[CANARY]), None, "{shown}");
    }
}

// Issue 13: a builder returns errors.
#[tokio::test]
async fn a_function_of_a_secret_that_panics_does_not_panic_out_of_a_builder() {
    let panicking = || Secret::from_fn(|| panic!("{CANARY}"));
    let psp = AccessPsp::builder().client_id("id").client_secret("secret");
    let general = client("https://issuer.test/token");
    for error in [
        psp.api_key(panicking()).build().unwrap_err(),
        general.api_header("x-api-key", panicking()).build().unwrap_err(),
    ] {
        assert!(error.to_string().ends_with("it could not be loaded"), "{error}");
        let cause = Error::find(&error).unwrap();
        assert_eq!((cause.kind(), cause.is_transient()), (ErrorKind::Panicked, true));
        assert_eq!(shown_in(&everything(&error), &[CANARY]), None);
    }
    let provider = client("https://issuer.test/token").client_secret(panicking()).build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert_eq!(shown_in(&everything(&error), &[CANARY]), None);
}

#[test]
fn a_client_id_of_spaces_is_an_error() {
    for blank in [" ", " \u{a0}"] {
        let builder = ClientCredentials::builder().client_id(blank).client_secret("secret");
        let error = builder.token_url("https://issuer.test/token").api_origin("https://api.test").build().unwrap_err();
        assert!(error.to_string().starts_with("client_id: it is blank"), "{error}");
    }
}
