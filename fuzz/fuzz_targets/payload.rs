//! Payloads in every wrapping: no panic, no more memory than the cap, and nothing of the input in an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
#[path = "../../src/logs/decode.rs"]
mod decode;
#[expect(dead_code, reason = "the other direction is not fuzzed")]
#[path = "../../src/net/gzip.rs"]
mod gzip;

use decode::decode;
use digest::payload::Payload;

/// Where `decode` looks for it.
mod net {
    pub(crate) use super::gzip;
}

const CAP: usize = 1 << 20;

fuzz_target!(|body: &[u8]| {
    let read = decode(body, CAP, |payload| match payload {
        Payload::Data(data) => {
            assert!(data.broken.is_sorted_by_key(|broken| broken.before));
            assert!(data.broken.last().is_none_or(|broken| broken.before <= data.events.len()));
            data.events.iter().map(|event| event.message.len()).sum()
        }
        Payload::Control | Payload::Wrapped(_) => 0,
    });
    match read {
        // U+FFFD has three bytes, and may stand for one.
        Ok(bytes) => assert!(bytes <= 3 * CAP),
        Err(error) => assert!(error.to_string().len() < 200),
    }
});
