//! `sol_linear_i8`.
#![allow(unsafe_code)] // The runtime's macro declares the entry that its machine code calls.

use crate::memory::{Failure, Misuse, Outputs, Place, Reader, claim, read};
use crate::price::{MATMUL_BASE, linear_price};
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::declare_builtin_function;
use solana_program_runtime::solana_sbpf::memory_region::MemoryMapping;
use worldline_mamba2::{
    Kernels, Linear, MAX_COLUMNS, MAX_MULTIPLIER, MAX_ROWS, MAX_SHIFT, Product, Work,
};

declare_builtin_function!(
    /// `sol_linear_i8(product, work)`: both planes of `work` through one matrix, each row brought into
    /// its own unit.
    ///
    /// `product` is the address of a [`Product`], `work` that of a [`Work`], whose `high` and `low` are
    /// read, and whose `projected` and `spare` are written.
    LinearI8,
    fn rust(
        context: &mut InvokeContext<'static, 'static>,
        product: u64,
        work: u64,
        _c: u64,
        _d: u64,
        _e: u64,
    ) -> Result<u64, Failure> {
        run(context, product, work)?;
        Ok(0)
    }
);

fn run(
    context: &mut InvokeContext<'static, 'static>,
    product: u64,
    work: u64,
) -> Result<(), Failure> {
    context.compute_meter.consume_checked(MATMUL_BASE)?;
    let mapping = context.memory_contexts.memory_mapping()?;
    let product = read::<Product>(mapping, Place::new(product, 1))?[0];
    let price = linear_price(product.rows, product.columns);
    context.compute_meter.consume_checked(price - MATMUL_BASE)?;
    check(&product)?;
    let work = Place::new(work, 1);
    claim::<Work>(context, work)?;
    multiply(context.memory_contexts.memory_mapping()?, &product, work)
}

/// The sizes are ones that a cartridge may have.
fn check(product: &Product) -> Result<(), Misuse> {
    let (rows, columns) = (product.rows, product.columns);
    if !(1..=MAX_ROWS as u64).contains(&rows) || !(1..=MAX_COLUMNS as u64).contains(&columns) {
        return Err(Misuse::Matrix { rows, columns });
    }
    if product.shift > MAX_SHIFT.into() {
        return Err(Misuse::Scale);
    }
    Ok(())
}

/// A matrix of sizes that were checked.
fn multiply(mapping: &MemoryMapping, product: &Product, work: Place) -> Result<(), Failure> {
    let (rows, columns) = (product.rows as usize, product.columns as usize);
    let mut reader = Reader::new(mapping);
    let weights = reader.take(product.weights, rows * columns)?;
    let multipliers: &[i32] = reader.take(product.multipliers, rows)?;
    let sound = |multiplier: &i32| multiplier.unsigned_abs() < MAX_MULTIPLIER as u32;
    // Without an early end, so that the compiler looks at many at once.
    if !multipliers.iter().fold(true, |all, one| all & sound(one)) {
        return Err(Misuse::Scale.into());
    }
    let work = &mut Outputs::beside(mapping, &reader.taken).take::<Work>(work)?[0];
    let linear = Linear {
        weights,
        row_sums: &[],
        multipliers,
        columns,
        shift: product.shift as u32,
    };
    // No row sum of the program's enters.
    crate::kernels().linear_unsummed(&linear, work);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::Machine;
    use worldline_mamba2::Scalar;
    use worldline_mamba2::sample::{Matrix, Random};

    const ROWS: usize = 70;
    const COLUMNS: usize = 167;

    /// A matrix and a work in a machine's memory.
    fn scene() -> (Machine, Product, Matrix, Box<Work>) {
        let matrix = Matrix::random(ROWS, COLUMNS, 65_536.0, &mut Random(3));
        let mut work = Work::boxed();
        for at in 0..COLUMNS {
            (work.high[at], work.low[at]) = (at as i8, (3 * at) as i8);
        }
        let mut machine = Machine::default();
        let product = Product {
            weights: machine.put(&matrix.weights),
            multipliers: machine.put(&matrix.multipliers),
            rows: ROWS as u64,
            columns: COLUMNS as u64,
            shift: matrix.shift.into(),
        };
        (machine, product, matrix, work)
    }

    #[test]
    fn a_matrix_gives_the_scalar_kernels_bytes() {
        let (mut machine, product, matrix, mut work) = scene();
        let at = machine.room(&[*work]);
        machine
            .run(|mapping| multiply(mapping, &product, Place::new(at, 1)))
            .unwrap();
        Scalar.linear(&matrix.borrow(), &mut work);
        let found: Work = machine.get(at);
        assert_eq!(found.projected[..ROWS], work.projected[..ROWS]);
    }

    #[test]
    fn misuse_is_an_error_and_writes_nothing() {
        let (mut machine, good, _, work) = scene();
        let at = machine.room(&[*work]);
        let mut inside = |product: Product| {
            let before = machine.written();
            let refused = machine.run(|mapping| multiply(mapping, &product, Place::new(at, 1)));
            assert!(machine.written() == before, "nothing was written");
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            inside(Product {
                weights: at,
                ..good
            }),
            Misuse::Overlap.to_string()
        );
        assert_eq!(
            inside(Product {
                multipliers: good.weights & !3,
                ..good
            }),
            Misuse::Scale.to_string(),
            "weights are no multipliers"
        );
        for address in [0, u64::MAX, good.weights + 100_000] {
            inside(Product {
                weights: address,
                ..good
            });
            inside(Product {
                multipliers: address,
                ..good
            });
        }
        inside(Product {
            multipliers: good.multipliers + 1,
            ..good
        });
        for (rows, columns) in [
            (0, 1),
            (1, 0),
            (1 << 20, 1),
            (1, 1 << 20),
            (u64::MAX, u64::MAX),
        ] {
            let odd = Product {
                rows,
                columns,
                ..good
            };
            assert_eq!(check(&odd), Err(Misuse::Matrix { rows, columns }));
        }
        assert_eq!(check(&Product { shift: 63, ..good }), Err(Misuse::Scale));
        assert_eq!(check(&good), Ok(()));
    }
}
