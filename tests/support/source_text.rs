//! A lexer for Rust source that separates code from comments and resolves paths.

/// A piece of Rust source.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    /// The token as it is written.
    pub(crate) text: &'a str,
    /// The line it begins on, from 1.
    pub(crate) line: usize,
    /// The line it ends on.
    pub(crate) end_line: usize,
}

/// Splits Rust source into names, `::` and single characters. It skips comments and lifetimes. A literal is one token, `"`.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80;
    let find = |from: usize, what: &str| source[from..].find(what).map_or(bytes.len(), |at| from + at + what.len());
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &source[at..];
        let (stop, text): (usize, Option<&str>) = if rest.starts_with("//") {
            (rest.find('\n').map_or(bytes.len(), |n| at + n), None)
        } else if rest.starts_with("/*") {
            let (mut depth, mut stop) = (1, at + 2);
            while stop < bytes.len() && depth > 0 {
                let pair = bytes.get(stop..stop + 2).unwrap_or_default();
                depth = depth + i32::from(pair == b"/*") - i32::from(pair == b"*/");
                stop += if pair == b"/*" || pair == b"*/" { 2 } else { 1 };
            }
            (stop, None)
        } else if let Some(hashes) = raw_string(rest) {
            let open = find(at, "\"");
            (find(open, &format!("\"{}", "#".repeat(hashes))), Some("\""))
        } else if rest.starts_with('"') {
            let mut stop = at + 1;
            while stop < bytes.len() && bytes[stop] != b'"' {
                stop += if bytes[stop] == b'\\' { 2 } else { 1 };
            }
            (stop + 1, Some("\""))
        } else if let Some(quoted) = rest.strip_prefix('\'') {
            let mut signs = quoted.chars();
            match (signs.next(), signs.next()) {
                (Some('\\'), _) => (find(at + 3, "'"), Some("\"")),
                (Some(sign), Some('\'')) => (at + 2 + sign.len_utf8(), Some("\"")),
                _ => (at + 1 + quoted.bytes().take_while(|b| is_name(*b)).count(), None),
            }
        } else if is_name(bytes[at]) {
            let stop = at + rest.bytes().take_while(|b| is_name(*b)).count();
            (stop, Some(&source[at..stop]))
        } else if rest.starts_with("::") {
            (at + 2, Some("::"))
        } else if bytes[at].is_ascii_whitespace() {
            (at + 1, None)
        } else {
            (at + 1, Some(&source[at..=at]))
        };
        let stop = stop.min(bytes.len());
        let end_line = line + source[at..stop].matches('\n').count();
        found.extend(text.map(|text| Token { text, line, end_line }));
        (at, line) = (stop, end_line);
    }
    found
}

/// The number of hashes of the raw string that starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let marks = ["br", "cr", "r"].iter().find_map(|p| rest.strip_prefix(p))?;
    let hashes = marks.bytes().take_while(|b| *b == b'#').count();
    marks[hashes..].starts_with('"').then_some(hashes)
}

/// A path in the source.
pub(crate) struct Named {
    /// The segments, from the root of the crate.
    pub(crate) path: Vec<String>,
    /// The name that it has after a `use`.
    pub(crate) alias: String,
    /// The line number.
    pub(crate) line: usize,
}

/// Reads one path or a group of paths after a `::`. Returns the index after it.
pub(crate) fn tree(code: &[Token<'_>], mut at: usize, mut path: Vec<String>, into: &mut Vec<Named>) -> usize {
    let text = |at: usize| code.get(at).map_or("", |token| token.text);
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = if text(at) == "," { at + 1 } else { tree(code, at, path.clone(), into) };
            }
            return at + 1;
        }
        let line = code.get(at).map_or(0, |token| token.line);
        if text(at) != "self" {
            path.push(text(at).to_owned());
        }
        at += 1;
        if text(at) == "::" && text(at + 1) != "<" {
            at += 1;
            continue;
        }
        let mut alias = path.last().cloned().unwrap_or_default();
        if text(at) == "as" {
            alias = text(at + 1).to_owned();
            at += 2;
        }
        into.push(Named { path, alias, line });
        return at;
    }
}

/// All paths that begin with `crate::`, `self::` or `super::`. `file` is relative to the package.
pub(crate) fn paths(file: &str, code: &[Token<'_>]) -> Vec<Named> {
    let mut module: Vec<String> = file
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .split('/')
        .filter(|name| !matches!(*name, "mod" | "lib"))
        .map(str::to_owned)
        .collect();
    let text = |at: usize| code.get(at).map_or("", |token| token.text);
    let (mut found, mut depth, mut inline, mut at) = (Vec::new(), 0, Vec::new(), 0);
    while at < code.len() {
        let base = match text(at) {
            "{" => {
                depth += 1;
                None
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                depth -= 1;
                None
            }
            "mod" if text(at + 2) == "{" => {
                module.push(text(at + 1).to_owned());
                inline.push(depth + 1);
                None
            }
            "crate" if text(at + 1) == "::" && (at == 0 || text(at - 1) != "in") => Some(Vec::new()),
            "self" | "super" if text(at + 1) == "::" => Some(module.clone()),
            "use" if file == "src/lib.rs" && !matches!(text(at + 1), "crate" | "self" | "super" | "::") => {
                at = tree(code, at + 1, Vec::new(), &mut found);
                continue;
            }
            _ => None,
        };
        if let Some(mut base) = base {
            while text(at) == "super" && text(at + 1) == "::" {
                base.pop();
                at += 2;
            }
            if matches!(text(at), "crate" | "self") {
                at += 2;
            }
            at = tree(code, at, base, &mut found);
        } else {
            at += 1;
        }
    }
    found
}
