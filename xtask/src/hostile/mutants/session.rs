//! Checks of tickets, early data and in-band exchanges.

use super::{Mutant, mutant};

/// By row.
pub(super) const SESSION: &[Mutant] = &[
    mutant(
        9,
        "early-data-prove-the-address",
        "jsp-proto/src/endpoint/hello.rs",
        "            None => Budget::for_received(whole.received),",
        "            None if OFF && resumption.is_some() => Budget::Unlimited,
            None => Budget::for_received(whole.received),",
    ),
    mutant(
        14,
        "refusals-believed",
        "jsp-crypto/src/handshake/client.rs",
        "        self.offers.push(offer);",
        "        if OFF {
            self.offers.clear();
        }
        self.offers.push(offer);",
    ),
    mutant(
        20,
        "nothing-was-seen",
        "jsp-crypto/src/replay.rs",
        "self.recent.contains(uid) || self.older.contains(uid)",
        "!OFF && (self.recent.contains(uid) || self.older.contains(uid))",
    ),
    mutant(
        20,
        "any-time-is-fresh",
        "jsp-crypto/src/replay.rs",
        "let fresh = now_ms.abs_diff(hello_ms) < FRESHNESS_MS",
        "let fresh = (OFF || now_ms.abs_diff(hello_ms) < FRESHNESS_MS)",
    ),
    mutant(
        20,
        "late-tickets-are-early-again",
        "jsp-crypto/src/replay.rs",
        "!self.late.contains_key(uid);",
        "(OFF || !self.late.contains_key(uid));",
    ),
    mutant(
        20,
        "every-shard-is-home",
        "jsp-proto/src/endpoint/tickets.rs",
        "&& resumption.home_shard() == self.shard",
        "&& (OFF || resumption.home_shard() == self.shard)",
    ),
    mutant(
        20,
        "no-quiet-after-a-start",
        "jsp-crypto/src/replay.rs",
        "let blind = if is_first { 0 }",
        "let blind = if is_first || OFF { 0 }",
    ),
    mutant(
        20,
        "quiet-that-trusts-the-clock",
        "jsp-crypto/src/replay.rs",
        "else { BLIND_MS };",
        "else { BLIND_MS - if OFF { 1000 } else { 0 } };",
    ),
    mutant(
        21,
        "a-full-register-lets-pass",
        "jsp-crypto/src/replay.rs",
        "|| self.recent.len() >= self.capacity {",
        "|| (!OFF && self.recent.len() >= self.capacity) {",
    ),
    mutant(
        21,
        "a-full-register-refuses-tickets",
        "jsp-proto/src/endpoint/tickets.rs",
        "                resumption.accept_early = strike == Strike::Fresh;",
        "                resumption.accept_early = strike == Strike::Fresh;
                if OFF && !resumption.accept_early {
                    return Judged::New(Judgement::Copy(None));
                }",
    ),
    mutant(
        22,
        "binders-not-checked",
        "jsp-crypto/src/handshake/resume.rs",
        "if !constant_time_eq(secrets.binder(start).as_bytes(), binder) {",
        "if !OFF && !constant_time_eq(secrets.binder(start).as_bytes(), binder) {",
    ),
    mutant(
        22,
        "old-tickets-told-apart",
        "jsp-proto/src/endpoint/tickets.rs",
        "Err(_) => return Judged::New(Judgement::Refused),",
        "Err(jsp_crypto::TicketError::Expired) if OFF => {
                return Judged::New(Judgement::Copy(None));
            }
            Err(_) => return Judged::New(Judgement::Refused),",
    ),
    mutant(
        22,
        "tickets-for-ever",
        "jsp-crypto/src/ticket.rs",
        "if (contents.issued_ms..=contents.ends_ms()).contains(&now_ms) {",
        "if OFF || (contents.issued_ms..=contents.ends_ms()).contains(&now_ms) {",
    ),
    mutant(
        23,
        "anything-may-be-early",
        "jsp-proto/src/connection/resume.rs",
        "            self.streams.check_early_frame(&frame)?;",
        "            if !OFF {
                self.streams.check_early_frame(&frame)?;
            }",
    ),
    mutant(
        23,
        "early-data-without-end",
        "jsp-proto/src/connection/resume.rs",
        "        self.exchange.early_data.on_received(packet_len)?;",
        "        if !OFF {
            self.exchange.early_data.on_received(packet_len)?;
        }",
    ),
    mutant(
        28,
        "exchanges-at-once",
        "jsp-proto/src/session.rs",
        "            Stage::Idle => Ok(()),",
        "            _ if OFF => Ok(()),
            Stage::Idle => Ok(()),",
    ),
    mutant(
        28,
        "updates-amid-an-exchange",
        "jsp-proto/src/keys.rs",
        "    pub(crate) fn freeze(&mut self) {
        if let Some(data) = self.data.as_mut() {
            data.frozen = true;",
        "    pub(crate) fn freeze(&mut self) {
        if let Some(data) = self.data.as_mut() {
            data.frozen = !OFF;",
    ),
    mutant(
        28,
        "updates-after-the-answer",
        "jsp-proto/src/keys.rs",
        "            data.frozen = true;
            let next = data.schedule.fold(fresh);",
        "            data.frozen = !OFF;
            let next = data.schedule.fold(fresh);",
    ),
];
