//! As much of the protobuf wire format as is needed to count points and to read a partial success: no message is built for it.
//! <https://protobuf.dev/programming-guides/encoding/>

/// Fields of a gauge, a sum and a histogram in `Metric`.
const KINDS: [u64; 3] = [5, 7, 9];

/// The fields of a message with their numbers, up to the first byte that makes no sense.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// The value of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer.
    Number(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
    /// A number of fixed size, which nobody asked for yet.
    Fixed,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// Number of data points in an `ExportMetricsServiceRequest`.
pub(super) fn points(request: &[u8]) -> u64 {
    let resources = messages(request, 1);
    let metrics = resources.flat_map(|resource| messages(resource, 2)).flat_map(|scope| messages(scope, 2));
    let data = metrics.flat_map(|metric| KINDS.into_iter().flat_map(|kind| messages(metric, kind)));
    data.map(|data| messages(data, 1).count() as u64).sum()
}

fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        Value::Bytes(_) | Value::Number(_) | Value::Fixed => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_at_the_first_byte_that_makes_no_sense() {
        let all = |bytes: &'static [u8]| Fields(bytes).collect::<Vec<_>>();
        assert_eq!(all(b"\x08\x96\x01\x12\x02hi"), [(1, Value::Number(150)), (2, Value::Bytes(b"hi"))]);
        assert_eq!(
            all(b"\x0912345678\x151234\x08\x01"),
            [(1, Value::Fixed), (2, Value::Fixed), (1, Value::Number(1))]
        );
        assert_eq!(all(b"\x12\xff\xff\xff\xff\x0fhi"), [], "longer than what there is");
        assert_eq!(all(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), [], "an integer without end");
        assert_eq!(all(b"\x0b\x08\x01"), [], "a group");
        assert_eq!(all(b"\x08"), []);
    }
}
