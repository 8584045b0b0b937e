//! A copy is faithful or there is none, also while the first body is still on its way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _};
use http::HeaderMap;
use http_body::SizeHint;
use parking_lot::Mutex;
use tokio::time::timeout;
use tower::{Service, service_fn};
use tower_bearer_auth::{Error, FetchContext, FixedToken, IssuedToken, RequestHead, TokenProvider};

use super::*;

type Sender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

fn channel() -> (Sender, Stream) {
    let (sender, receiver) = mpsc::channel(0);
    (sender, StreamBody::new(receiver).boxed_unsync())
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from(bytes)))
}

/// What a sending's body came to at the far end.
type Arrived = Result<Bytes, String>;

/// Answers the first sending with 401 as soon as its first bytes are there, and goes on reading it.
#[derive(Clone)]
struct Early {
    first: Arc<Mutex<Option<oneshot::Sender<Arrived>>>>,
    whole: Arc<Mutex<Vec<Bytes>>>,
}

impl Early {
    fn new() -> (Self, oneshot::Receiver<Arrived>) {
        let (sender, first) = oneshot::channel();
        (Self { first: Arc::new(Mutex::new(Some(sender))), whole: Arc::default() }, first)
    }
}

impl Service<Request<Stream>> for Early {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Stream>) -> Self::Future {
        let (first, whole) = (self.first.lock().take(), Arc::clone(&self.whole));
        Box::pin(async move {
            let mut body = request.into_body();
            let Some(first) = first else {
                let bytes = body.collect().await?.to_bytes();
                whole.lock().push(bytes);
                return Ok(respond(StatusCode::CREATED));
            };
            let start = body.frame().await.unwrap()?.into_data().unwrap();
            tokio::spawn(async move {
                let mut seen = start.to_vec();
                let end = loop {
                    match body.frame().await {
                        Some(Ok(frame)) => seen.extend_from_slice(&frame.into_data().unwrap_or_default()),
                        Some(Err(error)) => break Err(error.to_string()),
                        None => break Ok(Bytes::from(seen)),
                    }
                };
                let _ = first.send(end);
            });
            Ok(rejected(INVALID_TOKEN))
        })
    }
}

// R19: an early 401 tears no copy: the second body is whole, and the first one never ends as if it were.
#[tokio::test(start_paused = true)]
async fn a_refusal_before_the_body_has_ended_heals_and_breaks_the_first_sending_off() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let (api, first) = Early::new();
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(1024));
    let (mut sender, body) = channel();
    let call = tokio::spawn(layer.layer(api.clone()).oneshot(request(&Method::POST, None, body)));
    sender.send(data("pay ")).await.unwrap();
    // The first sending waits for more of a body that now belongs to the second: it must hear of that.
    let broken = timeout(Duration::from_secs(60), first).await.expect("the first sending never hears that it is over");
    assert!(broken.unwrap().unwrap_err().contains("sent again"));
    sender.send(data("100 to ")).await.unwrap();
    sender.send(data("alice")).await.unwrap();
    drop(sender);
    let response = timeout(Duration::from_secs(60), call).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(*api.whole.lock(), ["pay 100 to alice"]);
}

// R17, R19: what goes past the limit while the new token is on its way leaves the first sending and its answer alone.
#[tokio::test(start_paused = true)]
async fn a_body_that_goes_past_the_limit_during_the_renewal_is_not_sent_again() {
    let (provider, asked) = issuer(|n| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token(n)
    });
    let (api, first) = Early::new();
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(8));
    let (mut sender, body) = channel();
    let call = tokio::spawn(layer.layer(api.clone()).oneshot(request(&Method::POST, None, body)));
    sender.send(data("pay ")).await.unwrap();
    sender.send(data("100 to ")).await.unwrap();
    sender.send(data("alice")).await.unwrap();
    drop(sender);
    assert_eq!(first.await.unwrap().unwrap(), "pay 100 to alice");
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::NoCopy);
    assert_eq!((api.whole.lock().len(), asked.count()), (0, 2));
}

/// A read buffer as a proxy has it; counted for as long as anything is left of it.
struct ReadBuffer(Vec<u8>, Arc<AtomicUsize>);

