//! The format of a file of scenarios. README.md describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::units::{Range, Shift, Time};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The number of the rule, 1 to 24.
    pub(crate) rule: u8,
    /// What the rule is about.
    pub(crate) title: String,
    pub(crate) scenarios: Vec<Scenario>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) side: Side,
    /// How the expected values follow from the text of the rule.
    pub(crate) why: String,
    /// The rule is not implemented yet.
    #[serde(default)]
    pub(crate) pending: bool,
    /// The number of seeds of the random draws.
    #[serde(default = "eight")]
    pub(crate) seeds: u64,
    #[serde(default)]
    pub(crate) given: Given,
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    pub(crate) expected: Vec<Expected>,
}

fn eight() -> u64 {
    8
}

/// The side of the rule's bound that a scenario is on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Before,
    After,
    Both,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Given {
    /// The lifetime of each token, unless its response says otherwise: 1 h by default.
    pub(crate) lifetime: Option<Time>,
    /// How long each response takes, unless it says otherwise: 100 ms by default.
    pub(crate) delay: Option<Time>,
    /// The n-th fetch of a key gets the n-th response. The last one repeats.
    pub(crate) issuer: Vec<Response>,
    /// The responses for the keys that begin with a prefix.
    pub(crate) keys: BTreeMap<String, Vec<Response>>,
    /// Every response to a fetch that starts in this time.
    pub(crate) outages: Vec<Outage>,
    pub(crate) source: Settings,
    /// Two processes have a source each.
    pub(crate) sources: Option<usize>,
    /// The API: its routes by name. A route without an entry accepts every token that is not revoked.
    pub(crate) routes: BTreeMap<String, Route>,
    /// Each mint revokes all tokens before it.
    pub(crate) newest_only: bool,
    /// Code of the user that calls the source, or panics.
    pub(crate) user_code: Vec<UserCode>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) max_wait: Option<Time>,
    pub(crate) fetch_timeout: Option<Time>,
    pub(crate) max_keys: Option<usize>,
    pub(crate) patience: Option<Time>,
    pub(crate) window: Option<Time>,
    pub(crate) margin: Option<Time>,
    pub(crate) at_expiry: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Response {
    pub(crate) delay: Option<Time>,
    pub(crate) lifetime: Option<Lifetime>,
    /// The secret of an earlier token: its number, or 0 for the newest of the key.
    pub(crate) same_as: Option<u64>,
    /// The kind of an error.
    pub(crate) error: Option<String>,
    /// Whether the error is permanent.
    pub(crate) permanent: bool,
    pub(crate) retry_after: Option<Time>,
    pub(crate) panics: bool,
    pub(crate) never: bool,
    /// The fetch calls a method of the source before it returns.
    pub(crate) calls: Option<Forget>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forget {
    Invalidate,
    Rotate,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    /// The response has no lifetime.
    Missing,
    Known(Time),
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "missing" {
            return Ok(Self::Missing);
        }
        let error = || serde::de::Error::custom(format!("`{text}` is neither a time nor `missing`"));
        Time::parse(&text).map(Self::Known).ok_or_else(error)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outage {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) response: Response,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Route {
    /// Rejects every token.
    pub(crate) rejects: bool,
    /// Knows a token only so long after its mint.
    pub(crate) lag: Option<Time>,
    /// How long a response takes.
    pub(crate) latency: Option<Time>,
    /// The rejection says `invalid_token`.
    pub(crate) invalid_token: bool,
    /// The status of a response that rejects nothing: 200 by default.
    pub(crate) status: Option<u16>,
    /// Each request goes to one of these nodes, by chance.
    pub(crate) nodes: Vec<Self>,
}

/// Code of the user that runs inside of the source.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserCode {
    Clock,
    KeyClone,
    KeyDrop,
    ErrorDrop,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Do {
    /// Takes a token with `token_for`.
    Call,
    /// Drops the call of the step before.
    Drop,
    /// Sends a request through the layer.
    Request,
    /// Takes a token, sends it, and calls `accept` or `reject`, without the layer.
    Send,
    Accept,
    Reject,
    Invalidate,
    Rotate,
    WarmUp,
    Peek,
    Status,
    Refresh,
    TokenValidFor,
    CheckReady,
    /// The API revokes all tokens that exist, or one.
    Revoke,
    /// Sets the clocks of the source.
    SetClock,
    /// The second runtime ends, with its tasks.
    EndRuntime,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) at: Option<Time>,
    /// From, to (exclusive) and every: a step that recurs.
    pub(crate) from: Option<Time>,
    pub(crate) to: Option<Time>,
    pub(crate) every: Option<Time>,
    #[serde(rename = "do")]
    pub(crate) action: Do,
    #[serde(default)]
    pub(crate) key: String,
    /// Once for each of so many keys: the key with 1, 2, .. appended.
    pub(crate) keys: Option<u32>,
    pub(crate) times: Option<u32>,
    /// The number of the source: 1 or 2.
    #[serde(default = "one")]
    pub(crate) source: usize,
    /// The name of the callers in `expected`.
    #[serde(default)]
    pub(crate) callers: String,
    #[serde(default)]
    pub(crate) route: String,
    #[serde(default)]
    pub(crate) post: bool,
    /// The number of a token: the n-th that the issuer minted.
    pub(crate) token: Option<u64>,
    /// The shortest life that `token_valid_for` asks for.
    pub(crate) valid_for: Option<Time>,
    #[serde(default)]
    pub(crate) second_runtime: bool,
    pub(crate) mono: Option<Shift>,
    pub(crate) wall: Option<Shift>,
    pub(crate) expect: Option<Expect>,
}

fn one() -> usize {
    1
}

/// What one step must return.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    pub(crate) token: Option<Range<u64>>,
    /// When the returned token expires, by the wall clock.
    pub(crate) expires_at: Option<Range<Time>>,
    /// The kind of an error.
    pub(crate) error: Option<String>,
    pub(crate) transient: Option<bool>,
    pub(crate) retry_after: Option<Range<Time>>,
    /// How long the caller waited. `at once` if it is absent: the call returned without a wait.
    pub(crate) waited: Option<Range<Time>>,
    /// How long it was until the request ended, with its replay.
    pub(crate) took: Option<Range<Time>>,
    /// How a request ended.
    pub(crate) result: Option<Ended>,
    pub(crate) replayed: Option<bool>,
    /// What `reject` returned: whether to replay.
    pub(crate) replay: Option<bool>,
    /// There is no token.
    pub(crate) none: Option<bool>,
    pub(crate) state: Option<String>,
    pub(crate) usable_until: Option<Range<Time>>,
    pub(crate) last_error: Option<String>,
    pub(crate) next_try: Option<Range<Time>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    /// The API accepted the request.
    Accepted,
    /// The caller got the API's rejection.
    Rejected,
    /// The response neither accepted nor rejected the token.
    Other,
    /// There was no token to send.
    Failed,
}

