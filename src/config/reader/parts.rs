//! The parts of a node as serde asks for them: items of a list, entries of a mapping, the chosen variant of an enum.

use super::{Reader, at};
use crate::config::fault::Path;
use crate::config::node::{Entry, Node};
use crate::config::read::{Error, Repair, address};
use crate::config::stand_in::{StandIn, WORDS};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::slice::Iter;
use std::vec::IntoIter;

/// The items of a list, without those that are left out.
pub(super) struct Items<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) rest: Iter<'a, Node>,
    pub(super) index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        for item in self.rest.by_ref() {
            let path = Path::Item(self.reader.path, self.index);
            self.index += 1;
            if !self.reader.repairs.leaves_out(item) {
                let value = at(self.reader.below(item, &path), seed);
                return value.map(Some).map_err(|error| error.or_leave_out(item, None));
            }
        }
        Ok(None)
    }
}

/// The entries of a mapping, without those that are left out, then those that stand in for missing ones.
pub(super) struct Entries<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) rest: Iter<'a, Entry>,
    pub(super) stand_ins: IntoIter<(String, usize)>,
    pub(super) current: Option<Current<'a>>,
}

pub(super) enum Current<'a> {
    Entry(&'a Entry),
    StandIn(String, usize),
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        for entry in self.rest.by_ref() {
            if self.reader.repairs.leaves_out(&entry.value) {
                continue;
            }
            self.current = Some(Current::Entry(entry));
            let path = Path::Key(self.reader.path, entry.key.text().unwrap_or_default());
            let key = at(self.reader.below(&entry.key, &path), seed);
            return key.map(Some).map_err(|error| error.or_leave_out(&entry.value, None));
        }
        let Some((key, word)) = self.stand_ins.next() else { return Ok(None) };
        let name = seed.deserialize(StrDeserializer::new(&key))?;
        self.current = Some(Current::StandIn(key, word));
        Ok(Some(name))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.current.take() {
            Some(Current::Entry(entry)) => {
                let key = entry.key.text().unwrap_or_default();
                let path = Path::Key(self.reader.path, key);
                at(self.reader.below(&entry.value, &path), seed).map_err(|error| {
                    error.or_leave_out(&entry.value, Some((address(self.reader.node), key.to_owned())))
                })
            }
            Some(Current::StandIn(key, word)) => {
                self.reader.repairs.note_use();
                let owner = address(self.reader.node);
                // Whatever the made-up value is refused for, it is no fault of the person.
                seed.deserialize(StandIn::new(word)).map_err(|_refusal: Error| {
                    let again = word + 1 < WORDS.len();
                    Error::told(again.then_some(Repair::StandIn(owner, key)))
                })
            }
            None => Err(Error::told(None)),
        }
    }
}

/// The variant that was chosen, with its settings.
pub(super) struct Choice<'a> {
    pub(super) word: &'a str,
    pub(super) settings: Reader<'a>,
}

impl<'a, 'de> EnumAccess<'de> for Choice<'a> {
    type Error = Error;
    type Variant = Reader<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Reader<'a>), Error> {
        Ok((seed.deserialize(StrDeserializer::<Error>::new(self.word))?, self.settings))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        let empty = self.hollow || self.node.entries().is_some_and(<[Entry]>::is_empty);
        if empty { Ok(()) } else { Err(self.wrong("nothing")) }
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        at(self, seed)
    }
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let used = self.repairs.uses();
        self.deserialize_tuple(length, visitor).map_err(|error| error.at(self, self.repairs.uses() != used))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let used = self.repairs.uses();
        self.deserialize_struct("", keys, visitor)
            .map_err(|error| error.at(self, self.repairs.uses() != used))
    }
}
