//! The API server: the sessions of the Wallet, the sale of the PSP, and an echo.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, ALLOW},
    request::Parts,
};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;

use super::{
    credentials::Credentials,
    gate::Gate,
    journal::{Entry, Journal},
    ledger::Ledger,
    record::{ApiRequest, Sale, Session, Verdict},
    request::{self, path_and_query},
    response::ScriptedResponse,
    server::{Handler, Reply},
};

const SESSIONS_PATH: &str = "/wallets/wsps/sessions";
const SALE_PATH: &str = "/uc/v1/wallet/sale";

pub(crate) struct Api {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) journal: Journal<ApiRequest>,
    pub(crate) sessions: Journal<Session>,
    pub(crate) sales: Mutex<Vec<Sale>>,
    pub(crate) arrivals: Gate,
    pub(crate) responses: Gate,
    pub(crate) behavior: Mutex<Behavior>,
}

/// What a test can change while the server runs.
pub(crate) struct Behavior {
    pub(crate) latency: Duration,
    pub(crate) rejection: ScriptedResponse,
    pub(crate) reject_early: bool,
    pub(crate) reject_always: bool,
    pub(crate) reject_next: usize,
    pub(crate) script: VecDeque<ScriptedResponse>,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            rejection: ScriptedResponse::unauthorized(),
            reject_early: false,
            reject_always: false,
            reject_next: 0,
            script: VecDeque::new(),
        }
    }
}

impl Handler for Api {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, incoming) = request.into_parts();
        let entry = self.journal.push(ApiRequest {
            method: head.method.clone(),
            path: path_and_query(&head.uri),
            version: head.version,
            headers: head.headers.clone(),
            body: Bytes::new(),
            verdict: None,
            jti: None,
            status: None,
        });
        let response = self.respond(&head, incoming, entry).await;
        self.responses.pass().await;
        let status = response.status();
        self.journal.amend(entry, |record| record.status = Some(status));
        Reply::Response(response.into_response())
    }
}

impl Api {
    async fn respond(&self, head: &Parts, incoming: Incoming, entry: Entry) -> ScriptedResponse {
        // The token is checked again after the body has been read.
        let reject_early = self.behavior.lock().reject_early;
        if reject_early && let Err(rejection) = self.admit(&head.headers, entry) {
            return rejection;
        }
        let (body, complete) = request::read_body(incoming).await;
        self.journal.amend(entry, |record| record.body = body.clone());
        self.arrivals.pass().await;
        let latency = self.behavior.lock().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let jti = match self.admit(&head.headers, entry) {
            Ok(jti) => jti,
            Err(rejection) => return rejection,
        };
        if !complete {
            return bad_request("39999", "the body is incomplete");
        }
        let scripted = self.behavior.lock().script.pop_front();
        scripted.unwrap_or_else(|| self.route(head, body, jti))
    }

    /// Checks the token and returns its `jti`, or the response that rejects it.
    fn admit(&self, headers: &HeaderMap, entry: Entry) -> Result<String, ScriptedResponse> {
        let (verdict, jti) = self.judge(headers);
        self.journal.amend(entry, |record| {
            record.verdict = Some(verdict);
            record.jti.clone_from(&jti);
        });
        match jti {
            Some(jti) if verdict.is_accepted() => Ok(jti),
            _ => Err(self.behavior.lock().rejection.clone()),
        }
    }

