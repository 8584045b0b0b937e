//! Names out of the crate's source.
#![allow(dead_code, reason = "not every test asks for all of it")]

/// The words that begin with a capital letter in the first pair of braces after `start`, but for comments and attributes.
pub(crate) fn names_after<'a>(source: &'a str, start: &str) -> Vec<&'a str> {
    let (_, rest) = source.split_once(start).unwrap();
    let (_, block) = rest.split_once('{').unwrap();
    let (block, _) = block.split_once('}').unwrap();
    let code = block.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('#'));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with(char::is_uppercase)).collect()
}

/// The kinds of error, as `src/error.rs` has them.
pub(crate) fn variants(source: &str) -> Vec<&str> {
    names_after(source, "pub enum ErrorKind")
}
