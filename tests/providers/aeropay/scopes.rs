//! Which token each endpoint gets: Aeropay's lists of endpoints and scopes, row by row, and everything that is not in
//! them.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::aeropay::{self, ApiVersion, Identity, MerchantId, Scope, TokenScope, UserId};
use tower_bearer_auth::{Aeropay, BearerAuthLayer, Error, ErrorKind, RequestHead, RequestKey as _, TokenProvider as _};

use super::fake::{provider, settings, unused};

/// The documented scope of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Documented {
    None,
    Merchant,
    User,
}
use Documented::{Merchant, User};

/// The method, the path on the page, a path that matches it, and the scope.
pub(crate) type Row = (&'static str, &'static str, &'static str, Documented);

/// 2.12: all 32 operations of version 2.
pub(crate) const V2: [Row; 32] = [
    ("POST", "/v2/token", "/v2/token", Documented::None),
    ("POST", "/v2/user", "/v2/user", Merchant),
    ("GET", "/v2/user", "/v2/user", User),
    ("POST", "/v2/confirmUser", "/v2/confirmUser", Merchant),
    ("GET", "/v2/aggregatorCredentials", "/v2/aggregatorCredentials", User),
    ("POST", "/v2/linkAccountFromAggregator", "/v2/linkAccountFromAggregator", User),
    ("PATCH", "/v2/userBankAccount/{bankAccountId}", "/v2/userBankAccount/42", User),
    ("GET", "/v2/bankAccounts", "/v2/bankAccounts", User),
    ("POST", "/v2/transaction", "/v2/transaction", User),
    ("GET", "/v2/transaction/{transactionUUID}/refunds", "/v2/transaction/27bccca2/refunds", User),
    ("GET", "/v2/transaction/idempotency/{idempotencyKey}", "/v2/transaction/idempotency/27bccca2", Merchant),
    ("GET", "/v2/transaction/{transactionId}", "/v2/transaction/27bccca2", Merchant),
    ("POST", "/v2/preauthTransaction", "/v2/preauthTransaction", User),
    ("GET", "/v2/preauthTransaction/{preauthTransactionId}", "/v2/preauthTransaction/1", Merchant),
    ("PATCH", "/v2/preauthTransaction/{preauthTransactionId}", "/v2/preauthTransaction/1", Merchant),
    ("DELETE", "/v2/preauthTransaction/{preauthTransactionId}", "/v2/preauthTransaction/1", Merchant),
    ("GET", "/v2/preauthTransactions", "/v2/preauthTransactions", Merchant),
    ("POST", "/v2/capturePreauthTransaction", "/v2/capturePreauthTransaction", Merchant),
    ("POST", "/v2/reverseTransaction", "/v2/reverseTransaction", Merchant),
    ("POST", "/v2/payoutTransaction", "/v2/payoutTransaction", Merchant),
    ("POST", "/v2/transactionSearch", "/v2/transactionSearch", Merchant),
    ("POST", "/v2/paymentLink", "/v2/paymentLink", Merchant),
    ("POST", "/v2/createWebhookSigningKey", "/v2/createWebhookSigningKey", Merchant),
    ("POST", "/v2/webhook", "/v2/webhook", Merchant),
    ("GET", "/v2/webhook", "/v2/webhook", Merchant),
    ("DELETE", "/v2/webhook", "/v2/webhook", Merchant),
    ("GET", "/v2/reports/transactions/CSV", "/v2/reports/transactions/CSV", Merchant),
    ("GET", "/v2/reports/transactions/totals", "/v2/reports/transactions/totals", Merchant),
    ("GET", "/v2/reports/transactions/batches", "/v2/reports/transactions/batches", Merchant),
    ("GET", "/v2/merchantReputation", "/v2/merchantReputation", Merchant),
    ("POST", "/v2/merchantReputation", "/v2/merchantReputation", Merchant),
    ("GET", "/v2/merchant/tipConfiguration", "/v2/merchant/tipConfiguration", Merchant),
];

/// 2.13: the operations of version 1 with a known scope.
pub(crate) const V1: [Row; 20] = [
    ("POST", "/token", "/token", Documented::None),
    ("POST", "/user", "/user", Merchant),
    ("GET", "/user", "/user", User),
    ("POST", "/confirmUser", "/confirmUser", Merchant),
    ("POST", "/merchantReputation", "/merchantReputation", Merchant),
    ("GET", "/aggregatorCredentials", "/aggregatorCredentials", User),
    ("POST", "/linkAccountFromAggregator", "/linkAccountFromAggregator", User),
    ("POST", "/transaction", "/transaction", User),
    ("GET", "/transaction", "/transaction", Merchant),
    ("POST", "/transactionSearch", "/transactionSearch", Merchant),
    ("POST", "/preauthTransaction", "/preauthTransaction", User),
    ("GET", "/preauthTransaction", "/preauthTransaction", Merchant),
    ("PATCH", "/preauthTransaction", "/preauthTransaction", Merchant),
    ("DELETE", "/preauthTransaction", "/preauthTransaction", Merchant),
    ("POST", "/capturePreauthTransaction", "/capturePreauthTransaction", Merchant),
    ("GET", "/reverseTransaction", "/reverseTransaction", Merchant),
    ("POST", "/payoutTransaction", "/payoutTransaction", Merchant),
    ("POST", "/paymentLink", "/paymentLink", Merchant),
    ("POST", "/subscriptions", "/subscriptions", Merchant),
    ("POST", "/subscriptionEnrollment", "/subscriptionEnrollment", User),
];

/// 2.13: the operations of version 1 with the scope "not found".
const V1_NOT_FOUND: [(&str, &str); 19] = [
    ("PATCH", "/user"),
    ("GET", "/merchantReputation"),
    ("PATCH", "/userBankAccount"),
    ("POST", "/webhook"),
    ("GET", "/webhook"),
    ("DELETE", "/webhook"),
    ("POST", "/createWebhookSigningKey"),
    ("GET", "/searchCustomersForMerchant"),
    ("GET", "/reports/transactions/CSV"),
    ("GET", "/reports/transactions/totals"),
    ("GET", "/subscriptions"),
    ("PATCH", "/subscriptions"),
    ("DELETE", "/subscriptions"),
    ("GET", "/subscriptionEnrollment"),
    ("DELETE", "/subscriptionEnrollment"),
    ("GET", "/subscriptionPayments"),
    ("GET", "/subscription"),
    // Endpoints of version 2 only.
    ("GET", "/v2/user"),
    ("GET", "/bankAccounts"),
];

fn request(method: &str, path: &str) -> Request<()> {
    let method: Method = method.parse().unwrap();
    Request::builder().method(method).uri(path).body(()).unwrap()
}

fn key(provider: &Aeropay, request: &Request<()>) -> Result<Identity, Error> {
    provider.key(&RequestHead::of(request))
}

fn user() -> UserId {
    UserId::from("27bccca2-d345-4620-9987-3f3854abcd51")
}

fn with_user(method: &str, path: &str) -> Request<()> {
    let mut request = request(method, path);
    request.extensions_mut().insert(user());
    request
}

#[track_caller]
fn expect(provider: &Aeropay, method: &str, path: &str, documented: Documented) {
    let (alone, with_user) = (key(provider, &request(method, path)), key(provider, &with_user(method, path)));
    match documented {
        Merchant => {
            assert_eq!(alone.unwrap(), Identity::merchant(), "{method} {path}");
            assert_eq!(with_user.unwrap(), Identity::merchant(), "{method} {path}");
        }
        User => {
            let error = alone.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingKey, "{method} {path}");
            assert!(error.hint().unwrap().contains("UserId"), "{error}");
            assert_eq!(with_user.unwrap(), Identity::user(user()), "{method} {path}");
        }
        Documented::None => {
            for outcome in [alone, with_user] {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::MissingKey, "{method} {path}");
            }
        }
    }
}

