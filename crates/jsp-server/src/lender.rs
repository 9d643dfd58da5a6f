//! Who clients are at a TURN server of somebody else.

use std::time::{SystemTime, UNIX_EPOCH};

use jsp_crypto::{Rng, SystemRng, base64, turn};
use jsp_nat::rendezvous::TurnGrant;

use crate::config::TurnConfig;

impl TurnConfig {
    /// A user of the server, from now on.
    // spec: RDV-129
    pub(crate) fn grant(&self) -> TurnGrant {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut name = [0; 8];
        SystemRng.fill(&mut name);
        self.grant_at(now, u64::from_be_bytes(name))
    }

    /// The same at a time, in seconds since 1970. A name is made up for each: the server need not know who is who.
    fn grant_at(&self, now: u64, name: u64) -> TurnGrant {
        let (server, seconds) = (self.server.clone(), self.lifetime);
        let Some(secret) = &self.secret else {
            let (user, password) = (self.user.clone(), self.password.clone());
            return TurnGrant { server, user, password, seconds };
        };
        let user = format!("{}:{name:016x}", now + u64::from(seconds));
        let password = base64::encode(&turn::secret_tag(secret.as_bytes(), &user));
        TurnGrant { server, user, password, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: RDV-129
    fn a_secret_makes_users_that_are_good_for_a_while() {
        let config = TurnConfig {
            server: "turn.example:3478".to_owned(),
            secret: Some("north".to_owned()),
            lifetime: 3600,
            ..TurnConfig::default()
        };
        let grant = config.grant_at(1_000_000, 0xabc);
        assert_eq!((&grant.user[..], grant.seconds), ("1003600:0000000000000abc", 3600));
        // The tag in base64.
        assert_eq!((grant.password.len(), grant.password.ends_with('=')), (28, true));
        assert_ne!(config.grant_at(1_000_000, 0xabd).password, grant.password);
    }
}
