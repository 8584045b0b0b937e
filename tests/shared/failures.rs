//! R95: an issuer that fails, that rejects the credentials, that throttles, or that repeats its token.

use std::io;
use std::time::Duration;

use tokio::time::sleep;
use tower_bearer_auth::{ConfigError, Error, ErrorKind};

use crate::world::{Outcome, Settings, World, ms, secs, settle, together, tokio_now, unavailable};

fn wrong_secret() -> Error {
    Error::new(ErrorKind::InvalidCredentials, "the issuer rejects the credentials")
        .with_status(http::StatusCode::UNAUTHORIZED)
        .with_code("invalid_client")
        .with_hint("set the right secret")
}

fn throttled(seconds: u64) -> Error {
    Error::new(ErrorKind::Throttled, "slow down").with_retry_after(secs(seconds))
}

// R95
#[tokio::test(start_paused = true)]
async fn a_failing_issuer_is_called_about_once_a_second_by_any_number_of_processes() {
    for count in [1, 10, 50] {
        let world = World::new();
        world.issuer.set_down(true);
        let processes: Vec<_> =
            (0..count).map(|_| world.process_with(Settings::default(), |builder| builder.patience(ms(0)))).collect();
        let until = tokio_now() + secs(60);
        together(&processes, |process| async move {
            while tokio_now() < until {
                let _ = process.token().await;
                sleep(ms(100)).await;
            }
        })
        .await;
        // A note lasts 1 s, and the token request takes 0.2 s.
        assert!(world.requests() <= 51, "{} token requests of {count} processes", world.requests());
    }
}

// R95
#[tokio::test(start_paused = true)]
async fn a_process_reports_the_failure_of_another_one_as_its_own() {
    let world = World::new();
    world.issuer.script_always(Outcome::Fail(wrong_secret()));
    let (one, other) = (world.process(), world.process());
    let own = one.source.token().await.unwrap_err();
    let adopted = other.source.token().await.unwrap_err();
    assert_eq!(world.requests(), 1);
    assert_eq!(own.to_string(), adopted.to_string());
    assert_eq!((adopted.kind(), adopted.is_transient()), (ErrorKind::InvalidCredentials, false));
    assert_eq!((adopted.status(), adopted.code()), (own.status(), Some("invalid_client")));
    assert_eq!(adopted.hint(), Some("set the right secret"));
    assert_eq!(other.stats().store_notes, 1);
    // Both wait for the same time, and up to a tenth more.
    let (first, second) = (own.retry_after().unwrap(), adopted.retry_after().unwrap());
    assert!(first >= ms(2_500) && first <= ms(5_500), "{first:?}");
    assert!(second >= first.mul_f64(0.9) && second <= first.mul_f64(1.1), "{first:?} and {second:?}");
}

// R95
#[tokio::test(start_paused = true)]
async fn a_wrong_secret_costs_ninety_token_requests_an_hour_for_twenty_processes() {
    let world = World::new();
    world.issuer.script_always(Outcome::Fail(wrong_secret()));
    let processes = world.processes(20);
    let until = tokio_now() + secs(3_600);
    together(&processes, |process| async move {
        while tokio_now() < until {
            process.token().await.unwrap_err();
            sleep(secs(2)).await;
        }
    })
    .await;
    assert!(world.requests() <= 90, "{} token requests", world.requests());
    assert!(world.requests() >= 50, "{} token requests: too few processes tried", world.requests());
}

// R95
#[tokio::test(start_paused = true)]
async fn a_retry_after_holds_for_all_processes_and_for_a_minute_at_most() {
    for (asked, held) in [(20, 20), (600, 60)] {
        let world = World::new();
        world.issuer.script(Outcome::Fail(throttled(asked)));
        let first = world.process_with(Settings::default(), |builder| builder.patience(ms(0)));
        first.source.token().await.unwrap_err();
        let others: Vec<_> =
            (0..5).map(|_| world.process_with(Settings::default(), |builder| builder.patience(ms(0)))).collect();
        let errors = together(&others, |process| process.token()).await;
        for error in errors {
            let left = error.unwrap_err().retry_after().unwrap();
            assert!(left >= secs(held) - ms(300) && left <= secs(held).mul_f64(1.1), "{left:?}");
        }
        // A rejection or `invalidate` does not end it.
        others[0].source.invalidate();
        others[0].token().await.unwrap_err();
        sleep(secs(held) - secs(1)).await;
        assert_eq!(world.requests(), 1);
        sleep(secs(held)).await;
        let tokens = together(&others, |process| process.token()).await;
        assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
        assert_eq!(world.requests(), 2);
    }
}

