use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network address of a caller, reduced to the part that identifies one line: an IPv4
/// address, or the first 64 bits of an IPv6 address, all of which a subscriber owns (RFC 6177).
///
/// An IPv6 address that stands for an IPv4 address is that IPv4 address: a mapped one
/// (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`, RFC 6052), and 6to4 (`2002::/16`, RFC 3056).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    V4([u8; 4]),
    /// The first 8 bytes.
    V6([u8; 8]),
}

/// A network of which all addresses count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    V4([u8; 4]),
    /// A /64.
    V6Line([u8; 8]),
    /// A /48.
    V6Site([u8; 6]),
}

impl ClientAddress {
    /// Reads an IP address without a port.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.parse().ok()? {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => match inner_v4(address) {
                Some(inner) => Self::V4(inner.octets()),
                None => Self::V6(*first(&address.octets())),
            },
        })
    }

    /// 4 or 8 bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }

    /// The /24 or /48 of the address: where it is, but not which line.
    pub fn site(self) -> String {
        match self {
            Self::V4([a, b, c, _]) => format!("{a}.{b}.{c}.0/24"),
            Self::V6(octets) => {
                let mut site = [0; 16];
                site[..6].copy_from_slice(&octets[..6]);
                format!("{}/48", Ipv6Addr::from(site))
            }
        }
    }

    /// The networks that the address belongs to, the smallest first.
    pub fn networks(self) -> impl Iterator<Item = Network> {
        let (smallest, site) = match self {
            Self::V4(octets) => (Network::V4(octets), None),
            Self::V6(octets) => {
                let site = Network::V6Site(*first(&octets));
                (Network::V6Line(octets), Some(site))
            }
        };
        [smallest].into_iter().chain(site)
    }
}

impl Network {
    /// The length of the prefix.
    pub(super) const fn bits(&self) -> u8 {
        match self {
            Self::V4(_) => 32,
            Self::V6Line(_) => 64,
            Self::V6Site(_) => 48,
        }
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6Line(octets) => octets,
            Self::V6Site(octets) => octets,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => address.to_ipv4_mapped(),
    }
}

fn first<const N: usize>(octets: &[u8]) -> &[u8; N] {
    octets.first_chunk().expect("it is a part of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        ClientAddress::parse(one).unwrap() == ClientAddress::parse(other).unwrap()
    }

    #[test]
    fn spellings_and_neighbours_on_one_line_are_one_caller() {
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same("2001:db8:0:1::1", "2001:0DB8:0:1:ffff::2"));
    }

    #[test]
    fn an_address_that_stands_for_an_ipv4_address_is_that_address() {
        assert!(same("192.0.2.1", "64:ff9b::192.0.2.1"));
        assert!(same("192.0.2.1", "2002:c000:201::1"));
        assert!(same("192.0.2.1", "2002:c000:201:ffff:1::2"));
        assert!(!same("192.0.2.1", "64:ff9b:0:1::192.0.2.1"));
        assert!(!same("192.0.2.1", "2003:c000:201::1"));
    }

    #[test]
    fn a_site_does_not_show_the_line() {
        let site = |text| ClientAddress::parse(text).unwrap().site();
        assert_eq!(site("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(site("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(site("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }

    #[test]
    fn different_lines_are_different_callers() {
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        // The first bytes of the two are the same.
        assert!(!same("32.1.13.184", "2001:db8::"));
    }

    #[test]
    fn an_ipv6_address_is_in_the_network_of_its_line_and_of_its_site() {
        let networks = |text| {
            let address = ClientAddress::parse(text).unwrap();
            address.networks().collect::<Vec<_>>()
        };
        let [one, other] = ["2001:db8:0:1::1", "2001:db8:0:2::1"].map(networks);
        assert_ne!(one[0], other[0]);
        assert_eq!(one[1], other[1]);
        assert_ne!(one[1], networks("2001:db8:1:1::1")[1]);
        assert_eq!(networks("192.0.2.1").len(), 1);
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "unknown",
            "192.0.2.1:443",
            "[2001:db8::1]",
            "192.0.2.1, 192.0.2.2",
            " 192.0.2.1",
            "192.0.2",
            "fe80::1%eth0",
            "example.com",
        ] {
            assert_eq!(ClientAddress::parse(text), None, "{text:?}");
        }
    }
}
