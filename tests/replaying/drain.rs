//! What becomes of the first answer: the caller's, unread, or read to its end within bounds and let go.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use parking_lot::Mutex;
use tower::util::BoxCloneSyncService;
use tower_bearer_auth::replay::{Cloned, Mode, Off};

use super::*;

/// How the first answer's body behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaves {
    /// Ends after this many frames of 1 KiB.
    Ends(usize),
    /// Always has another frame of this many bytes.
    Endless(usize),
    /// Has nothing, for ever.
    Hangs,
    Breaks,
}

/// What is done with it.
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
            Behaves::Breaks => return Poll::Ready(Some(Err("the connection broke".into()))),
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

/// Refuses the first token with a body that is watched; `Fate` says how far the body had come at the second sending.
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

// R17: without a second sending the caller gets the first answer's own body, not a byte of it read.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_replaced_reaches_the_caller_unread() {
    let down = |n: usize| async move {
        if n == 1 { token(n) } else { Err(Error::permanent("wrong secret").with_kind(ErrorKind::InvalidCredentials)) }
    };
    let cases = [
        ("never", ReplayOutcome::Off, true),
        ("off", ReplayOutcome::Off, true),
        ("no copy", ReplayOutcome::NoCopy, true),
        ("failed renewal", ReplayOutcome::RefreshFailed(ErrorKind::InvalidCredentials), false),
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
                // A token that nobody took was refused elsewhere: the bucket is empty, and the token stays.
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

// R21: a refused answer is read to its end so that its connection can be used again, within 64 KiB and 100 ms.
#[tokio::test(start_paused = true)]
async fn a_replaced_answer_is_drained_within_bounds_and_let_go_before_the_second_sending() {
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
        (Behaves::Breaks, 0..=0, 1, false),
    ] {
        let (inner, fate, sends) = api(behaves);
        let (provider, asked) = issuer(|n| async move { token(n) });
        let client = layer(provider).layer(inner);
        let before = tokio::time::sleep(Duration::ZERO).deadline();
        let response = client.oneshot(get()).await.unwrap();
        let took = tokio::time::sleep(Duration::ZERO).deadline() - before;
        assert_eq!((response.status(), asked.count()), (StatusCode::OK, 2), "{behaves:?}");
        assert!(bytes.contains(&fate.bytes.load(Ordering::SeqCst)), "{behaves:?}: {fate:?}");
        assert!((1..=at_most).contains(&fate.polls.load(Ordering::SeqCst)), "{behaves:?}: {fate:?}");
        assert_eq!(*sends.lock(), [0, 1], "{behaves:?}: the first body is gone at the second sending");
        let patience = if waits { 100..=110 } else { 0..=10 };
        assert!(patience.contains(&took.as_millis()), "{behaves:?} took {took:?}");
    }
}

// R14, R21: a heal that began to drain in one runtime, which ends, goes on in another.
#[test]
fn a_heal_that_drains_survives_the_end_of_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (inner, fate, _) = api(Behaves::Hangs);
    let (provider, asked) = issuer(|n| async move { token(n) });
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
    assert_eq!((asked.count(), fate.dropped.load(Ordering::SeqCst)), (2, 1));
}
