//! Which transfer has which unfinished file, and what was stored lately: so that a sender whose
//! connection broke can go on before the receiver has noticed, and stores nothing twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::path::SafePath;
use super::record::{HASH_LEN, Token};

/// Stored files that are remembered.
const STORED_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Claims {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Token, Arc<Notify>>,
    stored: HashMap<Token, ([u8; HASH_LEN], SafePath)>,
    /// Tokens of `stored`, the oldest first.
    order: VecDeque<Token>,
}

/// A transfer's hold on one unfinished file. It ends with its value.
#[derive(Debug)]
pub(crate) struct Claim {
    token: Token,
    displaced: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

impl Claims {
    /// Takes the file from whoever has it: only its sender knows the token.
    pub(crate) fn claim(&self, token: Token) -> Claim {
        let displaced = Arc::new(Notify::new());
        let before = lock(&self.state).held.insert(token, Arc::clone(&displaced));
        if let Some(before) = before {
            before.notify_one();
        }
        Claim { token, displaced, state: Arc::clone(&self.state) }
    }

    pub(crate) fn stored(&self, token: &Token) -> Option<([u8; HASH_LEN], SafePath)> {
        lock(&self.state).stored.get(token).cloned()
    }

    pub(crate) fn note_stored(&self, token: Token, hash: [u8; HASH_LEN], name: SafePath) {
        let mut state = lock(&self.state);
        if state.stored.insert(token, (hash, name)).is_none() {
            state.order.push_back(token);
        }
        if state.order.len() > STORED_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.stored.remove(&oldest);
        }
    }
}

impl Claim {
    /// Returns when another transfer has taken the file. Cancel-safe.
    pub(crate) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.held.get(&self.token).is_some_and(|held| Arc::ptr_eq(held, &self.displaced)) {
            state.held.remove(&self.token);
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::record::TOKEN_LEN;

    fn named(n: u8) -> Token {
        Token([n; TOKEN_LEN])
    }

    #[tokio::test]
    async fn the_later_transfer_has_the_file() {
        let claims = Claims::default();
        let first = claims.claim(named(1));
        let other = claims.claim(named(2));
        let second = claims.claim(named(1));
        first.displaced().await;
        drop(first);
        let third = claims.claim(named(1));
        second.displaced().await;
        drop((second, third, other));
        assert!(lock(&claims.state).held.is_empty());
    }

    #[test]
    fn what_was_stored_is_remembered_for_a_while() {
        let claims = Claims::default();
        let name = SafePath::parse("a").unwrap();
        let token = |n: usize| {
            let mut token = [0; TOKEN_LEN];
            token[..8].copy_from_slice(&n.to_be_bytes());
            Token(token)
        };
        for n in 0..=STORED_MAX {
            claims.note_stored(token(n), [3; HASH_LEN], name.clone());
            claims.note_stored(token(n), [4; HASH_LEN], name.clone());
        }
        assert_eq!(claims.stored(&token(0)), None);
        assert_eq!(claims.stored(&token(STORED_MAX)), Some(([4; HASH_LEN], name)));
        assert_eq!(lock(&claims.state).stored.len(), STORED_MAX);
    }
}
