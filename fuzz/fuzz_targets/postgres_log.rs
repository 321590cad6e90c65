//! PostgreSQL logs in all three formats: every byte is used once, whatever pieces the log comes in.
#![no_main]

use digest::End;
use digest::postgres::{Format, Prefix, Step, next_message};
use libfuzzer_sys::fuzz_target;

fn read(log: &[u8], format: &Format, piece: usize) -> (Vec<(usize, String)>, usize) {
    let (mut messages, mut at, mut seen) = (Vec::new(), 0, 0);
    loop {
        let end = if seen == log.len() { End::OfInput } else { End::OfPiece };
        match next_message(&log[at..seen], end, format) {
            Step::Message { message, used } => {
                assert!(used > 0);
                at += used;
                messages.push((at, format!("{:?}", message.event())));
            }
            Step::Rest { used, .. } | Step::Skip(used) => {
                assert!(used > 0);
                at += used;
            }
            Step::NeedMore if end == End::OfInput => return (messages, at),
            Step::NeedMore => seen = (seen + piece).min(log.len()),
        }
    }
}

fuzz_target!(|log: &[u8]| {
    let Some((first, log)) = log.split_first() else { return };
    let format = match first % 3 {
        0 => Format::Stderr(Prefix::rds()),
        1 => Format::Csv,
        _ => Format::Json,
    };
    let whole = read(log, &format, usize::MAX >> 1);
    assert_eq!(whole.1, log.len());
    assert_eq!(read(log, &format, usize::from(first / 3) + 1).0, whole.0);
});
