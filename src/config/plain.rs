//! What a bare scalar means: numbers in one spelling only, and the YAML 1.2 core schema where no type is wanted.

use super::read::Error;
use serde::de::Visitor;

/// A plain scalar where any type will do, by the YAML 1.2 core schema, with one exception: a number with leading zeros is a text,
/// because it is an account number or a postcode and not a quantity.
pub(super) fn untyped<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Error> {
    match text {
        "true" | "True" | "TRUE" => return visitor.visit_bool(true),
        "false" | "False" | "FALSE" => return visitor.visit_bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return visitor.visit_f64(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return visitor.visit_f64(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return visitor.visit_f64(f64::NAN),
        _ => {}
    }
    let based = [("0x", 16), ("0o", 8)].into_iter().find_map(|(prefix, base)| {
        let digits = text
            .strip_prefix(prefix)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
        u64::from_str_radix(digits, base).ok()
    });
    if let Some(number) = based {
        return visitor.visit_u64(number);
    }
    if is_integer(text) {
        if let Ok(number) = text.parse::<u64>() {
            return visitor.visit_u64(number);
        }
        if let Ok(number) = text.parse::<i64>() {
            return visitor.visit_i64(number);
        }
    }
    match float(text) {
        Some(number) => visitor.visit_f64(number),
        None => visitor.visit_str(text),
    }
}

/// Decimal digits without leading zeros, perhaps with a minus.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

/// A finite decimal number: `1`, `-0.5`, `1e3`; not `inf`, not `1_000`, not `007`.
pub(super) fn float(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let zeros = digits.starts_with('0') && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|number: &f64| decimal && !zeros && number.is_finite())
}
