//! How many connections each network may have where room is scarce.

use std::collections::HashMap;

use super::source::Prefix;

/// A network's share is never smaller.
const SHARE_MIN: usize = 16;

/// How many connections clients have, by the network that their hello came from. Networks without any are not kept.
#[derive(Default)]
pub(super) struct Shares {
    taken: HashMap<Prefix, usize>,
}

impl Shares {
    pub(super) fn enter(&mut self, prefix: Prefix) {
        let taken = self.taken.entry(prefix).or_default();
        *taken = taken.saturating_add(1);
    }

    pub(super) fn leave(&mut self, prefix: Prefix) {
        if let Some(taken) = self.taken.get_mut(&prefix) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.taken.remove(&prefix);
            }
        }
    }

    /// Whether a client from there is taken in, when `open` of at most `max` connections are there: any, up to three
    /// quarters of them. The last quarter is for networks that have less than a quarter.
    // spec: CON-202
    pub(super) fn have_room(&self, prefix: &Prefix, open: usize, max: usize) -> bool {
        let share = max / 4;
        let taken = self.taken.get(prefix).copied().unwrap_or(0);
        open < max.saturating_sub(share) || (open < max && taken < share.max(SHARE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsp_wire::Route;

    fn network(number: u8) -> Prefix {
        Prefix::of(&Route::udp(([10, 0, number, 1], 7).into()))
    }

    /// Connections that networks get, each in its turn and as many as it can.
    fn taken(max: usize, networks: u8) -> Vec<usize> {
        let mut shares = Shares::default();
        let mut open = 0;
        let mut take = |number: u8| {
            let before = open;
            while shares.have_room(&network(number), open, max) {
                shares.enter(network(number));
                open += 1;
            }
            open - before
        };
        (0..networks).map(&mut take).collect()
    }

    #[test]
    // spec-test: CON-202
    fn nobody_gets_the_last_quarter_alone() {
        assert_eq!(taken(1000, 3), [750, 250, 0]);
        assert_eq!(taken(100, 2), [75, 25]);
        // Where there are few, there is nothing to share.
        assert_eq!(taken(16, 2), [16, 0]);
        assert_eq!(taken(1, 1), [1]);
        assert_eq!(taken(0, 1), [0]);
    }

    #[test]
    fn networks_without_connections_are_forgotten() {
        let mut shares = Shares::default();
        shares.enter(network(1));
        shares.enter(network(1));
        shares.leave(network(1));
        assert_eq!(shares.taken.len(), 1);
        shares.leave(network(1));
        shares.leave(network(1));
        assert!(shares.taken.is_empty());
    }
}
