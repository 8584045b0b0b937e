//! Which requests are idempotent (Aeropay's pages on endpoints that move money, and on idempotency).

use http::{Method, Request};
use tower_bearer_auth::aeropay::ApiVersion;
use tower_bearer_auth::{RequestHead, TokenProvider as _};

use super::fake::provider;

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
fn a_get_that_moves_money_in_version_1_is_not_idempotent() {
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
            assert!(!is_idempotent(ApiVersion::V1, method, path, false), "{method} {path}");
            assert!(!is_idempotent(ApiVersion::V1, method, path, true), "{method} {path}");
        }
    }
    for path in ["/user", "/transaction", "/transaction?x=/reverseTransaction", "/reverseTransactions"] {
        assert!(is_idempotent(ApiVersion::V1, "GET", path, false), "{path}");
    }
}

// R18: version 1 ignores an Idempotency-Key, so a key protects nothing there.
#[test]
fn an_idempotency_key_counts_only_for_the_four_operations_that_use_it() {
    const FOUR: [&str; 4] =
        ["/v2/transaction", "/v2/preauthTransaction", "/v2/reverseTransaction", "/v2/payoutTransaction"];
    for path in FOUR {
        assert!(is_idempotent(ApiVersion::V2, "POST", path, true), "{path}");
        assert!(is_idempotent(ApiVersion::V2, "POST", &format!("{path}/"), true), "{path}");
        assert!(!is_idempotent(ApiVersion::V2, "POST", path, false), "{path}");
        assert!(!is_idempotent(ApiVersion::V2, "PATCH", path, true), "{path}");
        let v1 = path.strip_prefix("/v2").unwrap();
        assert!(!is_idempotent(ApiVersion::V1, "POST", v1, true), "{v1}");
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
        assert!(!is_idempotent(ApiVersion::V2, "POST", path, true), "{path}");
        assert!(!is_idempotent(ApiVersion::V2, "POST", path, false), "{path}");
    }
    for (method, expected) in
        [("GET", true), ("HEAD", true), ("PUT", true), ("DELETE", true), ("PATCH", false), ("POST", false)]
    {
        assert_eq!(is_idempotent(ApiVersion::V2, method, "/v2/webhook", false), expected, "{method}");
        assert_eq!(is_idempotent(ApiVersion::V1, method, "/preauthTransaction", false), expected, "{method}");
    }
}