#[track_caller]
fn expect_unknown(provider: &Aeropay, method: &str, path: &str) {
    let error = key(provider, &with_user(method, path)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingKey, "{method} {path}");
    assert!(error.hint().unwrap().contains("Scope"), "{error}");
}

/// The table of the provider, for a comparison.
fn table(provider: &Aeropay) -> BTreeSet<(String, String, Option<&'static str>)> {
    let rows = provider.endpoints().iter();
    rows.map(|row| (row.method().to_string(), row.template().to_owned(), row.scope().map(TokenScope::as_str))).collect()
}

fn expected(rows: &[Row]) -> BTreeSet<(String, String, Option<&'static str>)> {
    let scope = |documented| match documented {
        Documented::None => None,
        Merchant => Some("merchant"),
        User => Some("userForMerchant"),
    };
    rows.iter()
        .map(|(method, path, _, documented)| ((*method).to_owned(), (*path).to_owned(), scope(*documented)))
        .collect()
}

// R29
#[test]
fn every_endpoint_of_version_2_gets_the_documented_scope() {
    let provider = provider(ApiVersion::V2);
    for (method, _, path, documented) in V2 {
        expect(&provider, method, path, documented);
    }
    assert_eq!(table(&provider), expected(&V2));
    assert_eq!(provider.endpoints().len(), V2.len());
}