impl ReadBuffer {
    fn new(byte: u8, held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(8192, Ordering::SeqCst);
        Self(vec![byte; 8192], Arc::clone(held))
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

// R19: a limit on bytes bounds the memory too, also where each frame is a byte or two out of a large buffer.
#[tokio::test(start_paused = true)]
async fn a_copy_of_small_frames_holds_no_more_than_their_bytes() {
    const LIMIT: usize = 64 * 1024;
    let held = Arc::new(AtomicUsize::new(0));
    let sizes = (0..3000).map(|n| if n % 1000 == 999 { 8192 } else { 1 + n % 2 });
    let expected: Vec<u8> = sizes.clone().enumerate().flat_map(|(n, size)| vec![n as u8; size]).collect();
    let peak = Arc::new(AtomicUsize::new(0));
    let (held_by_frames, highest) = (Arc::clone(&held), Arc::clone(&peak));
    let frames = sizes.enumerate().map(move |(n, size)| {
        let whole = Bytes::from_owner(ReadBuffer::new(n as u8, &held_by_frames));
        highest.fetch_max(held_by_frames.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok::<_, BoxError>(Frame::data(whole.slice(..size)))
    });
    let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
    let (provider, _) = issuer(|n| async move { token(n) });
    let arrived = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let sends = Arc::clone(&arrived);
    let api = service_fn(move |request: Request<Stream>| {
        let sends = Arc::clone(&sends);
        async move {
            let refuse = request.headers()["authorization"] == "Bearer token-1";
            let (mut body, mut read) = (request.into_body(), Vec::new());
            while let Some(frame) = body.frame().await {
                read.extend_from_slice(frame?.data_ref().unwrap());
            }
            sends.lock().push(read);
            Ok::<_, BoxError>(if refuse { rejected(INVALID_TOKEN) } else { respond(StatusCode::OK) })
        }
    });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(LIMIT));
    let response = layer.layer(api).oneshot(request(&Method::POST, None, body)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(*arrived.lock() == [expected.clone(), expected], "the two sendings differ");
    let peak = peak.load(Ordering::SeqCst);
    assert!(peak <= LIMIT, "{peak} bytes of read buffers were held at once");
}

// A caller whose body breaks has no copy to send again.
#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_not_sent_again() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let (api, first) = Early::new();
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(1024));
    let (mut sender, body) = channel();
    let call = tokio::spawn(layer.layer(api.clone()).oneshot(request(&Method::POST, None, body)));
    sender.send(data("pay ")).await.unwrap();
    sender.send(Err("the disk is gone".into())).await.unwrap();
    drop(sender);
    // Who reads it first is the scheduler's choice; the error goes to whoever does, and no short body is taken for whole.
    let outcome = call.await.unwrap();
    let first = timeout(Duration::from_secs(60), first).await.expect("the first sending never hears that it is over");
    assert!(first.unwrap().is_err());
    assert!(outcome.map_or(true, |response| response.status() == 401));
    assert!(api.whole.lock().is_empty());
}

/// A body of set frames that says of itself what it is told to.
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    knows_length: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        if !self.knows_length {
            return SizeHint::new();
        }
        SizeHint::with_exact(self.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum())
    }
}

/// What one sending looked like.
#[derive(Debug, PartialEq)]
struct Look {
    length: Option<u64>,
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Default)]
struct Looks {
    seen: Arc<Mutex<Vec<Look>>>,
}

impl Service<Request<Stream>> for Looks {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Stream>) -> Self::Future {
        let looks = self.clone();
        Box::pin(async move {
            let length = request.body().size_hint().exact();
            let body = request.into_body().collect().await?;
            let trailers = body.trailers().cloned();
            let mut seen = looks.seen.lock();
            seen.push(Look { length, bytes: body.to_bytes(), trailers });
            Ok(if seen.len() == 1 { rejected(INVALID_TOKEN) } else { respond(StatusCode::OK) })
        })
    }
}

// R19: trailers go out again as well, and what went out in chunks or with a length does so again.
#[tokio::test(start_paused = true)]
async fn trailers_and_framing_are_those_of_the_first_sending() {
    // The limit counts the trailers too: a byte less than all of it is no whole copy.
    for (knows_length, missing) in [(false, 0), (true, 0), (true, 1)] {
        for trailers in [false, true] {
            let (provider, _) = issuer(|n| async move { token(n) });
            let mut frames: VecDeque<_> = CHUNKS.map(|chunk| Frame::data(Bytes::from(chunk))).into();
            frames.push_front(Frame::data(Bytes::new()));
            if trailers {
                let mut map = HeaderMap::new();
                map.insert("x-checksum", "1".parse().unwrap());
                frames.push_back(Frame::trailers(map));
            }
            let body = Frames { frames, knows_length }.boxed_unsync();
            let limit = length() + if trailers { "x-checksum1".len() } else { 0 };
            let looks = Looks::default();
            let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(limit - missing));
            let response = layer.layer(looks.clone()).oneshot(request(&Method::POST, None, body)).await.unwrap();
            assert_eq!(response.status(), if missing == 0 { 200 } else { 401 });
            if missing > 0 {
                continue;
            }
            let seen = looks.seen.lock();
            assert_eq!(seen[0], seen[1]);
            assert_eq!((seen[0].length.is_some(), seen[0].trailers.is_some()), (knows_length, trailers));
        }
    }
}

/// A body type whose default is not empty: it cannot stand in for an empty one.
struct Greeting(Option<Bytes>);

impl Default for Greeting {
    fn default() -> Self {
        Self(Some(Bytes::from_static(b"hello")))
    }
}

