//! Connection ids while their connection rests.

use super::{Held, Issued, LocalIds, RemoteIds};
use crate::pack::packed;

packed!(Issued { path, sequence, id, reset_token, announce });

packed!(LocalIds { first, issued, next_sequence; ended, changes });

packed!(RemoteIds {
    current, is_first_over, further, spare, retire, retire_prior_to, taken; seen
});

packed!(Held { path, sequence, id, reset_token });

impl LocalIds {
    /// True when nothing is lost by packing it.
    pub(crate) fn can_rest(&self) -> bool {
        self.ended.is_empty() && self.changes.is_empty()
    }
}

impl RemoteIds {
    /// True when nothing is lost by packing it.
    pub(crate) fn can_rest(&self) -> bool {
        self.seen.is_empty()
    }
}