// R29
#[test]
fn every_endpoint_of_version_1_gets_the_documented_scope() {
    let provider = provider(ApiVersion::V1);
    for (method, _, path, documented) in V1 {
        expect(&provider, method, path, documented);
    }
    assert_eq!(table(&provider), expected(&V1));
    assert_eq!(provider.endpoints().len(), V1.len());
}

// R29
#[test]
fn an_undocumented_scope_is_not_guessed() {
    let v1 = provider(ApiVersion::V1);
    for (method, path) in V1_NOT_FOUND {
        expect_unknown(&v1, method, path);
    }
    let v2 = provider(ApiVersion::V2);
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/user"),
        ("PUT", "/v2/user"),
        ("DELETE", "/v2/user"),
        ("HEAD", "/v2/user"),
        ("GET", "/v2/user/1"),
        ("GET", "/v2/users"),
        ("GET", "/V2/user"),
        ("GET", "/v2/User"),
        ("GET", "/v2"),
        ("GET", "/v2/"),
        ("GET", "/v2/transaction"),
        ("GET", "/v2/transaction/1/refunds/2"),
        ("GET", "/v2/transaction/1/captures"),
        ("PATCH", "/v2/userBankAccount"),
        ("PATCH", "/v2/userBankAccount/"),
    ] {
        expect_unknown(&v2, method, path);
    }
}

// R29: another spelling of a path is the same endpoint or no endpoint.
#[test]
fn the_spelling_of_a_path_does_not_change_its_scope() {
    let v2 = provider(ApiVersion::V2);
    for (method, path, documented) in [
        ("GET", "/v2/user/", User),
        ("GET", "/v2/user?page=2", User),
        ("GET", "/v2/user/?page=/v2/transactionSearch", User),
        ("GET", "/v2/%75ser", User),
        ("GET", "/v%32/user", User),
        ("POST", "/v2/%75%73%65%72", Merchant),
        ("GET", "https://api.sandbox-pay.aero.inc/v2/user", User),
        ("GET", "https://api.sandbox-pay.aero.inc/v2/user?x", User),
        ("GET", "/v2/transaction/a/refunds", User),
        ("GET", "/v2/transaction/%61/%72efunds/", User),
        ("GET", "/v2/transaction/a%20b", Merchant),
        ("GET", "/v2/transaction/%c3%bc", Merchant),
        // Plain text takes precedence over a parameter. Segments on the left count more.
        ("GET", "/v2/transaction/idempotency/refunds", Merchant),
        ("GET", "/v2/transaction/idempotency", Merchant),
    ] {
        expect(&v2, method, path, documented);
    }
    for path in [
        "//v2/user",
        "/v2//user",
        "/v2/user//",
        "/v2/./user",
        "/v2/transaction/..",
        "/v2/transaction/../user",
        "/v2/transaction/%2e%2e",
        "/v2/transaction/%2E",
        "/v2/transaction/.%2e/refunds",
        "/v2/transaction/a%2Frefunds",
        "/v2/transaction/a%2frefunds",
        "/v2/transaction/%zz",
    ] {
        expect_unknown(&v2, "GET", path);
    }
}

