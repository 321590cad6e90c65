//! Gzip in both directions: the only file that may deflate or inflate, so that every inflated byte has a limit.

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionError, CompressionLvl, Compressor};
use std::cell::RefCell;
use std::io::{BufRead, Read};

/// What every gzip member begins with.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Deflate packs at most this well; a trailer that promises more lies.
const BEST_RATIO: usize = 1032;

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

/// Why bytes could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Cut, changed, followed by something else, or no gzip at all.
    #[error("not intact gzip")]
    Damaged,
    /// It inflates to more than it may.
    #[error("inflates to more than {0} bytes")]
    TooLarge(usize),
}

/// Inflates all members into at most `most` bytes. Nothing above that is ever allocated, whatever the trailer says.
pub fn inflate(packed: &[u8], most: usize) -> Result<Vec<u8>, InflateError> {
    // The last four bytes say how long the content is, modulo 2^32 (RFC 1952), if there is one member.
    let said = packed.last_chunk::<4>().map_or(0, |trailer| u32::from_le_bytes(*trailer) as usize);
    let room = said.min(packed.len().saturating_mul(BEST_RATIO)).min(most);
    let mut bytes = vec![0; room];
    if said == room && is_one_member(packed, &mut bytes) {
        return Ok(bytes);
    }
    bytes.clear();
    let read = reader(packed).take(most as u64 + 1).read_to_end(&mut bytes);
    match read {
        _ if bytes.len() > most => Err(InflateError::TooLarge(most)),
        Ok(_) => Ok(bytes),
        Err(_) => Err(InflateError::Damaged),
    }
}

/// Inflates a single member that fills `bytes`: three times as fast as the reader, which goes on behind it. That nothing
/// follows is told by the trailer: what stands at the very end is the checksum of this content.
fn is_one_member(packed: &[u8], bytes: &mut [u8]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is the file that may inflate")]
    let inflated = libdeflater::Decompressor::new().gzip_decompress(packed, bytes);
    let Some((_, [a, b, c, d, ..])) = packed.split_last_chunk::<8>() else { return false };
    inflated == Ok(bytes.len()) && u32::from_le_bytes([*a, *b, *c, *d]) == crc32fast::hash(bytes)
}

/// Inflates as it is read, member after member; for files of any size, whose reader keeps only pieces.
#[expect(clippy::disallowed_methods, reason = "this is the file that may inflate")]
pub fn reader(packed: impl BufRead) -> impl Read {
    MultiGzDecoder::new(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_inflates_to_the_same_bytes() {
        let noise: Vec<u8> =
            (0u32..100_000).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        for input in [&b""[..], b"x", b"a line\n", "up 1\n".repeat(50_000).as_bytes(), &noise] {
            let packed = compress(input);
            assert_eq!(packed.get(..3), Some(&[0x1f, 0x8b, 8][..]), "gzip with deflate");
            assert_eq!(inflate(&packed, input.len() + 1).as_deref(), Ok(input));
            assert_eq!(inflate(&packed, input.len()).as_deref(), Ok(input), "exactly as much as it may");
            let mut read = Vec::new();
            reader(packed.as_slice()).read_to_end(&mut read).unwrap();
            assert_eq!(read, input);
        }
        assert!(compress("up 1\n".repeat(50_000).as_bytes()).len() < 5_000);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_whatever_its_trailer_says() {
        let mut bomb = compress(&vec![0; 10_000_000]);
        assert_eq!(inflate(&bomb, 1_000_000), Err(InflateError::TooLarge(1_000_000)));
        let trailer = bomb.len() - 4;
        bomb[trailer..].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(inflate(&bomb, 1_000_000), Err(InflateError::TooLarge(1_000_000)));
        assert_eq!(inflate(&bomb, 20_000_000), Err(InflateError::Damaged));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_damage() {
        let packed = compress(b"some content that is long enough to be packed, packed, packed");
        for cut in 0..packed.len() {
            assert_eq!(inflate(&packed[..cut], 1000), Err(InflateError::Damaged), "cut at {cut}");
        }
        let mut longer = packed.clone();
        longer.push(0);
        assert_eq!(inflate(&longer, 1000), Err(InflateError::Damaged));
    }

    #[test]
    fn all_members_are_read() {
        let two = [compress(b"one, "), compress(b"two")].concat();
        assert_eq!(inflate(&two, 1000).as_deref(), Ok(&b"one, two"[..]));
        assert_eq!(inflate(&two, 7), Err(InflateError::TooLarge(7)));
    }
}
