//! Every kernel of this machine gives the bytes of the plain one: any shape, any data,
//! odd lengths, misaligned slices.
#![cfg(feature = "std")]

use proptest::prelude::*;
use worldline_mamba2::sample::{Matrix, Model, Random, Size, activations, wild_activations};
use worldline_mamba2::*;

/// Kernels beside the scalar ones.
fn others() -> Vec<Native> {
    Native::available().into_iter().skip(1).collect()
}

/// A copy of `values` that begins at an odd address.
struct Misaligned(Vec<i8>);

impl Misaligned {
    fn new(values: &[i8]) -> Self {
        let mut copy = Self(vec![0; values.len() + 1]);
        let first = copy.first();
        copy.0[first..][..values.len()].copy_from_slice(values);
        copy
    }

    fn first(&self) -> usize {
        usize::from((self.0.as_ptr() as usize).is_multiple_of(2))
    }

    fn slice(&self) -> &[i8] {
        &self.0[self.first()..][..self.0.len() - 1]
    }
}

/// Bytes: random, or all at the ends of the range.
fn plane(count: usize, random: &mut Random, extreme: bool) -> Vec<i8> {
    let ends = [i8::MIN, i8::MAX];
    let byte = |random: &mut Random| {
        let draw = random.draw();
        if extreme {
            ends[(draw & 1) as usize]
        } else {
            draw as i8
        }
    };
    (0..count).map(|_| byte(random)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn matvec(rows in 1usize..70, columns in 1usize..=MAX_COLUMNS, seed: u64, extreme: bool) {
        let random = &mut Random(seed);
        let input = plane(columns, random, extreme);
        let weights = plane(rows * columns, random, extreme);
        let mut expected = vec![0; rows];
        Scalar.matvec(MatVec { weights: &weights, input: &input, output: &mut expected });
        let (weights, input) = (Misaligned::new(&weights), Misaligned::new(&input));
        for kernels in others() {
            let mut output = vec![-1; rows];
            kernels.matvec(MatVec {
                weights: weights.slice(),
                input: input.slice(),
                output: &mut output,
            });
            prop_assert_eq!(&output, &expected, "{}", kernels.name());
        }
    }

    #[test]
    fn linear(
        rows in 1usize..140,
        columns in prop_oneof![1usize..=MAX_COLUMNS, (1usize..=MAX_COLUMNS / 64).prop_map(|n| 64 * n)],
        sessions in 1usize..20,
        seed: u64,
        shift in 0u32..=40,
        extreme: bool,
    ) {
        let random = &mut Random(seed);
        let mut matrix = Matrix::random(rows, columns, 65_536.0, random);
        if extreme {
            matrix.weights = plane(rows * columns, random, true);
            let sums = matrix.weights.chunks(columns).map(|row| row.iter().map(|w| i32::from(*w)).sum());
            matrix.row_sums = sums.collect();
            matrix.multipliers.fill(MAX_MULTIPLIER - 1);
        }
        matrix.shift = shift;
        let mut works: Vec<_> = (0..sessions).map(|_| Work::boxed()).collect();
        for work in &mut works {
            split_planes(&wild_activations(columns, random), &mut work.high, &mut work.low);
        }
        let mut expected = works.clone();
        for work in &mut expected {
            Scalar.linear(&matrix.borrow(), work);
        }
        for kernels in others() {
            let (mut single, mut batch) = (works[0].clone(), works.clone());
            kernels.linear(&matrix.borrow(), &mut single);
            prop_assert_eq!(&single.projected[..rows], &expected[0].projected[..rows], "{}", kernels.name());
            let mut unsummed = works[0].clone();
            kernels.linear_unsummed(&Linear { row_sums: &[], ..matrix.borrow() }, &mut unsummed);
            prop_assert!(bytemuck::bytes_of(&*unsummed) == bytemuck::bytes_of(&*expected[0]), "unsummed, {}", kernels.name());
            kernels.linear_batch(&matrix.borrow(), &mut batch.iter_mut().map(|work| &mut **work).collect::<Vec<_>>());
            for (work, expected) in batch.iter().zip(&expected) {
                prop_assert_eq!(&work.projected[..rows], &expected.projected[..rows], "batch, {}", kernels.name());
            }
        }
    }

    #[test]
    fn scan(half in 1usize..=8, seed: u64, decay in 0i16.., extreme: bool) {
        let random = &mut Random(seed);
        let mut number = |extreme: bool| match random.draw() {
            draw if extreme => if draw & 1 == 0 { 32_767 } else { -32_767 },
            draw => math::sat16(i32::from(draw as i16)),
        };
        let dtx: [i16; HEAD_DIM] = core::array::from_fn(|_| number(extreme));
        let [b, c]: [Vec<i16>; 2] = core::array::from_fn(|_| (0..2 * half).map(|_| number(extreme)).collect());
        let mut state: Vec<i16> = (0..2 * half * HEAD_DIM).map(|_| number(extreme)).collect();
        if extreme {
            state.fill(i16::MIN);
        }
        let (mut expected, mut y) = (state.clone(), [0; HEAD_DIM]);
        Scalar.scan(Scan { state: &mut expected, decay, dtx: &dtx, b: &b, c: &c, y: &mut y });
        for kernels in others() {
            let (mut state, mut other) = (state.clone(), [-1; HEAD_DIM]);
            kernels.scan(Scan { state: &mut state, decay, dtx: &dtx, b: &b, c: &c, y: &mut other });
            prop_assert_eq!(&state, &expected, "{}", kernels.name());
            prop_assert_eq!(&other, &y, "{}", kernels.name());
        }
    }

    #[test]
    fn silu(values in prop::collection::vec(any::<i16>(), 0..200)) {
        let tables = tables::Owned::generate();
        let mut expected = values.clone();
        Scalar.silu(&tables.silu, &mut expected);
        for kernels in others() {
            let mut values = values.clone();
            kernels.silu(&tables.silu, &mut values);
            prop_assert_eq!(&values, &expected, "{}", kernels.name());
        }
    }

    #[test]
    fn frames(seed: u64, width in 1usize..=6, half in 1usize..=8, wild: bool) {
        let dims = Dims { d_model: 32 * width, d_state: 2 * half };
        let size = Size { dims, layers: 2, inputs: 33, outputs: 7 };
        let model = Model::random(size, seed);
        let random = &mut Random(seed);
        let draw = if wild { wild_activations } else { activations };
        let frames: Vec<_> = (0..3).map(|_| draw(size.inputs, random)).collect();
        let expected = run(&Scalar, &model, &frames);
        for kernels in others() {
            prop_assert_eq!(&run(&kernels, &model, &frames), &expected, "{}", kernels.name());
        }
    }
}

/// Outputs of each frame, and the memory after the last.
fn run<K: Kernels>(
    kernels: &K,
    model: &Model,
    frames: &[Vec<i16>],
) -> (Vec<Vec<i32>>, Vec<Vec<i16>>) {
    let (mut state, mut work) = (model.state(), Work::boxed());
    let mut outputs = Vec::new();
    for inputs in frames {
        embed(kernels, &model.input(), inputs, &mut work);
        for (layer, state) in model.layers().zip(&mut state) {
            layer_step(kernels, &layer, state, &mut work);
        }
        outputs.push(head(kernels, &model.output(), &model.tables(), &mut work).to_vec());
    }
    (
        outputs,
        state.iter().map(|state| state.numbers().to_vec()).collect(),
    )
}

#[test]
fn the_whole_step_at_full_width() {
    let model = Model::random(
        Size {
            layers: 1,
            ..Size::FULL
        },
        11,
    );
    let frames: Vec<_> = (0..4).map(|_| activations(64, &mut Random(12))).collect();
    let expected = run(&Scalar, &model, &frames);
    for kernels in others() {
        assert_eq!(
            run(&kernels, &model, &frames),
            expected,
            "{}",
            kernels.name()
        );
    }
}
