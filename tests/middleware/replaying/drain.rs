//! What happens to a rejection: the caller gets it unread, or the layer reads it to its end, within limits, and drops
//! it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use parking_lot::Mutex;
use tower::util::BoxCloneSyncService;
use tower_bearer_auth::replay::{Cloned, Mode, Off};

use super::*;

/// How the body of the rejection behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaves {
    /// Ends after this many frames of 1 KiB.
    Ends(usize),
    /// Always has another frame of this many bytes.
    Endless(usize),
    /// Is pending for ever.
    Hangs,
    Fails,
}

/// What was done with the body.
#[derive(Debug, Default)]
struct Fate {
    polls: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicUsize,
}

struct Watched {
    behaves: Behaves,
    fate: Arc<Fate>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.fate.polls.fetch_add(1, Ordering::SeqCst);
        let size = match &mut self.behaves {
            Behaves::Ends(0) => return Poll::Ready(None),
            Behaves::Ends(left) => {
                *left -= 1;
                1024
            }
            Behaves::Endless(size) => *size,
            Behaves::Hangs => return Poll::Pending,
            Behaves::Fails => return Poll::Ready(Some(Err("the connection broke".into()))),
        };
        self.fate.bytes.fetch_add(size, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; size])))))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.fate.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

type Api = BoxCloneSyncService<Request<Body>, Response<Watched>, BoxError>;

/// Rejects the first token with a body that is watched. The list says, for each send, how many of these bodies were
/// dropped by then.
fn api(behaves: Behaves) -> (Api, Arc<Fate>, Arc<Mutex<Vec<usize>>>) {
    let (fate, at_sends) = (Arc::<Fate>::default(), Arc::<Mutex<Vec<usize>>>::default());
    let (of_first, log) = (Arc::clone(&fate), Arc::clone(&at_sends));
    let service = service_fn(move |request: Request<Body>| {
        let first = request.headers()["authorization"] == "Bearer token-1";
        log.lock().push(of_first.dropped.load(Ordering::SeqCst));
        let (status, body) = match first {
            true => (401, Watched { behaves, fate: Arc::clone(&of_first) }),
            false => (200, Watched { behaves: Behaves::Ends(1), fate: Arc::default() }),
        };
        let response = Response::builder().status(status).header("www-authenticate", INVALID_TOKEN).body(body);
        std::future::ready(Ok::<_, BoxError>(response.unwrap()))
    });
    (BoxCloneSyncService::new(service), fate, at_sends)
}

fn post() -> Request<Body> {
    Request::post(API).body(Body::new(Bytes::from("money"))).unwrap()
}

// R17
#[tokio::test(start_paused = true)]
async fn without_a_replay_the_caller_gets_the_rejection_unread() {
    let down = |n: usize| async move {
        if n == 1 { token(n) } else { Err(Error::permanent("wrong secret").with_kind(ErrorKind::InvalidCredentials)) }
    };
    let cases = [
        ("never", ReplayOutcome::Off, true),
        ("off", ReplayOutcome::Off, true),
        ("no copy", ReplayOutcome::NoCopy, true),
        ("failed fetch", ReplayOutcome::RefreshFailed(ErrorKind::InvalidCredentials), false),
        ("empty budget", ReplayOutcome::BudgetExhausted, true),
    ];
    for (name, replay, up) in cases {
        let (inner, fate, sends) = api(Behaves::Ends(3));
        let (provider, _) = issuer(move |n| async move { if up { token(n) } else { down(n).await } });
        let layer = layer(provider);
        let source = layer.source().clone();
        let response = match name {
            "never" => layer.replay(Mode::Never).layer(inner).oneshot(get()).await.unwrap(),
            "off" => layer.bodies(Off).layer(inner).oneshot(get()).await.unwrap(),
            "no copy" => layer.layer(inner).oneshot(post()).await.unwrap(),
            "empty budget" => {
                // Rejecting a token that no server accepted empties the budget, and the second token stays.
                let first = source.token().await.unwrap();
                assert!(source.reject(&(), &first));
                let second = source.token().await.unwrap();
                assert!(!source.reject(&(), &second));
                let only = service_fn({
                    let inner = inner.clone();
                    move |mut request: Request<Body>| {
                        request.headers_mut().insert("authorization", "Bearer token-1".parse().unwrap());
                        inner.clone().oneshot(request)
                    }
                });
                layer.bodies(Cloned).layer(only).oneshot(post()).await.unwrap()
            }
            _ => layer.bodies(Cloned).layer(inner).oneshot(post()).await.unwrap(),
        };
        assert_eq!(response.status(), 401, "{name}");
        assert_eq!(Audit::of(&response).unwrap().replay, replay, "{name}");
        assert_eq!(sends.lock().len(), 1, "{name}");
        let body = response.into_body();
        assert!(Arc::ptr_eq(&body.fate, &fate), "{name}: it is the same body");
        assert_eq!((fate.polls.load(Ordering::SeqCst), fate.dropped.load(Ordering::SeqCst)), (0, 0), "{name}");
        assert_eq!(body.behaves, Behaves::Ends(3), "{name}");
    }
}

