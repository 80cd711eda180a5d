//! Who a packet is from and for, and what kind of packet it is.

use ipvs_observer_common::event;

use crate::{
    call::Call,
    read::{bytes, layout, number, raw_address},
};

/// `IP_VS_HDR_INVERSE`: the packet goes from the server to the client.
const INVERSE: u64 = 1;
/// `IP_VS_HDR_ICMP`: the header is of a packet within an ICMP message.
const ICMP: u64 = 1 << 1;

const TCP: u64 = 6;
const SCTP: u64 = 132;

/// The ports of a connection, in host order.
pub struct Ends {
    /// The client's.
    pub client_port: u16,
    /// The one that the client asks for.
    pub virtual_port: u16,
}

/// The client's address, and the one that it asks for, from the header that IPVS has parsed.
#[inline(always)]
pub fn addresses(client: &mut [u8; 16], asked_for: &mut [u8; 16], call: &Call) {
    let (source, destination) = (layout!(header.saddr), layout!(header.daddr));
    let inverse = is(call, INVERSE);
    raw_address(client, call.header, if inverse { destination } else { source });
    raw_address(asked_for, call.header, if inverse { source } else { destination });
}

/// The ports behind the header; none if they cannot be read in one piece.
#[inline(always)]
pub fn ends(call: &Call) -> Option<Ends> {
    let transport = transport::<4>(call)?;
    let [source, destination] = [0, 2].map(|at| u16::from_be_bytes(bytes(transport + at)));
    let (client_port, virtual_port) = if is(call, INVERSE) {
        (destination, source)
    } else {
        (source, destination)
    };
    Some(Ends {
        client_port,
        virtual_port,
    })
}

/// The packet's protocol.
#[inline(always)]
pub fn protocol(call: &Call) -> u64 {
    number(call.header, layout!(header.protocol))
}

/// What kind of packet begins a connection, where there are several: one of the `BEGUN_BY_*`.
#[inline(always)]
pub fn begun_by(call: &Call) -> u32 {
    /// Where the flags of TCP are, and the first chunk's type of SCTP.
    const FLAGS: u64 = 13;
    const CHUNK: u64 = 12;
    const SYN: u8 = 1 << 1;
    const INIT: u8 = 1;

    if is(call, ICMP) {
        return event::BEGUN_BY_ICMP;
    }
    let protocol = protocol(call);
    if protocol != TCP && protocol != SCTP {
        return 0;
    }
    let Some(transport) = transport::<14>(call) else {
        return 0;
    };
    let begins = if protocol == TCP {
        let [flags] = bytes(transport + FLAGS);
        flags & SYN != 0
    } else {
        let [chunk] = bytes(transport + CHUNK);
        chunk == INIT
    };
    if begins {
        event::BEGUN_BY_SYN
    } else {
        event::BEGUN_BY_DATA
    }
}

#[inline(always)]
fn is(call: &Call, flag: u64) -> bool {
    number(call.header, layout!(header.hdr_flags)) & flag != 0
}

/// Where the header behind that of IP is, if so many bytes of it can be read in one piece.
#[inline(always)]
fn transport<const BYTES: u64>(call: &Call) -> Option<u64> {
    let transport = number(call.header, layout!(header.len));
    let linear =
        number(call.packet, layout!(packet.len)).wrapping_sub(number(call.packet, layout!(packet.data_len)));
    (transport + BYTES <= linear).then(|| number(call.packet, layout!(packet.data)) + transport)
}