impl Body for Greeting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

// R19
#[tokio::test(start_paused = true)]
async fn a_default_body_that_is_not_empty_replaces_no_empty_one() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let api = Api::new(|_| rejected(INVALID_TOKEN));
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let response = layer.layer(api.clone()).oneshot(request(&Method::GET, None, Greeting(None))).await.unwrap();
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::NoCopy);
    assert_eq!(api.sends().len(), 1);
}

/// A provider that knows its API: here a GET moves money, and a POST does not.
#[derive(Default)]
struct Opinionated(AtomicUsize);

impl TokenProvider for Opinionated {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        request.method() == Method::POST
    }
}

// R18: what a provider says of its own API counts after a bare 401.
#[tokio::test(start_paused = true)]
async fn a_provider_may_say_what_is_idempotent() {
    for (method, sends, replay) in
        [(Method::GET, 1, ReplayOutcome::NotSafe), (Method::POST, 2, ReplayOutcome::RejectedAgain)]
    {
        let api = Api::new(|_| rejected(""));
        let layer = BearerAuthLayer::new(Opinionated::default()).allow_origin(API).unwrap().bodies(Cloned);
        let request = request(&method, None, Full::new(Bytes::from("money")));
        let response = layer.layer(api.clone()).oneshot(request).await.unwrap();
        assert_eq!(Audit::of(&response).unwrap().replay, replay, "{method}");
        assert_eq!(api.sends().len(), sends, "{method}");
    }
}

// The copy is for a refusal: once the answer is with the caller, nothing more is kept of what still goes up.
#[tokio::test(start_paused = true)]
async fn nothing_is_kept_once_the_answer_is_out() {
    /// Keeps the request's body and answers at once.
    #[derive(Clone, Default)]
    struct Keeps(Arc<Mutex<Option<Stream>>>);
    impl Service<Request<Stream>> for Keeps {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Self::Response, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: Request<Stream>) -> Self::Future {
            *self.0.lock() = Some(request.into_body());
            std::future::ready(Ok(respond(StatusCode::OK)))
        }
    }
    let inner = Keeps::default();
    let layer =
        BearerAuthLayer::new(FixedToken::new("ours").unwrap()).allow_origin(API).unwrap().bodies(buffered(1 << 20));
    let (mut sender, body) = channel();
    let response = layer.layer(inner.clone()).oneshot(request(&Method::POST, None, body)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = inner.0.lock().take().unwrap();
    // A slice of its own owner shows when the last copy is dropped; large enough to be kept as a slice, and not copied.
    let owner = Arc::new(vec![0_u8; 8 * 1024]);
    let bytes = Bytes::from_owner(Owned(Arc::clone(&owner)));
    let (sent, frame) = futures::join!(sender.send(Ok(Frame::data(bytes))), body.frame());
    sent.unwrap();
    drop(frame.unwrap().unwrap());
    assert_eq!(Arc::strong_count(&owner), 1, "no copy is left behind");
    drop(sender);
    assert!(body.frame().await.is_none());
}

struct Owned(Arc<Vec<u8>>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// R14: whoever keeps a future that has ended, a completed member of a join for instance, keeps no token and no source with it.
#[tokio::test(start_paused = true)]
async fn a_future_that_has_ended_holds_nothing() {
    struct Issuer {
        asked: AtomicUsize,
        fails: bool,
        _alive: Arc<()>,
    }

    impl TokenProvider for Issuer {
        type Key = ();

        async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
            match self.asked.fetch_add(1, Ordering::SeqCst) {
                0 => IssuedToken::bearer("first"),
                _ if self.fails => Err(Error::permanent("no more")),
                _ => IssuedToken::bearer("second"),
            }
        }
    }

    let elsewhere = "https://elsewhere.example.com";
    for (what, uri, refuses, fails, sends) in [
        ("accepted", API, false, false, 1),
        ("foreign", elsewhere, true, false, 1),
        ("healed", API, true, false, 2),
        ("not renewed", API, true, true, 1),
        ("no token", API, true, true, 0),
    ] {
        let alive = Arc::new(());
        let asked = AtomicUsize::new(usize::from(sends == 0));
        let issuer = Issuer { asked, fails, _alive: Arc::clone(&alive) };
        let layer = BearerAuthLayer::new(issuer).allow_origin(API).unwrap();
        let api = Api::new(move |request| {
            if refuses && bearer(request) == "first" { rejected(INVALID_TOKEN) } else { respond(StatusCode::OK) }
        });
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let mut future = Box::pin(layer.layer(api.clone()).call(request));
        drop(layer);
        assert_eq!((&mut future).await.is_ok(), sends > 0, "{what}");
        assert_eq!(api.sends().len(), sends, "{what}");
        // What was spawned for it ends with it.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1, "{what}");
        assert!(future.as_mut().now_or_never().is_none(), "{what}: polled again it says nothing");
    }
}
