//! IPVS's family of generic netlink: how it is found, and what is asked of it.

use std::{io, time::Duration};

use super::{
    Failure, Kernel, Malformed,
    attributes::Attributes,
    link::{Link, NLM_F_DUMP, NLM_F_REQUEST, Replies},
    wire::{Command, FAMILY, VERSION, service, top},
};
use crate::{
    model::{Family, ServiceKey},
    module,
};

/// Under 32 KiB the kernel cuts dumps off without a word; the rest is room for what may come.
const BUFFER: usize = 64 * 1024;
const GENERIC_HEADER: usize = 4;

const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_VERSION: u8 = 2;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

/// A socket to the family.
pub struct Socket {
    link: Link,
    family: u16,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Socket")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket. No reply is waited for longer than `timeout`; `room` is the least size of the receive
    /// buffer in bytes.
    pub fn open(kernel: &mut dyn Kernel, timeout: Duration, room: usize) -> Result<Self, Failure> {
        let channel = kernel.open(timeout).map_err(Failure::Socket)?;
        Ok(Self {
            link: Link::new(channel, GENERIC_HEADER, BUFFER.max(room), timeout),
            family: 0,
        })
    }

    /// Takes over the number of the family that `other` found.
    pub fn know(&mut self, other: &Self) {
        self.family = other.family;
    }

    /// Finds the family's number. Asked anew at each gather: it changes when the module is loaded again, and a
    /// request to a number that is nobody's, or another's, must not be taken for an empty table.
    pub fn resolve(&mut self) -> Result<(), Failure> {
        let mut name = FAMILY.as_bytes().to_vec();
        name.push(0);
        let header = [CONTROL_GET_FAMILY, CONTROL_VERSION, 0, 0];
        self.link
            .begin(CONTROL, NLM_F_REQUEST, &header)
            .put(CONTROL_FAMILY_NAME, &name);
        let mut found = None;
        let outcome = self.link.exchange(false, &mut |_, reply| {
            for attribute in reply {
                let attribute = attribute?;
                if attribute.kind == CONTROL_FAMILY_ID {
                    found = Some(attribute.u16()?);
                }
            }
            Ok(())
        });
        match outcome {
            Err(Failure::Refused(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::Absent(module::remedy()))
            }
            Err(failure) => Err(failure),
            Ok(_) => {
                self.family = found.ok_or(Failure::Nonsense("no family number in the answer"))?;
                Ok(())
            }
        }
    }

    /// Asks for everything that `command` lists and hands the attributes of each record to `each`.
    pub fn dump(
        &mut self,
        command: Command,
        selector: Option<&ServiceKey>,
        each: &mut dyn FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<Replies, Failure> {
        self.begin(command, NLM_F_REQUEST | NLM_F_DUMP, selector);
        self.link.exchange(true, &mut |_, reply| each(reply))
    }

    /// Asks for one record.
    pub fn ask(
        &mut self,
        command: Command,
        selector: Option<&ServiceKey>,
        each: &mut dyn FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<Replies, Failure> {
        self.begin(command, NLM_F_REQUEST, selector);
        self.link.exchange(false, &mut |_, reply| each(reply))
    }

    fn begin(&mut self, command: Command, flags: u16, selector: Option<&ServiceKey>) {
        let header = [command as u8, VERSION, 0, 0];
        let mut request = self.link.begin(self.family, flags, &header);
        let Some(key) = selector else { return };
        request.nest(top::SERVICE, |writer| {
            let Family(family) = key.family();
            writer.put(service::FAMILY, &family.to_ne_bytes());
            match key {
                ServiceKey::Fwmark { mark, .. } => writer.put(service::FWMARK, &mark.to_ne_bytes()),
                ServiceKey::Endpoint {
                    address,
                    protocol,
                    port,
                } => {
                    writer.put(service::PROTOCOL, &protocol.0.to_ne_bytes());
                    writer.put(service::ADDRESS, &address.bytes());
                    writer.put(service::PORT, &port.to_be_bytes());
                }
            }
        });
    }
}
