//! GF(3): every branching hands its children labels -1, 0 and 1 that sum to 0 mod 3.

/// Labels for `count` children: -1, 0, 1 over and over, and the last ones so that they sum to 0.
///
/// One left over gets 0; two left over get -1 and 1.
pub(crate) fn balanced(count: usize) -> Vec<i8> {
    let whole = count - count % 3;
    let rest: &[i8] = match count % 3 {
        0 => &[],
        1 => &[0],
        _ => &[-1, 1],
    };
    (0..whole)
        .map(|at| (at % 3) as i8 - 1)
        .chain(rest.iter().copied())
        .collect()
}

/// The sum in GF(3), as 0, 1 or 2.
pub(crate) fn sum(trits: impl IntoIterator<Item = i8>) -> i64 {
    trits.into_iter().map(i64::from).sum::<i64>().rem_euclid(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branching_balances() {
        for count in 0..100 {
            let trits = balanced(count);
            assert_eq!(
                (trits.len(), sum(trits.iter().copied())),
                (count, 0),
                "{count}"
            );
            assert!(trits.iter().all(|trit| (-1..=1).contains(trit)));
        }
        assert_eq!(balanced(3), [-1, 0, 1]);
    }

    #[test]
    fn an_unbalanced_sum_is_not_zero() {
        assert_eq!((sum([-1]), sum([1]), sum([-1, 0, 0])), (2, 1, 2));
    }
}
