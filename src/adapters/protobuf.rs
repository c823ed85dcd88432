//! Protobuf on the wire: a message is fields, each a number and a value, and that is all.
//!
//! ```text
//!   field  number|kind, then   0 VARINT a number   1 I64 eight bytes   2 LEN length, bytes   5 I32 four bytes
//! ```
//!
//! Whoever reads it looks at the fields he knows, so no schema is compiled in. The rule: nothing is copied,
//! nothing is read past the end, and a message that is damaged anywhere is damaged. The limit: groups
//! (kinds 3 and 4), which nobody writes any more, are damage.

/// What a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'m> {
    /// A number, also a truth value or an enumeration's.
    Number(u64),
    /// A text, bytes, or a message within this one.
    Bytes(&'m [u8]),
}

impl<'m> Value<'m> {
    /// The bytes, unless it is a number.
    pub(super) fn bytes(self) -> Option<&'m [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Number(_) => None,
        }
    }
}

/// The fields of a message in their order; where it is damaged comes nothing, and then the end. Values of
/// a fixed length are passed over: nobody here asks for one.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Value<'_>)>> {
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            match field(&mut rest) {
                Some((_, None)) => {}
                Some((number, Some(value))) => return Some(Some((number, value))),
                None => {
                    rest = &[];
                    return Some(None);
                }
            }
        }
        None
    })
}

fn field<'m>(rest: &mut &'m [u8]) -> Option<(u64, Option<Value<'m>>)> {
    let key = number(rest)?;
    let value = match key & 7 {
        0 => Some(Value::Number(number(rest)?)),
        2 => {
            let length = usize::try_from(number(rest)?).ok()?;
            Some(Value::Bytes(take(rest, length)?))
        }
        1 => take(rest, 8).map(|_| None)?,
        5 => take(rest, 4).map(|_| None)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take<'m>(rest: &mut &'m [u8], length: usize) -> Option<&'m [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// Seven bits a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Writes a field.
pub(super) fn write(message: &mut Vec<u8>, number: u64, value: Value<'_>) {
    match value {
        Value::Number(value) => {
            write_number(message, number << 3);
            write_number(message, value);
        }
        Value::Bytes(bytes) => {
            write_number(message, number << 3 | 2);
            write_number(message, bytes.len() as u64);
            message.extend_from_slice(bytes);
        }
    }
}

fn write_number(message: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            message.push(low);
            return;
        }
        message.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        type Read<'m> = Option<(u64, Value<'m>)>;
        let table: [(&[u8], &[Read<'_>]); 9] = [
            (b"", &[]),
            (b"\x08\x96\x01", &[Some((1, Value::Number(150)))]),
            (b"\x12\x07testing", &[Some((2, Value::Bytes(b"testing")))]),
            // What has a fixed length is passed over.
            (b"\x09abcdefgh\x15abcd\x18\x01", &[Some((3, Value::Number(1)))]),
            // Groups, a number without end, a length past the end, and eight bytes of which seven came.
            (b"\x08\x01\x0b\x08\x01", &[Some((1, Value::Number(1))), None]),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[None]),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[None]),
            (b"\x0a\x02x", &[None]),
            (b"\x09abcdefg", &[None]),
        ];
        for (message, read) in table {
            assert_eq!(fields(message).collect::<Vec<_>>(), read, "{message:?}");
        }
    }

    fn any_field() -> impl Strategy<Value = (u64, Result<u64, Vec<u8>>)> {
        let value = prop_oneof![any::<u64>().prop_map(Ok), vec(any::<u8>(), 0..200).prop_map(Err)];
        (1..1_u64 << 29, value)
    }

    fn value(value: &Result<u64, Vec<u8>>) -> Value<'_> {
        value.as_ref().map_or_else(|bytes| Value::Bytes(bytes), |number| Value::Number(*number))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(written in vec(any_field(), 0..12)) {
            let mut message = Vec::new();
            for (number, its) in &written {
                write(&mut message, *number, value(its));
            }
            let read: Option<Vec<_>> = fields(&message).collect();
            let written = written.iter().map(|(number, its)| (*number, value(its)));
            prop_assert_eq!(read, Some(written.collect()));
        }

        /// Noise brings nobody down, costs no more than its length, and ends where it is damaged.
        #[test]
        fn any_bytes_are_fields_within_them_or_damage(
            valid in vec(any_field(), 0..3),
            noise in vec(any::<u8>(), 0..400),
        ) {
            let mut message = Vec::new();
            for (number, its) in &valid {
                write(&mut message, *number, value(its));
            }
            message.extend(noise);
            let read: Vec<_> = fields(&message).collect();
            prop_assert!(read.len() >= valid.len());
            let damage = read.iter().position(Option::is_none);
            prop_assert!(damage.is_none_or(|at| at + 1 == read.len()));
            // A field's own number is a byte, and so is its value or its length.
            let costs = |value: &Value<'_>| 2 + value.bytes().map_or(0, <[u8]>::len);
            let all: usize = read.iter().flatten().map(|(_, value)| costs(value)).sum();
            prop_assert!(all <= message.len());
        }
    }
}
