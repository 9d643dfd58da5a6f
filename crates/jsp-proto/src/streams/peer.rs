//! What the two sides tell each other of streams.

use jsp_wire::TransportParams;

use super::Streams;

impl Streams {
    /// Fills in what our transport parameters say about streams.
    // spec: STR-20
    pub(crate) fn advertise(&self, params: &mut TransportParams) {
        params.data_max = self.limits.data_window.saturating_add(self.limits.message_len_max);
        params.stream_data_max = self.limits.stream_window;
        params.streams_max = self.limits.streams_max;
        params.message_len_max = self.limits.message_len_max;
    }
}
