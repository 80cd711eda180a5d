//! Who a packet is from and for.

use crate::{
    call::Call,
    read::{bytes, layout, number, raw_address},
};

/// `IP_VS_HDR_INVERSE`: the packet goes from the server to the client.
const INVERSE: u64 = 1;

/// The ends of a connection.
pub struct Ends {
    /// The client's address.
    pub client: [u8; 16],
    /// The client's port in host order; 0 if it cannot be read in one piece.
    pub client_port: u16,
    /// The port that the client asks for, likewise.
    pub server_port: u16,
}

/// From the header that IPVS has parsed, and the ports behind it.
#[inline(always)]
pub fn ends(call: &Call) -> Ends {
    let inverse = number(call.header, layout!(header.hdr_flags)) & INVERSE != 0;
    let field = if inverse {
        layout!(header.daddr)
    } else {
        layout!(header.saddr)
    };
    let client = raw_address(call.header, field);
    let transport = number(call.header, layout!(header.len));
    let linear =
        number(call.packet, layout!(packet.len)).wrapping_sub(number(call.packet, layout!(packet.data_len)));
    if transport + 4 > linear {
        return Ends {
            client,
            client_port: 0,
            server_port: 0,
        };
    }
    let data = number(call.packet, layout!(packet.data));
    let [source, destination] = [0, 2].map(|at| u16::from_be_bytes(bytes(data + transport + at)));
    let (client_port, server_port) = if inverse {
        (destination, source)
    } else {
        (source, destination)
    };
    Ends {
        client,
        client_port,
        server_port,
    }
}
