//! Checks the records of the servers.

use std::collections::HashSet;
use std::time::Duration;

use tower_bearer_auth::SourceStats;
use tower_bearer_auth_sandbox::AccessPspSandbox;

use crate::job::SESSIONS;
use crate::progress::Counts;

pub(crate) struct Verdict {
    rows: Vec<(&'static str, String)>,
    wrong: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(
        sandbox: &AccessPspSandbox,
        stats: &SourceStats,
        (median, p99): (Duration, Duration),
        lifetime: Duration,
        time: Duration,
    ) -> Self {
        let counts = Counts::of(sandbox);
        let sessions = sandbox.sessions();
        let distinct: HashSet<_> = sessions.iter().map(|session| session.body.clone()).collect();
        let sales = sandbox.sales().len();
        // On a busy machine a request can take half a second. Its token may expire in that time, and the request is replayed.
        let Counts { requests, token_requests, expired, revoked, late, others, replayed, .. } = counts;
        let rejected = revoked + late;
        let refreshes = usize::from(revoked > 0) + late;
        let allowed = allowed_token_requests(time, lifetime) + refreshes;

        let mut wrong = Vec::new();
        let mut check = |is_right: bool, what: String| {
            if !is_right {
                wrong.push(what);
            }
        };
        check(sessions.len() == SESSIONS, format!("{} sessions were created, not {SESSIONS}", sessions.len()));
        check(distinct.len() == SESSIONS, format!("{} distinct sessions, not {SESSIONS}", distinct.len()));
        check(distinct.len() == sessions.len(), "a session was created twice".into());
        check(sales == 1, format!("{sales} sales, not 1"));
        check(expired >= 2, format!("{expired} tokens expired during the job, not at least 2"));
        check(revoked >= 1, "no pending request was rejected".into());
        check(others == 0, format!("{others} requests carried a token that was invalid for another reason"));
        check(token_requests <= allowed, format!("{token_requests} token requests, more than {allowed}"));
        check(
            stats.fetches == token_requests as u64,
            "the source and the issuer counted different numbers of token requests".into(),
        );
        check(stats.replays == rejected as u64, "the number of replays differs from the number of rejections".into());
        check(replayed == rejected, format!("{replayed} replays arrived at the API, for {rejected} rejected requests"));

        let rows = vec![
            ("requests", format!("{requests} at the API, for {SESSIONS} sessions and 1 sale")),
            ("sessions created", format!("{}, {} of them distinct", sessions.len(), distinct.len())),
            ("token requests", format!("{token_requests} at the issuer, at most {allowed} allowed; {expired} expired")),
            (
                "rejected, replayed",
                format!("{rejected} rejected, {revoked} of them after the revocation; {replayed} replayed"),
            ),
            ("added by the layer", format!("median {median:.1?}, p99 {p99:.1?}")),
            ("time", format!("{time:.1?}")),
        ];
        Self { rows, wrong }
    }

    /// Prints the table and the failed checks. Returns whether all checks passed.
    pub(crate) fn print(&self) -> bool {
        for (name, value) in &self.rows {
            println!("{name:<20} {value}");
        }
        for what in &self.wrong {
            println!("WRONG: {what}");
        }
        self.wrong.is_empty()
    }
}

/// One token request at the start, and one each time the refresh window begins. For so short a lifetime, that is half of it.
fn allowed_token_requests(time: Duration, lifetime: Duration) -> usize {
    let window = (lifetime / 2).min(Duration::from_secs(20 * 60));
    1 + time.as_secs_f64().div_euclid((lifetime - window).as_secs_f64()) as usize + 1
}
