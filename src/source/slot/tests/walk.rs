//! Random walks over all methods of a slot.

use super::*;

/// A slot, and what a walk knows about it.
struct Walk {
    rng: fastrand::Rng,
    play: Play,
    /// Generations up to this one were forgotten.
    forgotten: u64,
    /// What came from a fetch that may serve its waiters alone.
    for_waiters: Vec<u64>,
    /// The secrets that were rejected with the tokens in use now, with their tokens.
    tokens: Vec<Token>,
    waiters: Option<u64>,
    handles: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut play = Play::new(rng.f64());
        play.slot = Slot::new(Jitter::Random(rng.fork()));
        Self { rng, play, forgotten: 0, for_waiters: Vec::new(), tokens: Vec::new(), waiters: None, handles: 1_000_000 }
    }

    fn step(&mut self) {
        match self.rng.u8(..16) {
            0..=2 => self.request(),
            3..=5 => self.reject(),
            6 => self.reject_replay(),
            7 => self.accept(),
            8 | 9 => self.ends(),
            10 => self.forget(),
            11 => self.cancelled(),
            12 => self.looks(),
            _ => self.time_passes(),
        }
        self.check();
    }

    fn time_passes(&mut self) {
        let longest = [2, 300, 3_000, 60_000, 1_000_000][self.rng.usize(..5)];
        let passed = Duration::from_millis(self.rng.u64(..longest));
        // Now and then one of the clocks is set.
        let by = Duration::from_secs(self.rng.u64(..7_200));
        match self.rng.u16(..300) {
            0 => self.play.now.wall += by,
            1 => self.play.now.wall -= by,
            2 => self.play.now.mono -= by.min(self.play.now.mono - self.play.start.mono),
            _ => {}
        }
        self.play.now = self.play.now.after(passed);
    }

    fn request(&mut self) {
        self.play.patience.limit = [Some(Duration::ZERO), Some(Duration::from_secs(2)), None][self.rng.usize(..3)];
        let wanted = match self.rng.u8(..6) {
            0 => Wanted::Refreshed,
            1 => Wanted::ValidFor(Duration::from_secs(self.rng.u64(..2_000))),
            _ => Wanted::Usable,
        };
        let action = self.play.request_for(wanted);
        self.follow(&action);
    }

    fn reject(&mut self) {
        self.play.set_aside = self.rng.u64(1_000..=5_000);
        let generation = self.generation();
        let action = self.play.reject(generation);
        self.follow(&action);
    }

    /// Mostly the newest generations.
    fn generation(&mut self) -> u64 {
        self.play.tokens.saturating_sub(self.rng.u64(..3) * self.rng.u64(..2))
    }

    fn reject_replay(&mut self) {
        let generation = self.generation();
        self.play.reject_replay(generation);
    }

    fn accept(&mut self) {
        if let Some(token) = self.tokens.last() {
            token.accept();
        }
    }

    fn follow(&mut self, action: &Action) {
        match action {
            Stamp(generation) | StampAndFetch(generation) => {
                assert!(*generation > self.forgotten, "a forgotten token is stamped");
                assert!(!self.for_waiters.contains(generation), "a token for waiters only is stamped");
                let token = self.tokens.iter().find(|token| token.generation() == *generation).unwrap();
                assert!(!self.play.now.reached(&token.deadlines().usable_until), "an expired token is stamped");
            }
            LookAgain(left) => {
                let waits_for_fetch = self.play.slot.in_flight().is_some_and(|f| f.progress() != Progress::Running);
                assert_eq!(left.is_none(), waits_for_fetch, "nothing would end the wait");
                self.handles += 1;
                let new = self.handles;
                self.waiters = Some(self.play.look_again(new));
            }
            Join => assert!(self.play.slot.in_flight().is_some_and(|f| f.progress() == Progress::Running)),
            Fetch | Fail(_) | BudgetExhausted | Backoff(_) => {}
        }
    }

    fn ends(&mut self) {
        let Some(progress) = self.play.slot.in_flight().map(InFlight::progress) else { return };
        if progress == Progress::Discarded {
            self.play.slot.take_fetch(self.play.fetches).unwrap();
            return self.woken();
        }
        let result = match self.rng.u8(..8) {
            0 => self.play.outcome(Err(down())),
            1 => self.play.outcome(Err(throttled(self.rng.u64(..400)))),
            2 => self.play.outcome(Err(wrong_secret())),
            _ => {
                let secret = format!("secret-{}", self.rng.u8(..20));
                let lives = [1, 2, 20, 300, 1_800, 86_400][self.rng.usize(..6)] * 1_000;
                self.play.completes_with(&secret, lives)
            }
        };
        if let Ok(token) = result {
            assert_eq!(token.is_for_waiters_only(), token.is_for_waiters_only() || progress == Progress::Outdated);
            if token.is_for_waiters_only() {
                self.for_waiters.push(token.generation());
            } else if self.tokens.iter().all(|known| known.generation() != token.generation()) {
                let secret = token.expose_secret();
                let rejected = self.tokens.iter().any(|known| {
                    let live = !self.play.now.reached(&known.deadlines().usable_until);
                    live && known.generation() > self.forgotten
                        && known.is_rejected()
                        && known.expose_secret() == secret
                });
                // Only the last eight are remembered.
                let remembered = self.play.slot.rare.as_ref().map_or(0, |rare| rare.rejections.remembered());
                assert!(!rejected || remembered == 8, "a rejected secret is a new token");
                self.tokens.push(token);
            }
        }
        self.woken();
    }

    fn cancelled(&mut self) {
        let Some(progress) = self.play.slot.in_flight().map(InFlight::progress) else { return };
        let stuck = self.play.take_stuck(Duration::from_secs(30)).is_some();
        if !stuck {
            self.play.slot.take_fetch(self.play.fetches).unwrap();
        }
        if progress != Progress::Discarded {
            self.play.slot.cancel(self.play.now);
        }
        self.woken();
    }

    fn forget(&mut self) {
        let own = Some(self.play.fetches).filter(|id| self.rng.u8(..4) == 0 && self.play.slot.is_running(*id));
        if self.rng.bool() {
            self.play.slot.rotate(own, self.play.now);
        } else {
            self.play.slot.invalidate(own, self.play.now);
        }
        self.forgotten = self.play.tokens;
        self.woken();
    }

    fn looks(&mut self) {
        match self.rng.u8(..3) {
            0 => self.play.slot.prune(self.play.now),
            1 => drop(self.play.slot.view(self.play.now)),
            _ => drop(self.play.guards_issuer()),
        }
    }

    /// Something happened that must wake the callers that wait.
    fn woken(&mut self) {
        let woken = self.play.woken();
        if let Some(waiters) = self.waiters.take() {
            assert!(woken.contains(&waiters), "a caller was not woken");
        }
    }

    fn check(&self) {
        let play = &self.play;
        let published = play.slot.published(play.now).filter(|token| is_usable(token, play.now));
        assert!(published.is_none_or(|token| token.generation() > self.forgotten), "a forgotten token is published");
        if let Some(rare) = &play.slot.rare {
            assert!(rare.rejections.remembered() <= 8 && rare.removed.errors.len() < 100, "memory that grows");
        }
    }

    /// From every state, a key is healthy again when its issuer is.
    fn recovers(mut self) {
        while self.play.slot.in_flight().is_some() {
            self.ends();
        }
        self.play.now = self.play.now.after(Duration::from_secs(2 * 86_400));
        assert_eq!(self.play.request(), Fetch, "a state without a way out");
        let generation = self.play.completes("healthy", 1_800_000);
        assert_eq!(self.play.request(), Stamp(generation));
        self.play.now = self.play.now.after(Duration::from_secs(1_000));
        assert_eq!(self.play.request(), StampAndFetch(generation));
        self.play.completes("healthier", 1_800_000);
        self.play.slot.current.as_ref().unwrap().accept();
        self.play.now = self.play.now.after(Duration::from_secs(700));
        self.play.woken();
        self.play.slot.prune(self.play.now);
        assert!(self.play.slot.rare.is_none(), "memory that is not released");
    }
}

// R1, R39, R50: all rules
#[test]
fn no_sequence_of_events_stamps_a_wrong_token_starts_a_second_fetch_or_has_no_way_out() {
    for seed in 0..1_000 {
        let mut walk = Walk::new(seed);
        for _ in 0..300 {
            walk.step();
        }
        walk.recovers();
    }
}
