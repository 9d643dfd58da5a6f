//! What the applications at both ends say to each other, and what they must have heard.

use jsp_app::session::{ChannelId, Item, Limits, Saved, SendError, Session, Side};
use jsp_wire::Instant;

use super::plan::{ChannelPlan, Plan};
use crate::checkers::Violation;

/// A channel as it went so far: of its opener, and of the other end.
#[derive(Clone, Debug)]
struct Course {
    plan: ChannelPlan,
    id: Option<ChannelId>,
    /// Items that were given to the session by each, the end among them.
    sent: [usize; 2],
    /// Items of each that the other has received.
    received: [usize; 2],
    /// When a reader of each may go on.
    reads_at: [Instant; 2],
    /// Items that came a second time, to who had not confirmed them before its end.
    again: u64,
}

/// All channels of a world.
pub(super) struct Story {
    courses: Vec<Course>,
    pub(super) limits: Limits,
    /// What applications did so far.
    pub(super) steps: u64,
    pub(super) violations: Vec<Violation>,
    /// Items that were received, and when the last one was.
    pub(super) items: u64,
    pub(super) last: Instant,
}

fn content(course: usize, from: usize, number: usize, len: usize) -> Vec<u8> {
    let mark = course * 31 + from * 17 + number * 7;
    (0..len).map(|place| (mark + place) as u8).collect()
}

impl Course {
    /// Which of the two speaks for a side.
    fn part(&self, side: Side) -> usize {
        usize::from((side == Side::Server) != self.plan.by_server)
    }

    fn total(&self, part: usize) -> usize {
        self.plan.messages[part].len() + 1
    }

    fn is_done(&self) -> bool {
        (0..2).all(|part| {
            self.sent[part] == self.total(part) && self.received[part] == self.sent[part]
        })
    }
}

impl Story {
    pub(super) fn new(plan: &Plan) -> Self {
        let course = |plan: &ChannelPlan| Course {
            plan: plan.clone(),
            id: None,
            sent: [0; 2],
            received: [0; 2],
            reads_at: [Instant::ZERO; 2],
            again: 0,
        };
        Self {
            courses: plan.channels.iter().map(course).collect(),
            limits: plan.limits,
            steps: 0,
            violations: Vec::new(),
            items: 0,
            last: Instant::ZERO,
        }
    }

    /// Everything was said and heard.
    pub(super) fn is_done(&self) -> bool {
        self.courses.iter().all(Course::is_done)
    }

    /// What is missing.
    pub(super) fn missing(&self) -> Vec<String> {
        let open = self.courses.iter().enumerate().filter(|(_, course)| !course.is_done());
        open.map(|(place, course)| {
            format!(
                "channel {place}: sent {:?} of {:?}, received {:?}",
                course.sent,
                [course.total(0), course.total(1)],
                course.received
            )
        })
        .collect()
    }

    /// A side's application does what is due.
    pub(super) fn run(&mut self, now: Instant, side: Side, session: &mut Session) {
        for place in 0..self.courses.len() {
            self.open(now, side, place, session);
            self.send(now, side, place, session);
            self.receive(now, side, place, session);
        }
    }

    /// When a side has something to do by itself.
    pub(super) fn wake(&self, now: Instant, side: Side) -> Option<Instant> {
        let moments = self.courses.iter().flat_map(|course| {
            let part = course.part(side);
            let opens = (part == 0 && course.id.is_none()).then_some(course.plan.opens_at);
            let says = course.plan.messages[part].get(course.sent[part]).map(|planned| planned.0);
            let hears = Some(course.reads_at[1 - part]);
            [opens, says.filter(|_| course.id.is_some()), hears]
        });
        moments.flatten().filter(|at| *at > now).min()
    }

