//! The token endpoints.

use std::future::pending;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION, request::Parts};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{AeropayIssuerRequest, Credentials, Service, Version, responses, tokens::Actor};
use crate::{
    fault::{self, Fault},
    request::{self, path_and_query},
    response::ScriptedResponse,
    server::Reply,
};

impl Credentials {
    fn admit(&self, fields: &Map<String, Value>, key: &str, secret: &str) -> bool {
        let merchant = match fields.get("id") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        fields.get(key).and_then(Value::as_str) == Some(&self.api_key)
            && fields.get(secret).and_then(Value::as_str) == Some(&self.api_secret)
            && merchant == Some(self.merchant)
    }
}

impl Service {
    pub(super) async fn token(&self, version: Version, head: &Parts, incoming: Incoming) -> Reply {
        let fault = self.script.take();
        let entry = self.token_calls.push(AeropayIssuerRequest {
            path: path_and_query(&head.uri),
            headers: head.headers.clone(),
            body: Bytes::new(),
            scope: None,
            user: None,
            status: None,
            code: None,
            jti: None,
        });
        let (body, complete) = request::read_body(incoming).await;
        let fields: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        self.token_calls.amend(entry, |record| {
            record.body = body.clone();
            record.scope = text("scope");
            record.user = text("userId");
        });
        self.issuer_gate.pass().await;
        self.wait_latency().await;
        let (response, jti) = match &fault {
            Some(Fault::Hang) => pending().await,
            Some(Fault::Reset) => return Reply::Reset,
            Some(Fault::Response(response)) => (response.clone(), None),
            _ => match self.check(version, head, &fields, complete) {
                Ok(actor) => self.mint(actor, fault.as_ref()),
                Err(error) => (error, None),
            },
        };
        self.token_calls.amend(entry, |record| {
            record.status = Some(response.status());
            record.code = responses::code_in(&response);
            record.jti = jti;
        });
        fault::reply(response, fault)
    }

    fn check(
        &self,
        version: Version,
        head: &Parts,
        fields: &Map<String, Value>,
        complete: bool,
    ) -> Result<Actor, ScriptedResponse> {
        if head.method != Method::POST {
            return Err(responses::no_route());
        }
        let bad = |code: &str, message: &str| responses::error(version, StatusCode::BAD_REQUEST, code, message);
        if !complete || fields.is_empty() || !is_plain(head) || !request::is_of_type(&head.headers, "application/json")
        {
            return Err(bad("AP700", "The body is not a JSON object"));
        }
        let (key, secret) = match version {
            Version::One => ("api_key", "api_secret"),
            Version::Two => ("apiKey", "apiSecret"),
        };
        let known = ["scope", key, secret, "id", "userId"];
        for name in known {
            let is_needed = name != "userId" || fields.get("scope").is_some_and(|scope| scope == "userForMerchant");
            let is_present = fields.get(name).is_some_and(|value| *value != json!(""));
            if is_needed && !is_present {
                return Err(bad("AP700", &format!("Missing required Parameter: '{name}'")));
            }
        }
        if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(bad("AP701", &format!("Improperly formatted parameter: ['{unknown}']")));
        }
        let unauthorized = |message: &str| responses::nested(version, StatusCode::UNAUTHORIZED, "AP002", message);
        if !self.credentials.admit(fields, key, secret) {
            return Err(unauthorized("invalid API key or secret key"));
        }
        match (fields.get("scope").and_then(Value::as_str), fields.get("userId")) {
            (Some("merchant"), None) => Ok(Actor::Merchant),
            (Some("userForMerchant"), Some(Value::String(user))) if self.merchant.is_confirmed(user) => {
                Ok(Actor::User(user.clone()))
            }
            (Some("userForMerchant"), Some(Value::String(_))) => {
                Err(unauthorized("User ID doesn't exist or hasn't been associated with this merchant."))
            }
            (Some("userForMerchant"), _) => Err(bad("AP701", "Improperly formatted parameter: ['userId']")),
            _ => Err(bad("AP700", "Invalid scope")),
        }
    }

    /// The documented response, with the change of `fault`.
    fn mint(&self, actor: Actor, fault: Option<&Fault>) -> (ScriptedResponse, Option<String>) {
        let lifetime = self.behavior.lock().lifetime;
        let Ok((token, jti)) = self.tokens.mint(actor, lifetime) else {
            return (ScriptedResponse::new(StatusCode::INTERNAL_SERVER_ERROR), None);
        };
        let seconds = lifetime.as_secs() + u64::from(lifetime.subsec_nanos() > 0);
        let mut ttl = Some(seconds.to_string());
        let mut token = Some(token);
        match fault {
            Some(Fault::ExpiresIn(raw)) => ttl.clone_from(raw),
            Some(Fault::AccessToken(text)) => token.clone_from(text),
            _ => {}
        }
        // Built as text, because a scripted `TTL` may be invalid JSON.
        let ttl = ttl.map(|ttl| format!("\"TTL\":{ttl}"));
        let token = token.map(|token| format!("\"token\":{}", Value::from(token)));
        let fields: Vec<String> = [ttl, token].into_iter().flatten().collect();
        (ScriptedResponse::new(StatusCode::OK).json(format!("{{{}}}", fields.join(","))), Some(jti))
    }
}

/// Whether the request has neither a query nor a token. A token here means that a layer stamped its own token request.
fn is_plain(head: &Parts) -> bool {
    let stamped =
        |headers: &HeaderMap| headers.contains_key(AUTHORIZATION) || headers.contains_key("authorizationtoken");
    head.uri.query().is_none() && !stamped(&head.headers)
}
