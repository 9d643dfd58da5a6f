//! RaptorQ (RFC 6330) by the crate `raptorq`. It panics on parameters out of range: nothing comes here that
//! [`Geometry`] has not bounded.

use raptorq::{
    EncodingPacket, ObjectTransmissionInformation, PayloadId, SourceBlockDecoder,
    SourceBlockEncoder,
};

use super::Geometry;

/// The code is built in.
pub(crate) const IS_PRESENT: bool = true;

/// Makes symbols of one message.
#[derive(Debug)]
pub(in crate::streams) struct Encoder(SourceBlockEncoder);

fn information(geometry: Geometry) -> ObjectTransmissionInformation {
    let len = u64::from(geometry.sources) * u64::from(geometry.symbol_len);
    ObjectTransmissionInformation::new(len, geometry.symbol_len, 1, 1, 8)
}

impl Encoder {
    /// `None` when the payload is not what the geometry says.
    pub(in crate::streams) fn new(geometry: Geometry, payload: &[u8]) -> Option<Self> {
        let len = geometry.padded_len();
        if payload.len() > len {
            return None;
        }
        let mut padded = payload.to_vec();
        padded.resize(len, 0);
        Some(Self(SourceBlockEncoder::new(0, &information(geometry), &padded)))
    }

    /// The repair symbol that stands so many behind the message itself.
    pub(in crate::streams) fn symbol(&self, index: u32) -> Option<Vec<u8>> {
        let packet = self.0.repair_packets(index, 1).pop()?;
        Some(packet.split().1)
    }
}

/// Puts a message together from symbols: their ids, each once, and their content, each of the right length.
/// `None` when they do not suffice.
pub(in crate::streams) fn decode(
    geometry: Geometry,
    symbols: impl Iterator<Item = (u32, Vec<u8>)>,
) -> Option<Vec<u8>> {
    let mut decoder =
        SourceBlockDecoder::new(0, &information(geometry), geometry.padded_len() as u64);
    let packets = symbols.map(|(id, data)| EncodingPacket::new(PayloadId::new(0, id), data));
    decoder.decode(packets)
}

/// Whether symbols with these ids, each once, suffice: that depends on nothing else, so that a sender knows it of what
/// its peer has. It is tried with symbols of a few bytes, which costs less than putting the message together.
pub(in crate::streams) fn suffices(geometry: Geometry, ids: impl Iterator<Item = u32>) -> bool {
    const LEN: u16 = 8;
    let small = Geometry { symbol_len: LEN, ..geometry };
    decode(small, ids.map(|id| (id, vec![0; LEN.into()]))).is_some()
}
