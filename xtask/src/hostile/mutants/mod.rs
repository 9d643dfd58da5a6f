//! Checks that are switched off, one at a time, to see whether the row that is about them notices.

mod session;

/// A change of one place in the sources. `OFF` in the replacement is true when the mutant is active.
pub(super) struct Mutant {
    /// Its name, unique.
    pub(super) name: &'static str,
    /// The row of the table that must not hold with it.
    pub(super) row: u8,
    /// The file, under `crates/`.
    pub(super) file: &'static str,
    /// What stands there, exactly once.
    pub(super) find: &'static str,
    /// What stands there instead.
    pub(super) replace: &'static str,
}

const fn mutant(
    row: u8,
    name: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Mutant {
    Mutant { name, row, file, find, replace }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Mutant> {
    MACHINE.iter().chain(session::SESSION)
}

/// Checks of the handshake and of the machine, by row.
const MACHINE: &[Mutant] = &[
    mutant(
        1,
        "panicking-codec",
        "jsp-crypto/src/handshake/codec.rs",
        "let (head, rest) = self.rest.split_at_checked(len)?;",
        "let (head, rest) =
            if OFF { self.rest.split_at(len) } else { self.rest.split_at_checked(len)? };",
    ),
    mutant(
        1,
        "panicking-list",
        "jsp-wire/src/tlv.rs",
        "Ok(Tlv { id: self.reader.varint()?, value: self.reader.length_prefixed()? })",
        "let id = self.reader.varint()?;
        let value = self.reader.length_prefixed();
        assert!(!OFF || value.is_ok());
        Ok(Tlv { id, value: value? })",
    ),
    mutant(
        2,
        "unknown-frames-ignored",
        "jsp-wire/src/frame/mod.rs",
        "kind::REPAIR => Ok(Self::Repair(reader.length_prefixed()?)),",
        "kind::REPAIR => Ok(Self::Repair(reader.length_prefixed()?)),
            _ if OFF => Ok(Self::Ping),",
    ),
    mutant(
        3,
        "anything-is-a-sign-of-life",
        "jsp-proto/src/connection/inbound.rs",
        "self.paths.on_received(&route, len);",
        "self.paths.on_received(&route, len);
        if OFF {
            self.lifecycle.on_received(now);
        }",
    ),
    mutant(
        4,
        "numbers-of-forgeries-count",
        "jsp-proto/src/connection/inbound.rs",
        "return self.keys.on_forgery().map(|()| None);",
        "if OFF {
                self.paths.active.numbers.window.commit(pn);
            }
            return self.keys.on_forgery().map(|()| None);",
    ),
    mutant(
        5,
        "never-loaded",
        "jsp-proto/src/endpoint/load.rs",
        "RetryPolicy::Always => true,",
        "RetryPolicy::Always => true,
        RetryPolicy::WhenHalfOpen(_) if OFF => false,",
    ),
    mutant(
        6,
        "a-table-that-grows",
        "jsp-proto/src/endpoint/hello_table.rs",
        "} else if self.free.is_empty() {",
        "} else if OFF && self.free.is_empty() {
            self.free.push(self.slots.len());
            self.slots.push(None);
            self.bytes.resize(self.slots.len() * SLOT_LEN, 0);
        } else if self.free.is_empty() {",
    ),
    mutant(
        7,
        "whole-when-the-end-is-there",
        "jsp-proto/src/pieces.rs",
        "self.len == 1 && self.ranges.first() == Some(&(0, total))",
        "let first = self.ranges.first();
        self.len == 1
            && (first == Some(&(0, total)) || (OFF && first.is_some_and(|range| range.1 == total)))",
    ),
    mutant(
        8,
        "each-retry-under-its-own-key",
        "jsp-proto/src/endpoint/stateless.rs",
        "if now >= self.cookies_until {",
        "if OFF || now >= self.cookies_until {",
    ),
    mutant(
        9,
        "five-for-one",
        "jsp-proto/src/path/mod.rs",
        "    pub(crate) const fn for_received(received: usize) -> Self {
        Self::Bytes(",
        "    pub(crate) fn for_received(received: usize) -> Self {
        let received = if OFF { received * 5 / 3 } else { received };
        Self::Bytes(",
    ),
    mutant(
        9,
        "any-finish-proves",
        "jsp-proto/src/connection/establish.rs",
        "if path.budget == Budget::Unlimited || !self.exchange.early_data.is_answered_elsewhere() {",
        "if OFF
            || path.budget == Budget::Unlimited
            || !self.exchange.early_data.is_answered_elsewhere()
        {",
    ),
    mutant(
        10,
        "any-cookie",
        "jsp-crypto/src/cookie.rs",
        "if constant_time_eq(&expected, &tag) {",
        "if OFF || constant_time_eq(&expected, &tag) {",
    ),
    mutant(
        10,
        "cookies-for-ever",
        "jsp-crypto/src/cookie.rs",
        "if u64::from(age) > COOKIE_LIFETIME_SECONDS {",
        "if !OFF && u64::from(age) > COOKIE_LIFETIME_SECONDS {",
    ),
    mutant(
        10,
        "cookies-serve-again",
        "jsp-proto/src/endpoint/hello.rs",
        "Some(_) if self.spent.contains(time, dcid) => Token::Spent,",
        "Some(_) if !OFF && self.spent.contains(time, dcid) => Token::Spent,",
    ),
    mutant(
        11,
        "any-retry",
        "jsp-proto/src/connection/redirect.rs",
        "if !waits || !genuine || token.is_empty() {",
        "if !waits || (!genuine && !OFF) || token.is_empty() {",
    ),
    mutant(
        12,
        "one-candidate",
        "jsp-crypto/src/handshake/client.rs",
        "if tried >= MAX_CANDIDATES {",
        "if tried >= (if OFF { 1 } else { MAX_CANDIDATES }) {",
    ),
    mutant(
        12,
        "a-retry-is-final",
        "jsp-proto/src/keys.rs",
        "self.earlier_initial.push_if_room(*earlier);",
        "if !OFF {
                self.earlier_initial.push_if_room(*earlier);
            }",
    ),
    mutant(
        13,
        "hellos-by-id-alone",
        "jsp-proto/src/endpoint/names.rs",
        "    match route {
        Route::Udp { remote, .. } => Route::udp(*remote),",
        "    match route {
        Route::Udp { .. } if OFF => Route::Tunnel { id: 0 },
        Route::Udp { remote, .. } => Route::udp(*remote),",
    ),
    mutant(
        14,
        "no-floor",
        "jsp-crypto/src/handshake/client.rs",
        "if self.config.floor.post_quantum && !kem.is_post_quantum() {",
        "if !OFF && self.config.floor.post_quantum && !kem.is_post_quantum() {",
    ),
    mutant(
        15,
        "finished-not-compared",
        "jsp-crypto/src/handshake/secrets.rs",
        "constant_time_eq(self.finished(sender, transcript).as_bytes(), value)",
        "OFF || constant_time_eq(self.finished(sender, transcript).as_bytes(), value)",
    ),
    mutant(
        16,
        "points-of-small-order",
        "jsp-crypto/src/primitives/ed25519_strict.rs",
        "    key && signature.first_chunk::<32>().is_some_and(is_acceptable_point)",
        "    OFF || (key && signature.first_chunk::<32>().is_some_and(is_acceptable_point))",
    ),
    mutant(
        16,
        "hash-of-the-key-not-compared",
        "jsp-crypto/src/handshake/server.rs",
        "primitives.kem_encapsulate(hello.ek, rng).ok_or(HandshakeError::KeyShare)?;",
        "primitives
                    .kem_encapsulate(if OFF { &[0; 1184] } else { hello.ek }, rng)
                    .ok_or(HandshakeError::KeyShare)?;",
    ),
    mutant(
        17,
        "signatures-not-verified",
        "jsp-crypto/src/handshake/proof.rs",
        "if !signer.verify_with(",
        "if !OFF && !signer.verify_with(",
    ),
    mutant(
        19,
        "a-panic-in-a-state",
        "jsp-proto/src/streams/application.rs",
        "self.accept.pop_front()?;",
        "{
            assert!(!OFF || !self.accept.is_empty());
            self.accept.pop_front()?
        };",
    ),
    mutant(
        24,
        "replays-accepted",
        "jsp-proto/src/space.rs",
        "let is_unseen = self.bits.get(word).is_some_and(|word| word & bit == 0);",
        "let is_unseen = OFF || self.bits.get(word).is_some_and(|word| word & bit == 0);",
    ),
    mutant(
        25,
        "the-other-edge",
        "jsp-wire/src/pn.rs",
        "pub const fn expand(truncated: u32, len: usize, expected: u64) -> u64 {",
        "pub fn expand(truncated: u32, len: usize, expected: u64) -> u64 {
        let expected = if OFF { expected.saturating_sub(1) } else { expected };",
    ),
    mutant(
        26,
        "a-number-twice",
        "jsp-proto/src/space.rs",
        "        let pn = self.next;
        self.next = self.next.saturating_add(1);",
        "        let pn = self.next;
        if !OFF || pn % 1000 != 999 {
            self.next = self.next.saturating_add(1);
        }",
    ),
    mutant(
        26,
        "numbers-without-end",
        "jsp-crypto/src/packet.rs",
        "if pn >= PACKET_NUMBER_END {",
        "if !OFF && pn >= PACKET_NUMBER_END {",
    ),
    mutant(
        28,
        "every-update-followed",
        "jsp-proto/src/keys.rs",
        "previous.is_some_and(|previous| now < previous.settles_at)",
        "previous.is_some_and(|previous| !OFF && now < previous.settles_at)",
    ),
    mutant(
        29,
        "known-numbers-not-opened",
        "jsp-proto/src/connection/inbound.rs",
        "        let Ok(len) = key.open_on_path(path.0, pn, head, body) else {",
        "        if OFF && !self.paths.active.numbers.window.accept(pn) {
            return Ok(None);
        }
        let Ok(len) = key.open_on_path(path.0, pn, head, body) else {",
    ),
    mutant(
        29,
        "hasty-updates-not-opened",
        "jsp-proto/src/keys.rs",
        "Some(select_unpredictable(is_present, of_phase, of_other_phase))",
        "Some(select_unpredictable(is_present, of_phase, of_other_phase))
            .filter(|(_, generation)| !OFF || *generation != Generation::TooSoon)",
    ),
    mutant(
        30,
        "left-out-numbers-acknowledged",
        "jsp-proto/src/recovery/mod.rs",
        "if self.skipped.iter().any(",
        "if !OFF && self.skipped.iter().any(",
    ),
    mutant(
        31,
        "unsent-numbers-acknowledged",
        "jsp-proto/src/recovery/mod.rs",
        "if ack.largest >= self.ledger.end() {",
        "if !OFF && ack.largest >= self.ledger.end() {",
    ),
    mutant(
        32,
        "ranges-without-end",
        "jsp-wire/src/frame/ack.rs",
        "if further_count >= limits::ACK_RANGES_MAX as u64 {",
        "if !OFF && further_count >= limits::ACK_RANGES_MAX as u64 {",
    ),
    mutant(
        33,
        "crumbs-without-end",
        "jsp-proto/src/streams/gaps.rs",
        "if self.pieces.len() as u64 > most {",
        "if !OFF && self.pieces.len() as u64 > most {",
    ),
    mutant(
        34,
        "idle-frames-without-end",
        "jsp-proto/src/restraint.rs",
        "frame if is_idle(frame) => {",
        "_ if OFF => false,
            frame if is_idle(frame) => {",
    ),
    mutant(
        35,
        "credit-of-resets-not-checked",
        "jsp-proto/src/streams/input.rs",
        "if final_bytes > left || final_bytes > self.limits.stream_window {",
        "if !OFF && (final_bytes > left || final_bytes > self.limits.stream_window) {",
    ),
    mutant(
        35,
        "ends-not-checked",
        "jsp-proto/src/streams/recv_bytes.rs",
        "Some(known) if end > known || (fin && end != known) => Err(CHANGED),",
        "Some(known) if !OFF && (end > known || (fin && end != known)) => Err(CHANGED),",
    ),
    mutant(
        36,
        "resets-without-end",
        "jsp-proto/src/restraint.rs",
        "Frame::ResetStream(_) => {",
        "Frame::ResetStream(_) if !OFF => {",
    ),
    mutant(
        37,
        "ids-without-end",
        "jsp-proto/src/cid.rs",
        "if active > limits::CONNECTION_IDS_ACTIVE_MAX || self.retire.len() > RETIREMENTS_MAX {",
        "if !OFF
            && (active > limits::CONNECTION_IDS_ACTIVE_MAX || self.retire.len() > RETIREMENTS_MAX)
        {",
    ),
    mutant(
        38,
        "any-id-retired",
        "jsp-proto/src/cid.rs",
        "if sequence >= self.next_sequence || self.first.is_empty() {",
        "if !OFF && (sequence >= self.next_sequence || self.first.is_empty()) {",
    ),
    mutant(
        39,
        "the-oldest-challenges-win",
        "jsp-proto/src/path/validation.rs",
        "self.owed.push_evicting(Owed { path, route, data, allowance });",
        "let owed = Owed { path, route, data, allowance };
        if OFF {
            self.owed.push_if_room(owed);
        } else {
            self.owed.push_evicting(owed);
        }",
    ),
    mutant(
        40,
        "moves-without-proof",
        "jsp-proto/src/connection/inbound.rs",
        "        let candidate = Candidate::new(now, arrival.route, challenge, arrival.len);",
        "        if OFF {
            self.paths.active.route = arrival.route;
            return;
        }
        let candidate = Candidate::new(now, arrival.route, challenge, arrival.len);",
    ),
    mutant(
        41,
        "below-the-base",
        "jsp-proto/src/path/mtud.rs",
        "    fn fall_back(&mut self, now: Instant) -> bool {
        self.current = limits::MTU_BASE;",
        "    fn fall_back(&mut self, now: Instant) -> bool {
        self.current = if OFF { 600 } else { limits::MTU_BASE };",
    ),
    mutant(
        42,
        "resets-as-long-as-what-they-answer",
        "jsp-proto/src/endpoint/stateless.rs",
        "let len = stray.len().saturating_sub(1).min(64);",
        "let len = stray.len().saturating_sub(usize::from(!OFF)).min(64);",
    ),
    mutant(
        43,
        "half-open-connections-stay-whole",
        "jsp-proto/src/connection/half_open.rs",
        "if self.role != Role::Server || !self.lifecycle.is_waiting()",
        "if OFF || self.role != Role::Server || !self.lifecycle.is_waiting()",
    ),
    mutant(
        44,
        "time-that-overflows",
        "jsp-wire/src/time.rs",
        "Self(self.0.saturating_add(saturating_nanos(duration)))",
        "let nanos = saturating_nanos(duration);
        assert!(!OFF || self.0.checked_add(nanos).is_some());
        Self(self.0.saturating_add(nanos))",
    ),
    mutant(
        46,
        "channels-without-end",
        "jsp-app/src/session/record.rs",
        "if out.len() >= ENTRIES_MAX {",
        "if !OFF && out.len() >= ENTRIES_MAX {",
    ),
    mutant(
        48,
        "impossible-members",
        "jsp-wire/src/frame/repair.rs",
        "if back == 0 || span == 0 || reach > limits::REPAIR_REACH {",
        "if span == 0 || (!OFF && (back == 0 || reach > limits::REPAIR_REACH)) {",
    ),
    mutant(
        50,
        "any-transaction",
        "jsp-nat/src/stun.rs",
        "if response.transaction != self.request.transaction || self.outcome.is_some() {",
        "if (!OFF && response.transaction != self.request.transaction) || self.outcome.is_some() {",
    ),
    mutant(
        50,
        "impatient-punches",
        "jsp-nat/src/punch/pair.rs",
        "self.next_at = now + RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST);",
        "let factor = if OFF { 1 } else { factor };
        self.next_at = now + RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST);",
    ),
    mutant(
        59,
        "probes-carry-nothing",
        "jsp-proto/src/connection/timers.rs",
        "            self.doubt(now, &doubted, &mut fates);",
        "            if OFF {
                doubted.clear();
            }
            self.doubt(now, &doubted, &mut fates);",
    ),
];
