//! Where a server would rather be reached than where its client has found it (RFC 9000, section 9.6).

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use crate::connection_id::ConnectionId;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;

/// Addresses that a client should move to, and the id that it uses there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreferredAddress {
    /// For clients that reach the server by IPv4.
    pub v4: Option<SocketAddrV4>,
    /// For clients that reach it by IPv6.
    pub v6: Option<SocketAddrV6>,
    /// An id of the first path, with sequence number 1.
    pub id: ConnectionId,
    /// Its reset token.
    pub reset_token: [u8; limits::RESET_TOKEN_LEN],
}

impl PreferredAddress {
    /// The longest that it becomes, in bytes.
    pub(crate) const LEN_MAX: usize =
        4 + 2 + 16 + 2 + 1 + limits::CONNECTION_ID_LEN_MAX + limits::RESET_TOKEN_LEN;

    /// Reads the value of the parameter.
    ///
    /// # Errors
    /// When it has not the form of one.
    // spec: WIRE-47
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (ip, port) = (Ipv4Addr::from(reader.array()?), reader.u16()?);
        let v4 = place(ip.is_unspecified(), port)?.then(|| SocketAddrV4::new(ip, port));
        let (ip, port) = (Ipv6Addr::from(reader.array()?), reader.u16()?);
        let v6 = place(ip.is_unspecified(), port)?.then(|| SocketAddrV6::new(ip, port, 0, 0));
        let len = usize::from(reader.u8()?);
        let id = ConnectionId::new(reader.take(len)?).filter(|id| !id.is_empty());
        let (reset_token, is_anywhere) = (reader.array()?, v4.is_some() || v6.is_some());
        let id = id.filter(|_| is_anywhere && reader.is_empty()).ok_or(DecodeError::Invalid)?;
        Ok(Self { v4, v6, id, reset_token })
    }

    /// Writes the value of the parameter.
    ///
    /// # Errors
    /// When there is no room.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let v4 = self.v4.map_or((Ipv4Addr::UNSPECIFIED, 0), |at| (*at.ip(), at.port()));
        let v6 = self.v6.map_or((Ipv6Addr::UNSPECIFIED, 0), |at| (*at.ip(), at.port()));
        writer.bytes(&v4.0.octets())?;
        writer.u16(v4.1)?;
        writer.bytes(&v6.0.octets())?;
        writer.u16(v6.1)?;
        writer.u8(self.id.len() as u8)?;
        writer.bytes(self.id.as_bytes())?;
        writer.bytes(&self.reset_token)
    }
}

/// Whether an address is there: all of it is zero where there is none.
const fn place(no_host: bool, port: u16) -> Result<bool, DecodeError> {
    match (no_host, port) {
        (true, 0) => Ok(false),
        (false, 1..) => Ok(true),
        _ => Err(DecodeError::Invalid),
    }
}
