//! Wire format of JetStreamProto: headers, frames, parameters, limits; no_std, no dependencies, total.
