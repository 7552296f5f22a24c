//! See `fuzz::next_link` of the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teams_pstn_exporter::fuzz::next_link(bytes);
});
