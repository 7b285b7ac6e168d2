//! libFuzzer's way to `meetara_fuzz_targets::encoder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| meetara_fuzz_targets::encoder::run(data));
