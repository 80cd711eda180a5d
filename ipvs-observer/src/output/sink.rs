//! The kinds of output, as far as they differ: where they go, how much they take at once, what a failure means.

use std::{
    fmt, io,
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    io::Errno,
    net::sockopt::socket_send_buffer_size,
    pipe::PIPE_BUF,
    stdio,
};

/// How long one attempt to write may wait for room. Between attempts the word to stop is heard.
const PATIENCE: Duration = Duration::from_millis(100);
/// What Telegraf's `socket_listener` reads of a datagram; it cuts the rest off.
const DATAGRAM: usize = 64 * 1024;
/// What a Unix stream socket takes in one piece or not at all, where its send buffer is large enough: the kernel's
/// `UNIX_SKB_FRAGS_SZ`.
const STREAM: usize = 32 * 1024;

/// Where lines go, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A Unix stream socket that somebody listens on.
    Stream(PathBuf),
    /// A Unix datagram socket that somebody listens on.
    Datagram(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str =
            "write it as stdout, unix:///run/telegraf.sock or unixgram:///run/telegraf.sock";
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        let (kind, path) = text
            .split_once("://")
            .ok_or_else(|| format!("'{text}' is no output: {EXAMPLES}"))?;
        let target = match kind {
            "unix" => Self::Stream(path.into()),
            "unixgram" => Self::Datagram(path.into()),
            _ => {
                return Err(format!(
                    "'{kind}://' is none of stdout, unix://, unixgram://: {EXAMPLES}"
                ));
            }
        };
        if !path.starts_with('/') {
            return Err(format!("its path is not absolute: {EXAMPLES}"));
        }
        // The room in a socket's address, less its final NUL.
        if path.len() > 107 {
            return Err(format!(
                "its path is longer than the 107 bytes of a socket's: {EXAMPLES}"
            ));
        }
        Ok(target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("stdout"),
            Self::Stream(path) => write!(formatter, "unix://{}", path.display()),
            Self::Datagram(path) => write!(formatter, "unixgram://{}", path.display()),
        }
    }
}

/// An open output.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard output, and how much it takes in one piece if it has a reader that may stall.
    Stdout { piece: Option<usize> },
    /// A connection, and how much it takes in one piece.
    Stream { stream: UnixStream, piece: usize },
    /// A socket that sends to one receiver.
    Datagram(UnixDatagram),
}

impl Sink {
    /// Opens it.
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Stdout => {
                let stdout = stdio::stdout();
                let piece = match fstat(stdout).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Ok(FileType::Fifo) => Some(PIPE_BUF),
                    Ok(FileType::Socket) => Some(piece(stdout)?),
                    _ => None,
                };
                Ok(Self::Stdout { piece })
            }
            Target::Stream(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let piece = piece(&stream)?;
                Ok(Self::Stream { stream, piece })
            }
            Target::Datagram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Datagram(socket))
            }
        }
    }

    /// How many bytes of whole lines to offer at once.
    ///
    /// A pipe or a socket takes this much in one piece or not at all: whatever ends the process, and whenever, the
    /// reader has seen whole lines only, also where it stalls. Only a line longer than that can be cut.
    pub(super) fn chunk(&self) -> usize {
        match self {
            Self::Stdout { piece } => piece.unwrap_or(1 << 20),
            Self::Stream { piece, .. } => *piece,
            Self::Datagram(_) => DATAGRAM,
        }
    }

    /// Whether what was written of a line before a failure is still there after it, so that the rest goes on
    /// from where it stopped. A new connection begins with a new line.
    pub(super) fn keeps_partial_lines(&self) -> bool {
        matches!(self, Self::Stdout { .. })
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// `WouldBlock` where there was no room in good time; anything else ends a connection.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout { piece } => {
                let stdout = stdio::stdout();
                if piece.is_some() {
                    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
                    let ready = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], Some(&patience));
                    if matches!(ready, Ok(0) | Err(Errno::INTR)) {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                }
                Ok(rustix::io::write(stdout, bytes)?)
            }
            // SIGPIPE is ignored in every Rust program: a reader that is gone is an error.
            Self::Stream { stream, .. } => io::Write::write(stream, bytes),
            Self::Datagram(socket) => socket.send(bytes),
        }
    }
}

/// How much a stream socket takes in one piece: the kernel splits what is more than half of the send buffer, less
/// 64 bytes, to have two pieces under way.
fn piece(socket: impl AsFd) -> io::Result<usize> {
    let half = socket_send_buffer_size(socket)? / 2;
    Ok(STREAM.min(half.saturating_sub(64)).max(1))
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn a_target_is_read_as_it_is_shown() {
        for text in [
            "stdout",
            "unix:///run/telegraf.sock",
            "unixgram:///run/telegraf.sock",
        ] {
            assert_eq!(
                text.parse::<Target>().map(|target| target.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn a_target_that_is_none_says_why_and_shows_one() {
        let long = format!("unix:///{}", "x".repeat(120));
        for (text, reason) in [
            ("tcp://x", "'tcp://' is none of stdout, unix://, unixgram://"),
            ("tcp:///x", "'tcp://' is none of stdout, unix://, unixgram://"),
            ("unix://run/x", "not absolute"),
            ("file", "'file' is no output"),
            (long.as_str(), "107 bytes"),
        ] {
            let error = text.parse::<Target>().expect_err("no target");
            assert!(
                error.contains(reason) && error.contains("unix:///run/telegraf.sock"),
                "{text}: {error}"
            );
        }
    }
}
