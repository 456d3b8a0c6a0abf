//! `sol_matmul_i8`.
#![allow(unsafe_code)] // The runtime's macro declares the entry that its machine code calls.

use crate::memory::{Failure, Misuse, Outputs, Place, claim, range, read};
use crate::price::{MAX_COLUMNS, MAX_ROWS, matmul_price};
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::declare_builtin_function;
use solana_program_runtime::solana_sbpf::memory_region::MemoryMapping;
use worldline_mamba2::{Kernels, MatVec};

declare_builtin_function!(
    /// `sol_matmul_i8(weights, input, output, rows, columns)`: `output[r] = Σ weights[r][c]·input[c]`.
    ///
    /// `weights` are `rows × columns` bytes, row by row; `input` is `columns` bytes; `output` is `rows`
    /// 32-bit numbers at a multiple of four. The sums are exact.
    MatmulI8,
    fn rust(
        context: &mut InvokeContext<'static, 'static>,
        weights: u64,
        input: u64,
        output: u64,
        rows: u64,
        columns: u64,
    ) -> Result<u64, Failure> {
        run(context, [weights, input, output], rows, columns)?;
        Ok(0)
    }
);

fn run(
    context: &mut InvokeContext<'static, 'static>,
    [weights, input, output]: [u64; 3],
    rows: u64,
    columns: u64,
) -> Result<(), Failure> {
    context
        .compute_meter
        .consume_checked(matmul_price(rows, columns))?;
    if !(1..=MAX_ROWS).contains(&rows) || !(1..=MAX_COLUMNS).contains(&columns) {
        return Err(Misuse::Matrix { rows, columns }.into());
    }
    let places = (
        Place::new(weights, rows * columns),
        Place::new(input, columns),
        Place::new(output, rows),
    );
    claim::<i32>(context, places.2)?;
    multiply(context.memory_contexts.memory_mapping()?, places)
}

/// Weights, input and output of a matrix that is neither empty nor too large.
fn multiply(mapping: &MemoryMapping, places: (Place, Place, Place)) -> Result<(), Failure> {
    let weights = read(mapping, places.0)?;
    let input = read(mapping, places.1)?;
    let output = Outputs::beside(mapping, &[range(weights), range(input)]).take(places.2)?;
    crate::kernels().matvec(MatVec {
        weights,
        input,
        output,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{INPUT, OUTPUT, PROGRAM, READ_ONLY, refused, with_memory};

    fn places(
        weights: u64,
        input: u64,
        output: u64,
        rows: u64,
        columns: u64,
    ) -> (Place, Place, Place) {
        (
            Place::new(weights, rows * columns),
            Place::new(input, columns),
            Place::new(output, rows),
        )
    }

    #[test]
    fn a_product_is_written_where_it_belongs_and_nowhere_else() {
        let (result, memory) =
            with_memory(|mapping| multiply(mapping, places(PROGRAM, INPUT, OUTPUT + 4, 3, 5)));
        result.unwrap();
        // Bytes count from 0 in each region: 0·0 + 1·1 + … and so on.
        let row = |first: i32| (0..5).map(|at| (first + at) * at).sum::<i32>();
        let expected: Vec<u8> = [row(0), row(5), row(10)]
            .iter()
            .flat_map(|sum| sum.to_le_bytes())
            .collect();
        assert_eq!(memory[..4], [0; 4]);
        assert_eq!(memory[4..16], expected);
        assert!(memory[16..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_lies_outside_is_refused() {
        for (weights, input, output) in [
            (PROGRAM + 4_090, INPUT, OUTPUT),
            (PROGRAM, INPUT + 4_092, OUTPUT),
            (PROGRAM, INPUT, OUTPUT + 4_092),
            (PROGRAM, INPUT, READ_ONLY),
            (0, INPUT, OUTPUT),
            (u64::MAX, INPUT, OUTPUT),
            (PROGRAM, u64::MAX - 3, OUTPUT),
            (PROGRAM, INPUT, u64::MAX - 3),
        ] {
            let (result, memory) =
                with_memory(|mapping| multiply(mapping, places(weights, input, output, 3, 5)));
            assert!(result.is_err(), "{weights:#x} {input:#x} {output:#x}");
            assert!(memory.iter().all(|byte| *byte == 0), "nothing was written");
        }
    }

    #[test]
    fn an_output_must_be_aligned_and_stand_alone() {
        for at in 1..4 {
            let at = OUTPUT + at;
            let misuse = refused(|mapping| multiply(mapping, places(PROGRAM, INPUT, at, 3, 5)));
            assert_eq!(
                misuse,
                Misuse::Alignment {
                    address: at,
                    size: 4
                }
            );
        }
        let over = |weights, input| places(weights, input, OUTPUT, 3, 5);
        for place in [over(OUTPUT + 11, INPUT), over(PROGRAM, OUTPUT + 8)] {
            assert_eq!(refused(|mapping| multiply(mapping, place)), Misuse::Overlap);
        }
        // Side by side is no overlap.
        let beside = over(OUTPUT + 12, OUTPUT + 32);
        with_memory(|mapping| multiply(mapping, beside)).0.unwrap();
    }
}
