//! Arithmetic of the slowest kind: one counter for each bit that a product of two `f64` can have.

/// The place of the bit of 1.
const ONE: usize = 2 * 1074;
const BITS: usize = ONE + 2 * 1024 + 64;

/// A sum of finite numbers and of products of two.
#[derive(Clone)]
pub(super) struct Exact(Vec<i64>);

impl Default for Exact {
    fn default() -> Self {
        Self(vec![0; BITS])
    }
}

impl Exact {
    pub(super) fn of(numbers: &[f64]) -> Self {
        let mut exact = Self::default();
        for number in numbers {
            exact.add(*number);
        }
        exact
    }

    pub(super) fn add(&mut self, number: f64) {
        self.add_product(number, 1.);
    }

    pub(super) fn add_product(&mut self, left: f64, right: f64) {
        let ((left, left_sign, left_place), (right, right_sign, right_place)) = (split(left), split(right));
        let place = usize::try_from(i32::try_from(ONE).unwrap() + left_place + right_place).unwrap();
        let product = u128::from(left) * u128::from(right);
        for bit in (0..128).filter(|bit| product >> bit & 1 == 1) {
            self.0[place + bit] += left_sign * right_sign;
        }
    }

    /// The nearest `f64`, of two that are as near the even one.
    pub(super) fn rounded(&self) -> f64 {
        let (bits, sign) = self.magnitude();
        let Some(top) = bits.iter().rposition(|bit| *bit) else { return 0. };
        let lowest = (top.max(52) - 52).max(ONE - 1074);
        let mut significand = (lowest..=top).rev().fold(0_u64, |all, at| all << 1 | u64::from(bits[at]));
        let is_half = bits[lowest - 1];
        let is_more = bits[..lowest - 1].iter().any(|bit| *bit);
        significand += u64::from(is_half && (is_more || significand & 1 == 1));
        sign * significand as f64 * power(i32::try_from(lowest).unwrap() - i32::try_from(ONE).unwrap())
    }

    /// The nearest number, the nearest to what that leaves, and so on.
    pub(super) fn parts<const K: usize>(&self) -> [f64; K] {
        let mut rest = self.clone();
        std::array::from_fn(|_| {
            let part = rest.rounded();
            rest.add(-part);
            part
        })
    }

    fn magnitude(&self) -> (Vec<bool>, f64) {
        let carried = |sign: i64| {
            let mut carry = 0;
            let bits: Vec<bool> = (self.0.iter())
                .map(|count| {
                    let sum = sign * count + carry;
                    carry = sum >> 1;
                    sum & 1 == 1
                })
                .collect();
            (carry == 0).then_some(bits)
        };
        carried(1).map_or_else(|| (carried(-1).unwrap(), -1.), |bits| (bits, 1.))
    }
}

/// The significand of a number as an integer, its sign, and the power of two that it is multiplied by.
fn split(number: f64) -> (u64, i64, i32) {
    let bits = number.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap();
    let fraction = bits & ((1 << 52) - 1);
    let sign = if number.is_sign_negative() { -1 } else { 1 };
    if exponent == 0 { (fraction, sign, -1074) } else { (fraction | 1 << 52, sign, exponent - 1075) }
}

fn power(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(u64::try_from(exponent + 1023).unwrap() << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}
