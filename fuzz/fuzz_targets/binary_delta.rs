#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_promises::binary_delta(bytes));
