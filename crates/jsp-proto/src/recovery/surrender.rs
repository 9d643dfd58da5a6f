//! Packets that the peer has said it will not read.

use super::Recovery;
use super::sent::State;
use crate::token::{Fate, Token};

impl Recovery {
    /// Everything under way is of no use: its contents are lost, which says nothing of the network.
    /// Numbers go on.
    // spec: CON-55
    pub(crate) fn surrender(&mut self, fates: &mut Vec<(Token, Fate)>) {
        for (_, packet) in self.ledger.iter_from(self.ledger.first_pn()) {
            if packet.state == State::Outstanding {
                fates.extend(self.ledger.tokens(packet).map(|token| (token, Fate::Lost)));
            }
        }
        self.discard();
    }
}
