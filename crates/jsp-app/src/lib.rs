//! Machines above the transport: "message in, message out". None of them knows a socket, a clock, a
//! runtime or a connection; drivers join them with one, `jsp-session` with the tokio facade.
#![forbid(unsafe_code)]

pub mod session;
