//! Log events read one by one, where some of a payload are broken.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BrokenEvent, LogEvent, TIMES};

/// As far as an object goes; what is `null` is missing.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// Events that can be read, and those that cannot. `repaired`: U+FFFD stands for bytes that were no UTF-8.
pub(super) fn sort(events: Vec<&RawValue>, repaired: bool) -> (Vec<LogEvent<'_>>, Vec<BrokenEvent<'_>>) {
    let (mut whole, mut broken) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events.into_iter().map(RawValue::get) {
        match read(event, repaired) {
            Ok(event) => whole.push(event),
            Err(why) => {
                broken.push(BrokenEvent { why, json: Cow::Borrowed(event), before: whole.len() });
            }
        }
    }
    (whole, broken)
}

fn read(json: &str, repaired: bool) -> Result<LogEvent<'_>, &'static str> {
    match serde_json::from_str::<LogEvent<'_>>(json) {
        // Two ids that differ in such bytes would be one, and one of the events would be lost.
        Ok(event) if repaired && event.id.contains(char::REPLACEMENT_CHARACTER) => {
            Err("the event's id is no UTF-8")
        }
        Ok(event) => Ok(event),
        Err(_) => Err(what_is_wrong(json)),
    }
}

fn what_is_wrong(json: &str) -> &'static str {
    let Ok(parts) = serde_json::from_str::<Parts<'_>>(json) else {
        return "the event is no JSON object, or has a key twice";
    };
    let Some(id) = parts.id else { return "the event has no id" };
    if serde_json::from_str::<Cow<'_, str>>(id.get()).map_or(true, |id| id.is_empty()) {
        return "the event's id is no text, or empty";
    }
    let Some(timestamp) = parts.timestamp else { return "the event has no timestamp" };
    if serde_json::from_str::<i64>(timestamp.get()).map_or(true, |at| !TIMES.contains(&at)) {
        return "the event's timestamp is no number of milliseconds between 1970 and 9999";
    }
    match parts.message {
        None => "the event has no message",
        Some(_) => "the event's message is no text",
    }
}
