//! State of a connection that rests, in few bytes: most of it is numbers that are small, or say that there is
//! nothing. Nothing is lost by it: what comes out is what went in. The bytes never leave the process.

use core::time::Duration;
use std::collections::VecDeque;

use jsp_wire::frame::{EcnCounts, PathUse};
use jsp_wire::{ConnectionId, Instant, PathId};

/// What is packed one after the other.
#[derive(Default)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    /// A value alone.
    pub(crate) fn pack(value: &impl Pack) -> Box<[u8]> {
        let mut packer = Self::default();
        value.pack(&mut packer);
        packer.finish()
    }

    /// All that was packed.
    pub(crate) fn finish(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    ///
    /// Cold, as its counterpart is: hundreds of fields come here, and each would have a copy of it.
    #[cold]
    #[inline(never)]
    fn number(&mut self, mut number: u128) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// The same bytes, from the start.
pub(crate) struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// For several values, in the order in which they were packed.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value that [`Packer::pack`] has packed.
    pub(crate) fn unpack<T: Pack>(bytes: &'a [u8]) -> T {
        T::unpack(&mut Self(bytes))
    }

    #[cold]
    #[inline(never)]
    fn number(&mut self) -> u128 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            number |= u128::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                break;
            }
            shift = shift.saturating_add(7);
        }
        number
    }
}

/// What can be packed.
pub(crate) trait Pack {
    fn pack(&self, to: &mut Packer);
    /// What was packed, and comes next. Whatever else the bytes are, it is some value.
    fn unpack(from: &mut Unpacker<'_>) -> Self;
}

/// A structure is its fields, one after the other. Those after the semicolon stand apart: they are taken out
/// before, and put back after.
macro_rules! packed {
    ($type:ident { $($field:ident),* $(; $($apart:ident $(= $instead:expr)?),*)? }) => {
        impl $crate::pack::Pack for $type {
            fn pack(&self, to: &mut $crate::pack::Packer) {
                let Self { $($field,)* $($($apart: _,)*)? } = self;
                $($crate::pack::Pack::pack($field, to);)*
            }

            fn unpack(from: &mut $crate::pack::Unpacker<'_>) -> Self {
                Self {
                    $($field: $crate::pack::Pack::unpack(from),)*
                    $($($apart: $crate::pack::instead!($($instead)?),)*)?
                }
            }
        }
    };
}
pub(crate) use packed;

/// What stands for something that was taken out.
macro_rules! instead {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}
pub(crate) use instead;

/// An enumeration is the number of the variant and what is in it. The first one has nothing in it.
macro_rules! packed_enum {
    ($type:ident {
        $first:ident,
        $($variant:ident $(($($inner:ident),*))? $({$($field:ident),*})? = $number:literal),*
    }) => {
        impl $crate::pack::Pack for $type {
            fn pack(&self, to: &mut $crate::pack::Packer) {
                match self {
                    Self::$first => 0_u8.pack(to),
                    $(Self::$variant $(($($inner),*))? $({$($field),*})? => {
                        u8::pack(&$number, to);
                        $($($crate::pack::Pack::pack($inner, to);)*)?
                        $($($crate::pack::Pack::pack($field, to);)*)?
                    })*
                }
            }

            fn unpack(from: &mut $crate::pack::Unpacker<'_>) -> Self {
                match u8::unpack(from) {
                    $($number => {
                        $($(let $inner = $crate::pack::Pack::unpack(from);)*)?
                        $($(let $field = $crate::pack::Pack::unpack(from);)*)?
                        Self::$variant $(($($inner),*))? $({$($field),*})?
                    })*
                    _ => Self::$first,
                }
            }
        }
    };
}
pub(crate) use packed_enum;

/// Numbers: the largest, which mostly stands for none or never, is as short as the smallest.
macro_rules! packed_number {
    ($($type:ty),*) => {
        $(impl Pack for $type {
            fn pack(&self, to: &mut Packer) {
                to.number(u128::from(self.wrapping_add(1)));
            }

            fn unpack(from: &mut Unpacker<'_>) -> Self {
                (from.number() as $type).wrapping_sub(1)
            }
        })*
    };
}
packed_number!(u16, u32, u64);

/// As it is: lists of them are ids and tokens, as random as can be.
impl Pack for u8 {
    fn pack(&self, to: &mut Packer) {
        to.0.push(*self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let Some((byte, rest)) = from.0.split_first() else { return 0 };
        from.0 = rest;
        *byte
    }
}

impl Pack for usize {
    fn pack(&self, to: &mut Packer) {
        (*self as u64).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        u64::unpack(from) as Self
    }
}

impl Pack for i128 {
    fn pack(&self, to: &mut Packer) {
        // Small ones of either sign are short.
        to.number(((self << 1) ^ (self >> 127)) as u128);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let number = from.number();
        ((number >> 1) as Self) ^ ((number & 1) as Self).wrapping_neg()
    }
}

impl Pack for i64 {
    fn pack(&self, to: &mut Packer) {
        i128::from(*self).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        i128::unpack(from) as Self
    }
}

impl Pack for f64 {
    fn pack(&self, to: &mut Packer) {
        // The last digits are often zero.
        to.number(u128::from(self.to_bits().reverse_bits()));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self::from_bits((from.number() as u64).reverse_bits())
    }
}

impl Pack for bool {
    fn pack(&self, to: &mut Packer) {
        to.number(u128::from(*self));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        from.number() != 0
    }
}

impl Pack for Duration {
    fn pack(&self, to: &mut Packer) {
        to.number(self.as_nanos());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let nanos = from.number();
        Self::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }
}

impl Pack for Instant {
    fn pack(&self, to: &mut Packer) {
        self.as_nanos().pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self::from_nanos(u64::unpack(from))
    }
}

impl Pack for PathId {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self(u32::unpack(from))
    }
}

impl Pack for ConnectionId {
    fn pack(&self, to: &mut Packer) {
        self.as_bytes().to_vec().pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self::new(&Vec::unpack(from)).unwrap_or(Self::EMPTY)
    }
}

packed_enum!(PathUse { Available, Standby = 1, Down = 2 });
packed!(EcnCounts { ect0, ect1, ce });

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer) {
        self.is_some().pack(to);
        if let Some(value) = self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        bool::unpack(from).then(|| T::unpack(from))
    }
}

