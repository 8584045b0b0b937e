//! How often each event happened in a run. A simulation in which an event never happens tests nothing about it.

use super::rules::Cause;

macro_rules! counts {
    ($($name:ident: $least:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: u64,)*
        }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// The name of each event, how often it happened, and how often it happens at least in the runs of the gate.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
                [$((stringify!($name), self.$name, $least)),*].into_iter()
            }
        }
    };
}

counts! {
    fetches_without_token: 10_000,
    early_fetches: 200,
    fetches_after_rejection: 2_000,
    throttled_fetches: 100,
    fetches_on_demand: 700,
    fetches_after_invalidation: 1_000,
    fetches_outdated: 500,
    fetches_cancelled_by_rotation: 500,
    rotations_during_their_fetch: 150,
    rotations_too_often: 300,
    rotated_in_full_later: 200,
    expired_on_arrival: 60,
    for_waiters_only: 250,
    rejected_secret_returned: 150,
    kept_current: 80,
    kept_beside: 400,
    fell_back: 200,
    tried_again: 100,
    old_rejected_too: 50,
    new_again: 10,
    neither_of_use: 8,
    bucket_overused: 12,
    rejections_joined: 1_000,
    replays_rejected: 1_000,
    confirmed_dead: 700,
    bucket_empty: 1_000,
    backoffs_ended_by_rejection: 20,
    set_aside_came_back: 50,
    throttles_began: 250,
    throttles_ended: 20,
    renewed_early: 8,
    waited_through_a_backoff: 10_000,
    calls_again_after_a_rejection: 3_000,
    requests: 15_000,
    replays: 2_000,
    storms: 4_000,
    second_removed_token: 1_000,
    invented_keys: 1_500,
    evicted_waiters: 500,
    checked_ready: 1_000,
}

impl Counts {
    pub(crate) fn begin(&mut self, cause: Cause) {
        *match cause {
            Cause::NoToken => &mut self.fetches_without_token,
            Cause::Early => &mut self.early_fetches,
            Cause::Rejection => &mut self.fetches_after_rejection,
            Cause::Throttled => &mut self.throttled_fetches,
            Cause::OnDemand => &mut self.fetches_on_demand,
        } += 1;
    }
}
