//! What befell connections beside the scheduler, from the programs' words to the model's.

use ipvs_observer_common::event::{self, ConnectionEvent};

use super::{clock::Clock, convert};
use crate::model::{
    Address, BegunBy, Connection, Decision, Drop, DropReason, End, How, Name, Outcome, Protocol, Traced,
    Virtual,
};

const TCP: u16 = 6;
const UDP: u16 = 17;
const SCTP: u16 = 132;

/// What befell a connection; none of a kind that this program does not know.
pub(super) fn befell(told: &ConnectionEvent, clock: Clock) -> Option<Traced> {
    let connection = connection(told, clock);
    Some(match told.kind {
        event::DROP => Traced::Drop(Drop {
            connection,
            reason: reason(told.what)?,
        }),
        event::END => Traced::End(End {
            connection,
            how: how(told.what)?,
            state: state(told.protocol, told.state),
        }),
        event::REUSED => Traced::Decision(Box::new(unscheduled(connection, BegunBy::Syn, Outcome::Reused))),
        _ => Traced::Decision(Box::new(unscheduled(
            connection,
            begun_by(told.what)?,
            Outcome::Elsewhere,
        ))),
    })
}

fn connection(told: &ConnectionEvent, clock: Clock) -> Connection {
    let (netns, service) = convert::service(&told.service);
    let address = |bytes| Address::new(service.family(), bytes);
    let total = told.flags & event::TOTAL_CONNECTIONS != 0;
    Connection {
        time: clock.real(told.time),
        netns,
        service,
        client: address(told.client),
        client_port: told.client_port,
        r#virtual: Virtual {
            protocol: Protocol(told.protocol),
            address: address(told.virtual_address),
            port: told.virtual_port,
        },
        destination: (told.destination.family != 0).then(|| convert::state(&told.destination, total)),
    }
}

/// A connection that no scheduler was asked for.
fn unscheduled(connection: Connection, begun_by: BegunBy, outcome: Outcome) -> Decision {
    let Connection {
        time,
        netns,
        service,
        client,
        client_port,
        r#virtual,
        destination,
    } = connection;
    Decision {
        time,
        netns,
        service,
        scheduler: Name::default(),
        client,
        client_port,
        r#virtual,
        begun_by: Some(begun_by),
        destination,
        ns: None,
        outcome,
        reason: String::new(),
        candidates: None,
    }
}

fn begun_by(by: u32) -> Option<BegunBy> {
    Some(match by {
        event::BEGUN_BY_SERVER => BegunBy::Server,
        event::BEGUN_BY_FTP => BegunBy::Ftp,
        event::BEGUN_BY_SYNC => BegunBy::Sync,
        _ => return None,
    })
}

fn reason(what: u32) -> Option<DropReason> {
    Some(match what {
        event::DROPPED_OLD_CONNTRACK => DropReason::OldConntrack,
        event::DROPPED_DEFENCE => DropReason::Defence,
        event::DROPPED_SERVER_REMOVED => DropReason::ServerRemoved,
        event::DROPPED_NO_ROUTE => DropReason::NoRoute,
        event::DROPPED_TOO_LARGE => DropReason::TooLarge,
        event::DROPPED_TRANSMIT => DropReason::Transmit,
        _ => return None,
    })
}

fn how(what: u32) -> Option<How> {
    Some(match what {
        event::HOW_CLOSED => How::Closed,
        event::HOW_RESET => How::Reset,
        event::HOW_HALF_OPEN => How::HalfOpen,
        event::HOW_IDLE => How::Idle,
        event::HOW_EXPIRED => How::Expired,
        event::HOW_DEFENCE => How::Defence,
        event::HOW_REPLACED => How::Replaced,
        event::HOW_SERVER_REMOVED => How::ServerRemoved,
        _ => return None,
    })
}

/// The name of a state, as `ipvsadm -Lnc` shows it.
fn state(protocol: u16, state: u16) -> Option<&'static str> {
    const OF_TCP: [&str; 11] = [
        "NONE",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "SYNACK",
    ];
    const OF_SCTP: [&str; 14] = [
        "NONE",
        "INIT1",
        "INIT",
        "C-SENT",
        "C-REPLIED",
        "C-WAIT",
        "COOKIE",
        "C-ECHOED",
        "ESTABLISHED",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
    let names: &[&str] = match protocol {
        TCP => &OF_TCP,
        SCTP => &OF_SCTP,
        UDP => &["UDP"],
        _ => &[],
    };
    names.get(usize::from(state)).copied()
}
