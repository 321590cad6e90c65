//! What single bytes of SQL may be, as tables.

/// What a byte outside of quotes may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Space,
    Letter,
    Digit,
    Quote,
    /// Any other symbol: most are pieces by themselves, some begin a comment, a number or a parameter.
    Symbol,
    /// Begins or continues a character that is not ASCII.
    Wide,
    Unknown,
}

const fn class(byte: u8) -> Class {
    match byte {
        b' ' | b'\t'..=b'\r' => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'\'' | b'"' | b'`' => Class::Quote,
        b'!'..=b'~' => Class::Symbol,
        0x80..=0xff => Class::Wide,
        _ => Class::Unknown,
    }
}

/// What is asked for every byte, as tables: its class, and whether it can be part of a word.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Wide; 256];
    let mut byte = 0_u8;
    while let Some(entry) = classes.split_at_mut(byte as usize).1.first_mut() {
        *entry = class(byte);
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};

const IN_WORD: [bool; 256] = {
    let mut parts = [false; 256];
    let mut byte = 0_u8;
    while let Some(entry) = parts.split_at_mut(byte as usize).1.first_mut() {
        *entry = matches!(class(byte), Class::Letter | Class::Digit) || byte == b'$';
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    parts
};

/// What it may begin.
pub(super) fn class_of(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Unknown)
}

/// Whether it is an ASCII letter, a digit, `_` or `$`.
pub(super) fn in_word(byte: u8) -> bool {
    IN_WORD.get(usize::from(byte)).copied().unwrap_or(false)
}
