//! The store in memory: when its records end, and which of them a sweep removes.

use std::time::Duration;

use tokio::time::sleep;
use tower_bearer_auth::shared::{Claim, MemoryStore, Outcome, TokenStore as _};

use crate::support::time::TestClock;
use crate::world::secs;

const OWNER: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_secs(10);

async fn claim(store: &MemoryStore, name: &str, owner: [u8; 16], ttl: Duration) -> Claim {
    store.claim(name, &owner, ttl, None).await.unwrap()
}

async fn publish(store: &MemoryStore, name: &str, outcome: Outcome<'_>) {
    assert_eq!(claim(store, name, OWNER, SHORT).await, Claim::Lease);
    assert!(store.publish(name, &OWNER, outcome).await.unwrap());
}

fn names(store: &MemoryStore) -> usize {
    let text = format!("{store:?}");
    text.strip_prefix("MemoryStore { names: ").and_then(|rest| rest.strip_suffix(" }")).unwrap().parse().unwrap()
}

// R88
#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_the_clock_of_the_store() {
    let clock = TestClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    assert_eq!(claim(&store, "name", OWNER, SHORT).await, Claim::Lease);
    clock.mono_forward(secs(9));
    assert_eq!(claim(&store, "name", OTHER, SHORT).await, Claim::Wait(secs(1)));
    clock.wall_forward(LONG);
    assert_eq!(claim(&store, "name", OTHER, SHORT).await, Claim::Wait(secs(1)));
    clock.mono_forward(secs(1));
    assert_eq!(claim(&store, "name", OTHER, SHORT).await, Claim::Lease);
}

// The names of users that do not come back must not fill the memory.
#[tokio::test(start_paused = true)]
async fn a_sweep_removes_the_names_whose_records_have_all_ended_and_no_others() {
    let store = MemoryStore::with_clock(TestClock::new());
    let (version, bytes) = ([3; 16], &b"record"[..]);
    for number in 0..1_023 {
        let name = format!("name-{number}");
        match number % 4 {
            0 => assert_eq!(claim(&store, &name, OWNER, LONG).await, Claim::Lease),
            1 => publish(&store, &name, Outcome::Token { version, bytes, keep: LONG }).await,
            2 => publish(&store, &name, Outcome::Note { version, bytes, keep: LONG }).await,
            _ => publish(&store, &name, Outcome::Token { version, bytes, keep: SHORT }).await,
        }
    }
    sleep(SHORT).await;
    // Below 1024 names there is no sweep.
    claim(&store, "more-0", OWNER, SHORT).await;
    assert_eq!(names(&store), 1_024);
    claim(&store, "more-1", OWNER, SHORT).await;
    // 255 have ended.
    assert_eq!(names(&store), 769 + 1);
    for number in (0..1_023).step_by(4) {
        assert!(matches!(claim(&store, &format!("name-{number}"), OTHER, LONG).await, Claim::Wait(_)));
        assert!(matches!(claim(&store, &format!("name-{}", number + 1), OTHER, LONG).await, Claim::Token(_)));
        assert!(matches!(claim(&store, &format!("name-{}", number + 2), OTHER, LONG).await, Claim::Note(_)));
    }
    // The next sweep comes when there are twice as many as the last one has left.
    sleep(SHORT).await;
    for number in 770..2 * 769 {
        claim(&store, &format!("more-{number}"), OWNER, LONG).await;
    }
    assert_eq!(names(&store), 2 * 769);
    claim(&store, "last", OWNER, LONG).await;
    assert_eq!(names(&store), 2 * 769 - 2 + 1);
}
