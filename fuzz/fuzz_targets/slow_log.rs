//! Slow query logs: every byte is in an event or skipped, whatever pieces the log comes in.
#![no_main]

use digest::End;
use digest::mysql_slow::{Session, Step, next_entry};
use libfuzzer_sys::fuzz_target;

/// Events as text with their ends, and the number of bytes.
fn read(log: &[u8], piece: usize) -> (Vec<(usize, String)>, usize) {
    let (mut session, mut events) = (Session::default(), Vec::new());
    let (mut at, mut seen) = (0, 0);
    loop {
        let end = if seen == log.len() { End::OfInput } else { End::OfPiece };
        if at == seen && end == End::OfInput {
            return (events, at);
        }
        match next_entry(&log[at..seen], end, &mut session) {
            Step::Event { event, used } => {
                assert!(used > 0);
                at += used;
                events.push((at, format!("{event:?}")));
            }
            Step::Skip(count) => {
                assert!(count > 0);
                at += count;
            }
            Step::NeedMore => {
                assert!(end == End::OfPiece);
                seen = (seen + piece).min(log.len());
            }
        }
    }
}

fuzz_target!(|log: &[u8]| {
    let whole = read(log, usize::MAX >> 1);
    assert_eq!(whole.1, log.len());
    let piece = log.first().map_or(1, |first| usize::from(*first) + 1);
    assert_eq!(read(log, piece).0, whole.0);
});
