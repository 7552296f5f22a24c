//! See `fuzz::web_configuration` of the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    teams_pstn_exporter::fuzz::web_configuration(bytes);
});