// R95: the note is beside the token.
#[tokio::test(start_paused = true)]
async fn a_failed_renewal_does_not_hide_the_token_from_new_processes() {
    let world = World::new();
    let first = world.process();
    first.token().await.unwrap();
    sleep(secs(1_000)).await;
    world.issuer.set_down(true);
    assert!(first.call().await);
    settle().await;
    sleep(ms(300)).await;
    assert_eq!(world.requests(), 2);
    let second = world.process();
    assert_eq!(second.token().await.unwrap(), "first.1");
    assert_eq!((second.stats().store_hits, second.stats().store_notes), (1, 0));
    // It is in its window. Its own renewal finds the note.
    assert!(second.call().await);
    sleep(ms(100)).await;
    assert_eq!((second.stats().store_notes, world.requests()), (1, 2));
}

// R95
#[tokio::test(start_paused = true)]
async fn a_rotation_ignores_the_note_about_wrong_credentials() {
    let world = World::new();
    world.issuer.script(Outcome::Fail(wrong_secret()));
    let processes = world.processes(8);
    for process in &processes {
        process.token().await.unwrap_err();
    }
    assert_eq!(world.requests(), 1);
    // The secret was corrected at the issuer, and has the same value here.
    for process in &processes {
        process.source.rotate();
    }
    let tokens = together(&processes, |process| process.token()).await;
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!(world.requests(), 2);
    // The token removed the note.
    assert!(world.process().token().await.is_ok());
}

/// The calls of the issuer by five processes that start together, if its first response is `outcome`.
async fn calls_after(outcome: Outcome) -> usize {
    let world = World::new();
    world.issuer.script(outcome);
    world.issuer.script(Outcome::Hang);
    let processes = world.processes(5);
    let all = together(&processes, |process| process.token());
    let _ = tokio::time::timeout(ms(900), all).await;
    world.requests()
}

// R95
#[tokio::test(start_paused = true)]
async fn a_failure_of_one_process_alone_is_not_shared() {
    let io = |kind| Error::transient(io::Error::from(kind)).with_kind(ErrorKind::Unavailable);
    let dns = io::Error::other("failed to lookup address information");
    let of_one = [
        Outcome::Panic("a bug of this process"),
        Outcome::Fail(ConfigError::new("client_secret", "the file cannot be read").into()),
        Outcome::Fail(Error::transient(dns).with_kind(ErrorKind::Unavailable)),
        Outcome::Fail(io(io::ErrorKind::InvalidData)),
        Outcome::Fail(io(io::ErrorKind::NotFound)),
        Outcome::Fail(Error::permanent("a setting of this process")),
        Outcome::Fail(Error::new(ErrorKind::NoRuntime, "no timers")),
        Outcome::Fail(Error::new(ErrorKind::Tls, "the certificate is not trusted")),
        // The packets of this process may be dropped.
        Outcome::Fail(Error::new(ErrorKind::Timeout, "it did not respond")),
        Outcome::Fail(io(io::ErrorKind::TimedOut)),
    ];
    for outcome in of_one {
        let name = format!("{:?}", described(&outcome));
        assert_eq!(calls_after(outcome).await, 2, "{name}: another process gets the lease and tries");
    }
    let of_all = [
        Outcome::Fail(unavailable()),
        Outcome::Fail(wrong_secret()),
        Outcome::Fail(throttled(2)),
        Outcome::Fail(io(io::ErrorKind::ConnectionRefused)),
        Outcome::Fail(io(io::ErrorKind::ConnectionReset)),
        Outcome::Fail(
            Error::new(ErrorKind::Timeout, "reports a request timeout").with_status(http::StatusCode::REQUEST_TIMEOUT),
        ),
        Outcome::Fail(Error::new(ErrorKind::MalformedResponse, "not JSON")),
        Outcome::Fail(Error::permanent("it says so").with_code("invalid_scope")),
        Outcome::Fail(Error::transient("down")),
    ];
    for outcome in of_all {
        let name = format!("{:?}", described(&outcome));
        assert_eq!(calls_after(outcome).await, 1, "{name}");
    }
}

fn described(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Fail(error) => format!("{error:?}"),
        _ => "a panic".to_owned(),
    }
}

// R95: rule 4
#[tokio::test(start_paused = true)]
async fn an_issuer_that_repeats_its_token_is_asked_by_one_process() {
    let world = World::new();
    // One token for an hour, whoever asks.
    world.issuer.name_tokens(|request| format!("token-{}", request.at.as_secs() / 1_800));
    let opened = tokio_now();
    world.issuer.set_lifetime(secs(1_800));
    let processes = world.processes(10);
    let shrinking = async {
        while opened.elapsed_since() < secs(1_700) {
            world.issuer.set_lifetime(secs(1_800) - opened.elapsed_since());
            sleep(secs(1)).await;
        }
    };
    let (failed, ()) = tokio::join!(together(&processes, |process| process.load(secs(2), secs(1_700))), shrinking);
    assert_eq!(failed, [0; 10]);
    // One process makes about 8 token requests per lifetime (rule 17).
    assert!(world.requests() <= 10, "{} token requests", world.requests());
    assert!(processes.iter().any(|process| process.stats().store_notes > 0));
}

