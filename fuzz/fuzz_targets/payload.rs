//! Payloads in every wrapping: no panic, no more memory than the cap, and nothing of the input in an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
#[path = "../../src/logs/decode.rs"]
mod decode;
#[expect(dead_code, reason = "the other direction is not fuzzed")]
#[path = "../../src/net/gzip.rs"]
mod gzip;

use decode::{Payload, decode};

/// Where `decode` looks for it.
mod net {
    pub(crate) use super::gzip;
}

const CAP: usize = 1 << 20;

fuzz_target!(|body: &[u8]| match decode(body, CAP) {
    Ok(Payload::Control) => {}
    Ok(Payload::Data(data)) => {
        let bytes: usize = data.events.iter().map(|event| event.message.len()).sum();
        assert!(bytes <= CAP);
    }
    Err(error) => assert!(error.to_string().len() < 200),
});
