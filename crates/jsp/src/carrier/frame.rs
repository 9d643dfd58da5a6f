//! Datagrams in a stream of bytes: each behind its length (RFC 4571, section 2).

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use jsp_wire::limits;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a length.
const HEAD_LEN: usize = 2;

/// Longest frame, with its length.
const FRAME_LEN_MAX: usize = HEAD_LEN + limits::CARRIER_DATAGRAM_LEN_MAX;

/// Takes datagrams out of a stream.
#[derive(Default)]
pub(super) struct FrameReader {
    /// What has come of the next frame, and of those behind it: never more than one frame has.
    buffer: BytesMut,
}

impl FrameReader {
    /// The next datagram; `None` at the end of the stream.
    ///
    /// Cancel-safe: what has been read is kept.
    ///
    /// # Errors
    /// When the stream fails, ends inside of a frame, or holds a frame that no peer sends.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<BytesMut>> {
        loop {
            if let Some(datagram) = self.take()? {
                return Ok(Some(datagram));
            }
            self.buffer.reserve(FRAME_LEN_MAX);
            let room = FRAME_LEN_MAX.saturating_sub(self.buffer.len());
            let read = stream.read_buf(&mut (&mut self.buffer).limit(room)).await?;
            if read == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// A datagram that is there as a whole.
    // spec: CAR-2, CAR-4
    fn take(&mut self) -> io::Result<Option<BytesMut>> {
        let Some(head) = self.buffer.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*head));
        if len == 0 || len > limits::CARRIER_DATAGRAM_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame of this protocol"));
        }
        if self.buffer.len() < HEAD_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEAD_LEN);
        // A copy: a small datagram must not keep the buffer of a large one.
        let datagram = BytesMut::from(&self.buffer[..len]);
        self.buffer.advance(len);
        Ok(Some(datagram))
    }
}

/// Puts a datagram behind its length. What is too long for a frame is lost.
// spec: CAR-2, CAR-3
pub(super) fn write(out: &mut BytesMut, datagram: &[u8]) {
    let fits = (1..=limits::CARRIER_DATAGRAM_LEN_MAX).contains(&datagram.len());
    if let (true, Ok(len)) = (fits, u16::try_from(datagram.len())) {
        out.put_u16(len);
        out.put_slice(datagram);
    }
}

/// The datagrams of whole frames.
#[cfg(feature = "websocket")]
pub(super) fn split(mut frames: bytes::Bytes) -> impl Iterator<Item = bytes::Bytes> {
    std::iter::from_fn(move || {
        let len = usize::from(frames.try_get_u16().ok()?);
        (len <= frames.len()).then(|| frames.split_to(len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn frames(datagrams: &[&[u8]]) -> BytesMut {
        let mut out = BytesMut::new();
        datagrams.iter().for_each(|datagram| write(&mut out, datagram));
        out
    }

    #[tokio::test]
    /// spec-test: CAR-2
    async fn datagrams_arrive_however_the_stream_is_cut() {
        let large = vec![7u8; limits::CARRIER_DATAGRAM_LEN_MAX];
        let sent = [&b"a"[..], &large, b"bcd", &large];
        let bytes = frames(&sent);
        for piece in [1, 2, 3, 1000, bytes.len()] {
            let (mut near, mut far) = tokio::io::duplex(piece);
            let bytes = bytes.clone();
            let writer = tokio::spawn(async move { near.write_all(&bytes).await });
            let mut reader = FrameReader::default();
            for datagram in sent {
                assert_eq!(reader.next(&mut far).await.unwrap().unwrap(), datagram);
                assert!(reader.buffer.len() <= FRAME_LEN_MAX);
            }
            writer.await.unwrap().unwrap();
            assert_eq!(reader.next(&mut far).await.unwrap(), None);
        }
    }

    #[tokio::test]
    /// spec-test: CAR-4
    async fn what_no_peer_sends_ends_the_stream() {
        let too_long = (limits::CARRIER_DATAGRAM_LEN_MAX as u16 + 1).to_be_bytes();
        for bytes in [&[0, 0, 1][..], &too_long, &[0xff, 0xff], &[0, 5, 1, 2]] {
            let mut reader = FrameReader::default();
            assert!(reader.next(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
    }

    #[test]
    /// spec-test: CAR-3
    fn what_fits_no_frame_is_lost() {
        assert!(frames(&[b"", &vec![0; limits::CARRIER_DATAGRAM_LEN_MAX + 1]]).is_empty());
    }
}
