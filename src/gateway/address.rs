//! Whose request it is: the peer's address, or what a trusted proxy says of it.

use core::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// Most entries that are read of a forwarding header, from the right: real chains have under ten.
const MAX_HOPS: usize = 32;

/// Whether `address` lies in one of `networks`.
#[must_use]
pub fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The client's address: the peer's; where that is a trusted proxy, the right-most address of
/// `X-Forwarded-For` that is none. What stands left of it may be invented by the client and is
/// never read; an entry that is no address ends the walk at the proxy that wrote it.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted.is_empty() || !within(trusted, peer) {
        return peer;
    }
    let mut client = peer;
    let values = headers.get_all("x-forwarded-for");
    let entries = values
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("-").rsplit(','));
    for entry in entries.take(MAX_HOPS) {
        let Some(address) = parse(entry.trim()) else {
            break;
        };
        client = address;
        if !within(trusted, address) {
            break;
        }
    }
    client
}

/// An address, with or without a port, IPv6 with or without brackets.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(entry, |(inside, _)| inside);
    let address: Option<IpAddr> = bare.parse().ok();
    address
        .or_else(|| bare.rsplit_once(':')?.0.parse().ok())
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn networks() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        client(peer.parse().unwrap(), &headers, &networks()).to_string()
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        assert_eq!(seen("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(seen("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            seen("::ffff:10.0.0.1", &["203.0.113.9:4711"]),
            "203.0.113.9"
        );
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:99"]), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_the_client_invents_on_the_left_is_not_read() {
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.7, 203.0.113.9, 10.0.0.2"]),
            "203.0.113.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.7", "203.0.113.9"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn an_unreadable_entry_ends_at_the_proxy_that_wrote_it() {
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert("x-forwarded-for", value);
                let _ = client("10.0.0.1".parse().unwrap(), &headers, &networks());
            }
        }

        #[test]
        fn an_untrusted_client_is_always_found(client_bits in any::<u32>(), junk in "[0-9a-f.:, ]{0,30}") {
            let address = IpAddr::from(client_bits.to_be_bytes());
            prop_assume!(!within(&networks(), address));
            let text = format!("{junk},{address}, 10.1.1.1");
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_str(&text).unwrap());
            prop_assert_eq!(client("10.0.0.1".parse().unwrap(), &headers, &networks()), address);
        }
    }
}
