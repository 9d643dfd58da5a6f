//! JetStreamProto for tokio: secure connections with many streams, each with its own delivery mode.
