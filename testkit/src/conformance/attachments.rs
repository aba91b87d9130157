//! Bytes are stored under their hash, once.

use hfs_core::{Attachment, ErrorKind};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::attachment;

pub fn bytes_come_back_as_they_were(scene: &Scene<'_>) {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for bytes in [b"".as_slice(), b"\x00\xff\xfe", "text ü".as_bytes(), &large] {
        let one = attachment(bytes);
        scene.store.put_attachment(&one).unwrap();
        scene.store.put_attachment(&one).unwrap();
        assert_eq!(scene.another().get_attachment(one.hash).unwrap(), bytes);
    }
}

pub fn bytes_that_do_not_match_their_hash_are_refused(scene: &Scene<'_>) {
    let wrong = Attachment { bytes: b"other".to_vec(), ..attachment(b"bytes") };
    expect_kind(scene.store.put_attachment(&wrong), ErrorKind::Invalid);
    expect_kind(scene.store.get_attachment(wrong.hash), ErrorKind::NotFound);
}
