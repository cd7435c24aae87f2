#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streaming::fuzzing::spdy_frames(bytes));
