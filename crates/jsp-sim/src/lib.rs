//! Seeded simulator with checkers for JetStreamProto.
