//! Which requests may be sent twice (Aeropay's pages: the endpoints that move money, and idempotency).

use http::{Method, Request};
use tower_bearer_auth::aeropay::ApiVersion;
use tower_bearer_auth::{RequestHead, TokenProvider as _};

use crate::fake::provider;

fn is_idempotent(version: ApiVersion, method: &str, path: &str, key: bool) -> bool {
    let method: Method = method.parse().unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if key {
        request = request.header("Idempotency-Key", "27bccca2-d345-4620-9987-3f3854abcd51");
    }
    let request = request.body(()).unwrap();
    provider(version).is_idempotent(&RequestHead::of(&request))
}

// R18
#[test]
fn version_1_moves_money_with_a_get() {
    for path in [
        "/reverseTransaction",
        "/reverseTransaction/",
        "/reverseTransaction?id=1",
        "/reversetransaction",
        "/REVERSETRANSACTION",
        "/%72everseTransaction",
        "//reverseTransaction",
        "/x/../reverseTransaction",
        "https://api.sandbox-pay.aero.inc/reverseTransaction?id=1",
        "/reverseTransaction/1",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            assert!(!idempotent(ApiVersion::V1, method, path, false), "{method} {path}");
            assert!(!idempotent(ApiVersion::V1, method, path, true), "{method} {path}");
        }
    }
    for path in ["/user", "/transaction", "/transaction?x=/reverseTransaction", "/reverseTransactions"] {
        assert!(idempotent(ApiVersion::V1, "GET", path, false), "{path}");
    }
}

// R18: version 1 has no Idempotency-Key; a key that nobody looks at protects nothing.
#[test]
fn an_idempotency_key_counts_on_its_four_operations_and_nowhere_else() {
    const FOUR: [&str; 4] =
        ["/v2/transaction", "/v2/preauthTransaction", "/v2/reverseTransaction", "/v2/payoutTransaction"];
    for path in FOUR {
        assert!(idempotent(ApiVersion::V2, "POST", path, true), "{path}");
        assert!(idempotent(ApiVersion::V2, "POST", &format!("{path}/"), true), "{path}");
        assert!(!idempotent(ApiVersion::V2, "POST", path, false), "{path}");
        assert!(!idempotent(ApiVersion::V2, "PATCH", path, true), "{path}");
        let v1 = path.strip_prefix("/v2").unwrap();
        assert!(!idempotent(ApiVersion::V1, "POST", v1, true), "{v1}");
    }
    for path in [
        "/v2/capturePreauthTransaction",
        "/v2/user",
        "/v2/confirmUser",
        "/v2/paymentLink",
        "/v2/transaction/1",
        "/v2/transaction/1/refunds",
        "/v2",
        "/transaction",
    ] {
        assert!(!idempotent(ApiVersion::V2, "POST", path, true), "{path}");
        assert!(!idempotent(ApiVersion::V2, "POST", path, false), "{path}");
    }
    for (method, expected) in
        [("GET", true), ("HEAD", true), ("PUT", true), ("DELETE", true), ("PATCH", false), ("POST", false)]
    {
        assert_eq!(idempotent(ApiVersion::V2, method, "/v2/webhook", false), expected, "{method}");
        assert_eq!(idempotent(ApiVersion::V1, method, "/preauthTransaction", false), expected, "{method}");
    }
}