impl<T: Pack, const N: usize> Pack for [T; N] {
    fn pack(&self, to: &mut Packer) {
        self.iter().for_each(|value| value.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        core::array::from_fn(|_| T::unpack(from))
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
        self.1.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        (A::unpack(from), B::unpack(from))
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer) {
        self.len().pack(to);
        self.iter().for_each(|value| value.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        (0..usize::unpack(from)).map(|_| T::unpack(from)).collect()
    }
}

impl<T: Pack> Pack for VecDeque<T> {
    fn pack(&self, to: &mut Packer) {
        self.len().pack(to);
        self.iter().for_each(|value| value.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Vec::unpack(from).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of each kind.
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Sample {
        numbers: (u64, (i64, i128)),
        small: [u8; 3],
        share: f64,
        time: Duration,
        at: Option<Instant>,
        list: Vec<u32>,
        kind: Kind,
        apart: Option<String>,
    }
    packed!(Sample { numbers, small, share, time, at, list, kind; apart });

    #[derive(Clone, PartialEq, Debug, Default)]
    enum Kind {
        #[default]
        Plain,
        Tuple(bool, u16),
        Named {
            at: Instant,
        },
    }
    packed_enum!(Kind { Plain, Tuple(flag, number) = 1, Named { at } = 2 });

    #[test]
    fn nothing_and_never_take_a_byte_each() {
        let sample = (Instant::FAR_FUTURE, (0_u64, (u64::MAX, (0.0, Duration::ZERO))));
        assert_eq!(Packer::pack(&sample).len(), 5);
        assert_eq!(Unpacker::unpack::<(Instant, u64)>(&Packer::pack(&(Instant::ZERO, 7_u64))).1, 7);
    }

    #[test]
    fn the_ends_of_the_ranges_come_back() {
        for number in [i128::MIN, i128::MIN + 1, -1, 0, 1, i128::MAX] {
            assert_eq!(Unpacker::unpack::<i128>(&Packer::pack(&number)), number);
        }
        for time in [Duration::ZERO, Duration::MAX] {
            assert_eq!(Unpacker::unpack::<Duration>(&Packer::pack(&time)), time);
        }
        assert!(Unpacker::unpack::<f64>(&Packer::pack(&f64::NAN)).is_nan());
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            numbers: (u64, (i64, i128)),
            small: [u8; 3],
            share: f64,
            time: Duration,
            at: Option<u64>,
            list: Vec<u32>,
            (kind, flag, number) in (0..3, any::<bool>(), any::<u16>()),
        ) {
            let kind = match kind {
                0 => Kind::Plain,
                1 => Kind::Tuple(flag, number),
                _ => Kind::Named { at: Instant::from_nanos(numbers.0) },
            };
            let at = at.map(Instant::from_nanos);
            let sample = Sample { numbers, small, share, time, at, list, kind, apart: None };
            prop_assert_eq!(&Unpacker::unpack::<Sample>(&Packer::pack(&sample)), &sample);
        }

        #[test]
        fn other_bytes_are_some_value(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            // Short of a list, whose length would be one of ours.
            let _: (u64, (i64, i128)) = Unpacker::unpack(&bytes);
            let _: (f64, (Duration, Option<Instant>)) = Unpacker::unpack(&bytes);
        }
    }
}
