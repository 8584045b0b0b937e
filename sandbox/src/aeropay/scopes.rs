//! Which endpoints there are and which scope each takes: the sandbox's own reading of Aeropay's pages.

use super::Version;

/// `u` for `userForMerchant`, `m` for `merchant`. Those of version 2 are written without their prefix.
const TWO: &str = "
POST user m | GET user u | POST confirmUser m | GET aggregatorCredentials u | POST linkAccountFromAggregator u |
PATCH userBankAccount/* u | GET bankAccounts u |
POST transaction u | GET transaction/idempotency/* m | GET transaction/*/refunds u | GET transaction/* m |
POST preauthTransaction u | GET preauthTransaction/* m | PATCH preauthTransaction/* m | DELETE preauthTransaction/* m |
GET preauthTransactions m | POST capturePreauthTransaction m | POST reverseTransaction m | POST payoutTransaction m |
POST transactionSearch m | POST paymentLink m | POST createWebhookSigningKey m |
POST webhook m | GET webhook m | DELETE webhook m |
GET reports/transactions/CSV m | GET reports/transactions/totals m | GET reports/transactions/batches m |
GET merchantReputation m | POST merchantReputation m | GET merchant/tipConfiguration m
";

const ONE: &str = "
POST user m | GET user u | POST confirmUser m | POST merchantReputation m |
GET aggregatorCredentials u | POST linkAccountFromAggregator u |
POST transaction u | GET transaction m | POST transactionSearch m |
POST preauthTransaction u | GET preauthTransaction m | PATCH preauthTransaction m | DELETE preauthTransaction m |
POST capturePreauthTransaction m | GET reverseTransaction m | POST payoutTransaction m | POST paymentLink m |
POST subscriptions m | POST subscriptionEnrollment u
";

/// The scope that an endpoint takes; `None` where there is no such endpoint.
pub(super) fn scope(version: Version, method: &str, path: &str) -> Option<&'static str> {
    let (rows, path) = match version {
        Version::One => (ONE, path.strip_prefix('/')?),
        Version::Two => (TWO, path.strip_prefix("/v2/")?),
    };
    let given: Vec<&str> = path.split('/').collect();
    // In the order written: a row with more plain text stands before one with less.
    rows.split('|').find_map(|row| {
        let mut words = row.split_whitespace();
        let (wanted, template, scope) = (words.next()?, words.next()?, words.next()?);
        let template: Vec<&str> = template.split('/').collect();
        let fits = wanted == method
            && template.len() == given.len()
            && template.iter().zip(&given).all(|(t, g)| t == g || *t == "*" && !g.is_empty());
        fits.then_some(if scope == "u" { "userForMerchant" } else { "merchant" })
    })
}
