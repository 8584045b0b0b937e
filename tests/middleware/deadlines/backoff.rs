//! A deadline in a backoff: the request waits only if the backoff ends before its deadline.

use super::*;
use crate::support::issuer::Outcome;

/// The latency of the issuer.
const FETCH: Duration = ms(50);

/// A token request that fails with a backoff of more than 1 s.
fn fail() -> Outcome {
    Outcome::Fail(Error::new(ErrorKind::Unavailable, "503").with_retry_after(secs(1)))
}

/// A source after one failed token request, and the rest of its backoff.
async fn in_backoff() -> (Issuer, TokenSource<Issuer>, Duration) {
    let (issuer, source) = issuer(FETCH);
    issuer.name_tokens(|_| "good".into());
    issuer.script(fail());
    let watch = Stopwatch::start();
    let error = Server::new(ms(0)).behind(&layer(&source)).oneshot(with_deadline(ms(500))).await.unwrap_err();
    assert_eq!((kind(&error), watch.read()), (ErrorKind::Unavailable, FETCH), "a wait for a fetch that fails");
    let left = source.status().next_try.unwrap();
    assert!((secs(1)..secs(2)).contains(&left), "{left:?}");
    (issuer, source, left)
}

// R72: the error says when a token request can start. A `DEADLINE_EXCEEDED` at the deadline says less, and later.
#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_ends_before_the_backoff_fails_at_once() {
    let requests: [fn(Duration) -> Request<Body>; 2] =
        [with_deadline, |time| with_timeout(&format!("{}u", time.as_micros()))];
    for request in requests {
        for time in [ms(1), ms(200), ms(999)] {
            let (issuer, source, left) = in_backoff().await;
            let server = Server::new(ms(0));
            let watch = Stopwatch::start();
            let error = server.behind(&layer(&source)).oneshot(request(time)).await.unwrap_err();
            assert_eq!((kind(&error), watch.read()), (ErrorKind::Unavailable, ms(0)), "{time:?}");
            assert_eq!(Error::find(&*error).unwrap().retry_after(), Some(left));
            assert_eq!((issuer.requests(), server.timeouts().len()), (1, 0));
            let stats = source.stats();
            assert_eq!((stats.waits, stats.waits_failed, stats.waiting), (2, 2, 0));
        }
    }
}

// R66, R72
#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_ends_after_the_backoff_waits_for_its_token() {
    for (more, sent) in [(ms(2), false), (FETCH - ms(2), false), (FETCH + ms(2), true), (secs(5), true)] {
        let (issuer, source, left) = in_backoff().await;
        let server = Server::new(ms(0));
        let watch = Stopwatch::start();
        let outcome = server.behind(&layer(&source)).oneshot(with_deadline(left + more)).await;
        // Timers have a resolution of 1 ms.
        let end = left + more.min(FETCH);
        assert!((end..=end + ms(2)).contains(&watch.read()), "{more:?}: {:?}", watch.read());
        match outcome {
            Ok(response) => assert_eq!((response.status(), sent), (StatusCode::OK, true), "{more:?}"),
            Err(error) => assert_eq!((kind(&error), sent), (ErrorKind::Timeout, false), "{more:?}"),
        }
        assert_eq!((issuer.requests(), server.timeouts().len()), (2, usize::from(sent)));
    }
}

// R72: the caller gets the rejection at once too, and not at its deadline. With more time, it waits for the backoff, the token
// request and the replay.
#[tokio::test(start_paused = true)]
async fn a_rejected_request_waits_for_no_backoff_that_ends_after_its_deadline() {
    for (time, status, ends) in [(ms(500), StatusCode::UNAUTHORIZED, ms(300)), (secs(5), StatusCode::OK, ms(400))] {
        let (issuer, source) = issuer(FETCH);
        source.warm_up().await.unwrap();
        let client = Server::new(ms(300)).behind(&layer(&source));
        let watch = Stopwatch::start();
        let rejected = tokio::spawn(client.clone().oneshot(with_deadline(time)));
        settle().await;
        // The token is gone while the request is at the server.
        source.invalidate();
        issuer.script(fail());
        client.oneshot(with_deadline(ms(200))).await.unwrap_err();
        let response = rejected.await.unwrap().unwrap();
        assert_eq!(response.status(), status, "{time:?}");
        if status == StatusCode::OK {
            assert!((secs(1) + ends..secs(2) + ends).contains(&watch.read()), "{:?}", watch.read());
        } else {
            assert_eq!(watch.read(), ends);
            let outcome = Audit::of(&response).unwrap().replay;
            assert_eq!(outcome, ReplayOutcome::RefreshFailed(ErrorKind::Unavailable));
        }
    }
}

// R68, R72: this delay is not the backoff of a failure, so there is no error to return before the deadline.
#[tokio::test(start_paused = true)]
async fn a_delay_between_two_invalidations_ends_at_the_deadline() {
    let (issuer, source) = issuer(FETCH);
    issuer.name_tokens(|_| "good".into());
    for _ in 0..2 {
        source.warm_up().await.unwrap();
        source.invalidate();
    }
    let client = Server::new(ms(0)).behind(&layer(&source));
    let watch = Stopwatch::start();
    let error = client.clone().oneshot(with_deadline(ms(200))).await.unwrap_err();
    assert_eq!((kind(&error), watch.read(), issuer.requests()), (ErrorKind::Timeout, ms(200), 2));
    assert_eq!(client.oneshot(with_deadline(secs(2))).await.unwrap().status(), StatusCode::OK);
}
