//! Base64 in one place that is compiled for speed: every byte of a delivery goes through it.

use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes behind base64, RFC 4648 section 4; line breaks in it do not count.
///
/// # Errors
/// At which byte it is wrong.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    // A file of base64 is usually cut into lines.
    let joined: Vec<u8>;
    let text = if memchr::memchr(b'\n', text).is_some() {
        joined = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        joined.as_slice()
    } else {
        text
    };
    STANDARD.decode(text).map_err(|error| match error {
        InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
        InvalidLength(_) | InvalidPadding => text.len(),
    })
}
