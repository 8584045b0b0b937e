//! R96: what the store, the logs and the errors get to see.

use tower_bearer_auth::shared::{Identity, MemoryStore, SealingKey, Shared, StoreError};
use tower_bearer_auth::{Error, ErrorKind, IssuedToken, TokenSource, from_fn};

use crate::faulty_store::Server;
use crate::support::canary;
use crate::support::telemetry::Capture;
use crate::world::{Fault, ms};

const TOKEN: &str = "gT5fV3sE-token.of/the+issuer";
const SECRET: &str = "cZ7kQ9vX-client/secret+1";
const USER: &str = "uB1xS4aM-user-id";
const NAMESPACE: &str = "nW8pL2kR-namespace";
const KEY: &str = "9d5ed678fe57bcca610140957afab571a3b1c8d2f4e6071829304b5c6d7e8f90";
const CANARIES: [&str; 4] = [TOKEN, SECRET, USER, KEY];

fn identity() -> Identity {
    Identity::new("https://issuer.test/token?key=cZ7kQ9vX-client/secret+1").field("user", USER).credential(SECRET)
}

// R96
#[tokio::test(start_paused = true)]
async fn the_store_the_logs_and_the_errors_contain_no_secret() {
    let capture = Capture::start();
    let server = Server::default();
    let mut texts = vec![format!("{:?} {:#?}", identity(), identity())];
    for fails in [false, true] {
        let provider = from_fn(move || async move {
            match fails {
                true => Err(Error::new(ErrorKind::InvalidCredentials, format!("an error that repeats {SECRET}"))),
                false => Ok(IssuedToken::bearer(TOKEN)?.expires_in(std::time::Duration::from_secs(1800))),
            }
        });
        let builder =
            Shared::builder(provider.identified_by(identity().field("fails", fails.to_string())), server.handle())
                .namespace(NAMESPACE)
                .sealing_key(SealingKey::from_hex(KEY).unwrap());
        texts.push(format!("{builder:?}"));
        let source = TokenSource::new(builder.build().unwrap());
        texts.push(format!("{source:?}"));
        let _ = source.token().await;
        let _ = source.refresh(&()).await;
    }
    assert_eq!(server.published().len(), 3, "a token, the note about its repetition, and the note about the failure");
    for received in server.received() {
        // What the store gets is bytes, and as text in every form in which a secret can leak.
        let text = String::from_utf8_lossy(&received).into_owned();
        assert_eq!(canary::shown_in(&text, &CANARIES), None, "{text}");
        assert!(
            !received
                .windows(8)
                .any(|part| CANARIES.iter().any(|secret| { secret.as_bytes().windows(8).any(|other| other == part) }))
        );
        assert!(!text.contains(NAMESPACE) && !text.contains("issuer.test"), "{text}");
        let key: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert!(!received.windows(8).any(|part| key.windows(8).any(|other| other == part)), "the key itself");
    }
    texts.push(format!("{:?}", MemoryStore::new()));
    for text in texts {
        assert_eq!(canary::shown_in(&text, &CANARIES), None, "{text}");
    }
    // The error of the provider is the provider's own, and is in no event about the store.
    let events: Vec<_> = capture.events().into_iter().filter(|event| event.name.starts_with("store")).collect();
    assert!(!events.is_empty());
    for event in events {
        assert_eq!(canary::shown_in(&event.line(), &CANARIES), None, "{event:?}");
    }
}

// R96
#[tokio::test(start_paused = true)]
async fn the_cause_of_a_store_error_is_in_no_event() {
    let capture = Capture::start();
    let error = StoreError::new("connection refused").with_source(format!("redis://:{SECRET}@host"));
    assert_eq!(error.to_string(), "connection refused");
    let server = Server::default();
    let store = server.handle();
    store.set(Fault::Fails);
    let provider = from_fn(|| async { IssuedToken::bearer(TOKEN) }).identified_by(identity());
    let shared = Shared::builder(provider, store).sealing_key(SealingKey::from_hex(KEY).unwrap()).build().unwrap();
    TokenSource::new(shared).token().await.unwrap();
    tokio::time::sleep(ms(100)).await;
    let failed = capture.named("store_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].field("error"), Some("connection refused"));
    assert_eq!(canary::shown_in(&capture.text(), &CANARIES), None);
}
