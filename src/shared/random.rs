//! Random bytes from the operating system.

use super::store::StoreError;

/// # Errors
///
/// The operating system has no random bytes.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::new("the operating system has no random bytes").with_source(error.to_string()))?;
    Ok(bytes)
}

/// A number in `[0, 1)`. 0.5 if the operating system has no random bytes.
pub(super) fn unit() -> f64 {
    bytes::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / 2_f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_its_range_and_not_always_the_same() {
        let numbers: Vec<f64> = (0..1_000).map(|_| unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 1_000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
