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

// R78
#[test]
fn a_get_that_moves_money_is_not_idempotent_in_any_spelling() {
    const NAMES: [&str; 6] = [
        "reverseTransaction",
        "REVERSETRANSACTION",
        "%72everseTransaction",
        "%52%45verseTransaction",
        "rever%73eTransactio%6E",
        // The upper case of the long s is S.
        "rever%C5%BFeTran%c5%bfaction",
    ];
    const AFTER: [&str; 22] = [
        "", "/", "?id=1", ";v=1", ";", "%3Bv=1", "%20", ".json", ".", "%2e", "..", "%00", "%1F", "%09x", "%7f", "%2F",
        "%5C1", "\\", "/1", "//", ",v=1", "+",
    ];
    const BEFORE: [&str; 10] = ["/", "//", "/./", "/%2e/", "/x/../", "/x%2F", "/x%5c", "/%20", "/;x=1/", "/\\"];
    let mut tried = 0;
    for name in NAMES {
        for (before, after) in BEFORE.iter().flat_map(|before| AFTER.map(|after| (before, after))) {
            for path in
                [format!("{before}{name}{after}"), format!("https://api.sandbox-pay.aero.inc{before}{name}{after}")]
            {
                for (method, key) in [("GET", false), ("HEAD", true), ("PUT", false)] {
                    assert!(!is_idempotent(ApiVersion::V1, method, &path, key), "{method} {path}");
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, NAMES.len() * AFTER.len() * BEFORE.len() * 2);
    // A control character or an escape inside of the name.
    for path in [
        "/reverse%00Transaction",
        "/reverse%0aTransaction",
        "/reverse%2eTransaction%2f..",
        "/%2572everseTransaction",
        "/reverseTransaction%252F",
        "/reverse%zzTransaction",
    ] {
        assert!(!is_idempotent(ApiVersion::V1, "GET", path, true), "{path}");
    }
    for path in
        ["/transaction?x=;reverseTransaction", "/reverseTransactions", "/user/reverse", "/user%20", "/transaction.json"]
    {
        assert!(is_idempotent(ApiVersion::V1, "GET", path, false), "{path}");
    }
}

// R77
#[test]
fn an_empty_idempotency_key_counts_for_no_operation() {
    for key in ["", " ", "\t", "\"\"", "\" \""] {
        for keys in [&[key][..], &[key, "k-1"], &["k-1", key]] {
            let mut request = Request::post("/v2/transaction");
            for key in keys {
                request = request.header("idempotency-key", *key);
            }
            let request = request.body(()).unwrap();
            assert!(!provider(ApiVersion::V2).is_idempotent(&RequestHead::of(&request)), "{keys:?}");
        }
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
