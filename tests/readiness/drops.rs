//! A caller that goes away, at every point of a heal.

use std::collections::VecDeque;

use http_body::Frame;
use tokio_test::task;
use tower::limit::ConcurrencyLimit;

use super::*;

/// Pending once at whatever it is asked: each poll of a call ends at the next await point.
struct Hesitant {
    called: bool,
    hesitated: bool,
    answers: Arc<AtomicUsize>,
}

impl Clone for Hesitant {
    fn clone(&self) -> Self {
        Self { called: false, hesitated: false, answers: Arc::clone(&self.answers) }
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
        let answers = Arc::clone(&self.answers);
        let first = request.headers()["authorization"] == "Bearer token-1";
        Box::pin(async move {
            tokio::task::yield_now().await;
            answers.fetch_add(1, Ordering::SeqCst);
            let frames = VecDeque::from([Bytes::from("an answer")]);
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
    Refused,
}

/// Lets a call be polled so often, then drops it. Says whether it had come to its end before that.
async fn dropped_after(polls: usize, start: Start) -> bool {
    let (provider, asked) = issuer(|n| async move {
        sleep(Duration::from_millis(20)).await;
        // Cold, the first token is good: the call waits for it before it is sent.
        token(n)
    });
    let source = TokenSource::new(provider);
    match start {
        Start::Refused => source.warm_up().await.unwrap(),
        // One token further, so that the next one is taken.
        Start::Cold => {
            source.warm_up().await.unwrap();
            source.invalidate();
        }
    }
    let permits = Arc::new(Semaphore::new(2));
    let hesitant = Hesitant { called: false, hesitated: false, answers: Arc::default() };
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
    let response = timeout(FOREVER, other).await.expect("others do not hang").unwrap();
    assert_eq!(response.expect(&what).status(), 200, "{what}");
    let next = timeout(FOREVER, client.oneshot(get())).await.expect("the next does not hang");
    assert_eq!(next.expect(&what).status(), 200, "{what}");
    assert_eq!(permits.available_permits(), 2, "{what}");
    assert_eq!(asked.count(), 2, "{what}");
    let stats = source.stats();
    assert_eq!(stats.waits, stats.waits_served + stats.waits_failed + stats.waits_abandoned, "{what}");
    assert_eq!((stats.waiting, stats.fetches_in_flight), (0, 0), "{what}");
    done
}

// R8, R9: no other caller is harmed, nobody hangs, and the permit comes back.
#[tokio::test(start_paused = true)]
async fn a_caller_may_go_away_at_every_point_of_a_heal() {
    // By hand: not polled at all; the first answer; the renewal; the drain; the turn after it; the readiness;
    // the second answer.
    for (start, points) in [(Start::Refused, 7), (Start::Cold, 3)] {
        let mut covered = 0;
        while !dropped_after(covered, start).await {
            covered += 1;
        }
        println!("{start:?}: {covered} points");
        assert!(covered >= points, "{start:?}: {covered} points");
    }
}
