//! A JSON parser from RFC 8259.

use std::iter::Peekable;
use std::str::CharIndices;

/// A deeper document is not parsed, because this parser is recursive.
const MAX_DEPTH: usize = 500;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// The digits as they are written.
    Number(String),
    Text(Text),
    Array(Vec<Value>),
    /// The members in their order, repeated ones included.
    Object(Vec<(Text, Value)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    /// `None` if an escape is half of a surrogate pair.
    pub(crate) decoded: Option<String>,
    /// Between the quotes, as it is written.
    pub(crate) written: String,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    NotJson,
    TooDeep,
}

/// Parses a whole document. A byte order mark before it is ignored (RFC 8259 section 8.1).
pub(crate) fn parse(text: &str) -> Result<Value, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { text, rest: text.char_indices().peekable() };
    parser.blanks();
    let value = parser.value(0)?;
    parser.blanks();
    match parser.rest.next() {
        None => Ok(value),
        Some(_) => Err(Failure::NotJson),
    }
}

impl Value {
    pub(crate) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&[(Text, Value)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }
}

/// The values of the members with this name.
pub(crate) fn members<'a>(object: &'a [(Text, Value)], name: &str) -> Vec<&'a Value> {
    object.iter().filter(|(key, _)| key.decoded.as_deref() == Some(name)).map(|(_, value)| value).collect()
}

/// The value of a member. `None` if it is missing or null.
pub(crate) fn member<'a>(object: &'a [(Text, Value)], name: &str) -> Option<&'a Value> {
    members(object, name).into_iter().find(|value| **value != Value::Null)
}

/// Whether one of these members appears more than once, or a name cannot be decoded.
pub(crate) fn is_ambiguous(object: &[(Text, Value)], names: &[&str]) -> bool {
    names.iter().any(|name| members(object, name).len() > 1) || object.iter().any(|(key, _)| key.decoded.is_none())
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        while self.rest.next_if(|(_, c)| matches!(c, ' ' | '\t' | '\n' | '\r')).is_some() {}
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        if word.chars().all(|c| self.take(c)) { Ok(()) } else { Err(Failure::NotJson) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Failure> {
        if depth > MAX_DEPTH {
            return Err(Failure::TooDeep);
        }
        match self.rest.peek().ok_or(Failure::NotJson)?.1 {
            'n' => self.expect("null").map(|()| Value::Null),
            't' => self.expect("true").map(|()| Value::Bool(true)),
            'f' => self.expect("false").map(|()| Value::Bool(false)),
            '"' => self.text().map(Value::Text),
            '[' => self.array(depth),
            '{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Failure> {
        self.expect("[")?;
        let mut items = Vec::new();
        self.blanks();
        if self.take(']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.take(']') {
                return Ok(Value::Array(items));
            }
            self.expect(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Failure> {
        self.expect("{")?;
        let mut members = Vec::new();
        self.blanks();
        if self.take('}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.blanks();
            self.expect(":")?;
            self.blanks();
            members.push((name, self.value(depth + 1)?));
            self.blanks();
            if self.take('}') {
                return Ok(Value::Object(members));
            }
            self.expect(",")?;
        }
    }

    fn text(&mut self) -> Result<Text, Failure> {
        self.expect("\"")?;
        let start = self.here();
        let mut units = Vec::new();
        loop {
            let (at, c) = self.rest.next().ok_or(Failure::NotJson)?;
            match c {
                '"' => {
                    let written = self.text[start..at].to_owned();
                    return Ok(Text { decoded: String::from_utf16(&units).ok(), written });
                }
                '\\' => units.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(Failure::NotJson),
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn here(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn escape(&mut self) -> Result<u16, Failure> {
        let (_, c) = self.rest.next().ok_or(Failure::NotJson)?;
        Ok(match c {
            '"' | '\\' | '/' => c as u16,
            'b' => 8,
            't' => 9,
            'n' => 10,
            'f' => 12,
            'r' => 13,
            'u' => {
                let mut unit = 0;
                for _ in 0..4 {
                    let digit = self.rest.next().and_then(|(_, c)| c.to_digit(16)).ok_or(Failure::NotJson)?;
                    unit = unit * 16 + digit as u16;
                }
                unit
            }
            _ => return Err(Failure::NotJson),
        })
    }

    fn number(&mut self) -> Result<Value, Failure> {
        let start = self.here();
        self.take('-');
        if !self.take('0') {
            self.digits()?;
        }
        if self.take('.') {
            self.digits()?;
        }
        if self.take('e') || self.take('E') {
            let _ = self.take('+') || self.take('-');
            self.digits()?;
        }
        let end = self.here();
        Ok(Value::Number(self.text[start..end].to_owned()))
    }

    fn digits(&mut self) -> Result<(), Failure> {
        let mut any = false;
        while self.rest.next_if(|(_, c)| c.is_ascii_digit()).is_some() {
            any = true;
        }
        if any { Ok(()) } else { Err(Failure::NotJson) }
    }
}
