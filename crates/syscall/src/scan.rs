//! `sol_ssm_scan`.
#![allow(unsafe_code)] // The runtime's macro declares the entry that its machine code calls.

use crate::memory::{Failure, Misuse, Outputs, Place, Reader, claim, read};
use crate::price::{SCAN_BASE, scan_price};
use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::declare_builtin_function;
use solana_program_runtime::solana_sbpf::memory_region::MemoryMapping;
use worldline_mamba2::{
    Block, CONV_TAPS, Dims, HEAD_DIM, Kernels, Layer, LayerParams, LayerState, Linear, MAX_D_MODEL,
    MAX_D_STATE, MAX_HEADS, Tables, Work, tables,
};

declare_builtin_function!(
    /// `sol_ssm_scan(block)`: one block of one frame, between its two matrices: convolution, SiLU,
    /// time steps, the selective scan over every head's state, gate, normalisation.
    ///
    /// `block` is the address of a [`Block`], which says where everything is. The state and the work
    /// are written to; the sums are those of `worldline_mamba2`, to the bit.
    SsmScan,
    fn rust(
        context: &mut InvokeContext<'static, 'static>,
        block: u64,
        _b: u64,
        _c: u64,
        _d: u64,
        _e: u64,
    ) -> Result<u64, Failure> {
        run(context, block)?;
        Ok(0)
    }
);

fn run(context: &mut InvokeContext<'static, 'static>, block: u64) -> Result<(), Failure> {
    context.compute_meter.consume_checked(SCAN_BASE)?;
    let mapping = context.memory_contexts.memory_mapping()?;
    let block = read::<Block>(mapping, Place::new(block, 1))?[0];
    let dims = sizes(&block)?;
    context
        .compute_meter
        .consume_checked(scan_price(dims) - SCAN_BASE)?;
    let places = Places::new(&block, dims);
    claim::<Work>(context, places.work)?;
    claim::<i16>(context, places.conv)?;
    for head in &places.heads[..dims.heads()] {
        claim::<i16>(context, *head)?;
    }
    mix(context.memory_contexts.memory_mapping()?, &block, dims)
}

/// The block's sizes, if it has any that are run.
fn sizes(block: &Block) -> Result<Dims, Misuse> {
    let (d_model, d_state) = (block.d_model, block.d_state);
    let sound = (1..=MAX_D_MODEL as u64).contains(&d_model)
        && d_model.is_multiple_of(32)
        && (2..=MAX_D_STATE as u64).contains(&d_state)
        && d_state.is_multiple_of(2);
    if !sound {
        return Err(Misuse::Sizes { d_model, d_state });
    }
    Ok(Dims {
        d_model: d_model as usize,
        d_state: d_state as usize,
    })
}

/// What is written.
struct Places {
    work: Place,
    conv: Place,
    heads: [Place; MAX_HEADS],
}

impl Places {
    fn new(block: &Block, dims: Dims) -> Self {
        let state = dims.head_state() as u64;
        Self {
            work: Place::new(block.work, 1),
            conv: Place::new(block.conv, dims.conv_state() as u64),
            heads: block.heads.map(|head| Place::new(head, state)),
        }
    }
}

/// A block's memory, wherever its parts lie.
struct Memory<'m> {
    conv: &'m mut [i16],
    heads: Vec<&'m mut [i16]>,
}

impl LayerState for Memory<'_> {
    fn conv(&mut self) -> &mut [i16] {
        self.conv
    }

    fn head(&mut self, index: usize) -> &mut [i16] {
        self.heads[index]
    }
}

/// Everything is where the block says, is what a layer may be, and nothing overlaps: mixes.
fn mix(mapping: &MemoryMapping, block: &Block, dims: Dims) -> Result<(), Failure> {
    let mut reader = Reader::new(mapping);
    let (channels, heads) = (dims.conv_dim(), dims.heads());
    let p = &block.params;
    let params = LayerParams {
        in_proj: NONE,
        conv_taps: reader.take(p[0], CONV_TAPS * channels)?,
        conv_shift: reader.take(p[1], channels)?,
        conv_bias: reader.take(p[2], channels)?,
        dt_bias: reader.take(p[3], heads)?,
        a: reader.take(p[4], heads)?,
        state_mul: reader.take(p[5], heads)?,
        dtx_shift: reader.take(p[6], heads)?,
        y_mul: reader.take(p[7], heads)?,
        d_mul: reader.take(p[8], heads)?,
        y_shift: reader.take(p[9], heads)?,
        out_proj: NONE,
    };
    let t = &block.tables;
    let tables = Tables {
        silu: reader.take(t[0], tables::SILU_ENTRIES)?,
        softplus: reader.take(t[1], tables::SOFTPLUS_ENTRIES)?,
        exp: reader.take(t[2], tables::EXP_ENTRIES)?,
        rsqrt: reader.take(t[3], tables::RSQRT_ENTRIES)?,
    };
    let layer = Layer {
        dims,
        params,
        tables,
    };
    layer.check_mix().map_err(Misuse::Bound)?;
    let places = Places::new(block, dims);
    let mut outputs = Outputs::beside(mapping, &reader.taken);
    let work = &mut outputs.take::<Work>(places.work)?[0];
    let conv = outputs.take(places.conv)?;
    let heads = places.heads[..heads].iter().map(|head| outputs.take(*head));
    let heads = heads.collect::<Result<_, _>>()?;
    crate::kernels().mix(&layer, &mut Memory { conv, heads }, work);
    Ok(())
}

/// The matrices are the program's own affair.
const NONE: Linear<'static> = Linear {
    weights: &[],
    row_sums: &[],
    multipliers: &[],
    columns: 0,
    shift: 0,
};

