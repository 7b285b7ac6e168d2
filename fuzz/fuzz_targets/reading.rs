//! libFuzzer's way to `meetara_fuzz_targets::reading`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| meetara_fuzz_targets::reading::run(data));
