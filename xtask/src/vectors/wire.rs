//! Vectors of the wire format, one file for each encoding.
//!
//! Numbers above 2^53 are not exact in every reader of JSON, so numbers are decimal strings, but for
//! counts of bytes and numbers of shapes. Bytes are hexadecimal.

mod frames;
mod headers;
mod params;

use jsp_wire::{Writer, pn, varint};
use serde_json::{Value, json};

/// Every file of the wire format: its name and its text.
pub(super) fn all() -> Vec<(String, String)> {
    vec![
        file("varint", &varints()),
        file("packet-number", &packet_numbers()),
        file("headers", &headers::all()),
        file("frames", &frames::all()),
        file("params", &params::all()),
    ]
}

fn file(name: &str, content: &Value) -> (String, String) {
    let text = serde_json::to_string_pretty(content).expect("a JSON value prints");
    (format!("wire-{name}.json"), text + "\n")
}

/// What `write` puts into a buffer.
fn encode<T>(write: impl FnOnce(&mut Writer<'_>) -> Result<T, jsp_wire::Full>) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer).expect("a vector fits a datagram");
    writer.written().to_vec()
}

/// What `write` puts into a buffer, in hexadecimal.
fn hex<T>(write: impl FnOnce(&mut Writer<'_>) -> Result<T, jsp_wire::Full>) -> String {
    hex_of(&encode(write))
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inputs that a reader refuses, each with the reason.
fn refused(cases: &[(&str, &[u8])]) -> Vec<Value> {
    cases.iter().map(|(why, bytes)| json!({"why": why, "hex": hex_of(bytes)})).collect()
}

/// Both sides of every change of length, and the examples of RFC 9000, appendix A.1.
fn varints() -> Value {
    let edges = [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, varint::MAX];
    let published = [37, 15_293, 494_878_333, 151_288_809_941_952_652];
    let cases: Vec<Value> = edges
        .into_iter()
        .chain(published)
        .map(|value| json!({"value": value.to_string(), "hex": hex(|writer| writer.varint(value))}))
        .collect();
    json!({"description": "Variable-length integers in their shortest form", "cases": cases})
}

/// How many bytes a packet number takes, and how its low bytes become whole again.
fn packet_numbers() -> Value {
    let sent: Vec<Value> = [
        (0, None),
        (127, Some(0)),
        (128, Some(0)),
        (0xac_5c02, Some(0xab_e8b3)),
        (0xac_e8fe, Some(0xab_e8b3)),
    ]
    .into_iter()
    .map(|(number, acked): (u64, Option<u64>)| {
        json!({
            "number": number.to_string(),
            "largest_acknowledged": acked.map(|acked| acked.to_string()),
            "bytes": pn::len(number, acked),
        })
    })
    .collect();
    let received: Vec<Value> =
        [(0x9b32, 2, 0xa82f_30eb_u64), (0x00, 1, 0xff), (0xff, 1, 0x100), (0x05, 1, 0)]
            .into_iter()
            .map(|(low, bytes, expected)| {
                json!({
                    "low": low.to_string(),
                    "bytes": bytes,
                    "expected": expected.to_string(),
                    "number": pn::expand(low, bytes, expected).to_string(),
                })
            })
            .collect();
    json!({"description": "Packet numbers: length sent, and recovery", "sent": sent, "received": received})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_are_among_the_vectors() {
        let text = varints().to_string();
        assert!(
            text.contains("c2197c5eff14e88c") && text.contains("9d7f3e7d") && text.contains("7bbd")
        );
        assert!(packet_numbers().to_string().contains(&0xa82f_9b32_u64.to_string()));
    }
}
