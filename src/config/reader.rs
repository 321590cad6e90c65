//! The serde deserializer over a node: every scalar is read by the type that is wanted, so `NO` and `08` stay text.

mod parts;

use super::fault::{Fault, Path, advice, quoted, suggest};
use super::kept::Value;
use super::node::{Content, Node, Style};
use super::plain::{float, is_integer, untyped};
use super::read::{Cause, Error, Repairs, address};
use super::secret::WRITTEN;
use parts::{Choice, Entries, Items};
use serde::de::{DeserializeSeed, Deserializer, Visitor};
use std::str::FromStr;

/// Reads one node; copied for every level.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) path: &'a Path<'a>,
    /// Words for the advice about an unknown key that are not ours.
    pub(super) also: &'a [&'a str],
    pub(super) repairs: &'a Repairs,
    /// Stands for settings that were not written, as in `- rows` for `- rows: {}`.
    pub(super) hollow: bool,
    /// A reference is wanted itself, and not what it holds.
    pub(super) written: bool,
}

/// Reads through a seed and gives errors their place.
pub(super) fn at<'de, S: DeserializeSeed<'de>>(reader: Reader<'_>, seed: S) -> Result<S::Value, Error> {
    let used = reader.repairs.uses();
    seed.deserialize(reader).map_err(|error| error.at(reader, reader.repairs.uses() != used))
}

impl<'a> Reader<'a> {
    fn below(self, node: &'a Node, path: &'a Path<'a>) -> Self {
        Self { node, path, also: &[], hollow: false, written: false, ..self }
    }

    fn is_nothing(self) -> bool {
        self.hollow || self.node.is_nothing()
    }

    fn wrong(self, expected: &str) -> Error {
        let found = match &self.node.content {
            Content::Broken => return Error::told(None),
            _ if self.is_nothing() => "nothing",
            // What stands where a list or a mapping belongs may be a password: it is not repeated.
            Content::Scalar(..) | Content::Kept(_) => "a text",
            Content::List(_) => "a list",
            Content::Mapping(_) => "a mapping",
        };
        self.fault(format!("expected {expected}, found {found}"))
    }

    fn fault(self, message: String) -> Error {
        Error::new(Cause::Fault(self.note(message)))
    }

    fn note(self, message: String) -> Fault {
        Fault::new(self.node.place(), self.path.to_string(), message)
    }

