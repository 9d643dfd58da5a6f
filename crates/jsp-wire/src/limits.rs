//! Limits of version 1. Each states its unit, its meaning and its source; the relations between
//! them are checked when the crate is compiled.

/// UDP payload bytes that every path must carry, and the size datagrams start with
/// (RFC 9000, section 14; RFC 8899 BASE_PLPMTU).
pub const MTU_BASE: usize = 1200;

/// Largest UDP payload this version builds or accepts, in bytes: IPv4's limit of 65535 less IP and
/// UDP headers.
pub const MTU_MAX: usize = 65_507;

/// Largest datagram inside a reliable carrier, in bytes, and so the longest frame there.
pub const CARRIER_DATAGRAM_LEN_MAX: usize = 16_384;

/// Bytes of the AEAD tag at the end of each protected packet; all suites of version 1 have 16.
pub const TAG_LEN: usize = 16;

/// Bytes of ciphertext sampled for header protection (RFC 9001, section 5.4.2).
pub const SAMPLE_LEN: usize = 16;

/// Offset of the sample from the start of the packet number: as if the number had 4 bytes.
pub const SAMPLE_OFFSET: usize = 4;

/// Bytes of the longest packet number on the wire.
pub const PN_LEN_MAX: usize = 4;

/// Packet numbers stay below 2^62 (RFC 9000, section 12.3); the nonce is never repeated.
pub const PN_MAX: u64 = (1 << 62) - 1;

/// Longest connection id, in bytes (RFC 9000, section 17.2).
pub const CONNECTION_ID_LEN_MAX: usize = 20;

/// Bytes of the random destination id that a client makes for its first packets.
pub const CONNECTION_ID_LEN_INITIAL: usize = 8;

/// Bytes of the connection ids that a lone server, or a peer that both listens and connects, gives
/// itself.
pub const CONNECTION_ID_LEN_LOCAL: usize = 4;

/// Bytes of a stateless reset token (RFC 9000, section 10.3).
pub const RESET_TOKEN_LEN: usize = 16;

/// Longest handshake message, in bytes: a flight with two keys and two signatures of ML-DSA-65 has
/// 10.7 kB.
pub const HANDSHAKE_MESSAGE_LEN_MAX: usize = 12288;

/// Longest hello of a client, and longest message of an in-band exchange, in bytes.
pub const HELLO_LEN_MAX: usize = 4096;

/// Datagrams of the base size that the longest hello needs in Initial packets, whatever
/// the lengths of ids and token; with the ids and cookies of version 1, four do.
pub const HELLO_FRAGMENTS_MAX: usize = 5;

/// Longest token (cookie) in a long header, in bytes.
pub const TOKEN_LEN_MAX: usize = 128;

/// Most ranges in one ACK frame.
pub const ACK_RANGES_MAX: usize = 256;

/// Connection ids that a peer may have active at once.
pub const CONNECTION_IDS_ACTIVE_MAX: u64 = 8;

/// Most paths of a connection at once: each has an id that counts against those of a peer.
pub const PATHS_MAX: u64 = 4;

/// Longest label of a stream, in bytes.
pub const LABEL_LEN_MAX: usize = 255;

/// Longest reason in a CLOSE frame, in bytes.
pub const CLOSE_REASON_LEN_MAX: usize = 255;

/// How far the low 8 bits of a message number reach from the expected one, in messages: a sender
/// may use the one-byte form only while the number lies within this distance.
pub const MESSAGE_NUMBER_LOW8_REACH: u64 = 127;

/// A client's datagram in answer to nothing may be answered with this many times its bytes until
/// the address is validated (RFC 9000, section 8.1).
pub const AMPLIFICATION_FACTOR: u64 = 3;

/// Streams that a side may open in the life of a connection: the id of a further one would not fit
/// a varint (`index << 1 | side`, index 0 of the client being stream 0).
pub const STREAMS_COUNT_MAX: u64 = (1 << 61) - 1;

/// Most entries of a TLV list: looking for an id that comes twice costs the square of them.
pub const TLV_ENTRIES_MAX: usize = 63;

/// How far below the packet of a repair symbol its members may lie, less one, in packet numbers: what
/// a receiver keeps, and half of what GF(2^8) tells apart.
pub const REPAIR_REACH: usize = 128;

/// Bytes of the length at the start of a symbol of forward error correction.
pub const SYMBOL_LENGTH_LEN: usize = 2;

/// Longest payload that forward error correction protects, in bytes: that of a packet of Ethernet.
pub const PROTECTED_LEN_MAX: usize = 1500;

/// Most recovered packets that one ACK names.
pub const RECOVERED_NUMBERS_MAX: usize = 64;

/// Shortest and longest symbol of a large message, in bytes.
pub const OBJECT_SYMBOL_LEN_MIN: usize = 256;
/// See [`OBJECT_SYMBOL_LEN_MIN`].
pub const OBJECT_SYMBOL_LEN_MAX: usize = 1400;

/// Fewest and most symbols that a message may have itself: with few, a packet more or less is a large part; with many,
/// putting it together takes long.
pub const OBJECT_SYMBOLS_MIN: u64 = 100;
/// See [`OBJECT_SYMBOLS_MIN`].
pub const OBJECT_SYMBOLS_MAX: u64 = 2048;

/// Ids of symbols of a large message lie below twice the symbols that it has itself, and so many more: who may choose
/// among many makes putting it together ten times dearer.
pub const OBJECT_SYMBOLS_BEYOND: u64 = 64;

/// Streams that may be open at once in each direction, as a ceiling for configurations.
pub const STREAMS_OPEN_MAX: u64 = 1 << 20;

const _: () = assert!(MTU_BASE < MTU_MAX);
const _: () = assert!(MTU_BASE < CARRIER_DATAGRAM_LEN_MAX);
const _: () = assert!(PN_LEN_MAX == SAMPLE_OFFSET);
const _: () = assert!(CONNECTION_ID_LEN_INITIAL <= CONNECTION_ID_LEN_MAX);
const _: () = assert!(CONNECTION_ID_LEN_LOCAL <= CONNECTION_ID_LEN_INITIAL);
const _: () = assert!(PN_MAX == crate::varint::MAX);
// A hello of the largest size fits in its fragments at the base MTU, in Initial packets with the
// longest header: flags, version, two ids with their lengths, token with its length, length, number.
const INITIAL_HEADER_LEN_MAX: usize =
    1 + 4 + 2 * (1 + CONNECTION_ID_LEN_MAX) + (2 + TOKEN_LEN_MAX) + 2 + PN_LEN_MAX;
const HELLO_DATA_LEN: usize =
    MTU_BASE - INITIAL_HEADER_LEN_MAX - crate::frame::HandshakeFragment::HEAD_LEN - TAG_LEN;
const _: () = assert!(HELLO_FRAGMENTS_MAX * HELLO_DATA_LEN >= HELLO_LEN_MAX);
const _: () = assert!(MESSAGE_NUMBER_LOW8_REACH < 128);
const _: () = assert!(REPAIR_REACH == u128::BITS as usize);
const _: () = assert!(RECOVERED_NUMBERS_MAX <= REPAIR_REACH);
