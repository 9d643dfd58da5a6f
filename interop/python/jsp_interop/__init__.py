"""JetStreamProto version 1, written from `docs/spec` and `vectors` alone."""
