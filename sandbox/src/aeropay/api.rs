//! The API: users who come and go, and money that moves once.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, request::Parts};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{AeropayCall, Service, Version, people::Movement, responses, scopes, tokens::Actor};
use crate::{body, issuer::path_and_query, journal::Entry, record::Verdict, response::ScriptedResponse};

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
        let entry = self.calls.push(AeropayCall {
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
        let (body, _) = body::read(incoming).await;
        self.calls.amend(entry, |record| record.body = body.clone());
        self.api_gate.pass().await;
        let answer = match self.admit(version, head, entry) {
            Ok(actor) => {
                let scripted = self.mood.lock().script.pop_front();
                scripted.unwrap_or_else(|| self.route(version, head, &body, &actor))
            }
            Err(refused) => refused,
        };
        self.calls.amend(entry, |record| {
            record.status = Some(answer.status());
            record.code = responses::code_in(&answer);
        });
        answer
    }

    fn admit(&self, version: Version, head: &Parts, entry: Entry) -> Result<Actor, ScriptedResponse> {
        let Some(scope) = scopes::scope(version, head.method.as_str(), head.uri.path()) else {
            return Err(responses::no_route());
        };
        let judged = self.tokens.judge(&head.headers, &version.token_header());
        let mut verdict = judged.verdict;
        let mut mood = self.mood.lock();
        if verdict.is_accepted() && judged.token.as_ref().is_some_and(|(_, actor)| actor.scope() != scope) {
            verdict = Verdict::WrongScope;
        }
        if verdict.is_accepted() && (mood.reject_always || mood.reject_next > 0) {
            mood.reject_next = mood.reject_next.saturating_sub(1);
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
                let scripted = mood.refusal.clone();
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
                    let id = self.people.enrol(email);
                    self.tokens.revoke(|_, actor| actor.user() == Some(id.as_str()));
                    done(version, json!({ "user": { "userId": id, "token": "None" } }))
                }
                None => missing("email"),
            },
            ("POST", "/confirmUser") => match text("userId") {
                Some(id) if self.people.confirm(id) => done(version, json!({ "user": { "userId": id } })),
                Some(_) => responses::error(version, StatusCode::OK, "AP113", "User does not exist"),
                None => missing("userId"),
            },
            ("GET", "/user") => done(version, json!({ "user": { "userId": actor.user() } })),
            ("GET", "/aggregatorCredentials") => done(
                version,
                json!({
                    "fastlinkURL": "https://aerosync.example/fastlink",
                    "token": "a-widget-s-token-and-not-the-api-s",
                    "username": actor.user(),
                }),
            ),
            ("POST" | "GET", "/reverseTransaction")
            | ("POST", "/transaction" | "/preauthTransaction" | "/payoutTransaction" | "/capturePreauthTransaction") => {
                self.move_money(version, head, body, text("uuid"))
            }
            ("POST", "/merchantReputation") => done(version, json!({ "error": null })),
            (_, path) => match path.strip_prefix("/transaction/idempotency/") {
                // An empty object says "not found".
                Some(key) => ScriptedResponse::new(StatusCode::OK).json(match self.people.moved_under(key) {
                    Some(id) => json!({ "transaction": { "id": id } }).to_string(),
                    None => json!({}).to_string(),
                }),
                None => done(version, json!({})),
            },
        }
    }

    fn move_money(&self, version: Version, head: &Parts, body: &Bytes, uuid: Option<&str>) -> ScriptedResponse {
        let bad = |code: &str, message: &str| responses::error(version, StatusCode::BAD_REQUEST, code, message);
        // Version 2 looks at the header on four operations, and none of them is the capture.
        let looked_at = version == Version::Two
            && head.method == Method::POST
            && !head.uri.path().ends_with("/capturePreauthTransaction");
        let key = match (looked_at, idempotency_key(&head.headers)) {
            (true, Err(())) => return bad("AP1402", "Idempotency key is not valid"),
            (true, Ok(key)) => key,
            (false, _) => uuid.filter(|_| version == Version::One),
        };
        match (self.people.move_money(key, body), version) {
            (Movement::Made(id), _) | (Movement::Repeated(id), Version::Two) => {
                done(version, json!({ "transaction": { "id": id } }))
            }
            (Movement::Repeated(_) | Movement::Differs, Version::One) => bad("AP314", "Duplicate transaction"),
            (Movement::Differs, Version::Two) => bad("AP1400", "Idempotency key was used with another payload"),
        }
    }
}

/// A success, with the flag that version 1 has.
fn done(version: Version, mut value: Value) -> ScriptedResponse {
    if version == Version::One {
        value["success"] = json!(true);
    }
    ScriptedResponse::new(StatusCode::OK).json(value.to_string())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(key) = values.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if values.next().is_none() && crate::api::is_uuid(key) => Ok(Some(key)),
        _ => Err(()),
    }
}
