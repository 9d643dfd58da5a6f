//! Frames of a connection with several paths.

use jsp_wire::frame::{PathAbandon, PathStatus, PathUse};
use jsp_wire::{DecodeError, Frame, FrameIter, PathId, Writer, varint};

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut room = [0; 64];
    let mut writer = Writer::new(&mut room);
    frame.write(&mut writer).unwrap();
    writer.written().to_vec()
}

fn read(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    FrameIter::new(bytes).next().unwrap()
}

#[test]
/// spec-test: PTH-4
fn frames_about_paths_round_trip_and_numbers_have_a_bound() {
    for id in [0, 1, 70, u32::MAX] {
        let path = PathId(id);
        let mut frames =
            vec![Frame::AboutPath(path), Frame::PathAbandon(PathAbandon { path, code: 1 })];
        for usage in [PathUse::Available, PathUse::Standby, PathUse::Down] {
            frames.push(Frame::PathStatus(PathStatus { path, sequence: varint::MAX, usage }));
        }
        for frame in frames {
            let bytes = encode(&frame);
            assert_eq!(read(&bytes), Ok(frame));
            assert!((1..bytes.len()).all(|len| read(&bytes[..len]).is_err()));
            assert_eq!(frame.is_ack_eliciting(), frame != Frame::AboutPath(path));
            assert!(!frame.is_allowed_in_handshake());
        }
    }
    for kind in [0x53, 0x54, 0x55] {
        // Type, a number of 2^32, and zeros.
        let bytes = [&[0x40, kind, 0xc0, 0, 0, 1][..], &[0; 16]].concat();
        assert_eq!(read(&bytes), Err(DecodeError::Invalid));
    }
    assert!(read(&[0x40, 0x55, 1, 0, 2]).is_ok());
    assert_eq!(read(&[0x40, 0x55, 1, 0, 3]), Err(DecodeError::Invalid));
}
