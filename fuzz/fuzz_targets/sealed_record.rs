#![no_main]

libfuzzer_sys::fuzz_target!(|case: tower_bearer_auth_fuzz::sealed_record::Case| {
    tower_bearer_auth_fuzz::sealed_record::check(&case)
});
