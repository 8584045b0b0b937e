#![no_main]

libfuzzer_sys::fuzz_target!(|case: tower_bearer_auth_fuzz::buffered::Case| tower_bearer_auth_fuzz::buffered::check(
    &case
));
