//! The grammar of `WWW-Authenticate` (RFC 9110 section 11.6.1). A generator writes challenges, and the crate parses
//! them.

use http::header::WWW_AUTHENTICATE;
use proptest::collection::vec;
use proptest::prelude::*;
use tower_bearer_auth::{Rejection, ResponseHead};

use super::*;

/// A parameter: its name, its value, and its form.
#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    value: String,
    quoted: bool,
    space: bool,
}

#[derive(Clone, Debug)]
enum Rest {
    Nothing,
    Token68(String),
    Parameters(Vec<Parameter>),
}

/// A challenge, and whether the next one is in a new field.
#[derive(Clone, Debug)]
struct Challenge {
    scheme: String,
    rest: Rest,
    new_field: bool,
}

fn any_case(word: &'static str) -> impl Strategy<Value = String> {
    vec(any::<bool>(), word.len()).prop_map(move |upper| {
        let letters = word.chars().zip(upper);
        letters.map(|(letter, upper)| if upper { letter.to_ascii_uppercase() } else { letter }).collect()
    })
}

fn parameter() -> impl Strategy<Value = Parameter> {
    let name = prop_oneof![
        3 => any_case("error"),
        1 => any_case("realm"),
        1 => Just("error_description".to_owned()),
        1 => Just("scope".to_owned()),
    ];
    let token = prop_oneof![
        3 => any_case("invalid_token"),
        2 => any_case("insufficient_scope"),
        1 => Just("insufficient_user_authentication".to_owned()),
        1 => Just("invalid_request".to_owned()),
        1 => "[a-z!#$%&'*+.^_`|~-]{1,8}",
    ];
    let text = prop_oneof![
        2 => "[ -~]{0,24}",
        1 => Just(r#"Bearer error="invalid_token""#.to_owned()),
        1 => Just(r#"a, Bearer error=invalid_token, b"#.to_owned()),
        1 => Just("\\".to_owned()),
    ];
    (name, token, text, any::<(bool, bool, bool)>()).prop_map(|(name, token, text, (plain, quoted, space))| Parameter {
        value: if plain || name.eq_ignore_ascii_case("error") { token } else { text },
        quoted: quoted || !(plain || name.eq_ignore_ascii_case("error")),
        name,
        space,
    })
}

fn challenge() -> impl Strategy<Value = Challenge> {
    let scheme = prop_oneof![3 => any_case("bearer"), 1 => any_case("basic"), 1 => Just("DPoP".to_owned())];
    let rest = prop_oneof![
        4 => vec(parameter(), 1..4).prop_map(Rest::Parameters),
        1 => "[A-Za-z0-9._~+/-]{1,12}={0,2}".prop_map(Rest::Token68),
        1 => Just(Rest::Nothing),
    ];
    (scheme, rest, any::<bool>()).prop_map(|(scheme, rest, new_field)| Challenge { scheme, rest, new_field })
}

impl Parameter {
    fn write(&self) -> String {
        let equals = if self.space { " = " } else { "=" };
        if !self.quoted {
            return format!("{}{equals}{}", self.name, self.value);
        }
        let escaped = self.value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{}{equals}\"{escaped}\"", self.name)
    }
}

impl Challenge {
    fn write(&self, comma: &str) -> String {
        match &self.rest {
            Rest::Nothing => self.scheme.clone(),
            Rest::Token68(value) => format!("{} {value}", self.scheme),
            Rest::Parameters(parameters) => {
                let written: Vec<_> = parameters.iter().map(Parameter::write).collect();
                format!("{} {}", self.scheme, written.join(comma))
            }
        }
    }

    fn errors(&self) -> Vec<String> {
        let Rest::Parameters(parameters) = &self.rest else { return Vec::new() };
        let bearer = self.scheme.eq_ignore_ascii_case("bearer");
        let errors = parameters.iter().filter(|parameter| bearer && parameter.name.eq_ignore_ascii_case("error"));
        errors.map(|parameter| parameter.value.to_ascii_lowercase()).collect()
    }
}

fn read(fields: &[Vec<u8>]) -> Option<Rejection> {
    let mut response = response(StatusCode::UNAUTHORIZED);
    for field in fields {
        response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_bytes(field).unwrap());
    }
    Rejection::standard(&ResponseHead::of(&response))
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_challenge_that_the_grammar_allows_is_parsed(
        challenges in vec(challenge(), 0..5),
        comma in prop_oneof![Just(","), Just(", "), Just(" , "), Just(",, ,")],
    ) {
        let mut fields = vec![String::new()];
        for challenge in &challenges {
            let field = fields.last_mut().unwrap();
            if !field.is_empty() {
                field.push_str(comma);
            }
            field.push_str(&challenge.write(comma));
            if challenge.new_field {
                fields.push(String::new());
            }
        }
        let errors: Vec<_> = challenges.iter().flat_map(Challenge::errors).collect();
        let contains = |error: &str| errors.iter().any(|found| found == error);
        let expected = if contains("invalid_token") {
            Some(Rejection::InvalidToken)
        } else if contains("insufficient_scope") || contains("insufficient_user_authentication") {
            None
        } else {
            Some(Rejection::Unspecified)
        };
        let fields: Vec<_> = fields.into_iter().map(String::into_bytes).collect();
        prop_assert_eq!(read(&fields), expected, "{:?}", fields);
    }

    #[test]
    fn a_malformed_challenge_is_a_rejection_without_a_reason(
        fields in vec(vec(prop_oneof![3 => Just(b'"'), 2 => Just(b','), 1 => Just(b'='), 1 => Just(b'\\'), 8 => b' '..=b'~', 1 => 0x80..=0xff_u8], 0..80), 0..4),
    ) {
        let contains = fields.iter().any(|field| {
            let text = String::from_utf8_lossy(field).to_ascii_lowercase();
            text.contains("invalid_token") || text.contains("insufficient")
        });
        prop_assume!(!contains);
        prop_assert_eq!(read(&fields), Some(Rejection::Unspecified));
    }
}
