//! `sol_ssm_scan`.
#![allow(unsafe_code)] // The runtime's macro declares the entry that its machine code calls.

use crate::memory::{Failure, Misuse, Outputs, Place, claim, range, read};
use crate::price::scan_price;
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::declare_builtin_function;
use worldline_mamba2::{HEAD_DIM, Kernels, MAX_D_STATE, Scan};

declare_builtin_function!(
    /// `sol_ssm_scan(state, dtx, bc, y, shape)`: one frame of one head of 64 channels.
    ///
    /// `shape` is the state size N in its low 16 bits and the decay, Q15, in the next 16. `state` is
    /// `[N/2][64][2]`, `dtx` 64, `bc` N of B and then N of C, all 16-bit numbers; `y` is 64 32-bit
    /// numbers. Each state becomes `round(state·decay / 2^15) + round(dtx·B / 2^15)`, saturating; `y` is
    /// the sum over pairs of `(state·C + state'·C') >> 3`.
    SsmScan,
    fn rust(
        context: &mut InvokeContext<'static, 'static>,
        state: u64,
        dtx: u64,
        bc: u64,
        y: u64,
        shape: u64,
    ) -> Result<u64, Failure> {
        run(context, [state, dtx, bc, y], shape)?;
        Ok(0)
    }
);

fn run(
    context: &mut InvokeContext<'static, 'static>,
    [state, dtx, bc, y]: [u64; 4],
    shape: u64,
) -> Result<(), Failure> {
    const HEAD: u64 = HEAD_DIM as u64;
    let (n, decay) = (shape & 0xffff, (shape >> 16) as i16);
    context.compute_meter.consume_checked(scan_price(n))?;
    let sound = (2..=MAX_D_STATE as u64).contains(&n) && n.is_multiple_of(2) && decay >= 0;
    if !sound || shape >> 32 != 0 {
        return Err(Misuse::Shape { shape }.into());
    }
    let (state, y) = (Place::new(state, n * HEAD), Place::new(y, HEAD));
    claim::<i16>(context, state)?;
    claim::<i32>(context, y)?;
    let mapping = context.memory_contexts.memory_mapping()?;
    let dtx = read::<i16>(mapping, Place::new(dtx, HEAD))?;
    let bc = read::<i16>(mapping, Place::new(bc, 2 * n))?;
    if dtx.contains(&i16::MIN) || bc.contains(&i16::MIN) {
        return Err(Misuse::Number.into());
    }
    let mut outputs = Outputs::beside(mapping, &[range(dtx), range(bc)]);
    let state = outputs.take(state)?;
    let y: &mut [i32] = outputs.take(y)?;
    let (b, c) = bc.split_at(n as usize);
    let (dtx, y) = (dtx.try_into()?, y.try_into()?);
    crate::kernels().scan(Scan {
        state,
        decay,
        dtx,
        b,
        c,
        y,
    });
    Ok(())
}