/// Parts of a path that two servers can read as two different endpoints.
const AMBIGUOUS: [&str; 32] = [
    "..%2Fuser",
    "..%2fuser",
    "..%5Cuser",
    "..%5cuser",
    "..\\user",
    "17%2Frefunds",
    "17%5crefunds",
    "17%252Frefunds",
    "17%252e",
    "%2F",
    "%2e",
    "%2E",
    ".",
    "..",
    "%2e%2e",
    ".%2E",
    "%2e.",
    "..;",
    "..;/user",
    "17;v=1",
    "17%3Bv=1",
    "17%3bv=1",
    ";",
    "17%00",
    "17%09",
    "17%0a",
    "17%0D",
    "%1f17",
    "17%7f",
    "17%",
    "17%2",
    "17%u002f",
];

// R78: an ambiguous part in place of a segment, after it, or beside it makes every endpoint unknown.
#[test]
fn an_ambiguous_path_is_an_unknown_endpoint_in_both_versions() {
    for (version, rows) in [(ApiVersion::V1, &V1[..]), (ApiVersion::V2, &V2[..])] {
        let provider = provider(version);
        for (method, _, path, _) in rows {
            for part in AMBIGUOUS {
                let (parent, _) = path.rsplit_once('/').unwrap();
                for path in [
                    format!("{path}/{part}"),
                    format!("{parent}/{part}"),
                    format!("/{part}{path}"),
                    format!("{path}/{part}/17"),
                ] {
                    expect_unknown(&provider, method, &path);
                }
                let escaped = part.contains(['%', ';', '\\']) && !part.starts_with('.') && !part.starts_with("%2");
                if escaped {
                    expect_unknown(&provider, method, &format!("{path}{part}"));
                }
            }
        }
    }
}

// R78: such a request is an error before any I/O, at the issuer and at the API.
#[tokio::test(start_paused = true)]
async fn a_request_with_an_ambiguous_path_is_not_sent() {
    let (issuer, api) = (unused(), unused());
    let provider = settings(ApiVersion::V2, issuer.clone()).build().unwrap();
    let client = aeropay::layer(BearerAuthLayer::new(provider)).layer(api.clone());
    for part in AMBIGUOUS {
        let uri = format!("https://api.sandbox-pay.aero.inc/v2/transaction/{part}");
        let mut request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        request.extensions_mut().insert(user());
        let error = client.clone().oneshot(request).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::MissingKey, "{part}");
    }
    assert_eq!((issuer.sends().len(), api.sends().len()), (0, 0));
}

#[test]
fn a_scope_in_the_extensions_overrides_the_table() {
    let provider = provider(ApiVersion::V1);
    let read = |method, path, scope: Scope| {
        let mut request = with_user(method, path);
        request.extensions_mut().insert(scope);
        key(&provider, &request)
    };
    let other = UserId::from("another");
    for (method, path) in [("POST", "/user"), ("GET", "/user"), ("GET", "/subscription"), ("GET", "/anything")] {
        assert_eq!(read(method, path, Scope::Merchant).unwrap(), Identity::merchant());
        assert_eq!(read(method, path, Scope::User(other.clone())).unwrap(), Identity::user(other.clone()));
    }
}

// R29
#[test]
fn a_blank_user_id_is_a_missing_user() {
    let provider = provider(ApiVersion::V1);
    for blank in ["", " ", "\t"] {
        let mut request = self::request("GET", "/user");
        request.extensions_mut().insert(UserId::from(blank));
        assert_eq!(key(&provider, &request).unwrap_err().kind(), ErrorKind::MissingKey);
        request.extensions_mut().insert(Scope::User(UserId::from(blank)));
        assert_eq!(key(&provider, &request).unwrap_err().kind(), ErrorKind::MissingKey);
    }
}

