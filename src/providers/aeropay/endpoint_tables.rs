//! Which scope each endpoint needs, according to Aeropay's pages. Endpoints without a documented scope are not listed.

use http::Method;

use super::endpoint::Row;
use super::key::TokenScope::{Merchant, UserForMerchant};

/// Version 2, from its OpenAPI description: the `authorization` parameter of each operation.
pub(super) static V2: [Row; 32] = [
    (Method::POST, "/v2/token", None),
    (Method::POST, "/v2/user", Some(Merchant)),
    (Method::GET, "/v2/user", Some(UserForMerchant)),
    (Method::POST, "/v2/confirmUser", Some(Merchant)),
    (Method::GET, "/v2/aggregatorCredentials", Some(UserForMerchant)),
    (Method::POST, "/v2/linkAccountFromAggregator", Some(UserForMerchant)),
    (Method::PATCH, "/v2/userBankAccount/{bankAccountId}", Some(UserForMerchant)),
    (Method::GET, "/v2/bankAccounts", Some(UserForMerchant)),
    (Method::POST, "/v2/transaction", Some(UserForMerchant)),
    (Method::GET, "/v2/transaction/{transactionUUID}/refunds", Some(UserForMerchant)),
    (Method::GET, "/v2/transaction/idempotency/{idempotencyKey}", Some(Merchant)),
    (Method::GET, "/v2/transaction/{transactionId}", Some(Merchant)),
    (Method::POST, "/v2/preauthTransaction", Some(UserForMerchant)),
    (Method::GET, "/v2/preauthTransaction/{preauthTransactionId}", Some(Merchant)),
    (Method::PATCH, "/v2/preauthTransaction/{preauthTransactionId}", Some(Merchant)),
    (Method::DELETE, "/v2/preauthTransaction/{preauthTransactionId}", Some(Merchant)),
    (Method::GET, "/v2/preauthTransactions", Some(Merchant)),
    (Method::POST, "/v2/capturePreauthTransaction", Some(Merchant)),
    (Method::POST, "/v2/reverseTransaction", Some(Merchant)),
    (Method::POST, "/v2/payoutTransaction", Some(Merchant)),
    (Method::POST, "/v2/transactionSearch", Some(Merchant)),
    (Method::POST, "/v2/paymentLink", Some(Merchant)),
    (Method::POST, "/v2/createWebhookSigningKey", Some(Merchant)),
    (Method::POST, "/v2/webhook", Some(Merchant)),
    (Method::GET, "/v2/webhook", Some(Merchant)),
    (Method::DELETE, "/v2/webhook", Some(Merchant)),
    (Method::GET, "/v2/reports/transactions/CSV", Some(Merchant)),
    (Method::GET, "/v2/reports/transactions/totals", Some(Merchant)),
    (Method::GET, "/v2/reports/transactions/batches", Some(Merchant)),
    (Method::GET, "/v2/merchantReputation", Some(Merchant)),
    (Method::POST, "/v2/merchantReputation", Some(Merchant)),
    (Method::GET, "/v2/merchant/tipConfiguration", Some(Merchant)),
];

/// Version 1, from its guides and reference. `POST /transaction` also accepts a user's own token, which a merchant
/// cannot request.
pub(super) static V1: [Row; 20] = [
    (Method::POST, "/token", None),
    (Method::POST, "/user", Some(Merchant)),
    (Method::GET, "/user", Some(UserForMerchant)),
    (Method::POST, "/confirmUser", Some(Merchant)),
    (Method::POST, "/merchantReputation", Some(Merchant)),
    (Method::GET, "/aggregatorCredentials", Some(UserForMerchant)),
    (Method::POST, "/linkAccountFromAggregator", Some(UserForMerchant)),
    (Method::POST, "/transaction", Some(UserForMerchant)),
    (Method::GET, "/transaction", Some(Merchant)),
    (Method::POST, "/transactionSearch", Some(Merchant)),
    (Method::POST, "/preauthTransaction", Some(UserForMerchant)),
    (Method::GET, "/preauthTransaction", Some(Merchant)),
    (Method::PATCH, "/preauthTransaction", Some(Merchant)),
    (Method::DELETE, "/preauthTransaction", Some(Merchant)),
    (Method::POST, "/capturePreauthTransaction", Some(Merchant)),
    (Method::GET, "/reverseTransaction", Some(Merchant)),
    (Method::POST, "/payoutTransaction", Some(Merchant)),
    (Method::POST, "/paymentLink", Some(Merchant)),
    (Method::POST, "/subscriptions", Some(Merchant)),
    (Method::POST, "/subscriptionEnrollment", Some(UserForMerchant)),
];
