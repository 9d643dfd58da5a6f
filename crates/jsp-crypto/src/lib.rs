//! Cryptography of JetStreamProto: suites, key schedule, handshake, identities.