#[test]
fn an_added_endpoint_replaces_one_with_the_same_path() {
    let with_endpoint = |method: Method, path: &str, scope| {
        let settings = settings(ApiVersion::V2, unused());
        settings.endpoint(method, path, scope).build()
    };
    let provider = with_endpoint(Method::GET, "/v2/reports/{kind}", TokenScope::Merchant).unwrap();
    expect(&provider, "GET", "/v2/reports/daily", Merchant);
    expect(&provider, "GET", "/v2/reports/transactions/CSV", Merchant);
    assert_eq!(provider.endpoints().len(), 33);
    let provider = with_endpoint(Method::GET, "/v2/transaction/{uuid}/refunds", TokenScope::Merchant).unwrap();
    expect(&provider, "GET", "/v2/transaction/1/refunds", Merchant);
    assert_eq!(provider.endpoints().len(), 32);
    // A more general endpoint does not replace a row of the table.
    let provider = with_endpoint(Method::GET, "/v2/{any}", TokenScope::Merchant).unwrap();
    expect(&provider, "GET", "/v2/user", User);
    expect(&provider, "GET", "/v2/users", Merchant);
    for bad in [
        "",
        "v2/user",
        "/v2//user",
        "/",
        "/v2/user/",
        "/v2/{}",
        "/v2/{id",
        "/v2/id}",
        "/v2/a%20",
        "/a?b",
        "/..",
        "/v2/a;b",
        "/v2/a\\b",
        "/v2/a\tb",
    ] {
        let error = with_endpoint(Method::GET, bad, TokenScope::Merchant).unwrap_err();
        assert_eq!(error.setting(), "endpoint", "{bad}");
        assert!(error.to_string().starts_with("endpoint: "), "{error}");
    }
}

#[test]
fn paths_are_below_the_path_of_the_base_url() {
    let at = |url: &str| {
        let settings = tower_bearer_auth::Aeropay::builder()
            .api_version(ApiVersion::V2)
            .base_url(url)
            .api_key("key")
            .api_secret("secret")
            .merchant_id(1)
            .http_client(unused());
        settings.build().unwrap()
    };
    for url in ["https://proxy.test/aeropay", "https://proxy.test/aeropay/", "https://proxy.test/aeropay/v2"] {
        let provider = at(url);
        expect(&provider, "GET", "https://proxy.test/aeropay/v2/user", User);
        expect_unknown(&provider, "GET", "https://proxy.test/v2/user");
        expect_unknown(&provider, "GET", "https://proxy.test/aeropayv2/user");
    }
    for url in ["https://proxy.test", "https://proxy.test/", "https://proxy.test/v2", "https://proxy.test/v2/"] {
        expect(&at(url), "POST", "https://proxy.test/v2/user", Merchant);
    }
}

// R29, R30: an identity is a merchant, a scope and a user.
#[test]
fn identities_differ_in_merchant_scope_and_user() {
    let all = [
        Identity::merchant(),
        Identity::user("1"),
        Identity::user("2"),
        Identity::merchant().at("1"),
        Identity::merchant().at("2"),
        Identity::user("1").at("1"),
        Identity::user("1").at("2"),
        Identity::user("2").at("1"),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(format!("{:?}", all[5]).contains("UserId(\"1\")"), "{:?}", all[5]);
}

#[test]
fn a_merchant_in_the_extensions_needs_credentials() {
    let mut request = self::request("POST", "/user");
    request.extensions_mut().insert(MerchantId::from("99"));
    let own_only = provider(ApiVersion::V1);
    assert_eq!(key(&own_only, &request).unwrap_err().kind(), ErrorKind::Config);
    // A request that names the provider's own merchant has the same identity.
    let mut own = self::request("POST", "/user");
    own.extensions_mut().insert(MerchantId::from(1057));
    assert_eq!(key(&own_only, &own).unwrap(), Identity::merchant());

    let platform = Aeropay::builder()
        .environment(tower_bearer_auth::aeropay::Environment::Sandbox)
        .credentials_for(|_| Err(Error::permanent("unknown merchant")))
        .http_client(unused())
        .build()
        .unwrap();
    assert_eq!(key(&platform, &request).unwrap(), Identity::merchant().at("99"));
    assert_eq!(key(&platform, &self::request("POST", "/user")).unwrap_err().kind(), ErrorKind::MissingKey);
    request.extensions_mut().insert(MerchantId::from(" "));
    assert_eq!(key(&platform, &request).unwrap_err().kind(), ErrorKind::MissingKey);
}

// R29: without the provider's table, only an explicit scope gives a request the merchant's token.
#[test]
fn an_identity_is_never_the_merchant_by_default() {
    let read = |request: &Request<()>| Identity::from_request(&RequestHead::of(request));
    assert_eq!(read(&request("POST", "/user")).unwrap_err().kind(), ErrorKind::MissingKey);
    assert_eq!(read(&with_user("POST", "/user")).unwrap(), Identity::user(user()));
    let mut request = self::request("GET", "/user");
    request.extensions_mut().insert(Scope::Merchant);
    assert_eq!(read(&request).unwrap(), Identity::merchant());
}
