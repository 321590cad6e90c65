//! Names, units and labels that a configured metric can have.

use metrics::Unit;
use std::borrow::Cow;

/// What is wrong, and what to write instead.
type Refused = (&'static str, &'static str);

/// Refuses names that a receiver would bend, or that mean something else to it.
pub(super) fn check_name(name: &str, counter: bool) -> Result<(), Refused> {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.split('.').all(part) || name.len() > 200
    {
        return Err((
            "not a metric name",
            "words of letters, digits and underscores with dots between them, such as device.connections",
        ));
    }
    if name.starts_with("datapulse.") || name.starts_with("datapulse_") {
        return Err(("names that begin with datapulse are the exporter's own", "take another first word"));
    }
    if name.ends_with("_total") || counter && name.rsplit('.').next() == Some("total") {
        return Err((
            "ends with _total",
            "leave it out: Prometheus' spelling of a counter gets it by itself",
        ));
    }
    if name.ends_with("_seconds") || name.ends_with("_bytes") {
        return Err((
            "ends with its unit",
            "leave it out and write `unit: s` or `unit: By`: the name gets it where it belongs",
        ));
    }
    if ["_bucket", "_sum", "_count", "_info"].iter().any(|suffix| name.ends_with(suffix)) {
        return Err((
            "ends with a word that Prometheus gives a meaning of its own",
            "take another last word than bucket, sum, count or info",
        ));
    }
    Ok(())
}

/// The unit, of those that have a place in a name.
pub(super) fn read_unit(unit: Option<&str>) -> Result<Unit, Refused> {
    match unit {
        None | Some("") => Ok(Unit::None),
        Some("s") => Ok(Unit::Seconds),
        Some("By") => Ok(Unit::Bytes),
        Some(text)
            if text.len() > 2
                && text.len() < 64
                && text.starts_with('{')
                && text.ends_with('}')
                && text.is_ascii() =>
        {
            Ok(Unit::Annotation(Cow::Owned(text.to_owned())))
        }
        Some(_) => Err((
            "not a unit that is known here",
            "base units only: s, By, an annotation such as {device}, or nothing; convert in the SQL",
        )),
    }
}

/// Whether samples can have this label beside those that they have anyway.
pub(super) fn is_label(name: &str) -> bool {
    let reserved = ["check", "target", "le", "quantile", "job", "instance"];
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with("__")
        && !reserved.contains(&name)
}