// R21: for at most 64 KiB and 100 ms, so that its connection can be reused.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_drained_within_limits_and_dropped_before_the_replay() {
    let cap = 64 * 1024;
    for (behaves, bytes, at_most, waits) in [
        (Behaves::Ends(0), 0..=0, 1, false),
        (Behaves::Ends(3), 3072..=3072, 4, false),
        (Behaves::Ends(64), cap..=cap, 65, false),
        (Behaves::Ends(1000), cap..=cap + 1024, 66, false),
        (Behaves::Endless(1024), cap..=cap + 1024, 66, false),
        (Behaves::Endless(1 << 20), 1 << 20..=1 << 20, 1, false),
        (Behaves::Endless(0), 0..=0, cap + 1, false),
        (Behaves::Hangs, 0..=0, 3, true),
        (Behaves::Fails, 0..=0, 1, false),
    ] {
        let (inner, fate, sends) = api(behaves);
        let (provider, fetches) = issuer(|n| async move { token(n) });
        let client = layer(provider).layer(inner);
        let before = tokio::time::sleep(Duration::ZERO).deadline();
        let response = client.oneshot(get()).await.unwrap();
        let took = tokio::time::sleep(Duration::ZERO).deadline() - before;
        assert_eq!((response.status(), fetches.count()), (StatusCode::OK, 2), "{behaves:?}");
        assert!(bytes.contains(&fate.bytes.load(Ordering::SeqCst)), "{behaves:?}: {fate:?}");
        assert!((1..=at_most).contains(&fate.polls.load(Ordering::SeqCst)), "{behaves:?}: {fate:?}");
        assert_eq!(*sends.lock(), [0, 1], "{behaves:?}: the first body is dropped before the replay");
        let patience = if waits { 100..=110 } else { 0..=10 };
        assert!(patience.contains(&took.as_millis()), "{behaves:?} took {took:?}");
    }
}

// R14, R21: the drain starts in one runtime and goes on in another.
#[test]
fn a_replay_that_drains_survives_the_end_of_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (inner, fate, _) = api(Behaves::Hangs);
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let client = layer(provider).layer(inner);
    let mut call = Box::pin(client.oneshot(get()));
    let ends = runtime();
    ends.block_on(async {
        while fate.polls.load(Ordering::SeqCst) == 0 {
            assert!(futures::poll!(&mut call).is_pending());
            tokio::task::yield_now().await;
        }
    });
    drop(ends);
    assert_eq!(runtime().block_on(call).unwrap().status(), 200);
    assert_eq!((fetches.count(), fate.dropped.load(Ordering::SeqCst)), (2, 1));
}
