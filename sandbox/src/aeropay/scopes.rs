//! The endpoints and their scopes, transcribed from the documentation of Aeropay.

use super::Version;

/// `u` is `userForMerchant`, `m` is `merchant`. The paths of version 2 have no `/v2` here.
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

/// The scope that an endpoint needs. `None` if there is no such endpoint.
pub(super) fn scope(version: Version, method: &str, path: &str) -> Option<&'static str> {
    let (rows, path) = match version {
        Version::One => (ONE, path.strip_prefix('/')?),
        Version::Two => (TWO, path.strip_prefix("/v2/")?),
    };
    let given: Vec<&str> = path.split('/').collect();
    // The first match counts, so specific rows come before general ones.
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