const _: () = assert!(HEAD_DIM == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::Machine;
    use worldline_mamba2::sample::{Model, Size};
    use worldline_mamba2::{Contiguous, Scalar, contiguous_len};

    /// A random block in a machine's memory: parameters to read, state and work to write.
    struct Scene {
        machine: Machine,
        block: Block,
        dims: Dims,
    }

    fn model() -> Model {
        Model::random(Size::MICRO, 7)
    }

    fn work() -> Box<Work> {
        let mut work = Work::boxed();
        for (at, number) in work.projected.iter_mut().enumerate() {
            *number = (at as i32).wrapping_mul(7_919) % 60_000 - 30_000;
        }
        work
    }

    impl Scene {
        fn new() -> Self {
            let model = model();
            let layer = model.layers().next().unwrap();
            let (p, t, dims) = (layer.params, layer.tables, layer.dims);
            let mut machine = Machine::default();
            let params = [
                machine.put(p.conv_taps),
                machine.put(p.conv_shift),
                machine.put(p.conv_bias),
                machine.put(p.dt_bias),
                machine.put(p.a),
                machine.put(p.state_mul),
                machine.put(p.dtx_shift),
                machine.put(p.y_mul),
                machine.put(p.d_mul),
                machine.put(p.y_shift),
            ];
            let tables = [
                machine.put(t.silu),
                machine.put(t.softplus),
                machine.put(t.exp),
                machine.put(t.rsqrt),
            ];
            let mut heads = [0; MAX_HEADS];
            for head in &mut heads[..dims.heads()] {
                *head = machine.room(&vec![0i16; dims.head_state()]);
            }
            let conv = machine.room(&vec![0i16; dims.conv_state()]);
            let work = machine.room(&[*work()]);
            let (d_model, d_state) = (dims.d_model as u64, dims.d_state as u64);
            let block = Block {
                d_model,
                d_state,
                work,
                conv,
                heads,
                params,
                tables,
            };
            Self {
                machine,
                block,
                dims,
            }
        }

        /// The misuse that the block is refused for; nothing has been written.
        fn refused(&mut self) -> String {
            let before = self.machine.written();
            let (block, dims) = (self.block, self.dims);
            let error = self
                .machine
                .run(|mapping| mix(mapping, &block, dims))
                .unwrap_err();
            assert!(self.machine.written() == before, "nothing was written");
            error.to_string()
        }
    }

    #[test]
    fn a_block_is_mixed_as_the_scalar_kernels_do() {
        let mut scene = Scene::new();
        let model = model();
        let layer = model.layers().next().unwrap();
        let mut expected = work();
        let mut state = Contiguous::new(scene.dims, vec![0; contiguous_len(scene.dims)]);
        for _ in 0..3 {
            let (block, dims) = (scene.block, scene.dims);
            scene
                .machine
                .run(|mapping| mix(mapping, &block, dims))
                .unwrap();
            Scalar.mix(&layer, &mut state, &mut expected);
        }
        let inner = scene.dims.d_inner();
        let found: Work = scene.machine.get(scene.block.work);
        assert_eq!(found.high[..inner], expected.high[..inner]);
        assert_eq!(found.low[..inner], expected.low[..inner]);
        let bytes = 2 * scene.dims.head_state();
        let head: Vec<u8> = scene.machine.bytes(scene.block.heads[0], bytes);
        assert_eq!(head, bytemuck::cast_slice::<i16, u8>(state.head(0)));
    }

    #[test]
    fn sizes_that_no_block_has_are_refused() {
        let block = Scene::new().block;
        for (d_model, d_state) in [
            (0, 16),
            (33, 16),
            (544, 16),
            (64, 0),
            (64, 3),
            (64, 18),
            (u64::MAX, 16),
        ] {
            let odd = Block {
                d_model,
                d_state,
                ..block
            };
            assert_eq!(sizes(&odd).unwrap_err(), Misuse::Sizes { d_model, d_state });
        }
        assert!(sizes(&block).is_ok());
    }

    #[test]
    fn every_address_is_checked() {
        let fields = size_of::<Block>() / 8;
        let heads = Scene::new().dims.heads();
        for field in 2..fields {
            // Heads that this block does not have are never looked at.
            if (4 + heads..4 + MAX_HEADS).contains(&field) {
                continue;
            }
            for wrong in [0, u64::MAX, u64::MAX / 2] {
                let mut scene = Scene::new();
                let words: &mut [u64] =
                    bytemuck::cast_slice_mut(std::slice::from_mut(&mut scene.block));
                words[field] = wrong;
                scene.refused();
            }
            let mut scene = Scene::new();
            let words: &mut [u64] =
                bytemuck::cast_slice_mut(std::slice::from_mut(&mut scene.block));
            words[field] += 1;
            // One byte further: no multiple of its number, or (for bytes) other numbers.
            let (block, dims) = (scene.block, scene.dims);
            let _ = scene.machine.run(|mapping| mix(mapping, &block, dims));
        }
    }

    #[test]
    fn what_is_written_stands_alone() {
        let overlap = Misuse::Overlap.to_string();
        let mut scene = Scene::new();
        scene.block.heads[1] = scene.block.heads[0] + 64;
        assert_eq!(scene.refused(), overlap);
        let mut scene = Scene::new();
        scene.block.conv = scene.block.work + 128;
        assert_eq!(scene.refused(), overlap);
        let mut scene = Scene::new();
        scene.block.params[2] = scene.block.work;
        scene.refused();
    }

    #[test]
    fn numbers_that_could_overflow_are_refused() {
        let mut scene = Scene::new();
        // The taps where the time steps' biases should be: other numbers, all lengths right.
        scene.block.params[9] = scene.block.params[0];
        assert!(scene.refused().contains("y_shift"));
    }
}
