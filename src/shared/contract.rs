//! The test of a [`TokenStore`].

use std::time::Duration;

use futures_util::future::{join, join_all};

use super::random;
use super::store::{Claim, Outcome, Stored, TokenStore};
use crate::clock::AnyClock;
use crate::error::BoxError;
use crate::rt;

/// How long a lease lives where it is to end.
const SHORT: Duration = Duration::from_secs(2);
/// How long a lease lives where it is not to end.
const LONG: Duration = Duration::from_secs(60);
/// How long a record is kept where it is not to end. Not whole seconds, so that a store that rounds up is found.
const KEEP: Duration = Duration::from_millis(59_900);
/// A store rounds down by a second at most, and the calls of one rule take 2 seconds at most.
const TOLERANCE: Duration = Duration::from_secs(3);
/// How often the end of a lease or of a record is looked for.
const STEP: Duration = Duration::from_millis(100);

/// Checks that `store` does what [`TokenStore`] says: order of results, one lease for concurrent claims, owners, versions, and
/// expiry.
///
/// It cannot show that `claim` and `publish` are atomic, because it cannot choose the order in which a server carries out the
/// steps of two calls. It only makes calls at the same time. Do each in one script on the server, or in one transaction that
/// locks the name. [The guide](crate::guide::shared_store) has a sketch.
///
/// It uses random names, which no other process uses, and takes about 10 seconds with real clocks. What it stores expires
/// after a minute.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_bearer_auth::BoxError> {
/// use tower_bearer_auth::shared::{MemoryStore, contract};
///
/// contract::run(&MemoryStore::new()).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The first rule that the store breaks, or the first error that it returns. The text says what was expected.
pub async fn run<S: TokenStore>(store: &S) -> Result<(), BoxError> {
    for bytes in [&b""[..], b"token", &[0, 255, 13, 10, 34, 92, 0], &vec![0x80; 64 * 1024]] {
        Case::new(store)?.tokens(bytes).await?;
    }
    Case::new(store)?.owners().await?;
    Case::new(store)?.notes().await?;
    Case::new(store)?.nothing().await?;
    Case::new(store)?.one_of_many().await?;
    Case::new(store)?.publish_during_claims().await?;
    Case::new(store)?.names().await?;
    Case::new(store)?.lease_ends().await?;
    Case::new(store)?.renewal().await?;
    Case::new(store)?.records_end().await
}

struct Case<'a, S> {
    store: &'a S,
    name: String,
}

type Checked<T = ()> = Result<T, BoxError>;

fn check(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(format!("the store breaks the contract: {rule}").into()) }
}

fn random_name() -> Checked<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = random::bytes::<43>()?.map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(letters.iter().collect())
}

fn token(version: [u8; 16], bytes: &[u8]) -> Outcome<'_> {
    Outcome::Token { version, bytes, keep: KEEP }
}

impl<'a, S: TokenStore> Case<'a, S> {
    fn new(store: &'a S) -> Checked<Self> {
        Ok(Self { store, name: random_name()? })
    }

    async fn claim(&self, owner: [u8; 16], ttl: Duration, seen: Option<[u8; 16]>) -> Checked<Claim> {
        Ok(self.store.claim(&self.name, &owner, ttl, seen).await?)
    }

    async fn lease(&self, owner: [u8; 16], ttl: Duration, seen: Option<[u8; 16]>, rule: &str) -> Checked {
        check(self.claim(owner, ttl, seen).await? == Claim::Lease, rule)
    }

    async fn publish(&self, owner: [u8; 16], outcome: Outcome<'_>) -> Checked<bool> {
        Ok(self.store.publish(&self.name, &owner, outcome).await?)
    }

    fn is(stored: &Stored, version: [u8; 16], bytes: &[u8]) -> Checked {
        check(stored.version == version, "a record has the version that was published with it")?;
        check(stored.bytes == bytes, "a record has the bytes that were published, whatever they are")?;
        check(
            stored.left <= KEEP,
            "`left` is not longer than the rest of the record's life, so it is never rounded up",
        )?;
        let rule =
            "`left` is at most a second shorter than the rest of the record's life (after calls of 2 seconds at most)";
        check(stored.left + TOLERANCE >= KEEP, rule)
    }

