//! The grammar of `WWW-Authenticate` (RFC 9110 section 11.6.1), to the extent that bearer tokens need it.

/// Returns the `error` parameters of all `Bearer` challenges in one field, in lower case.
///
/// A comma separates challenges and parameters alike, so the parser remembers the current scheme. It skips text that
/// does not parse, up to the next comma.
pub(super) fn bearer_errors(field: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = Reader { bytes: field };
    let mut in_bearer = false;
    loop {
        rest.skip(|b| matches!(b, b' ' | b'\t' | b','));
        if rest.bytes.is_empty() {
            return found;
        }
        let word = rest.take(is_tchar);
        if word.is_empty() {
            rest.skip_item();
            continue;
        }
        if let Some(value) = rest.parameter_value() {
            if in_bearer && word.eq_ignore_ascii_case(b"error") {
                found.push(value.to_ascii_lowercase());
            }
            continue;
        }
        // `Bearer:` is not a scheme.
        let is_scheme = matches!(rest.bytes.first(), None | Some(b' ' | b'\t' | b','));
        in_bearer = is_scheme && word.eq_ignore_ascii_case(b"bearer");
        rest.skip_token68();
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn skip(&mut self, of: impl Fn(u8) -> bool) {
        self.take(of);
    }

    fn take(&mut self, of: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.bytes.iter().position(|b| !of(*b)).unwrap_or(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        taken
    }

    /// The value after `=`, if the word just read was a parameter name. Otherwise consumes nothing. A quoted string without
    /// an end is not a value.
    fn parameter_value(&mut self) -> Option<String> {
        let mut ahead = Reader { bytes: self.bytes };
        ahead.skip(is_space);
        ahead.bytes = ahead.bytes.strip_prefix(b"=")?;
        ahead.skip(is_space);
        let value = match ahead.bytes.first()? {
            b'"' => ahead.quoted()?,
            b if is_tchar(*b) => ahead.take(is_tchar).to_vec(),
            _ => return None,
        };
        self.bytes = ahead.bytes;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// A quoted string without its escapes. `None` for a string without an end, which takes the rest of the field.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut escaped = false;
        for (at, b) in self.bytes.iter().enumerate().skip(1) {
            match b {
                _ if escaped => {
                    escaped = false;
                    value.push(*b);
                }
                b'\\' => escaped = true,
                b'"' => {
                    self.bytes = self.bytes.get(at + 1..).unwrap_or_default();
                    return Some(value);
                }
                _ => value.push(*b),
            }
        }
        self.bytes = &[];
        None
    }

    /// Skips credentials such as `Negotiate YWJj==`, which would otherwise be read as a scheme.
    fn skip_token68(&mut self) {
        let mut ahead = Reader { bytes: self.bytes };
        if ahead.take(is_space).is_empty() {
            return;
        }
        let word = ahead.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'));
        ahead.skip(|b| b == b'=');
        ahead.skip(is_space);
        if !word.is_empty() && matches!(ahead.bytes.first(), None | Some(b',')) {
            self.bytes = ahead.bytes;
        }
    }

    fn skip_item(&mut self) {
        while let Some(b) = self.bytes.first() {
            match b {
                b',' => return,
                b'"' => {
                    self.quoted();
                }
                _ => self.bytes = self.bytes.get(1..).unwrap_or_default(),
            }
        }
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
