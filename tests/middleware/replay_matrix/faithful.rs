//! A replay has exactly the body of the first send, or there is no replay. Also if the first body is still being sent.

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
use crate::support::issuer::{Issuer, Outcome};

type Sender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

fn channel() -> (Sender, Stream) {
    let (sender, receiver) = mpsc::channel(0);
    (sender, StreamBody::new(receiver).boxed_unsync())
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from(bytes)))
}

/// How the body of a send ended at the server.
type Arrived = Result<Bytes, String>;

/// Responds to the first send with 401 as soon as its first bytes arrive, and continues to read it.
#[derive(Clone)]
struct Early {
    first: Arc<Mutex<Option<oneshot::Sender<Arrived>>>>,
    complete: Arc<Mutex<Vec<Bytes>>>,
}

impl Early {
    fn new() -> (Self, oneshot::Receiver<Arrived>) {
        let (sender, first) = oneshot::channel();
        (Self { first: Arc::new(Mutex::new(Some(sender))), complete: Arc::default() }, first)
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
        let (first, complete) = (self.first.lock().take(), Arc::clone(&self.complete));
        Box::pin(async move {
            let mut body = request.into_body();
            let Some(first) = first else {
                let bytes = body.collect().await?.to_bytes();
                complete.lock().push(bytes);
                return Ok(response(StatusCode::CREATED));
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
            Ok(rejection(INVALID_TOKEN))
        })
    }
}

// R19: the replay has the complete body, and the first body ends with an error.
#[tokio::test(start_paused = true)]
async fn a_rejection_before_the_end_of_the_body_is_replayed_and_the_first_send_fails() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let (api, first) = Early::new();
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(1024));
    let (mut sender, body) = channel();
    let call = tokio::spawn(layer.layer(api.clone()).oneshot(request(&Method::POST, None, body)));
    sender.send(data("pay ")).await.unwrap();
    // The first send waits for a body that now belongs to the replay, so it must be woken.
    let end = timeout(Duration::from_secs(60), first).await.expect("the first send is woken");
    assert!(end.unwrap().unwrap_err().contains("being replayed"));
    sender.send(data("100 to ")).await.unwrap();
    sender.send(data("alice")).await.unwrap();
    drop(sender);
    let response = timeout(Duration::from_secs(60), call).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(*api.complete.lock(), ["pay 100 to alice"]);
}

// R17, R19: the first send continues, and the caller gets its response.
#[tokio::test(start_paused = true)]
async fn a_body_that_exceeds_the_limit_during_the_fetch_is_not_replayed() {
    let (provider, fetches) = issuer(|n| async move {
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
    assert_eq!((api.complete.lock().len(), fetches.count()), (0, 2));
}

/// A read buffer like that of a proxy. It counts as held while any part of it is alive.
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

// R19: the limit also bounds the memory, even if each frame is one or two bytes of a large buffer.
#[tokio::test(start_paused = true)]
async fn a_copy_of_small_frames_takes_no_more_memory_than_their_bytes() {
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
            let reject = request.headers()["authorization"] == "Bearer token-1";
            let (mut body, mut read) = (request.into_body(), Vec::new());
            while let Some(frame) = body.frame().await {
                read.extend_from_slice(frame?.data_ref().unwrap());
            }
            sends.lock().push(read);
            Ok::<_, BoxError>(if reject { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) })
        }
    });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(LIMIT));
    let response = layer.layer(api).oneshot(request(&Method::POST, None, body)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(*arrived.lock() == [expected.clone(), expected], "the two sends differ");
    let peak = peak.load(Ordering::SeqCst);
    assert!(peak <= LIMIT, "{peak} bytes of read buffers were held at once");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_not_replayed() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let (api, first) = Early::new();
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(1024));
    let (mut sender, body) = channel();
    let call = tokio::spawn(layer.layer(api.clone()).oneshot(request(&Method::POST, None, body)));
    sender.send(data("pay ")).await.unwrap();
    sender.send(Err("the disk is gone".into())).await.unwrap();
    drop(sender);
    // Either send can read the error first. Neither ends with a truncated body that looks complete.
    let outcome = call.await.unwrap();
    let first = timeout(Duration::from_secs(60), first).await.expect("the first send is woken");
    assert!(first.unwrap().is_err());
    assert!(outcome.map_or(true, |response| response.status() == 401));
    assert!(api.complete.lock().is_empty());
}

/// A body with given frames, with or without an exact length.
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

/// What the server received with one send.
#[derive(Debug, PartialEq)]
struct Look {
    length: Option<u64>,
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Default)]
struct Looks {
    seen: Arc<Mutex<Vec<Look>>>,
    /// Whether the body of each send said that it is complete, after its last frame.
    complete: Arc<Mutex<Vec<bool>>>,
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
            let mut body = request.into_body();
            let (mut bytes, mut trailers) = (Vec::new(), None);
            loop {
                // A client that is told so reads no further frame.
                let complete = body.is_end_stream();
                let Some(frame) = body.frame().await.transpose()? else { break };
                assert!(!complete, "another frame comes");
                match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            looks.complete.lock().push(body.is_end_stream());
            let mut seen = looks.seen.lock();
            seen.push(Look { length, bytes: bytes.into(), trailers });
            Ok(if seen.len() == 1 { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) })
        })
    }
}

