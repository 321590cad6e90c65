//! How numbers are spelled: shortest text that reads back as the same float.

/// Above this a float cannot hold every integer any more, so the integer path ends here.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Go's `%g` leaves plain digits here; bucket bounds in `OpenMetrics` follow it.
const GO_EXPONENT_FROM: f64 = 1e6;

/// Python leaves plain digits here; Datadog's agent checks are written in it.
const PYTHON_EXPONENT_FROM: f64 = 1e16;

/// Appends a sample value as Prometheus reads it: `3`, `0.25`, `1e+22`, `NaN`, `+Inf`, `-Inf`.
pub(crate) fn push(out: &mut Vec<u8>, value: f64) {
    #[expect(clippy::float_cmp, reason = "a whole number equals its truncation exactly")]
    let whole = value.trunc() == value && value.abs() <= LARGEST_EXACT;
    // Most values are counts and ages in whole units; -0 is left to the float path, which keeps its sign.
    if whole && (value != 0.0 || value.is_sign_positive()) {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2^53")]
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else {
        out.extend_from_slice(non_finite(value).as_bytes());
    }
}

/// Appends a count.
pub(crate) fn push_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

/// A bucket bound in `OpenMetrics`' canonical form: `1.0`, `0.25`, `1e+06`
/// (<https://prometheus.io/docs/specs/om/open_metrics_spec/#considerations-canonical-numbers>).
pub(crate) fn canonical(bound: f64) -> String {
    float(bound, GO_EXPONENT_FROM)
}

/// A float that shows that it is one, as Python's `str(float)` does: `1.0`, `0.25`, `1000000.0`, `1e+16`.
pub(crate) fn with_point(value: f64) -> String {
    float(value, PYTHON_EXPONENT_FROM)
}

/// Both languages write an exponent below 0.0001, with a sign and at least two digits.
fn float(value: f64, exponent_from: f64) -> String {
    if !value.is_finite() {
        return non_finite(value).to_owned();
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((mantissa, power)) if value != 0.0 && !(1e-4..exponent_from).contains(&value.abs()) => {
            let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        _ => format!("{value:?}"),
    }
}

fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        push(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_spelled_as_prometheus_reads_them() {
        let table = [
            (0.0, "0"),
            (-0.0, "-0"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (0.000_012, "0.000012"),
            (0.000_001_2, "1.2e-6"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e22, "1e+22"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in table {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn bounds_are_canonical_in_openmetrics() {
        let table = [
            (0.0, "0.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (0.25, "0.25"),
            (1.0, "1.0"),
            (3600.0, "3600.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (1e10, "1e+10"),
            (1e17, "1e+17"),
            (f64::INFINITY, "+Inf"),
        ];
        for (bound, expected) in table {
            assert_eq!(canonical(bound), expected);
        }
    }

    #[test]
    fn bounds_are_pythons_floats_in_datadog() {
        let table = [
            (0.0, "0.0"),
            (1e-5, "1e-05"),
            (0.1, "0.1"),
            (3600.0, "3600.0"),
            (1e6, "1000000.0"),
            (1e16, "1e+16"),
        ];
        for (bound, expected) in table {
            assert_eq!(with_point(bound), expected);
        }
    }

    #[test]
    fn every_spelling_reads_back_as_the_same_float() {
        for bits in (0..200_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(text(value).parse::<f64>().unwrap().to_bits(), bits);
                assert_eq!(canonical(value).parse::<f64>().unwrap().to_bits(), bits);
                assert_eq!(with_point(value).parse::<f64>().unwrap().to_bits(), bits);
            }
        }
    }
}