    /// A text, as it was written or is kept.
    fn text(self, expected: &str) -> Result<&'a str, Error> {
        if let Content::Kept(kept) = &self.node.content
            && !self.written
            && !self.hollow
        {
            return match kept.value(self.node.place(), || self.path.to_string()) {
                Value::Known(text) => Ok(text),
                Value::Unknown => Err(Error::new(Cause::Elsewhere)),
                Value::Fault(message) => Err(self.fault(message.clone())),
            };
        }
        self.node.text().filter(|_| !self.is_nothing()).ok_or_else(|| self.wrong(expected))
    }

    /// A plain scalar that is neither a list nor nothing; a number or a boolean in quotes is a text.
    fn plain(self, expected: &str) -> Result<&'a str, Error> {
        let text = self.text(expected)?;
        if self.node.style() == Some(Style::Plain) {
            return Ok(text);
        }
        let fault = self.note(format!("expected {expected}, found a text in quotes"));
        Err(Error::new(Cause::Fault(fault.hint("write it without quotes"))))
    }

    fn integer<N: FromStr>(self, range: &str) -> Result<N, Error> {
        let expected = format!("a whole number{range}");
        let text = self.plain(&expected)?;
        let number = Some(text).filter(|text| is_integer(text)).and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.fault(format!("expected {expected}, found {}", quoted(text))))
    }

    fn float(self) -> Result<f64, Error> {
        let text = self.plain("a number")?;
        float(text).ok_or_else(|| self.fault(format!("expected a number, found {}", quoted(text))))
    }

    fn items(self, expected: &str) -> Result<Items<'a>, Error> {
        let items = self.node.items().ok_or_else(|| self.wrong(expected))?;
        Ok(Items { reader: self, rest: items.iter(), index: 0 })
    }

    fn entries(self) -> Result<Entries<'a>, Error> {
        let entries = if self.hollow { Some(&[][..]) } else { self.node.entries() };
        let entries = entries.ok_or_else(|| self.wrong("a mapping"))?;
        let stand_ins = self.repairs.stand_ins(self.node).into_iter();
        Ok(Entries { reader: self, rest: entries.iter(), stand_ins, current: None })
    }

    /// Refuses the first unknown key that is not noted yet.
    fn known_keys(self, accepted: &'static [&'static str]) -> Result<(), Error> {
        let entries = self.node.entries().unwrap_or_default();
        let words = accepted.iter().copied().chain(self.also.iter().copied());
        for (entry, word) in entries.iter().filter_map(|entry| Some((entry, entry.key.text()?))) {
            if accepted.contains(&word) || self.repairs.is_left_out(&entry.value) {
                continue;
            }
            let fault = Fault::new(entry.key.place(), Path::Key(self.path, word).to_string(), "unknown key");
            let error = Error::new(Cause::Fault(fault.hint(advice(word, words.clone()))));
            // `evry` is one slip, not an unknown `evry` and a missing `every`.
            let meant = suggest(word, words).map(|key| (address(self.node), key.to_owned()));
            return Err(error.or_leave_out(&entry.value, meant));
        }
        Ok(())
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.content {
            _ if self.is_nothing() => visitor.visit_unit(),
            Content::Scalar(text, Style::Quoted) => visitor.visit_str(text),
            Content::Scalar(text, Style::Plain) => untyped(text, visitor),
            Content::Kept(kept) if self.written => visitor.visit_str(kept.written()),
            Content::Kept(_) => untyped(self.text("a value")?, visitor),
            Content::List(_) => visitor.visit_seq(self.items("a list")?),
            Content::Mapping(_) => visitor.visit_map(self.entries()?),
            Content::Broken => Err(Error::told(None)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.plain("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(self.fault(format!("expected true or false, found {}", quoted(other)))),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i8(self.integer(" from -128 to 127")?)
    }
    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i16(self.integer(" from -32768 to 32767")?)
    }
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(self.integer(" from -2147483648 to 2147483647")?)
    }
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.integer("")?)
    }
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u8(self.integer(" from 0 to 255")?)
    }
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u16(self.integer(" from 0 to 65535")?)
    }
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u32(self.integer(" from 0 to 4294967295")?)
    }
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.integer(", 0 or more")?)
    }
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float()?)
    }
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text("a character")?)
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text("a string")?)
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.node.text().ok_or_else(|| self.wrong("a word"))?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nothing() { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nothing() { visitor.visit_unit() } else { Err(self.wrong("nothing")) }
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(Reader { written: name == WRITTEN, ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.items("a list")?)
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let expected = format!("a list of {length}");
        match self.node.items() {
            Some(items) if items.len() != length => {
                Err(self.fault(format!("expected {expected}, found a list of {}", items.len())))
            }
            _ => visitor.visit_seq(self.items(&expected)?),
        }
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.entries()?)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.known_keys(keys)?;
        visitor.visit_map(self.entries()?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let expected = || format!("one of {}", words.join(", "));
        let (key, settings) = match self.node.entries() {
            Some([entry]) => (&entry.key, Some(&entry.value)),
            Some([first, _, ..]) => {
                let mut fault = self.note(format!("expected {} as the only key", expected()));
                if first.value.is_nothing() {
                    fault = fault.hint("indent what belongs to the first key below it");
                }
                return Err(Error::new(Cause::Fault(fault)));
            }
            _ => (self.node, None),
        };
        let word = match settings {
            Some(_) => key.text().filter(|_| !key.is_nothing()).ok_or_else(|| self.wrong(&expected()))?,
            None => self.text(&expected())?,
        };
        let below = Path::Key(self.path, word);
        let path = if settings.is_some() { &below } else { self.path };
        if !words.contains(&word) {
            let fault = Fault::new(key.place(), path.to_string(), format!("unknown word {}", quoted(word)));
            return Err(Error::new(Cause::Fault(fault.hint(advice(word, words.iter().copied())))));
        }
        let hollow = settings.is_none_or(Node::is_nothing);
        let settings = Reader { hollow, ..self.below(settings.unwrap_or(self.node), path) };
        visitor.visit_enum(Choice { word, settings })
    }
}
