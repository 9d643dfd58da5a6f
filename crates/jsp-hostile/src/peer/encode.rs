//! Frames and parameters as bytes.

use jsp_wire::{ConnectionId, Frame, TransportParams, Writer};

/// Parameters that let the victim do as it likes.
pub fn generous(source: ConnectionId) -> TransportParams {
    TransportParams {
        initial_source_id: source,
        data_max: 1 << 40,
        stream_data_max: 1 << 40,
        streams_max: 1024,
        message_len_max: 1 << 30,
        connection_ids_max: 8,
        ..TransportParams::default()
    }
}

/// Parameters as bytes.
pub fn encode_params(params: &TransportParams) -> Vec<u8> {
    let mut buf = [0; 512];
    let mut writer = Writer::new(&mut buf);
    params.write(&mut writer, 7).expect("512 bytes hold all parameters");
    writer.written().to_vec()
}

/// A frame as bytes.
pub fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut buf = vec![0; 1500];
    let mut writer = Writer::new(&mut buf);
    frame.write(&mut writer).expect("a frame of one packet");
    writer.written().to_vec()
}
