//! The API: users and payments.

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, request::Parts};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{AeropayApiRequest, Service, Version, merchant::Payment, responses, scopes, tokens::Actor};
use crate::{
    journal::Entry,
    record::Verdict,
    request::{self, path_and_query},
    response::ScriptedResponse,
};

impl Version {
    fn token_header(self) -> HeaderName {
        match self {
            Self::One => HeaderName::from_static("authorizationtoken"),
            Self::Two => http::header::AUTHORIZATION,
        }
    }
}

impl Service {
    pub(super) async fn api(&self, version: Version, head: &Parts, incoming: Incoming) -> ScriptedResponse {
        let entry = self.calls.push(AeropayApiRequest {
            method: head.method.clone(),
            path: path_and_query(&head.uri),
            headers: head.headers.clone(),
            body: Bytes::new(),
            verdict: None,
            scope: None,
            user: None,
            jti: None,
            status: None,
            code: None,
        });
        let (body, _) = request::read_body(incoming).await;
        self.calls.amend(entry, |record| record.body = body.clone());
        self.api_gate.pass().await;
        let response = match self.admit(version, head, entry) {
            Ok(actor) => {
                let scripted = self.behavior.lock().script.pop_front();
                scripted.unwrap_or_else(|| self.route(version, head, &body, &actor))
            }
            Err(rejection) => rejection,
        };
        self.calls.amend(entry, |record| {
            record.status = Some(response.status());
            record.code = responses::code_in(&response);
        });
        response
    }

    fn admit(&self, version: Version, head: &Parts, entry: Entry) -> Result<Actor, ScriptedResponse> {
        let Some(scope) = scopes::scope(version, head.method.as_str(), head.uri.path()) else {
            return Err(responses::no_route());
        };
        let judged = self.tokens.judge(&head.headers, &version.token_header());
        let mut verdict = judged.verdict;
        let mut behavior = self.behavior.lock();
        if verdict.is_accepted() && judged.token.as_ref().is_some_and(|(_, actor)| actor.scope() != scope) {
            verdict = Verdict::WrongScope;
        }
        if verdict.is_accepted() && (behavior.reject_always || behavior.reject_next > 0) {
            behavior.reject_next = behavior.reject_next.saturating_sub(1);
            verdict = Verdict::Scripted;
        }
        self.calls.amend(entry, |record| {
            record.verdict = Some(verdict);
            if let Some((jti, actor)) = &judged.token {
                record.jti = Some(jti.clone());
                record.scope = Some(actor.scope().to_owned());
                record.user = actor.user().map(str::to_owned);
            }
        });
        let code = match verdict {
            Verdict::Accepted => return judged.token.map(|(_, actor)| actor).ok_or_else(responses::no_route),
            Verdict::Scripted => {
                let scripted = behavior.rejection.clone();
                return Err(scripted.unwrap_or_else(|| responses::unauthorized(version, "AP007")));
            }
            Verdict::Missing => "AP004",
            Verdict::Expired => "AP007",
            Verdict::WrongScope => "AP006",
            _ => "AP008",
        };
        Err(responses::unauthorized(version, code))
    }

    fn route(&self, version: Version, head: &Parts, body: &Bytes, actor: &Actor) -> ScriptedResponse {
        let path = head.uri.path();
        let path = path.strip_prefix("/v2").unwrap_or(path);
        let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let missing = |name: &str| {
            let message = format!("Missing required Parameter: '{name}'");
            responses::error(version, StatusCode::BAD_REQUEST, "AP700", &message)
        };
        match (head.method.as_str(), path) {
            ("POST", "/user") => match text("email") {
                Some(email) => {
                    let id = self.merchant.create_or_disconnect(email);
                    self.tokens.revoke(|_, actor| actor.user() == Some(id.as_str()));
                    done(version, json!({ "user": { "userId": id, "token": "None" } }))
                }
                None => missing("email"),
            },
            ("POST", "/confirmUser") => match text("userId") {
                Some(id) if self.merchant.confirm(id) => done(version, json!({ "user": { "userId": id } })),
                Some(_) => responses::error(version, StatusCode::OK, "AP113", "User does not exist"),
                None => missing("userId"),
            },
            ("GET", "/user") => done(version, json!({ "user": { "userId": actor.user() } })),
            ("GET", "/aggregatorCredentials") => done(
                version,
                json!({
                    "fastlinkURL": "https://aerosync.example/fastlink",
                    "token": "the-token-of-the-widget",
                    "username": actor.user(),
                }),
            ),
            ("POST" | "GET", "/reverseTransaction")
            | ("POST", "/transaction" | "/preauthTransaction" | "/payoutTransaction" | "/capturePreauthTransaction") => {
                self.pay(version, head, body, text("uuid"))
            }
            ("POST", "/merchantReputation") => done(version, json!({ "error": null })),
            (_, path) => match path.strip_prefix("/transaction/idempotency/") {
                // An empty object means "not found".
                Some(key) => ScriptedResponse::new(StatusCode::OK).json(match self.merchant.paid_with(key) {
                    Some(id) => json!({ "transaction": { "id": id } }).to_string(),
                    None => json!({}).to_string(),
                }),
                None => done(version, json!({})),
            },
        }
    }

    fn pay(&self, version: Version, head: &Parts, body: &Bytes, uuid: Option<&str>) -> ScriptedResponse {
        let bad = |code: &str, message: &str| responses::error(version, StatusCode::BAD_REQUEST, code, message);
        // Version 2 reads the header in four operations. The capture is not one of them.
        let reads_header = version == Version::Two
            && head.method == Method::POST
            && !head.uri.path().ends_with("/capturePreauthTransaction");
        let key = match (reads_header, request::idempotency_key(&head.headers)) {
            (true, Err(_)) => return bad("AP1402", "Idempotency key is not valid"),
            (true, Ok(key)) => key,
            (false, _) => uuid.filter(|_| version == Version::One),
        };
        match (self.merchant.pay(key, body), version) {
            (Payment::New(id), _) | (Payment::Repeated(id), Version::Two) => {
                done(version, json!({ "transaction": { "id": id } }))
            }
            (Payment::Repeated(_) | Payment::Conflict, Version::One) => bad("AP314", "Duplicate transaction"),
            (Payment::Conflict, Version::Two) => bad("AP1400", "Idempotency key was used with another payload"),
        }
    }
}

/// A success. Version 1 adds a flag.
fn done(version: Version, mut value: Value) -> ScriptedResponse {
    if version == Version::One {
        value["success"] = json!(true);
    }
    ScriptedResponse::new(StatusCode::OK).json(value.to_string())
}
