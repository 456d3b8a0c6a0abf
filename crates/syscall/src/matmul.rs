//! `sol_matmul_i8`.
#![allow(unsafe_code)] // The runtime's macro declares the entry that its machine code calls.

use crate::memory::{Failure, Misuse, Outputs, Place, claim, range, read};
use crate::price::{MAX_COLUMNS, MAX_ROWS, matmul_price};
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::declare_builtin_function;
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
    let output = Place::new(output, rows);
    claim::<i32>(context, output)?;
    let mapping = context.memory_contexts.memory_mapping()?;
    let weights = read(mapping, Place::new(weights, rows * columns))?;
    let input = read(mapping, Place::new(input, columns))?;
    let output = Outputs::beside(mapping, &[range(weights), range(input)]).take(output)?;
    crate::kernels().matvec(MatVec {
        weights,
        input,
        output,
    });
    Ok(())
}
