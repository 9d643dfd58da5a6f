//! The JetStreamProto transport as a sans-I/O state machine.
