//! Gzip in both directions: the only file that may deflate or inflate, so that every inflated byte has a limit.

use libdeflater::{CompressionError, CompressionLvl, Compressor};
use std::cell::RefCell;

/// Level 1: on exposition text the next levels take twice the time for a few percent.
const FAST: CompressionLvl = match CompressionLvl::new(1) {
    Ok(level) => level,
    Err(_) => CompressionLvl::fastest(),
};

thread_local! {
    /// A compressor is a few hundred kB: made anew for each scrape, touching its pages costs more than compressing a small body.
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(FAST));
}

/// One gzip member of these bytes. Takes about 4 ms a MB: use a blocking thread above that.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut packed = vec![0; compressor.gzip_compress_bound(bytes.len())];
        loop {
            match compressor.gzip_compress(bytes, &mut packed) {
                Ok(length) => {
                    packed.truncate(length);
                    packed.shrink_to_fit();
                    return packed;
                }
                // The bound is enough by definition; growing keeps this function total.
                Err(CompressionError::InsufficientSpace) => packed.resize(packed.len() * 2 + 64, 0),
            }
        }
    })
}

/// A zlib stream of these bytes, as pictures have it.
pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut packed = vec![0; compressor.zlib_compress_bound(bytes.len())];
        // The bound is enough by definition.
        let length = compressor.zlib_compress(bytes, &mut packed).unwrap_or_default();
        packed.truncate(length);
        packed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inflates in tests, where the input is our own.
    #[expect(clippy::disallowed_methods, reason = "this is the file that may inflate")]
    fn inflate(packed: &[u8], length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let got = libdeflater::Decompressor::new().gzip_decompress(packed, &mut bytes).unwrap();
        bytes.truncate(got);
        bytes
    }

    #[test]
    fn what_was_compressed_inflates_to_the_same_bytes() {
        let noise: Vec<u8> =
            (0u32..100_000).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        for input in [&b""[..], b"x", b"a line\n", "up 1\n".repeat(50_000).as_bytes(), &noise] {
            let packed = compress(input);
            assert_eq!(packed.get(..3), Some(&[0x1f, 0x8b, 8][..]), "gzip with deflate");
            assert_eq!(inflate(&packed, input.len() + 1), input);
        }
        assert!(compress("up 1\n".repeat(50_000).as_bytes()).len() < 5_000);
    }
}