    async fn tokens(self, bytes: &[u8]) -> Checked {
        let [a, b, first, second] = owners()?;
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        check(self.publish(a, token(first, bytes)).await?, "the holder of the lease can publish")?;
        match self.claim(b, LONG, None).await? {
            Claim::Token(stored) => Self::is(&stored, first, bytes)?,
            _ => check(false, "a claim returns the token that was published")?,
        }
        self.lease(b, LONG, Some(first), "publishing releases the lease, and a claim skips the version `seen`").await?;
        match self.claim(a, LONG, None).await? {
            Claim::Token(stored) => Self::is(&stored, first, bytes)?,
            _ => check(false, "a claim returns the token although another owner holds the lease")?,
        }
        check(self.publish(b, token(second, b"second")).await?, "the holder of the lease can publish again")?;
        match self.claim(a, LONG, Some(first)).await? {
            Claim::Token(stored) => Self::is(&stored, second, b"second"),
            _ => check(false, "a claim returns a token with another version than `seen`"),
        }
    }

    async fn owners(self) -> Checked {
        let [a, b, version, _] = owners()?;
        let never = "an owner without the lease publishes nothing";
        check(!self.publish(a, token(version, b"x")).await?, never)?;
        self.lease(a, LONG, None, never).await?;
        check(!self.publish(b, token(version, b"x")).await?, never)?;
        check(!self.publish(b, Outcome::Nothing).await?, "an owner without the lease releases nothing")?;
        match self.claim(b, LONG, None).await? {
            Claim::Wait(left) => {
                check(left <= LONG && left + TOLERANCE >= LONG, "`Wait` has the rest of the lease's life")?;
            }
            _ => check(false, "one owner holds the lease, and a claim of another one returns `Wait`")?,
        }
        self.lease(a, LONG, None, "a claim of the owner that holds the lease returns `Lease` again").await?;
        check(self.publish(a, token(version, b"x")).await?, "the holder of the lease can publish")?;
        check(!self.publish(a, token(version, b"y")).await?, "publishing releases the lease")
    }

    async fn notes(self) -> Checked {
        let [a, b, first, noted] = owners()?;
        let note = Outcome::Note { version: noted, bytes: b"note", keep: KEEP };
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        check(self.publish(a, note).await?, "the holder of the lease can publish a note")?;
        match self.claim(b, LONG, None).await? {
            Claim::Note(stored) => Self::is(&stored, noted, b"note")?,
            _ => check(false, "a claim returns the note if there is no token")?,
        }
        self.lease(b, LONG, Some(noted), "a claim skips the note with the version `seen`").await?;
        check(self.publish(b, token(first, b"first")).await?, "the holder of the lease can publish")?;
        self.lease(a, LONG, Some(first), "a token removes the note").await?;
        check(self.publish(a, note).await?, "the holder of the lease can publish a note")?;
        match self.claim(b, LONG, None).await? {
            Claim::Token(stored) => Self::is(&stored, first, b"first")?,
            _ => check(false, "a note leaves the token in place, and a claim returns the token first")?,
        }
        match self.claim(b, LONG, Some(first)).await? {
            Claim::Note(stored) => Self::is(&stored, noted, b"note")?,
            _ => check(false, "a claim that has seen the token returns the note")?,
        }
        self.lease(b, LONG, Some(noted), "a claim that has seen the note skips the token beside it, too").await
    }

    async fn nothing(self) -> Checked {
        let [a, b, first, noted] = owners()?;
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        check(self.publish(a, Outcome::Nothing).await?, "the holder of the lease can release it")?;
        self.lease(b, LONG, None, "`Nothing` releases the lease").await?;
        check(self.publish(b, token(first, b"first")).await?, "the holder of the lease can publish")?;
        self.lease(a, LONG, Some(first), "publishing releases the lease").await?;
        let note = Outcome::Note { version: noted, bytes: b"note", keep: KEEP };
        check(self.publish(a, note).await?, "the holder of the lease can publish a note")?;
        self.lease(a, LONG, Some(noted), "publishing a note releases the lease").await?;
        check(self.publish(a, Outcome::Nothing).await?, "the holder of the lease can release it")?;
        let leaves = "`Nothing` leaves token and note in place";
        check(matches!(self.claim(b, LONG, None).await?, Claim::Token(_)), leaves)?;
        check(matches!(self.claim(b, LONG, Some(first)).await?, Claim::Note(_)), leaves)
    }