/// What all steps together must have caused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expected {
    pub(crate) from: Option<Time>,
    pub(crate) to: Option<Time>,
    /// Only keys that begin with this.
    pub(crate) key: Option<String>,
    pub(crate) source: Option<usize>,
    /// The number of fetches.
    pub(crate) fetches: Option<Range<u64>>,
    /// Every fetch in order, with the time of its start.
    pub(crate) fetch_starts: Option<Vec<FetchStart>>,
    /// The most fetches of one key at a time.
    pub(crate) most_at_once: Option<Range<u64>>,
    /// The callers whose results count.
    pub(crate) callers: Option<String>,
    pub(crate) total: Option<Range<u64>>,
    /// Callers that got a token, or whose request the API accepted.
    pub(crate) served: Option<Range<u64>>,
    pub(crate) failed: Option<Range<u64>>,
    pub(crate) rejected: Option<Range<u64>>,
    pub(crate) replayed: Option<Range<u64>>,
    /// Callers that did not get their first token at once.
    pub(crate) waited: Option<Range<u64>>,
    pub(crate) longest_wait: Option<Range<Time>>,
    /// Counters of `SourceStats`.
    pub(crate) stats: BTreeMap<String, Range<u64>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "neither a time, nor a list of two times, nor an object with `at`")]
pub(crate) enum FetchStart {
    At(Range<Time>),
    Described(DescribedFetch),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DescribedFetch {
    pub(crate) at: Range<Time>,
    /// The times differ from seed to seed.
    #[serde(default)]
    pub(crate) varies: bool,
    pub(crate) reason: Option<String>,
    /// The number of the token that the fetch replaces; 0 if there is none.
    pub(crate) replaces: Option<u64>,
    pub(crate) challenges: Option<usize>,
    /// Whether the client dropped the request before the response.
    pub(crate) dropped: Option<bool>,
}

impl FetchStart {
    pub(crate) fn described(&self) -> DescribedFetch {
        match self {
            Self::Described(described) => described.clone(),
            Self::At(at) => {
                DescribedFetch { at: *at, varies: false, reason: None, replaces: None, challenges: None, dropped: None }
            }
        }
    }
}
