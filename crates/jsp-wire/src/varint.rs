//! Variable-length integers of RFC 9000, section 16: 1, 2, 4 or 8 bytes, 62 bits of value.

use crate::cursor::{DecodeError, Full, Reader, Writer};

/// The largest value a varint carries: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes; values over [`MAX`] count as 8 and are refused by [`write()`].
pub const fn len(value: u64) -> usize {
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

/// Reads one varint. Longer forms than needed are accepted, as RFC 9000 does.
// spec: WIRE-40
#[inline]
pub fn read(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    // Most take one byte.
    if reader.peek()? < 1 << 6 { reader.u8().map(u64::from) } else { read_long(reader) }
}

fn read_long(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.peek()? >> 6 {
        0 => Ok(u64::from(reader.u8()?)),
        1 => Ok(u64::from(u16::from_be_bytes(reader.array()?) & 0x3fff)),
        2 => Ok(u64::from(u32::from_be_bytes(reader.array()?) & 0x3fff_ffff)),
        _ => Ok(u64::from_be_bytes(reader.array()?) & MAX),
    }
}

/// Writes `value` in its shortest form.
///
/// # Errors
/// [`Full`] when the buffer has no room, or when `value` is over [`MAX`].
#[inline]
pub fn write(writer: &mut Writer<'_>, value: u64) -> Result<(), Full> {
    if value < 1 << 6 { writer.u8(value as u8) } else { write_long(writer, value) }
}

fn write_long(writer: &mut Writer<'_>, value: u64) -> Result<(), Full> {
    if value < 1 << 14 {
        writer.bytes(&(value as u16 | 0x4000).to_be_bytes())
    } else if value < 1 << 30 {
        writer.bytes(&(value as u32 | 0x8000_0000).to_be_bytes())
    } else if value <= MAX {
        writer.bytes(&(value | 0xC000_0000_0000_0000).to_be_bytes())
    } else {
        Err(Full)
    }
}

/// Writes `value` in exactly two bytes, for lengths that are filled in later.
///
/// # Errors
/// [`Full`] when the buffer has no room, or when `value` needs more than 14 bits.
pub fn write_two_bytes(writer: &mut Writer<'_>, value: u64) -> Result<(), Full> {
    if value >= 1 << 14 {
        return Err(Full);
    }
    writer.bytes(&(value as u16 | 0x4000).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_9000_appendix_a() {
        let cases: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in cases {
            assert_eq!(read(&mut Reader::new(bytes)), Ok(value));
            let mut buf = [0u8; 8];
            let mut writer = Writer::new(&mut buf);
            write(&mut writer, value).unwrap();
            assert_eq!(writer.written(), bytes);
            assert_eq!(len(value), bytes.len());
        }
        assert_eq!(read(&mut Reader::new(&[0x40, 0x25])), Ok(37));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut buf = [0u8; 8];
        assert_eq!(write(&mut Writer::new(&mut buf), MAX + 1), Err(Full));
        assert_eq!(write(&mut Writer::new(&mut buf[..3]), 1 << 20), Err(Full));
        assert_eq!(write_two_bytes(&mut Writer::new(&mut buf), 1 << 14), Err(Full));
        assert_eq!(read(&mut Reader::new(&[0xc0, 0])), Err(DecodeError::Truncated));
    }
}