    async fn one_of_many(self) -> Checked {
        let owners = (0..16).map(|_| random::bytes()).collect::<Result<Vec<[u8; 16]>, _>>()?;
        let claims = join_all(owners.iter().map(|owner| self.claim(*owner, LONG, None))).await;
        let claims = claims.into_iter().collect::<Result<Vec<_>, _>>()?;
        let leases = claims.iter().filter(|claim| **claim == Claim::Lease).count();
        check(leases == 1, "of claims at the same time, exactly one gets the lease")
    }

    async fn publish_during_claims(self) -> Checked {
        let [a, version] = owners()?;
        let others = owners::<16>()?;
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        let claims = join_all(others.iter().map(|owner| self.claim(*owner, LONG, None)));
        let (claims, published) = join(claims, self.publish(a, token(version, b"x"))).await;
        check(published?, "the holder of the lease can publish")?;
        for claim in claims {
            let rule =
                "a claim at the time at which a token is published returns that token, or `Wait`, and never the lease";
            check(matches!(claim?, Claim::Wait(_) | Claim::Token(_)), rule)?;
        }
        Ok(())
    }

    async fn names(self) -> Checked {
        let [a, b, version, _] = owners()?;
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        let other = Case::new(self.store)?;
        other.lease(b, LONG, None, "a lease is for one name").await?;
        check(other.publish(b, token(version, b"x")).await?, "the holder of the lease can publish")?;
        check(matches!(self.claim(b, LONG, None).await?, Claim::Wait(_)), "a token is for one name")
    }

    async fn lease_ends(self) -> Checked {
        let [a, b, version, _] = owners()?;
        self.lease(a, SHORT, None, "the first claim of a name gets the lease").await?;
        self.wait_until("a lease ends after its time", |claim| *claim == Claim::Lease, b).await?;
        check(!self.publish(a, token(version, b"x")).await?, "an owner whose lease has ended publishes nothing")?;
        check(self.publish(b, token(version, b"x")).await?, "the next owner can publish")
    }

    async fn renewal(self) -> Checked {
        let [a, b, _, _] = owners()?;
        for _ in 0..4 {
            self.lease(a, SHORT, None, "the holder can renew its lease").await?;
            sleep(SHORT / 2).await?;
            let claim = self.claim(b, SHORT, None).await?;
            check(matches!(claim, Claim::Wait(_)), "a lease that is renewed does not end")?;
        }
        Ok(())
    }

    async fn records_end(self) -> Checked {
        let [a, b, first, noted] = owners()?;
        self.lease(a, LONG, None, "the first claim of a name gets the lease").await?;
        let note = Outcome::Note { version: noted, bytes: b"note", keep: SHORT };
        check(self.publish(a, note).await?, "the holder of the lease can publish a note")?;
        self.wait_until("a note ends after its time", |claim| *claim == Claim::Lease, b).await?;
        let short = Outcome::Token { version: first, bytes: b"token", keep: SHORT };
        check(self.publish(b, short).await?, "the holder of the lease can publish")?;
        self.wait_until("a token ends after its time", |claim| *claim == Claim::Lease, a).await
    }

    async fn wait_until(&self, rule: &str, reached: impl Fn(&Claim) -> bool, owner: [u8; 16]) -> Checked {
        // The calls of a remote store take time too.
        let begun = AnyClock::System.now();
        let waited = || AnyClock::System.now().mono.saturating_duration_since(begun.mono);
        while !reached(&self.claim(owner, LONG, None).await?) {
            check(waited() <= SHORT + TOLERANCE, rule)?;
            sleep(STEP).await?;
        }
        check(waited() + Duration::from_secs(1) + STEP >= SHORT, "nothing ends before its time")
    }
}

fn owners<const N: usize>() -> Checked<[[u8; 16]; N]> {
    let mut owners = [[0; 16]; N];
    for owner in &mut owners {
        *owner = random::bytes()?;
    }
    Ok(owners)
}

async fn sleep(time: Duration) -> Checked {
    rt::timer(time)?.await;
    Ok(())
}