// R19: the replay has the trailers too, and it is chunked or has a length as the first send.
#[tokio::test(start_paused = true)]
async fn trailers_and_framing_of_a_replay_are_those_of_the_first_send() {
    // The limit counts the trailers too: with one byte less, the copy is incomplete.
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
            assert!(looks.complete.lock()[1], "the replay says that it is complete");
        }
    }
}

/// A body type with a default that is not empty. The default cannot replace an empty body.
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
async fn a_default_body_that_is_not_empty_does_not_replace_an_empty_body() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let response = layer.layer(api.clone()).oneshot(request(&Method::GET, None, Greeting(None))).await.unwrap();
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::NoCopy);
    assert_eq!(api.sends().len(), 1);
}

/// A provider for an API in which a GET moves money and a POST does not.
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

// R18: after a 401 without a reason.
#[tokio::test(start_paused = true)]
async fn a_provider_decides_what_is_idempotent() {
    for (method, sends, replay) in
        [(Method::GET, 1, ReplayOutcome::NotSafe), (Method::POST, 2, ReplayOutcome::RejectedAgain)]
    {
        let api = Api::new(|_| rejection(""));
        let layer = BearerAuthLayer::new(Opinionated::default()).allow_origin(API).unwrap().bodies(Cloned);
        let request = request(&method, None, Full::new(Bytes::from("money")));
        let response = layer.layer(api.clone()).oneshot(request).await.unwrap();
        assert_eq!(Audit::of(&response).unwrap().replay, replay, "{method}");
        assert_eq!(api.sends().len(), sends, "{method}");
    }
}

// The copy is for a replay. After the response, the rest of the body is not kept.
#[tokio::test(start_paused = true)]
async fn nothing_is_kept_after_the_response() {
    /// Keeps the request's body and responds at once.
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
            std::future::ready(Ok(response(StatusCode::OK)))
        }
    }
    let inner = Keeps::default();
    let layer = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap())
        .allow_origin(API)
        .unwrap()
        .bodies(buffered(1 << 20));
    let (mut sender, body) = channel();
    let response = layer.layer(inner.clone()).oneshot(request(&Method::POST, None, body)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = inner.0.lock().take().unwrap();
    // The reference count of the owner shows whether a copy exists. The frame is so large that a copy would share it.
    let owner = Arc::new(vec![0_u8; 8 * 1024]);
    let bytes = Bytes::from_owner(Owned(Arc::clone(&owner)));
    let (sent, frame) = futures::join!(sender.send(Ok(Frame::data(bytes))), body.frame());
    sent.unwrap();
    drop(frame.unwrap().unwrap());
    assert_eq!(Arc::strong_count(&owner), 1, "no copy is kept");
    drop(sender);
    assert!(body.frame().await.is_none());
}

struct Owned(Arc<Vec<u8>>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// R14: a caller may keep a completed future, for example in a join. It must not keep the token or the source alive.
#[tokio::test(start_paused = true)]
async fn a_completed_future_keeps_nothing_alive() {
    let elsewhere = "https://elsewhere.example.com";
    for (what, uri, rejects, fails, sends) in [
        ("accepted", API, false, false, 1),
        ("foreign", elsewhere, true, false, 1),
        ("replayed", API, true, false, 2),
        ("not refreshed", API, true, true, 1),
        ("no token", API, true, true, 0),
    ] {
        let issuer = Issuer::new();
        if sends > 0 {
            issuer.script(Outcome::Return("first"));
        }
        issuer.script_always(if fails {
            Outcome::Fail(Error::permanent("no more"))
        } else {
            Outcome::Return("second")
        });
        let layer = BearerAuthLayer::new(issuer.clone()).allow_origin(API).unwrap();
        let api = Api::new(move |request| {
            if rejects && bearer(request) == "first" { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) }
        });
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let mut future = Box::pin(layer.layer(api.clone()).call(request));
        drop(layer);
        assert_eq!((&mut future).await.is_ok(), sends > 0, "{what}");
        assert_eq!(api.sends().len(), sends, "{what}");
        // The tasks of the source end too.
        tokio::task::yield_now().await;
        assert_eq!(issuer.clones(), 1, "{what}");
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().now_or_never().is_some()));
        assert!(again.is_err(), "{what}: polled after completion");
    }
}

// A frame can be a few bytes of a large buffer, so a small one is copied.
#[tokio::test(start_paused = true)]
async fn the_copy_of_a_body_shares_the_memory_of_large_frames_and_not_of_small_ones() {
    for (length, is_shared) in [(4 * 1024 - 1, false), (4 * 1024, true)] {
        let (provider, _) = issuer(|n| async move { token(n) });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let server = service_fn(move |request: Request<Stream>| {
            let seen = Arc::clone(&record);
            async move {
                let reply =
                    if bearer(&request) == "token-1" { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) };
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    seen.lock().push(frame?.into_data().unwrap());
                }
                Ok::<_, BoxError>(reply)
            }
        });
        let body = Full::from(vec![7; length]).map_err(BoxError::from).boxed_unsync();
        let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(buffered(length));
        let got = layer.layer(server).oneshot(request(&Method::PUT, None, body)).await.unwrap();
        assert_eq!(got.status(), 200);
        let seen = seen.lock();
        assert_eq!(seen.iter().map(Bytes::len).collect::<Vec<_>>(), [length; 2]);
        assert_eq!(seen[0].as_ptr() == seen[1].as_ptr(), is_shared, "{length} bytes");
    }
}
