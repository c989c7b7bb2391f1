//! The protobuf wire format: <https://protobuf.dev/programming-guides/encoding/>.

/// The value of one field on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;
pub(super) const FIXED32: u32 = 5;

/// Reads fields off a message; `None` when it is at the end or broken, which [`Fields::broken`] tells apart.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    pub(super) broken: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            broken: false,
        }
    }

    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let key = take_varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let value = match (key & 7) as u32 {
            VARINT => Wire::Varint(take_varint(&mut self.rest)?),
            FIXED64 => Wire::Fixed64(u64::from_le_bytes(take_array(&mut self.rest)?)),
            FIXED32 => Wire::Fixed32(u32::from_le_bytes(take_array(&mut self.rest)?)),
            BYTES => {
                let length = usize::try_from(take_varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            // Groups do not exist in proto3.
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Wire<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        self.broken = field.is_none();
        field
    }
}

pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

pub(super) fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*array)
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the key of a field.
pub fn put_key(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, u64::from(number << 3 | wire_type));
}

/// Appends a field of bytes.
pub fn put_len(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_key(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Begins a field whose length is not known yet: one byte is reserved for it.
pub(super) fn begin(out: &mut Vec<u8>, number: u32) -> usize {
    put_key(out, number, BYTES);
    out.push(0);
    out.len()
}

/// Ends a field begun at `start`; returns where its content begins now. Contents of 128 bytes and more move up by the
/// bytes that their length needs, so every byte moves at most once per level of nesting.
pub(super) fn end(out: &mut Vec<u8>, start: usize) -> usize {
    let length = out.len() - start;
    let extra = varint_len(length) - 1;
    if extra > 0 {
        out.resize(out.len() + extra, 0);
        out.copy_within(start..start + length, start + extra);
    }
    let mut value = length;
    for byte in &mut out[start - 1..start + extra] {
        *byte = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
    }
    out[start + extra - 1] &= 0x7f;
    start + extra
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_size_are_filled_in() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut out = Vec::new();
            let start = begin(&mut out, 3);
            out.resize(start + length, 7);
            let content = end(&mut out, start);
            let mut fields = Fields::new(&out);
            let Some((3, Wire::Bytes(bytes))) = fields.next() else {
                panic!("no field for {length}")
            };
            assert_eq!((bytes.len(), out.len() - content), (length, length));
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn broken_messages_are_told_from_ended_ones() {
        for bytes in [
            &[0x80_u8][..],
            &[0x0a, 5, 1],
            &[0x0b],
            &[0x00, 0x01],
            &[0x0d, 1],
        ] {
            let mut fields = Fields::new(bytes);
            assert!(fields.by_ref().next().is_none());
            assert!(fields.broken, "{bytes:?}");
        }
    }
}