    /// Checks the token. A scripted rejection counts, and is used up.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> (Verdict, Option<String>) {
        let (verdict, jti) = self.ledger.judge(headers);
        let mut behavior = self.behavior.lock();
        if !verdict.is_accepted() || !(behavior.reject_always || behavior.reject_next > 0) {
            return (verdict, jti);
        }
        behavior.reject_next = behavior.reject_next.saturating_sub(1);
        (Verdict::Scripted, jti)
    }

    fn route(&self, head: &Parts, body: Bytes, jti: String) -> ScriptedResponse {
        let path = head.uri.path();
        let session = path.strip_prefix(SESSIONS_PATH).and_then(|rest| rest.strip_prefix('/'));
        match (path, session) {
            (_, Some(id)) if head.method == Method::GET => self.show_session(id),
            (_, Some(_)) => not_allowed("GET"),
            (SESSIONS_PATH, _) if head.method == Method::POST => self.open_session(&head.headers, body, jti),
            (SALE_PATH, _) if head.method == Method::POST => self.sell(&head.headers, body, jti),
            (SESSIONS_PATH | SALE_PATH, _) => not_allowed("POST"),
            ("/echo", _) => echo(head, &body, &jti),
            _ => ScriptedResponse::message(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    fn open_session(&self, headers: &HeaderMap, body: Bytes, jti: String) -> ScriptedResponse {
        if let Err(response) = json_object(headers, &body) {
            return response;
        }
        let session_id = format!("{:032x}", fastrand::u128(..));
        let session_key = format!("{:032x}", fastrand::u128(..));
        let response = json!({ "sessionId": session_id, "sessionKey": session_key });
        self.sessions.push(Session { session_id, body, jti });
        ScriptedResponse::new(StatusCode::CREATED).json(response.to_string())
    }

    fn show_session(&self, id: &str) -> ScriptedResponse {
        let exists = self.sessions.all().iter().any(|s| s.session_id == id);
        if exists {
            let response = json!({ "sessionId": id, "sub": null });
            ScriptedResponse::new(StatusCode::OK).json(response.to_string())
        } else {
            ScriptedResponse::response_info(StatusCode::NOT_FOUND, "39999", "no such session")
        }
    }

    fn sell(&self, headers: &HeaderMap, body: Bytes, jti: String) -> ScriptedResponse {
        if !self.credentials.admit_api_call(headers) {
            return ScriptedResponse::message(StatusCode::FORBIDDEN, "Forbidden");
        }
        let key = match request::idempotency_key(headers) {
            Ok(Some(key)) => key.to_owned(),
            Ok(None) => return bad_request("30000", "missing required field: idempotency-key"),
            Err(_) => return bad_request("29999", "idempotency-key is not a UUID"),
        };
        if !headers.contains_key(ACCEPT) {
            return bad_request("30000", "missing required field: accept");
        }
        if let Err(response) = json_object(headers, &body) {
            return response;
        }
        let mut sales = self.sales.lock();
        let made = sales
            .iter()
            .find(|sale| sale.idempotency_key.eq_ignore_ascii_case(&key))
            .map(|sale| sale.psp_reference.clone());
        let reference = made.unwrap_or_else(|| {
            let reference = format!("{:032x}", fastrand::u128(..));
            sales.push(Sale { psp_reference: reference.clone(), idempotency_key: key, body, jti });
            reference
        });
        let response = json!({ "pspReference": reference });
        ScriptedResponse::new(StatusCode::OK).json(response.to_string())
    }
}

fn echo(head: &Parts, body: &Bytes, jti: &str) -> ScriptedResponse {
    let headers: Vec<&str> = head.headers.keys().map(|name| name.as_str()).collect();
    let response = json!({
        "method": head.method.as_str(),
        "path": path_and_query(&head.uri),
        "length": body.len(),
        "jti": jti,
        "headers": headers,
    });
    ScriptedResponse::new(StatusCode::OK).json(response.to_string())
}

fn not_allowed(allow: &'static str) -> ScriptedResponse {
    ScriptedResponse::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        .header(ALLOW, HeaderValue::from_static(allow))
}

fn bad_request(code: &str, message: &str) -> ScriptedResponse {
    ScriptedResponse::response_info(StatusCode::BAD_REQUEST, code, message)
}

fn json_object(headers: &HeaderMap, body: &[u8]) -> Result<(), ScriptedResponse> {
    if !request::is_of_type(headers, "application/json") {
        return Err(ScriptedResponse::response_info(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "39999",
            "content type is not application/json",
        ));
    }
    if request::is_json_object(body) { Ok(()) } else { Err(bad_request("29999", "body is not a JSON object")) }
}
