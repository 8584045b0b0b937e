use super::super::key::SealingKey;
use super::super::memory::MemoryStore;
use super::*;
use crate::clock::Now;

// R95
#[test]
fn a_note_ends_as_its_first_reading_says_and_the_oldest_ones_are_forgotten() {
    let sealer = Sealer { key: SealingKey::new(std::array::from_fn(|at| at as u8)).unwrap(), accepted: Vec::new() };
    let client = Client::new(MemoryStore::new(), sealer, OnStoreFailure::Fail);
    let version = |number: usize| (number as u128).to_be_bytes();
    let start = Now::for_tests().mono;
    let left_at = |number, ms| {
        let left = client.left_of_note(version(number), Duration::from_secs(10), start + Duration::from_millis(ms));
        left.map(|left| left.as_millis())
    };
    assert_eq!(left_at(0, 0), Some(10_000));
    assert_eq!(left_at(0, 500), Some(10_000), "a store may round by a second");
    assert_eq!(left_at(0, 4_000), Some(7_000));
    assert_eq!(left_at(0, 11_000), Some(0));
    assert_eq!(left_at(0, 11_001), None);
    for number in 1..MAX_NOTES {
        assert_eq!(left_at(number, 0), Some(10_000));
    }
    assert_eq!(left_at(0, 11_001), None);
    assert_eq!(left_at(MAX_NOTES, 0), Some(10_000));
    assert_eq!(left_at(1, 11_001), None);
    assert_eq!(left_at(0, 11_001), Some(10_000));
}
