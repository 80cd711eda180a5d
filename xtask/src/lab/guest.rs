//! What runs inside the guest, and the words that it and the host exchange.
//!
//! Four virtio ports tie the two: the command's stdin, stdout and stderr, and a control port on which
//! the guest says what became of the run. The serial console carries what the kernel has to say.

use std::fmt::Write as _;

/// The guest's first process.
pub(crate) const INIT: &str = include_str!("guest/init.sh");
/// Ports, topology, command and end, for whatever is the first process.
pub(crate) const SESSION: &str = include_str!("guest/session.sh");
/// The unit of the session where the first process is systemd, and its program.
pub(crate) const SYSTEM: [&str; 2] = [
    include_str!("guest/system.service"),
    include_str!("guest/system.sh"),
];
/// What every shell in the guest reads.
pub(crate) const PROFILE: &str = include_str!("guest/profile.sh");

/// The ports by name: how the guest finds them below /sys/class/virtio-ports.
pub(crate) const STDIN: &str = "lab.stdin";
pub(crate) const STDOUT: &str = "lab.stdout";
pub(crate) const STDERR: &str = "lab.stderr";
pub(crate) const CONTROL: &str = "lab.control";

/// What is set up before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Topology {
    /// A director, a client and two real servers, with one virtual service
    Basic,
    /// Nothing but the loopback device: the module is not loaded
    Empty,
}

impl Topology {
    /// The script that sets it up.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Basic => include_str!("guest/basic.sh"),
            Self::Empty => include_str!("guest/empty.sh"),
        }
    }
}

/// What the guest says on the control port, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Everything is set up and the command starts.
    Started,
    /// The command ended with this status, having written so many bytes to stdout and to stderr. A port
    /// takes bytes before the host has them, so the host counts.
    Done { status: u8, written: [u64; 2] },
    /// The guest could not get as far as the command.
    Failed(String),
}

impl Word {
    /// Reads a line of the control port; none if it is no word of this protocol.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match word {
            "started" => Some(Self::Started),
            "done" => {
                let mut numbers = rest.split(' ');
                let status = numbers.next()?.parse().ok()?;
                let mut count = || numbers.next()?.parse().ok();
                Some(Self::Done {
                    status,
                    written: [count()?, count()?],
                })
            }
            "failed" => Some(Self::Failed(rest.to_owned())),
            _ => None,
        }
    }
}

/// The command as a script that passes every argument on as it is.
pub(crate) fn script(command: &[String]) -> String {
    let mut script = "exec".to_owned();
    for word in command {
        let _ = write!(script, " '{}'", word.replace('\'', "'\\''"));
    }
    script.push('\n');
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_control_port_are_read() {
        assert_eq!(Word::read("started\n"), Some(Word::Started));
        assert_eq!(
            Word::read("done 7 15 0\n"),
            Some(Word::Done {
                status: 7,
                written: [15, 0]
            })
        );
        assert_eq!(
            Word::read("failed no ip_vs here\n"),
            Some(Word::Failed("no ip_vs here".into()))
        );
        assert_eq!(Word::read("done 1 2\n"), None);
        assert_eq!(Word::read("done 300 0 0\n"), None);
        assert_eq!(Word::read(""), None);
    }

    #[test]
    fn arguments_reach_the_guest_as_they_are() {
        let command = ["sh", "-c", "echo 'a b' $HOME\n"].map(str::to_owned);
        assert_eq!(script(&command), "exec 'sh' '-c' 'echo '\\''a b'\\'' $HOME\n'\n");
    }
}
