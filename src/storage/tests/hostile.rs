//! Files of an attacker who can write a checksum.

use super::*;

/// An attacker who can write the file can write its checksum too.
#[test]
fn restored_text_is_samples_of_its_family() {
    let refused = |what: &str, saved: &SavedState| {
        let error = read(&bytes(saved)).unwrap_err();
        assert!(matches!(error, Rejected::Malformed(_)), "{what}: {error}");
    };
    // Short texts and long ones are checked by different code.
    for rows in [1, 1_000] {
        for hostile in [
            "user=\"a\"} 1\n# EOF\ncharge{user=\"a\"",
            "user=\"a\"} 1\nup{user=\"a\"",
            "user=\"a\"} 1\n\ncharge{user=\"a\"",
            "user=\"a\",user=\"a\"",
            "__name__=\"up\"",
            "user=\"a",
            "user=\"a\"} NaN\ncharge{user=\"a\"",
        ] {
            let mut writer = FamilyWriter::new(&[&CHARGE]);
            for row in 0..rows {
                let labels = if row == rows / 2 {
                    hostile
                } else {
                    "user=\"a\""
                };
                writer.sample(labels.as_bytes(), |_, out| out.push(b'1'));
            }
            let samples: Vec<_> = writer.finish().collect();
            let good = saved(&[1]);
            let current = SavedState {
                current: samples.clone(),
                ..good.clone()
            };
            refused(hostile, &current);
            let closing = Some((good.closed.as_ref().unwrap().period, samples));
            refused(hostile, &SavedState { closing, ..good });
        }
        let mut counting = saved(&vec![1; rows]);
        for count in [0, u64::MAX] {
            counting.current[0].count = count;
            refused("another number of samples", &counting);
        }
    }
}

#[test]
fn no_more_is_inflated_than_any_report_has() {
    let saved = saved(&[1; 2_000]);
    let file = bytes(&saved);
    let (_, deflated) = saved.current[0].block.stored();
    let (checksum, length) = deflated.expect("long enough");
    let said = format!("\"deflated\":[{checksum},{length}]");
    for (claimed, message) in [
        (
            2_u64 << 30,
            "a text is not as it was when it was compressed, or not samples of its family",
        ),
        ((2 << 30) + 1, "it would be more text than any report has"),
        (u64::MAX, "it would be more text than any report has"),
    ] {
        let claim = format!("\"deflated\":[{checksum},{claimed}]");
        let Err(Rejected::Malformed(error)) = read(&rewritten(&file, &said, &claim)) else {
            panic!("{claimed}: it is believed");
        };
        assert_eq!(error.to_string(), message, "{claimed}");
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
