//! A caller that drops its future, at every await point of a replay.

use std::collections::VecDeque;

use http_body::Frame;
use tokio_test::task;
use tower::limit::ConcurrencyLimit;

use super::*;

/// A service that is pending once at each step, so that each poll of a call ends at the next await point.
struct Hesitant {
    called: bool,
    hesitated: bool,
    responses: Arc<AtomicUsize>,
}

impl Clone for Hesitant {
    fn clone(&self) -> Self {
        Self { called: false, hesitated: false, responses: Arc::clone(&self.responses) }
    }
}

fn hesitate(hesitated: &mut bool, cx: &Context<'_>) -> Poll<()> {
    if !std::mem::replace(hesitated, true) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

impl Service<Request<Body>> for Hesitant {
    type Response = Response<Reluctant>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.called {
            std::task::ready!(hesitate(&mut self.hesitated, cx));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        (self.called, self.hesitated) = (true, false);
        let responses = Arc::clone(&self.responses);
        let first = request.headers()["authorization"] == "Bearer token-1";
        Box::pin(async move {
            tokio::task::yield_now().await;
            responses.fetch_add(1, Ordering::SeqCst);
            let frames = VecDeque::from([Bytes::from("a response")]);
            let response = Response::builder().status(if first { 401 } else { 200 });
            let response = response.header("www-authenticate", INVALID_TOKEN);
            Ok(response.body(Reluctant { frames, hesitated: false }).unwrap())
        })
    }
}

/// A body that is pending once before its first frame.
struct Reluctant {
    frames: VecDeque<Bytes>,
    hesitated: bool,
}

impl http_body::Body for Reluctant {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::ready!(hesitate(&mut self.hesitated, cx));
        Poll::Ready(self.frames.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Whether the source has a token before the call.
#[derive(Clone, Copy, Debug)]
enum Start {
    Cold,
    Rejected,
}

/// Polls a call `polls` times, then drops it. Returns whether it completed before that.
async fn dropped_after(polls: usize, start: Start) -> bool {
    let (provider, fetches) = issuer(|n| async move {
        sleep(Duration::from_millis(20)).await;
        token(n)
    });
    let source = TokenSource::new(provider);
    match start {
        Start::Rejected => source.warm_up().await.unwrap(),
        // The server rejects only the first token, so the next one is accepted.
        Start::Cold => {
            source.warm_up().await.unwrap();
            source.invalidate();
        }
    }
    let permits = Arc::new(Semaphore::new(2));
    let hesitant = Hesitant { called: false, hesitated: false, responses: Arc::default() };
    let limit = ConcurrencyLimit::with_semaphore(hesitant, Arc::clone(&permits));
    let client = source.layer().allow_origin(API).unwrap().layer(limit);

    let mut first = client.clone();
    let mut call = task::spawn(first.ready().await.unwrap().call(get()));
    let other = tokio::spawn(client.clone().oneshot(get()));
    let mut done = false;
    for _ in 0..polls {
        if call.poll().is_ready() {
            done = true;
            break;
        }
        timeout(FOREVER, async {
            while !call.is_woken() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("a pending call is woken");
    }
    drop((call, first));
    let what = format!("{start:?}, dropped after {polls} polls");
    let response = timeout(FOREVER, other).await.expect("the other call does not hang").unwrap();
    assert_eq!(response.expect(&what).status(), 200, "{what}");
    let next = timeout(FOREVER, client.oneshot(get())).await.expect("the next call does not hang");
    assert_eq!(next.expect(&what).status(), 200, "{what}");
    assert_eq!(permits.available_permits(), 2, "{what}");
    assert_eq!(fetches.count(), 2, "{what}");
    let stats = source.stats();
    assert_eq!(stats.waits, stats.waits_served + stats.waits_failed + stats.waits_abandoned, "{what}");
    assert_eq!((stats.waiting, stats.fetches_in_flight), (0, 0), "{what}");
    done
}

// R8, R9: the other callers succeed, no call hangs, and the permit is released.
#[tokio::test(start_paused = true)]
async fn a_call_can_be_dropped_at_every_await_point_of_a_replay() {
    // Counted by hand: not polled; the first response; the refresh; the drain; the yield after it; the readiness; the
    // second response.
    for (start, points) in [(Start::Rejected, 7), (Start::Cold, 3)] {
        let mut covered = 0;
        while !dropped_after(covered, start).await {
            covered += 1;
        }
        println!("{start:?}: {covered} points");
        assert!(covered >= points, "{start:?}: {covered} points");
    }
}
