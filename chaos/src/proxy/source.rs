//! Which process dialed a loopback connection: how one proxy before a pod tells its peers apart.
//!
//! From `/proc`, which every process may read of itself and of those it started: the socket whose local
//! address is the peer's has an inode, and one of the processes has that inode open.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

/// Which of these processes has the socket with this local address. A few milliseconds; asked once per
/// connection.
#[must_use]
pub fn dialer(peer: SocketAddr, processes: impl IntoIterator<Item = u32>) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode(&table, peer)?;
    let socket = format!("socket:[{inode}]");
    processes
        .into_iter()
        .find(|process| has_open(*process, &socket))
}

fn has_open(process: u32, socket: &str) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    open.flatten().any(|entry| {
        let link = fs::read_link(entry.path());
        link.is_ok_and(|link| link.as_os_str() == socket)
    })
}

/// The inode of the socket with this local address, by the kernel's table.
fn inode(table: &str, local: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, address, _, _, _, _, _, _, _, inode, ..] = fields.as_slice() else {
            return None;
        };
        // 0: a socket that no process has any more.
        let inode: u64 = inode.parse().ok().filter(|inode| *inode != 0)?;
        (address_of(address)? == local).then_some(inode)
    })
}

/// `0100007F:1F90`: the address as the machine has it in memory, the port in hexadecimal.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = Ipv4Addr::from(ip.to_ne_bytes());
    Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_that_dialed_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialing = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        let me = std::process::id();
        assert_eq!(dialer(peer, [1_u32 << 30, me]), Some(me));
        assert_eq!(dialer(peer, [1_u32 << 30]), None, "another process did not");
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(dialer(elsewhere, [me]), None);
        drop(dialing);
    }

    #[test]
    fn a_table_is_read_whatever_else_it_holds() {
        let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let ip = u32::from_ne_bytes([127, 0, 0, 1]);
        let line = |inode| {
            format!(
                " 0: {ip:08X}:1F90 {ip:08X}:0016 01 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0 20 4 30 10 -1"
            )
        };
        let table = format!("head\nnonsense\n{}\n{}\n", line(0), line(77));
        assert_eq!(inode(&table, local), Some(77));
        assert_eq!(inode("", local), None);
    }
}
