//! Late responses and `Retry-After`.

use std::time::Duration;

use serde_json::json;
use tower_bearer_auth::{ClientCredentialsBuilder, ErrorKind, TokenSource};

use super::{LATER, Mock, good, transient};
use crate::issuer::{Ahead, failed, impatient, post, says};
use crate::suite::{Suite, equal, holds};

impl Mock<'_> {
    pub(super) async fn slow(&self, suite: &mut Suite) {
        let timeout = |status| transient(ErrorKind::Timeout, status);
        let limit = |builder: ClientCredentialsBuilder| builder.timeout(Duration::from_millis(400));
        let dribble = |millis: u32| {
            let mut reply = good();
            reply["chunkedDribbleDelay"] = json!({"numberOfChunks": 50, "totalDuration": millis});
            reply
        };
        let delayed = |millis: u32| {
            let mut reply = good();
            reply["fixedDelayMilliseconds"] = json!(millis);
            reply
        };
        self.recovers_with(suite, "a reply that begins after the deadline", delayed(5_000), timeout(None), limit).await;
        self.recovers_with(
            suite,
            "a reply that dribbles beyond the deadline",
            dribble(5_000),
            timeout(Some(200)),
            limit,
        )
        .await;
        for (name, reply) in
            [("a reply that dribbles in time", dribble(500)), ("a reply that is late, in time", delayed(300))]
        {
            let work = async {
                let endpoint = self.endpoint(name, &[reply]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                let callers = (0..20).map(|_| source.token());
                futures_util::future::try_join_all(callers).await?;
                equal("token requests", endpoint.count().await?, 1)
            };
            suite.case(name, work).await;
        }
        suite
            .case("a caller that gives up leaves the token to the next one", async {
                let endpoint = self.endpoint("impatient", &[delayed(500)]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                let mut gave_up = 0;
                while tokio::time::timeout(Duration::from_millis(20), source.token()).await.is_err() {
                    gave_up += 1;
                }
                holds(gave_up > 0, "nobody had to wait")?;
                equal("abandoned", source.stats().waits_abandoned, gave_up)?;
                equal("token requests", endpoint.count().await?, 1)
            })
            .await;
    }

    pub(super) async fn retry_after(&self, suite: &mut Suite) {
        let rows = [
            (503, "20", ErrorKind::Unavailable, 20.0),
            (429, "30", ErrorKind::Throttled, 30.0),
            // Without a usable token, the requested time is capped at one minute. Up to a tenth is added to it.
            (503, "3600", ErrorKind::Unavailable, 60.0),
        ];
        for (status, value, kind, least) in rows {
            let name = format!("{status} with Retry-After: {value}");
            let work = async {
                let reply = json!({"status": status, "headers": {"Retry-After": value}});
                let endpoint = self.endpoint(&name, &[reply, good()]).await?;
                let clock = Ahead::default();
                let source = impatient(endpoint.client().build()?).clock(clock.clone()).build();
                let error = failed(source.token().await)?;
                equal("kind", (error.kind(), error.is_transient()), (kind, true))?;
                let wait = error.retry_after().unwrap_or_default().as_secs_f64();
                let within = (least..=least * 1.1).contains(&wait);
                holds(within, format!("the next try is in {wait:.1} s"))?;
                // Shortly before that time, and then at it.
                clock.by(Duration::from_secs_f64(least - 1.0));
                failed(source.token().await)?;
                equal("token requests before that", endpoint.count().await?, 1)?;
                clock.by(Duration::from_secs_f64(1.0 + least * 0.1));
                source.token().await?;
                equal("token requests", endpoint.count().await?, 2)?;
                equal("fetches", source.stats().fetches, 2)
            };
            suite.case(&name, work).await;
        }
        suite
            .case("a failed refresh fails no request while the token is usable", async {
                let down = json!({"status": 503, "headers": {"Retry-After": "30"}});
                let mut other = good();
                other["jsonBody"]["access_token"] = json!("canary-token-2");
                let endpoint = self.endpoint("refresh", &[good(), down, other]).await?;
                let clock = Ahead::default();
                let source = impatient(endpoint.client().build()?).clock(clock.clone()).build();
                let first = source.token().await?.generation();
                // In the window, which is the second half of ten minutes.
                clock.by(Duration::from_secs(400));
                equal("generation", source.token().await?.generation(), first)?;
                while source.stats().fetches_failed == 0 {
                    tokio::task::yield_now().await;
                }
                for _ in 0..50 {
                    equal("generation", source.token().await?.generation(), first)?;
                }
                equal("token requests during the backoff", endpoint.count().await?, 2)?;
                clock.by(Duration::from_secs(40));
                source.token().await?;
                while source.stats().fetches_succeeded < 2 {
                    tokio::task::yield_now().await;
                }
                holds(source.token().await?.generation() > first, "the old token")?;
                equal("token requests", endpoint.count().await?, 3)
            })
            .await;
    }

    pub(super) async fn connections(&self, suite: &mut Suite) {
        suite
            // An issuer that closes an idle connection looks the same.
            .case("a reset on a pooled connection: the call is made once more on a fresh one", async {
                let reset = json!({"fault": "CONNECTION_RESET_BY_PEER"});
                let endpoint = self.endpoint("pooled", &[good(), reset, good()]).await?;
                let clock = Ahead::default();
                let source = impatient(endpoint.client().build()?).clock(clock.clone()).build();
                source.token().await?;
                clock.by(LATER + LATER);
                source.token().await?;
                equal("token requests", endpoint.count().await?, 3)?;
                equal("fetches", source.stats().fetches, 2)
            })
            .await;
        suite
            .case("an issuer that fails once at the start fails no request", async {
                let endpoint = self.endpoint("once", &[json!({"status": 503}), good()]).await?;
                TokenSource::new(endpoint.client().build()?).token().await?;
                equal("token requests", endpoint.count().await?, 2)
            })
            .await;
        suite
            .case("nobody listens: unavailable, with the cause kept", async {
                let port = {
                    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                    listener.local_addr()?.port()
                };
                let url = format!("http://127.0.0.1:{port}/token");
                let source = impatient(post(&url, "orders", self.world.secret(), self.facts).build()?).build();
                let error = failed(source.token().await)?;
                says(&error, transient(ErrorKind::Unavailable, None))?;
                holds(std::error::Error::source(&error).is_some(), "no cause")
            })
            .await;
    }
}
