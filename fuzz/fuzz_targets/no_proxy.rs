#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_bearer_auth_fuzz::no_proxy::check(input));
