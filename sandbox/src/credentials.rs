//! The credentials that one instance accepts. They are random, and no `Debug` output contains them.

use http::HeaderMap;

pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) api_key: String,
    pub(crate) token_api_key: String,
    pub(crate) token_api_key_required: bool,
    pub(crate) scopes: Vec<String>,
}

impl Credentials {
    pub(crate) fn random(token_api_key_required: bool, scopes: Vec<String>) -> Self {
        let random = || format!("{:032x}", fastrand::u128(..));
        Self {
            client_id: format!("client-{}", random()),
            // These characters must be escaped in a form. A client that does not escape them fails.
            client_secret: format!("s&+%={}", random()),
            api_key: random(),
            token_api_key: random(),
            token_api_key_required,
            scopes,
        }
    }

    pub(crate) fn admit_client(&self, id: Option<&str>, secret: Option<&str>) -> bool {
        id == Some(&self.client_id) && secret == Some(&self.client_secret)
    }

    pub(crate) fn admit_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|allowed| allowed == scope)
    }

    pub(crate) fn admit_api_call(&self, headers: &HeaderMap) -> bool {
        has_key(headers, &self.api_key)
    }

    pub(crate) fn admit_token_call(&self, headers: &HeaderMap) -> bool {
        !self.token_api_key_required || has_key(headers, &self.token_api_key)
    }
}

fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let mut values = headers.get_all("x-api-key").iter();
    matches!((values.next(), values.next()), (Some(value), None) if value == key)
}
