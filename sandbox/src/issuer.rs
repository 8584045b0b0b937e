//! The token endpoint, as its documentation describes it (aera.readme.io/docs/accesspsp).

use std::{future::pending, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, PRAGMA},
};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{
    credentials::Credentials,
    fault::{self, Fault, Script},
    gate::Gate,
    journal::Journal,
    ledger::{Ledger, Minted},
    record::IssuerRequest,
    request::{self, path_and_query},
    response::ScriptedResponse,
    server::{Handler, Reply},
};

pub(crate) const TOKEN_PATH: &str = "/oauth/token";

pub(crate) struct Issuer {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) journal: Journal<IssuerRequest>,
    pub(crate) script: Script,
    pub(crate) gate: Gate,
    pub(crate) pace: Mutex<Pace>,
}

#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) lifetime: Duration,
    pub(crate) latency: Duration,
}

impl Handler for Issuer {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, incoming) = request.into_parts();
        let fault = self.script.take();
        let entry = self.journal.push(IssuerRequest {
            method: head.method.clone(),
            path: path_and_query(&head.uri),
            version: head.version,
            headers: head.headers.clone(),
            body: bytes::Bytes::new(),
            fields: Vec::new(),
            status: None,
            jti: None,
        });
        let (body, complete) = request::read_body(incoming).await;
        let fields = fields(&body);
        self.journal.amend(entry, |record| {
            record.body = body.clone();
            record.fields.clone_from(&fields);
        });
        self.gate.pass().await;
        let pace = *self.pace.lock();
        if !pace.latency.is_zero() {
            sleep(pace.latency).await;
        }
        match &fault {
            Some(Fault::Response(response)) => {
                let status = response.status();
                self.journal.amend(entry, |record| record.status = Some(status));
                return Reply::Response(response.clone().into_response());
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::Reset) => return Reply::Reset,
            _ => {}
        }
        let checked = if complete { self.check(&head, &body, &fields) } else { Err(invalid_request()) };
        let minted = checked.and_then(|()| self.mint(pace.lifetime));
        let (response, jti) = match minted {
            Ok(minted) => (token_response(&minted, fault.as_ref()), Some(minted.jti)),
            Err(error) => (error, None),
        };
        let status = response.status();
        self.journal.amend(entry, |record| {
            record.status = Some(status);
            record.jti = jti;
        });
        fault::reply(response, fault)
    }
}

impl Issuer {
    fn check(
        &self,
        head: &http::request::Parts,
        body: &[u8],
        fields: &[(String, String)],
    ) -> Result<(), ScriptedResponse> {
        if head.uri.path() != TOKEN_PATH {
            return Err(ScriptedResponse::message(StatusCode::NOT_FOUND, "Not Found"));
        }
        if head.method != Method::POST {
            let response = ScriptedResponse::error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request");
            return Err(response.header(ALLOW, HeaderValue::from_static("POST")));
        }
        if !self.credentials.admit_token_call(&head.headers) {
            return Err(ScriptedResponse::message(StatusCode::FORBIDDEN, "Forbidden"));
        }
        // The documentation allows credentials in the body only. A bearer token here means that a layer stamped its own
        // token request.
        let misplaced = head.uri.query().is_some() || head.headers.contains_key(AUTHORIZATION);
        if misplaced || !is_form(&head.headers, body) || !self.has_valid_fields(fields) {
            return Err(invalid_request());
        }
        let id = once(fields, "client_id");
        let secret = once(fields, "client_secret");
        if self.credentials.admit_client(id, secret) {
            Ok(())
        } else {
            Err(ScriptedResponse::error(StatusCode::UNAUTHORIZED, "invalid_client"))
        }
    }

    fn has_valid_fields(&self, fields: &[(String, String)]) -> bool {
        let known = fields.iter().all(|(name, value)| match name.as_str() {
            "grant_type" => value == "client_credentials",
            "client_id" | "client_secret" => !value.is_empty(),
            // The documentation says "Leave empty unless instructed".
            "scope" => self.credentials.admit_scope(value),
            _ => false,
        });
        let repeated = fields.iter().filter(|(name, _)| name == "scope").count() > 1;
        let required = ["grant_type", "client_id", "client_secret"];
        known && !repeated && required.iter().all(|name| once(fields, name).is_some())
    }

    fn mint(&self, lifetime: Duration) -> Result<Minted, ScriptedResponse> {
        self.ledger.mint(lifetime).map_err(|_| ScriptedResponse::new(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

fn invalid_request() -> ScriptedResponse {
    ScriptedResponse::error(StatusCode::BAD_REQUEST, "invalid_request")
}

fn fields(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Whether the body is a form: the content type, ASCII only, and field values that decode to UTF-8.
fn is_form(headers: &HeaderMap, body: &[u8]) -> bool {
    request::is_of_type(headers, "application/x-www-form-urlencoded")
        && body.is_ascii()
        && !fields(body).iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'))
}

fn once<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|(field, _)| field == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// The documented response, with the change of `fault`.
fn token_response(minted: &Minted, fault: Option<&Fault>) -> ScriptedResponse {
    let mut token = Some(json_string(&minted.text));
    let mut kind = Some(json_string("Bearer"));
    let mut expires_in = Some(minted.expires_in.to_string());
    match fault {
        Some(Fault::AccessToken(text)) => token = text.as_deref().map(json_string),
        Some(Fault::TokenType(text)) => kind = text.as_deref().map(json_string),
        Some(Fault::ExpiresIn(raw)) => expires_in.clone_from(raw),
        _ => {}
    }
    // Built as text, because a scripted `expires_in` may be invalid JSON.
    let fields = [("access_token", token), ("token_type", kind), ("expires_in", expires_in)];
    let fields: Vec<_> =
        fields.into_iter().filter_map(|(name, value)| value.map(|value| format!("\"{name}\":{value}"))).collect();
    ScriptedResponse::new(StatusCode::OK)
        .json(format!("{{{}}}", fields.join(",")))
        // RFC 6749 section 5.1.
        .header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .header(PRAGMA, HeaderValue::from_static("no-cache"))
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
