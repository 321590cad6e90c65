//! Payloads in every wrapping: no panic, no more memory than the cap, and nothing of the input in an error.
#![no_main]

use datapulse::logs::decode::{Payload, decode};
use libfuzzer_sys::fuzz_target;

const CAP: usize = 1 << 20;

fuzz_target!(|body: &[u8]| match decode(body, CAP) {
    Ok(Payload::Control) => {}
    Ok(Payload::Data(data)) => {
        let bytes: usize = data.events.iter().map(|event| event.message.len()).sum();
        assert!(bytes <= CAP);
    }
    Err(error) => assert!(error.to_string().len() < 200),
});