trait Since {
    fn elapsed_since(&self) -> Duration;
}

impl Since for tokio::time::Instant {
    fn elapsed_since(&self) -> Duration {
        tokio_now().duration_since(*self)
    }
}

// R95: rule 4, and rule 19
#[tokio::test(start_paused = true)]
async fn an_issuer_that_repeats_a_rejected_token_is_asked_by_one_process() {
    let world = World::new();
    world.issuer.name_tokens(|_| "the-same".to_owned());
    let processes = world.processes(10);
    together(&processes, |process| process.call()).await;
    sleep(secs(30)).await;
    world.revoke("the-same");
    together(&processes, |process| process.load(ms(500), secs(60))).await;
    // At first one, and then one every 10 s x 2^k.
    assert!(world.requests() <= 1 + 1 + 6, "{} token requests", world.requests());
}

// R95: a fetch that has no token to keep is not satisfied with a note about one.
#[tokio::test(start_paused = true)]
async fn a_note_about_a_repeated_token_concerns_only_processes_that_have_it() {
    let world = World::new();
    world.issuer.name_tokens(|_| "the-same".to_owned());
    let (one, other) = (world.process(), world.process());
    assert!(one.call().await && other.call().await);
    sleep(secs(1_000)).await;
    assert!(one.call().await);
    sleep(secs(1)).await;
    assert_eq!(world.server.published().iter().filter(|record| !record.is_token).count(), 1);
    // A new process takes the token.
    assert_eq!(world.process().token().await.unwrap(), "the-same");
    // One whose token was removed asks the issuer.
    let requests = world.requests();
    world.issuer.name_tokens(|_| "another".to_owned());
    other.source.invalidate();
    assert_eq!(other.token().await.unwrap(), "another");
    assert_eq!(world.requests(), requests + 1);
}

// R87, R95
#[tokio::test(start_paused = true)]
async fn a_note_about_a_repeated_token_does_not_hide_that_it_was_revoked_since() {
    let world = World::new();
    world.issuer.name_tokens(|_| "the-same".to_owned());
    let (one, other) = (world.process(), world.process());
    assert!(one.call().await && other.call().await);
    sleep(secs(1_000)).await;
    assert!(one.call().await);
    sleep(secs(1)).await;
    // The note lasts for some minutes, and now the token is revoked.
    world.revoke("the-same");
    world.issuer.name_tokens(|_| "another".to_owned());
    assert!(other.call().await);
    assert_eq!(other.token().await.unwrap(), "another");
}

// R95, rule 7
#[tokio::test(start_paused = true)]
async fn a_process_with_a_wrong_secret_does_not_count_its_own_note() {
    let world = World::new();
    world.issuer.script_always(Outcome::Fail(wrong_secret()));
    let process = world.process();
    process.load(secs(1), secs(1_800)).await;
    assert_eq!(process.stats().store_notes, 0, "the process came back before its note was over");
    // 2.5 s to 5 s, doubled up to 30 s to 60 s.
    assert!((30..=70).contains(&world.requests()), "{} token requests", world.requests());
}

// R93, R95
#[tokio::test(start_paused = true)]
async fn an_old_failure_that_is_put_back_delays_a_process_no_longer_than_when_it_was_new() {
    let world = World::new();
    world.issuer.script(Outcome::Fail(wrong_secret()));
    world.process().token().await.unwrap_err();
    // A writer puts the failure back before each fetch, with all of its life.
    let notes = world.server.published();
    world.server.put_back(notes.clone());
    let process = world.process();
    let failed = process.load(ms(500), secs(60)).await;
    let most = (notes[0].keep.mul_f64(1.1) + secs(1)).as_millis() / 500 + 1;
    assert!(failed >= 1 && failed as u128 <= most, "{failed} requests failed, {most} at most");
    assert!(process.stats().store_notes <= 2, "once, and once more in the second that a store may round");
    assert_eq!(world.requests(), 2);
}

// R95: a store that rounds down says 0 s of a note that lasts for a second.
#[tokio::test(start_paused = true)]
async fn a_note_with_less_than_a_second_left_is_adopted_until_it_ends() {
    let world = World::new();
    world.server.round();
    world.issuer.set_down(true);
    let impatient = || world.process_with(Settings::default(), |builder| builder.patience(ms(0)));
    impatient().token().await.unwrap_err();
    sleep(ms(1)).await;
    let other = impatient();
    for _ in 0..8 {
        other.token().await.unwrap_err();
        sleep(ms(110)).await;
    }
    assert_eq!((world.requests(), other.stats().store_notes), (1, 8));
}
