use std::net::IpAddr;

/// The network address of a caller, reduced to the part that identifies one subscriber: an
/// IPv4 address (also in its mapped form), or the first 64 bits of an IPv6 address. A
/// subscriber owns all addresses with the same 64 bits (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    V4([u8; 4]),
    /// The first 8 bytes.
    V6([u8; 8]),
}

impl ClientAddress {
    /// Reads an IP address without a port.
    pub fn parse(text: &str) -> Option<Self> {
        let address: IpAddr = text.parse().ok()?;
        Some(match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let network = address.octets();
                Self::V6(*network.first_chunk().expect("16 bytes begin with 8"))
            }
        })
    }

    /// 4 or 8 bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
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
    fn different_lines_are_different_callers() {
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        // The first bytes of the two are the same.
        assert!(!same("32.1.13.184", "2001:db8::"));
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
