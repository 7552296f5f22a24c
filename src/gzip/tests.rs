//! Compressed text is read back unchanged, by other programs too, and damaged text is rejected.

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_member_is_its_texts(texts in prop::collection::vec((0_usize..200_000, any::<bool>(), any::<u8>()), 0..8)) {
        let mut member = Member::default();
        let mut expected = Vec::new();
        for (length, as_block, seed) in texts {
            let text = text(length, seed);
            expected.extend_from_slice(&text);
            if as_block {
                let block = block(&text);
                prop_assert_eq!(block.length(), text.len() as u64);
                member.block(&block);
            } else {
                member.text(&text);
            }
        }
        let bytes = member.finish().concat();
        let mut decoder = GzDecoder::new(bytes.as_slice());
        let mut read = Vec::new();
        decoder.read_to_end(&mut read).unwrap();
        prop_assert_eq!(read, expected);
        prop_assert!(decoder.into_inner().is_empty(), "one member and nothing after it");
    }

    #[test]
    fn inflation_gives_the_text_back(length in LONG_MIN..400_000, seed in any::<u8>()) {
        let text = text(length, seed);
        let Block::Long { deflated, .. } = block(&text) else { panic!("long enough") };
        let chunks: Vec<Bytes> = Inflater::new(&deflated).collect();
        prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        prop_assert_eq!(chunks.concat(), text);
    }
}

#[test]
fn only_what_was_stored_is_restored() {
    // Some texts are as long as the buffer for inflating, so that the text ends where the buffer ends.
    for length in [CHUNK, CHUNK + 1, 3 * CHUNK, BLOCK_TEXT_MAX + 1] {
        let block = block(&text(length, 2));
        let (bytes, deflated) = block.stored();
        let (checksum, long) = deflated.expect("long enough");
        let again = Block::restored(bytes.clone(), deflated).expect("what was stored");
        let (mut old, mut new) = (Vec::new(), Vec::new());
        block.write(&mut old);
        again.write(&mut new);
        assert_eq!(old, new);
        let wrong = |bytes: Bytes, deflated| {
            assert!(Block::restored(bytes, deflated).is_none(), "{length}");
        };
        wrong(bytes.clone(), Some((checksum ^ 1, long)));
        wrong(bytes.clone(), Some((checksum, long - 1)));
        wrong(bytes.clone(), Some((checksum, long + 1)));
        wrong(bytes.slice(..bytes.len() - 1), deflated);
        // A part must not have bytes after its end: an empty block, another part, or the end of the stream.
        for behind in [&[0, 0, 0, 0xFF, 0xFF][..], bytes, &[3, 0]] {
            let longer = [bytes, behind, SYNC_MARK].concat();
            if behind.len() != 5 {
                wrong(longer.into(), deflated);
            }
        }
    }
    assert!(Block::restored(Bytes::from(vec![b'a'; LONG_MIN]), None).is_none());
}

/// A part that ends inside a deflate block would read the parts that follow as its own text.
#[test]
fn part_that_ends_inside_a_block_is_refused() {
    let text = text(CHUNK, 2);
    let whole = block(&text);
    let (bytes, _) = whole.stored();
    let restored = |end: &[u8], more: &[u8]| {
        let mut sum = Hasher::new();
        sum.update(&text);
        sum.update(more);
        let deflated = Some((sum.finalize(), (text.len() + more.len()) as u64));
        Block::restored([bytes, end].concat().into(), deflated).is_some()
    };
    let stored = |length: u16| {
        let [low, high] = length.to_le_bytes();
        [0, low, high, !low, !high]
    };
    let more = [b'a', b'b', 0, 0, 0xFF, 0xFF];
    assert!(restored(&[], &[]), "as it was");
    for length in [7, 32, u16::MAX] {
        // The last bytes look like the end of a part, and are text.
        assert!(
            !restored(&[&stored(length)[..], &more].concat(), &more),
            "{length}"
        );
    }
    let whole = [&stored(6)[..], &more, SYNC_MARK].concat();
    assert!(!restored(&whole, &more), "no block begins with this");
    let whole = [&stored(6)[..], &more, &stored(0)].concat();
    assert!(restored(&whole, &more), "a whole block and an empty one");
}

#[test]
fn text_is_kept_up_to_its_limit() {
    for (length, kept) in [
        (LONG_MIN, true),
        (BLOCK_TEXT_MAX, true),
        (BLOCK_TEXT_MAX + 1, false),
    ] {
        let Block::Long { text, .. } = block(&text(length, 1)) else {
            panic!("long enough")
        };
        assert_eq!(text.get().is_some(), kept, "{length}");
    }
}

fn block(text: &[u8]) -> Block {
    let mut writer = BlockWriter::new();
    for line in text.chunks(100) {
        writer.append(|out| out.extend_from_slice(line));
    }
    writer.finish()
}

/// Text that can be compressed, but not to a few bytes.
fn text(length: usize, seed: u8) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(seed));
    (0..length)
        .map(|_| b"abcdefgh0123\n"[random.usize(..13)])
        .collect()
}
