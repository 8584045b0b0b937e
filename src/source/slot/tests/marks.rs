//! Simulated traffic: an API with a good route and with one that rejects every token. The limits are those of the rules.

use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// An issuer, an API, and what happened.
struct Traffic {
    play: Play,
    tokens: Vec<Token>,
    /// How long the issuer takes.
    issuer: u64,
    /// After this many ms, the API knows a new token.
    lag: u64,
    /// Tokens that were fetched before this time are revoked.
    revoked: u64,
    fetch_ends: Option<u64>,
    /// The rejected requests that wait for the running fetch, of the good route and of the bad one.
    waiting: [u64; 2],
    good_waited: u64,
    good_failed: u64,
    last_failed: u64,
}

impl Traffic {
    fn new(issuer: u64) -> Self {
        let mut play = Play::new(0.5);
        play.set_aside = ms(refresh::set_aside(Duration::from_millis(issuer)));
        Self {
            play,
            tokens: Vec::new(),
            issuer,
            lag: 0,
            revoked: 0,
            fetch_ends: None,
            waiting: [0; 2],
            good_waited: 0,
            good_failed: 0,
            last_failed: 0,
        }
    }

    /// One request at `now` to the good route or to the bad one.
    fn request(&mut self, now: u64, good: bool) {
        let action = self.play.at(now).request();
        if matches!(action, Join | Fetch) {
            self.good_waited += u64::from(good);
        }
        self.follow(now, good, action, false);
    }

    fn follow(&mut self, now: u64, good: bool, action: Action, replay: bool) {
        if matches!(action, Fetch | StampAndFetch(_)) {
            self.fetch_ends = Some(now + self.issuer);
        }
        match action {
            Stamp(generation) | StampAndFetch(generation) => self.send(now, good, generation, replay),
            Join | Fetch => self.waiting[usize::from(!good)] += 1,
            _ if good => self.fails(now),
            _ => {}
        }
    }

    fn send(&mut self, now: u64, good: bool, generation: u64, replay: bool) {
        let token = self.tokens.iter().find(|token| token.generation() == generation).unwrap();
        let fetched = ms(token.deadlines().fetched_at.mono - self.play.start.mono);
        let known = now >= fetched + self.issuer + self.lag || fetched == 0;
        if good && known && fetched >= self.revoked {
            token.accept();
        } else if replay {
            self.play.reject_replay(generation);
            if good {
                self.fails(now);
            }
        } else {
            let action = self.play.reject(generation);
            self.follow(now, good, action, true);
        }
    }

    fn fails(&mut self, now: u64) {
        self.good_failed += 1;
        self.last_failed = now;
    }

    fn issuer_responds(&mut self, now: u64) {
        if self.fetch_ends.is_none_or(|end| end > now) {
            return;
        }
        self.fetch_ends = None;
        let secret = format!("secret-{}", self.play.fetches);
        let token = self.play.at(now).completes_with(&secret, 1_800_000).unwrap();
        let generation = token.generation();
        self.tokens.push(token);
        for (count, good) in std::mem::take(&mut self.waiting).into_iter().zip([true, false]) {
            (0..count).for_each(|_| self.send(now, good, generation, true));
        }
    }

    /// Requests to the good route and to the bad one, every so many ms.
    fn run(&mut self, from: u64, to: u64, good: u64, bad: u64) {
        for now in (from..to).step_by(50) {
            self.issuer_responds(now);
            if now % good == 0 {
                self.request(now, true);
            }
            // Between two good requests.
            if now % bad == bad.min(50) % bad {
                self.request(now, false);
            }
        }
    }
}

// R16: rule 19
#[test]
fn one_route_that_rejects_every_token_costs_few_token_requests_and_few_waits() {
    let mut traffic = Traffic::new(200);
    traffic.run(0, HOUR, 100, 1_000);
    let (fetches, waited) = (traffic.play.fetches, traffic.good_waited);
    // The first token, for which the first requests wait, is not one of them.
    assert!(fetches <= 1 + 15 && waited <= 4 + 2, "{fetches} token requests, {waited} waits");
    assert_eq!(traffic.good_failed, 0);
}

// R16: rule 19
#[test]
fn at_any_rates_of_the_two_routes_there_are_at_most_fifty_tokens_an_hour() {
    for (good, bad) in [(100, 100), (1_000, 100), (100, 10_000), (1_000, 1_000), (10_000, 100), (10_000, 1_000)] {
        for issuer in [0, 200, 2_000] {
            let mut traffic = Traffic::new(issuer);
            traffic.run(0, HOUR, good, bad);
            let fetches = traffic.play.fetches;
            assert!(fetches <= 51, "{fetches} token requests, good {good}, bad {bad}, issuer {issuer} ms");
        }
    }
}

// R23: rule 19
#[test]
fn a_revocation_beside_a_route_that_rejects_every_token_is_over_within_80_seconds() {
    for revoked in [10 * MINUTE, 11 * MINUTE + 700, 30 * MINUTE - 300, 47 * MINUTE] {
        let mut traffic = Traffic::new(200);
        traffic.run(0, revoked, 100, 1_000);
        traffic.revoked = revoked;
        traffic.run(revoked, HOUR, 100, 1_000);
        let over = traffic.last_failed.saturating_sub(revoked);
        assert!(over <= 80_000, "over after {over} ms, revoked at {revoked} ms");
    }
}

// R38: rule 21
#[test]
fn an_api_that_learns_of_a_token_late_fails_no_request() {
    for lag in [0, 1_000, 5_000, 20_000, 60_000] {
        let mut traffic = Traffic::new(200);
        traffic.lag = lag;
        traffic.run(0, 2 * HOUR, 100, 10 * HOUR);
        assert_eq!(traffic.good_failed, 0, "lag {lag} ms");
        assert!(traffic.good_waited <= 4, "only for the first token; lag {lag} ms");
    }
}

// R23: rules 10 and 12
#[test]
fn a_revocation_without_such_a_route_is_over_with_one_fetch() {
    let mut traffic = Traffic::new(200);
    traffic.run(0, 10 * MINUTE, 100, 10 * HOUR);
    traffic.revoked = 10 * MINUTE;
    traffic.run(10 * MINUTE, 11 * MINUTE, 100, 10 * HOUR);
    assert_eq!((traffic.play.fetches, traffic.good_failed), (2, 0));
}
