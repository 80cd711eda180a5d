//! Netlink over a channel: requests out, replies in, nothing lost unnoticed. Of every family.
//!
//! The bytes are our own, because neli's builders allocate for every attribute and its readers neither check for
//! truncation nor look at `NLM_F_DUMP_INTR` or the status of a `DONE`.

use std::{io, time::Duration};

use super::{
    Channel, Failure, Malformed,
    attributes::{Attributes, Writer, aligned},
};
use crate::privilege::{self, Capability};

/// Twice the header of a message.
const MESSAGE_HEADER: usize = 16;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// How the replies to one request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// Records read.
    pub records: usize,
    /// Datagrams that held records.
    pub datagrams: usize,
    /// Records that could not be decoded, and are left out.
    pub malformed: usize,
    /// Whether the kernel marked the dump as inconsistent.
    pub interrupted: bool,
}

/// Takes a record: its family's header, and the attributes behind it.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], Attributes<'_>) -> Result<(), Malformed>;

/// A channel to a netlink family, one request at a time.
pub(super) struct Link {
    channel: Box<dyn Channel>,
    buffer: Vec<u8>,
    request: Vec<u8>,
    sequence: u32,
    /// Bytes of the family's own header, which is behind that of each message.
    header: usize,
    timeout: Duration,
}

impl Link {
    /// Over `channel`, which waits for no reply longer than `timeout`, with so much room for a datagram.
    pub(super) fn new(channel: Box<dyn Channel>, header: usize, room: usize, timeout: Duration) -> Self {
        Self {
            channel,
            buffer: vec![0; room],
            request: Vec::with_capacity(128),
            sequence: 0,
            header,
            timeout,
        }
    }

    /// Begins a request of a type with the family's header. Its attributes are added to what this returns.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> Writer<'_> {
        self.sequence = self.sequence.wrapping_add(1);
        self.request.clear();
        self.request.extend_from_slice(&0u32.to_ne_bytes());
        self.request.extend_from_slice(&kind.to_ne_bytes());
        self.request.extend_from_slice(&flags.to_ne_bytes());
        self.request.extend_from_slice(&self.sequence.to_ne_bytes());
        self.request.extend_from_slice(&0u32.to_ne_bytes());
        self.request.extend_from_slice(header);
        Writer(&mut self.request)
    }

    /// Sends the request that was begun, and hands each record of the answer to `each`.
    pub(super) fn exchange(&mut self, dump: bool, each: Each<'_>) -> Result<Replies, Failure> {
        let length = self.request.len() as u32;
        self.request[..4].copy_from_slice(&length.to_ne_bytes());
        self.channel.send(&self.request).map_err(Failure::Socket)?;
        let mut replies = Replies::default();
        loop {
            let length = self.receive()?;
            let before = replies.records;
            let expected = Expected {
                sequence: self.sequence,
                header: self.header,
                dump,
            };
            let end = messages(&self.buffer[..length], &expected, &mut replies, each)?;
            replies.datagrams += usize::from(replies.records > before);
            if end {
                return Ok(replies);
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Failure> {
        loop {
            match self.channel.receive(&mut self.buffer) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(Failure::Truncated {
                        length,
                        capacity: self.buffer.len(),
                    });
                }
                Ok(length) => return Ok(length),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(Failure::Timeout(self.timeout));
                    }
                    _ => return Err(Failure::Socket(error)),
                },
            }
        }
    }
}

/// What the replies to a request are like.
struct Expected {
    sequence: u32,
    header: usize,
    dump: bool,
}