    fn open(&mut self, now: Instant, side: Side, place: usize, session: &mut Session) {
        let course = &mut self.courses[place];
        if course.part(side) == 0 && course.id.is_none() && course.plan.opens_at <= now {
            course.id = session.open(&place.to_string()).ok();
            self.steps += u64::from(course.id.is_some());
        }
    }

    fn send(&mut self, now: Instant, side: Side, place: usize, session: &mut Session) {
        let course = &mut self.courses[place];
        let part = course.part(side);
        // The other end answers once it knows of the channel.
        let Some(id) = course.id.filter(|id| session.channels().any(|(known, _)| known == *id))
        else {
            return;
        };
        while course.sent[part] < course.total(part) {
            let number = course.sent[part];
            let result = match course.plan.messages[part].get(number) {
                Some((at, _)) if *at > now => return,
                Some((_, len)) => {
                    session.send(id, content(place, part, number, *len).into()).map(Some)
                }
                None => session.finish(id).map(|()| None),
            };
            match result {
                Ok(given) if given.is_none_or(|given| given == number as u64) => {
                    course.sent[part] += 1;
                    self.steps += 1;
                }
                Err(SendError::Full | SendError::Over) => return,
                other => {
                    let what = format!("channel {place}: item {number} was taken as {other:?}");
                    return self.object(now, "sending", what);
                }
            }
        }
    }

    fn receive(&mut self, now: Instant, side: Side, place: usize, session: &mut Session) {
        loop {
            let course = &mut self.courses[place];
            let from = 1 - course.part(side);
            let Some(id) = course.id.filter(|_| course.reads_at[from] <= now) else { return };
            let Some((number, item)) = session.recv(id) else { return };
            course.reads_at[from] = now + course.plan.rests[from];
            let expected = course.received[from];
            let planned = course.plan.messages[from].get(expected);
            let is_right = number == expected as u64
                && expected < course.sent[from]
                && match (&item, planned) {
                    (Item::End, None) => true,
                    (Item::Message(payload), Some((_, len))) => {
                        *payload == content(place, from, expected, *len)
                    }
                    _ => false,
                };
            course.received[from] += 1;
            // A slow application confirms with its next look, a prompt one at once.
            if item == Item::End || course.plan.rests[from].is_zero() {
                session.confirm(id);
            }
            (self.items, self.steps, self.last) = (self.items + 1, self.steps + 1, now);
            if !is_right {
                let len = match &item {
                    Item::Message(payload) => payload.len().to_string(),
                    Item::End => "the end".to_owned(),
                };
                let what = format!(
                    "channel {place}: {number} ({len}) came to the {side:?} where {expected} was to come"
                );
                return self.object(now, "delivery", what);
            }
        }
    }

    fn object(&mut self, now: Instant, checker: &'static str, what: String) {
        self.violations.push(Violation { checker, at: now, what });
    }

    /// A side's process has ended; this is what it finds when it is started again.
    pub(super) fn crashed(&mut self, side: Side, saved: &Saved) {
        for course in &mut self.courses {
            let part = course.part(side);
            let Some(id) = course.id else { continue };
            if let Some(known) = saved.channels.iter().find(|channel| channel.id == id) {
                course.sent[part] = known.first as usize + known.unconfirmed.len();
                let from = 1 - part;
                course.again += (course.received[from] as u64).saturating_sub(known.taken);
                course.received[from] = known.taken as usize;
            } else if id.0 >= saved.next_channels[usize::from(id.0 % 2 == 1)] {
                course.sent[part] = 0;
                course.received[1 - part] = 0;
                if part == 0 {
                    course.id = None;
                }
            }
            course.reads_at = [Instant::ZERO; 2];
        }
    }

    /// The client knows of no session, and the server has made a new one.
    pub(super) fn server_began_anew(&mut self) {
        self.crashed(Side::Server, &Saved::default());
    }

    /// Items that came twice because they were not confirmed before a process ended.
    pub(super) fn again(&self) -> u64 {
        self.courses.iter().map(|course| course.again).sum()
    }
}
