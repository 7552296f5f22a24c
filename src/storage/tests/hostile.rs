//! Files of an attacker who can write a checksum.

use super::*;

#[test]
fn no_more_is_inflated_than_any_report_has() {
    let saved = saved(&[1; 2_000]);
    let file = bytes(&saved);
    let (_, deflated) = saved.current[0].block.stored();
    let (checksum, length) = deflated.expect("long enough");
    let said = format!("\"deflated\":[{checksum},{length}]");
    for (claimed, message) in [
        (2_u64 << 30, "a text does not match its length or checksum"),
        ((2 << 30) + 1, "it has more text than any report"),
        (u64::MAX, "it has more text than any report"),
    ] {
        let claim = format!("\"deflated\":[{checksum},{claimed}]");
        let Err(Rejected::Malformed(error)) = read(&rewritten(&file, &said, &claim)) else {
            panic!("{claimed}: it is believed");
        };
        assert_eq!(error, message, "{claimed}");
    }
    read(&rewritten(&file, &said, &said)).unwrap();
}

/// A file with another text in its header and a matching checksum.
fn rewritten(file: &[u8], old: &str, new: &str) -> Vec<u8> {
    let content = &file[..file.len() - 32];
    let at = content
        .windows(old.len())
        .position(|part| part == old.as_bytes());
    let at = at.expect("it is in the header");
    let mut file = [&content[..at], new.as_bytes(), &content[at + old.len()..]].concat();
    let sum = ring::digest::digest(&ring::digest::SHA256, &file);
    file.extend(sum.as_ref());
    file
}
