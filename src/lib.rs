//! Tower middleware that stamps a bearer token.
