//! Connections through IPVS, one after the other: each with a request and an answer, as short as they can be.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    time::Instant,
};

const REQUEST: [u8; 64] = [b'?'; 64];
const ANSWER: [u8; 512] = [b'!'; 512];

/// Answers until it is ended.
pub fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut request = [0; REQUEST.len()];
        stream.read_exact(&mut request)?;
        stream.write_all(&ANSWER)?;
    }
    Ok(())
}

/// Makes so many connections for each line on standard input, and says how many ns each took.
pub fn connect(address: &str, connections: u32) -> io::Result<()> {
    for line in io::stdin().lines() {
        line?;
        let began = Instant::now();
        for _ in 0..connections {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(&REQUEST)?;
            let mut answer = [0; ANSWER.len()];
            stream.read_exact(&mut answer)?;
            // The server closes first, and keeps what is left of the connection: the client's ports stay free.
            if stream.read(&mut [0])? != 0 {
                return Err(io::Error::other("the server said more than it has"));
            }
        }
        println!("{}", began.elapsed().as_nanos() / u128::from(connections));
    }
    Ok(())
}
