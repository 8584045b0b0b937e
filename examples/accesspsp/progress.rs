//! Shows what the servers count while the job runs: a bar on a terminal, lines of text elsewhere.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Verdict};

use crate::job::SESSIONS;

/// The time between two readings of the servers.
const BAR: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(1);

/// The records of the servers, counted.
pub(crate) struct Counts {
    pub(crate) requests: usize,
    pub(crate) sessions: usize,
    pub(crate) token_requests: usize,
    /// Tokens that expired.
    pub(crate) expired: usize,
    /// Requests that carried a revoked token.
    pub(crate) revoked: usize,
    /// Requests whose token expired while they were pending.
    pub(crate) late: usize,
    /// Requests whose token was invalid for another reason.
    pub(crate) others: usize,
    /// Requests with the body of a rejected one, and with an accepted token.
    pub(crate) replayed: usize,
}

impl Counts {
    pub(crate) fn of(sandbox: &AccessPspSandbox) -> Self {
        let requests = sandbox.api_requests();
        let count = |verdict| requests.iter().filter(|request| request.verdict == Some(verdict)).count();
        let accepted = |verdict: Option<Verdict>| verdict.is_some_and(Verdict::is_accepted);
        let checked = requests.iter().filter(|request| request.verdict.is_some());
        let (revoked, late) = (count(Verdict::Revoked), count(Verdict::Expired));
        let rejected: HashSet<_> =
            checked.clone().filter(|request| !accepted(request.verdict)).map(|request| &request.body).collect();
        Self {
            requests: requests.len(),
            sessions: sandbox.sessions().len(),
            token_requests: sandbox.token_request_count(),
            expired: sandbox.tokens().iter().filter(|token| token.expired).count(),
            revoked,
            late,
            others: checked.count() - revoked - late - count(Verdict::Accepted),
            replayed: requests
                .iter()
                .filter(|request| accepted(request.verdict) && rejected.contains(&request.body))
                .count(),
        }
    }

    fn details(&self) -> String {
        let rejected = self.revoked + self.late + self.others;
        format!(
            "token requests: {}, tokens expired: {}, requests rejected: {rejected}, replayed: {}",
            self.token_requests, self.expired, self.replayed
        )
    }
}

/// Shows the counts until it is dropped or aborted.
pub(crate) async fn show(sandbox: Arc<AccessPspSandbox>) {
    let bar = ProgressBar::with_draw_target(Some(SESSIONS as u64), ProgressDrawTarget::stdout());
    let style = ProgressStyle::with_template("{bar:50.green} {pos:>4} of {len} sessions, {elapsed}\n{msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // When this task ends, the bar is removed. The table after it has the final counts.
    let is_terminal = !bar.is_hidden();
    loop {
        let counts = Counts::of(&sandbox);
        if is_terminal {
            bar.set_message(counts.details());
            bar.set_position(counts.sessions as u64);
        } else {
            println!("{:>4} of {SESSIONS} sessions; {}", counts.sessions, counts.details());
        }
        tokio::time::sleep(if is_terminal { BAR } else { LINE }).await;
    }
}
