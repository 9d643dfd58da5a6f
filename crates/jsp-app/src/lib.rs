//! Machines above the transport: "message in, message out". None of them knows a socket, a clock, a
//! runtime or a connection; drivers join them with one, `jsp-session` with the tokio facade.
#![forbid(unsafe_code)]

pub mod session;

// The bodies of fuzz targets name the crate from outside.
#[cfg(test)]
extern crate self as jsp_app;
