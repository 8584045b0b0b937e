//! Makes RSA keys. The repository contains no private key, and the cryptography of the tests does not make RSA keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;

const E: u32 = 65_537;

pub(crate) struct RsaKey {
    /// The modulus of the public key.
    pub(crate) n: Vec<u8>,
    pub(crate) e: Vec<u8>,
    der: Vec<u8>,
}

impl RsaKey {
    /// A key of RFC 8017 section 3.2. The random numbers are not secure.
    pub(crate) fn new(bits: u64) -> Self {
        let one = BigUint::from(1u32);
        let e = BigUint::from(E);
        loop {
            let (a, b) = (prime(bits / 2), prime(bits / 2));
            let (p, q) = if a > b { (a, b) } else { (b, a) };
            let (p1, q1) = (&p - &one, &q - &one);
            let (Some(d), Some(inverse)) = (e.modinv(&(&p1 * &q1)), q.modinv(&p)) else { continue };
            let n = &p * &q;
            let version = BigUint::from(0u32);
            let numbers = [&version, &n, &e, &d, &p, &q, &(&d % &p1), &(&d % &q1), &inverse];
            let der = element(0x30, &numbers.map(integer).concat());
            return Self { n: n.to_bytes_be(), e: e.to_bytes_be(), der };
        }
    }

    /// The format of RFC 8017 appendix A.1.2.
    pub(crate) fn pkcs1(&self) -> String {
        pem("RSA PRIVATE KEY", &self.der)
    }

    /// The format of RFC 5208 section 5. The algorithm is rsaEncryption, 1.2.840.113549.1.1.1.
    pub(crate) fn pkcs8(&self) -> String {
        let oid = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
        let parts = [vec![0x02, 0x01, 0x00], element(0x30, &oid), element(0x04, &self.der)];
        pem("PRIVATE KEY", &element(0x30, &parts.concat()))
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let length: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | length.len() as u8);
            out.extend(length);
        }
    }
    out.extend(content);
    out
}

fn integer(value: &BigUint) -> Vec<u8> {
    let mut bytes = value.to_bytes_be();
    if bytes[0] & 0x80 != 0 {
        bytes.insert(0, 0);
    }
    element(0x02, &bytes)
}

/// A prime with its two highest bits set, so that the product of two such primes has the full length.
fn prime(bits: u64) -> BigUint {
    loop {
        let mut bytes: Vec<u8> = (0..bits / 8).map(|_| fastrand::u8(..)).collect();
        bytes[0] |= 0xc0;
        *bytes.last_mut().unwrap() |= 1;
        let candidate = BigUint::from_bytes_be(&bytes);
        if is_prime(&candidate) {
            return candidate;
        }
    }
}

/// The Miller-Rabin test, after trial division.
fn is_prime(n: &BigUint) -> bool {
    let zero = BigUint::from(0u32);
    if (3u32..2000).step_by(2).any(|small| n % small == zero) {
        return false;
    }
    let one = BigUint::from(1u32);
    let less = n - &one;
    let twos = less.trailing_zeros().unwrap();
    let odd = &less >> twos;
    [2u32, 3, 5, 7, 11, 13, 17, 19].into_iter().all(|base| {
        let mut x = BigUint::from(base).modpow(&odd, n);
        if x == one || x == less {
            return true;
        }
        (1..twos).any(|_| {
            x = &x * &x % n;
            x == less
        })
    })
}
