//! The names of an enum's variants, read from the source.

/// The words with a capital first letter in the first braces after `start`. Comments and attributes are skipped.
pub(crate) fn names_after<'a>(source: &'a str, start: &str) -> Vec<&'a str> {
    let (_, rest) = source.split_once(start).unwrap();
    let (_, block) = rest.split_once('{').unwrap();
    let (block, _) = block.split_once('}').unwrap();
    let code = block.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('#'));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with(char::is_uppercase)).collect()
}

/// The variants of `ErrorKind`.
pub(crate) fn variants(source: &str) -> Vec<&str> {
    names_after(source, "pub enum ErrorKind")
}
