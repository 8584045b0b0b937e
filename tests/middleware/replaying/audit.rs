//! What the audit of a response says, and what decides whether a response is a rejection.

use tower_bearer_auth::replay::{Cloned, Mode};
use tower_bearer_auth::{IssuedToken, Rejection, ResponseHead};

use super::*;

fn post() -> Request<Body> {
    Request::post(API).body(Body::new(Bytes::from("money"))).unwrap()
}

/// A request, the settings of the layer, and the expected audit.
struct Case {
    name: &'static str,
    request: Request<Body>,
    when: Mode,
    clones: bool,
    challenge: &'static str,
    /// The number of the last token that is rejected.
    revoked: usize,
    /// Whether the second token request fails.
    issuer_down: bool,
    expected: (Option<u64>, u8, ReplayOutcome),
}

fn cases() -> Vec<Case> {
    use ReplayOutcome::{NoCopy, NotNeeded, NotSafe, NotStamped, Off, RefreshFailed, RejectedAgain, Replayed};
    let foreign = || Request::get("https://elsewhere.test").body(Body::default()).unwrap();
    let case = |name, request: Request<Body>, challenge, revoked, expected| Case {
        name,
        request,
        when: Mode::Safe,
        clones: true,
        challenge,
        revoked,
        issuer_down: false,
        expected,
    };
    let down = RefreshFailed(ErrorKind::Unavailable);
    vec![
        case("accepted", get(), "", 0, (Some(1), 1, NotNeeded)),
        case("foreign", foreign(), "", 9, (None, 1, NotStamped)),
        case("replayed", get(), "", 1, (Some(2), 2, Replayed)),
        case("rejected twice", get(), "", 2, (Some(2), 2, RejectedAgain)),
        case("a payment after a 401 without a reason", post(), "", 1, (Some(1), 1, NotSafe)),
        case("a payment after a 401 invalid_token", post(), INVALID_TOKEN, 1, (Some(2), 2, Replayed)),
        Case { when: Mode::Never, ..case("never", get(), "", 1, (Some(1), 1, Off)) },
        Case { clones: false, ..case("no copy", post(), INVALID_TOKEN, 1, (Some(1), 1, NoCopy)) },
        Case { issuer_down: true, ..case("the issuer is down", get(), "", 1, (Some(1), 1, down)) },
    ]
}

// Only rejected requests have an audit, and with `audit_all` every response has one.
#[tokio::test(start_paused = true)]
async fn an_audit_says_which_token_was_sent_and_how_often() {
    for every in [false, true] {
        for Case { name, request, when, clones, challenge, revoked, issuer_down, expected } in cases() {
            let (provider, _) = issuer(move |n| async move {
                match n {
                    2 if issuer_down => Err(Error::transient("down").with_kind(ErrorKind::Unavailable)),
                    _ => token(n),
                }
            });
            let api = Api::new(move |request| match bearer(request).strip_prefix("token-") {
                None => rejection(challenge),
                Some(number) if number.parse::<usize>().unwrap() <= revoked => rejection(challenge),
                Some(_) => response(StatusCode::OK),
            });
            let layer = layer(provider).replay(when);
            let layer = if every { layer.audit_all() } else { layer };
            let response = match clones {
                true => layer.bodies(Cloned).layer(api.clone()).oneshot(request).await.unwrap(),
                false => layer.layer(api.clone()).oneshot(request).await.unwrap(),
            };
            let quiet = matches!(expected.2, ReplayOutcome::NotNeeded | ReplayOutcome::NotStamped);
            let found = Audit::of(&response);
            assert_eq!(found.is_some(), every || !quiet, "{name}");
            if let Some(audit) = found {
                assert_eq!((audit.generation, audit.sends, audit.replay), expected, "{name}");
                assert_eq!(audit.key::<()>().is_some(), audit.generation.is_some(), "{name}");
                assert_eq!(api.sends().len(), usize::from(audit.sends), "{name}");
                assert!(!format!("{audit:?}").contains("token-"), "an audit holds no token");
            }
        }
    }
}

/// A provider for an API with its own statuses: 419 and 420 reject the token, and 401 does not.
struct Odd(AtomicUsize);

impl TokenProvider for Odd {
    type Key = ();

    async fn fetch(&self, (): &(), _: &tower_bearer_auth::FetchContext) -> Result<IssuedToken, Error> {
        token(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        match response.status().as_u16() {
            419 => Some(Rejection::InvalidToken),
            420 => Some(Rejection::Unspecified),
            _ => None,
        }
    }
}

// The order: the mark of a layer below, then the provider, which follows the standards by default.
#[tokio::test(start_paused = true)]
async fn a_mark_is_checked_before_the_provider_and_the_provider_before_the_standards() {
    use Rejection::{InvalidToken, Unspecified};
    // The status, the mark, and how often a GET and a payment are sent.
    let odd = [
        (419, None, 2, 2),
        (420, None, 2, 1),
        (401, None, 1, 1),
        (401, Some(Some(InvalidToken)), 2, 2),
        (401, Some(Some(Unspecified)), 2, 1),
        (419, Some(None), 1, 1),
        (419, Some(Some(Unspecified)), 2, 1),
        (200, Some(Some(InvalidToken)), 2, 2),
    ];
    let standard = [
        (419, None, 1, 1),
        (401, None, 2, 1),
        (401, Some(None), 1, 1),
        (401, Some(Some(InvalidToken)), 2, 2),
        (200, Some(Some(InvalidToken)), 2, 2),
        (503, Some(Some(Unspecified)), 2, 1),
    ];
    let check = |below: Option<Option<Rejection>>, status: u16| {
        let api = Api::new(move |request| {
            if bearer(request) == "token-2" {
                return response(StatusCode::CREATED);
            }
            let mut response = response(StatusCode::from_u16(status).unwrap());
            if let Some(below) = below {
                Rejection::mark(&mut response, below);
            }
            response
        });
        (api.clone(), api)
    };
    for (status, below, gets, posts) in odd {
        for (request, expected) in [(get(), gets), (post(), posts)] {
            let (api, seen) = check(below, status);
            let response = layer(Odd(AtomicUsize::new(0))).bodies(Cloned).layer(api).oneshot(request).await.unwrap();
            assert_eq!(seen.sends().len(), expected, "{status} {below:?}");
            assert_eq!(response.status(), if expected == 2 { 201 } else { status });
        }
    }
    for (status, below, gets, posts) in standard {
        for (request, expected) in [(get(), gets), (post(), posts)] {
            let (api, seen) = check(below, status);
            let (provider, _) = issuer(|n| async move { token(n) });
            layer(provider).bodies(Cloned).layer(api).oneshot(request).await.unwrap();
            assert_eq!(seen.sends().len(), expected, "{status} {below:?}");
        }
    }
}
