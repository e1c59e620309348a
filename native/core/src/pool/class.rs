//! Size classes: every cache line up to 512 bytes, then four to each doubling.

/// Every region starts at a multiple of this many bytes: a cache line.
pub const ALIGN: usize = 64;
/// How many classes there are: more than enough for any `usize`.
pub(super) const CLASSES: usize = 256;

const LINES: usize = 8;

/// Round up to whole cache lines.
pub(super) fn lines(size: usize) -> usize {
    size.div_ceil(ALIGN) * ALIGN
}

/// The class of `size` bytes: its number and how large its regions are.
pub(super) fn class_of(size: usize) -> (usize, usize) {
    let units = size.div_ceil(ALIGN).max(1);
    if units <= LINES {
        return (units - 1, units * ALIGN);
    }
    let power = (units - 1).ilog2() as usize;
    let step = 1 << (power - 2);
    let steps = (units - (1 << power)).div_ceil(step);
    (
        LINES + (power - 3) * 4 + steps - 1,
        ((1 << power) + steps * step) * ALIGN,
    )
}

/// How large a region for `size` bytes is: at most a quarter more than asked, or one cache line.
#[must_use]
pub fn class_size(size: usize) -> usize {
    class_of(size).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_with_the_size_and_waste_at_most_a_quarter() {
        let mut last = (0, 0);
        let most = if cfg!(miri) { 2_000 } else { 200_000 };
        for size in 1..most {
            let (number, bytes) = class_of(size);
            assert!(bytes >= size && bytes % ALIGN == 0);
            assert!(bytes <= lines(size) + lines(size) / 4);
            assert_eq!(class_of(bytes), (number, bytes));
            assert!((number, bytes) == last || (number == last.0 + 1 || last.1 == 0));
            last = (number, bytes);
        }
    }

    #[test]
    fn the_largest_size_has_a_class() {
        assert!(class_of(isize::MAX.unsigned_abs() / 2).0 < CLASSES);
    }
}