/// Walks the messages of one datagram; true when the last one of this request was among them.
fn messages(
    mut datagram: &[u8],
    expected: &Expected,
    replies: &mut Replies,
    each: Each<'_>,
) -> Result<bool, Failure> {
    let mut end = false;
    while !datagram.is_empty() {
        let Some(header) = datagram.first_chunk::<MESSAGE_HEADER>() else {
            return Err(Failure::Nonsense("a message shorter than its header"));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([k0, k1]);
        let flags = u16::from_ne_bytes([f0, f1]);
        let Some(body) = datagram.get(MESSAGE_HEADER..length) else {
            return Err(Failure::Nonsense("a message longer than its datagram"));
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        if u32::from_ne_bytes([s0, s1, s2, s3]) != expected.sequence {
            // The late answer to a request that was given up.
            continue;
        }
        replies.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match kind {
            NLMSG_NOOP => {}
            NLMSG_ERROR => return Err(error(body)),
            NLMSG_DONE => match status(body) {
                0 => end = true,
                code => return Err(refusal(code)),
            },
            NLMSG_OVERRUN => return Err(Failure::Nonsense("an overrun: records were lost")),
            _ => {
                let (header, attributes) = body
                    .split_at_checked(expected.header)
                    .ok_or(Failure::Nonsense("a reply shorter than its header"))?;
                match each(header, Attributes::new(attributes)) {
                    Ok(()) => replies.records += 1,
                    Err(_) => replies.malformed += 1,
                }
                end |= !expected.dump;
            }
        }
    }
    Ok(end)
}

/// The status of a `DONE` or an error: 0, or a negative error number. A `DONE` may come without one.
fn status(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

fn error(body: &[u8]) -> Failure {
    match status(body) {
        // Nothing here asks for acknowledgements: one means that the request was not understood as what it was.
        0 => Failure::Nonsense("an acknowledgement in place of an answer"),
        code => refusal(code),
    }
}

fn refusal(code: i32) -> Failure {
    let error = io::Error::from_raw_os_error(code.saturating_neg());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::NotPermitted(privilege::explain(Capability::NetAdmin)),
        _ => Failure::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn walk(datagram: &[u8]) -> (Result<bool, Failure>, Replies) {
        let mut replies = Replies::default();
        let expected = Expected {
            sequence: 7,
            header: 4,
            dump: true,
        };
        let outcome = messages(datagram, &expected, &mut replies, &mut |_, mut reply| {
            reply.try_for_each(|attribute| attribute.map(|_| ()))
        });
        (outcome, replies)
    }

    #[test]
    fn a_dump_that_fails_at_its_end_is_not_complete() {
        let mut datagram = message(0x20, 2, 7, &[4, 1, 0, 0]);
        datagram.extend(message(NLMSG_DONE, 2, 7, &(-12i32).to_ne_bytes()));
        let (outcome, replies) = walk(&datagram);
        assert!(matches!(outcome, Err(Failure::Refused(error)) if error.raw_os_error() == Some(12)));
        assert_eq!(replies.records, 1);
    }

    #[test]
    fn an_inconsistent_dump_is_noticed() {
        let (outcome, replies) = walk(&message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &[0; 4]));
        assert!(matches!(outcome, Ok(true)));
        assert!(replies.interrupted);
    }

    #[test]
    fn the_late_answer_to_an_earlier_request_is_not_this_ones() {
        let (outcome, replies) = walk(&message(NLMSG_DONE, 0, 6, &[0; 4]));
        assert!(matches!(outcome, Ok(false)));
        assert_eq!(replies, Replies::default());
    }

    #[test]
    fn a_refusal_for_want_of_privilege_is_told_from_others() {
        let (outcome, _) = walk(&message(NLMSG_ERROR, 0, 7, &(-1i32).to_ne_bytes()));
        assert!(matches!(outcome, Err(Failure::NotPermitted(_))));
    }

    #[test]
    fn an_acknowledgement_is_no_empty_table() {
        let (outcome, _) = walk(&message(NLMSG_ERROR, 0, 7, &[0; 4]));
        assert!(matches!(outcome, Err(Failure::Nonsense(_))));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_counted_and_the_rest_is_kept() {
        let mut datagram = message(0x20, 2, 7, &[4, 1, 0, 0, 99, 0, 1, 0]);
        datagram.extend(message(0x20, 2, 7, &[4, 1, 0, 0, 4, 0, 1, 0]));
        let (outcome, replies) = walk(&datagram);
        assert!(matches!(outcome, Ok(false)));
        assert_eq!((replies.records, replies.malformed), (1, 1));
    }

    #[test]
    fn a_message_that_claims_more_than_there_is_is_refused() {
        let mut datagram = message(0x20, 2, 7, &[4, 1, 0, 0]);
        datagram[0] = 200;
        assert!(matches!(walk(&datagram).0, Err(Failure::Nonsense(_))));
        datagram[0] = 3;
        assert!(matches!(walk(&datagram).0, Err(Failure::Nonsense(_))));
    }
}
