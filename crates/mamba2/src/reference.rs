//! The same network in floating point: what the integers approximate, and what agrees
//! with the library that trained a checkpoint. Slow and plain; `f32` or `f64`.
//!
//! Loads a checkpoint in Hugging Face's `Mamba2` format (`config.json` and
//! `model.safetensors`) unmodified, with or without the language model around it.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::path::{Path, PathBuf};

/// A floating-point number that the step is computed in.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Rounded from `f64`.
    fn of(value: f64) -> Self;
    /// `e^self`.
    fn exp(self) -> Self;
    /// `ln(1 + self)`.
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
}

macro_rules! real {
    ($($float:ident),+) => {$(
        impl Real for $float {
            fn of(value: f64) -> Self {
                value as $float
            }
            fn exp(self) -> Self {
                $float::exp(self)
            }
            fn ln_1p(self) -> Self {
                $float::ln_1p(self)
            }
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }
        }
    )+};
}
real!(f32, f64);

/// Why a checkpoint could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration is not JSON.
    #[error("config.json is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A setting is missing, or has a value that this step does not compute.
    #[error("config.json: {name} is {found}, this step needs {needed}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What it says.
        found: String,
        /// What is needed.
        needed: &'static str,
    },
    /// The weights are not a safetensors file.
    #[error("the weights are not a safetensors file: {0}")]
    Tensors(#[from] safetensors::SafeTensorError),
    /// A tensor has another shape than the configuration asks for.
    #[error("tensor {name} holds {found} numbers where the configuration asks for {expected}")]
    Shape {
        /// The tensor.
        name: String,
        /// Numbers in the file.
        found: usize,
        /// Numbers that the configuration asks for.
        expected: usize,
    },
    /// A tensor is stored in a type that is not a float.
    #[error("tensor {name} is stored as {dtype:?}: store it as F64, F32, F16 or BF16")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
}

/// A network's settings, named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Config {
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub state_size: usize,
    pub head_dim: usize,
    pub num_heads: usize,
    pub n_groups: usize,
    pub conv_kernel: usize,
    pub layer_norm_epsilon: f64,
    /// Least and greatest time step after softplus.
    pub time_step_limit: (f64, f64),
}

impl Config {
    /// Reads `config.json`; infinities may be written as Python writes them, bare, as a
    /// string, or as `{"__float__": "Infinity"}`.
    pub fn parse(json: &str) -> Result<Self, LoadError> {
        let json: Value = serde_json::from_str(&quote_bare_floats(json))?;
        let size = |name: &'static str| match json[name].as_u64() {
            Some(value @ 1..=0xffff_ffff) => Ok(value as usize),
            _ => Err(setting(name, &json[name], "a positive number")),
        };
        let float = |name: &'static str, value: &Value, default: f64| match value {
            Value::Null => Ok(default),
            value => number(value).ok_or_else(|| setting(name, value, "a number")),
        };
        match json["hidden_act"].as_str() {
            None | Some("silu" | "swish") => {}
            _ => return Err(setting("hidden_act", &json["hidden_act"], "silu")),
        }
        let limit = &json["time_step_limit"];
        Ok(Self {
            hidden_size: size("hidden_size")?,
            num_hidden_layers: size("num_hidden_layers")?,
            state_size: size("state_size")?,
            head_dim: size("head_dim")?,
            num_heads: size("num_heads")?,
            n_groups: size("n_groups")?,
            conv_kernel: size("conv_kernel")?,
            layer_norm_epsilon: float("layer_norm_epsilon", &json["layer_norm_epsilon"], 1e-5)?,
            time_step_limit: (
                float("time_step_limit", &limit[0], 0.0)?,
                float("time_step_limit", &limit[1], f64::INFINITY)?,
            ),
        })
    }

    fn inner(&self) -> usize {
        self.num_heads * self.head_dim
    }

    fn conv_dim(&self) -> usize {
        self.inner() + 2 * self.n_groups * self.state_size
    }

    fn in_rows(&self) -> usize {
        self.inner() + self.conv_dim() + self.num_heads
    }
}

fn setting(name: &'static str, found: &Value, needed: &'static str) -> LoadError {
    LoadError::Setting {
        name,
        found: found.to_string(),
        needed,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(), // "Infinity", "inf", "-Infinity", "nan"
        Value::Object(object) => object.get("__float__").and_then(number),
        _ => None,
    }
}

/// Puts Python's bare `Infinity`, `-Infinity` and `NaN` in quotes, outside of strings.
fn quote_bare_floats(json: &str) -> String {
    let mut quoted = String::with_capacity(json.len());
    for (index, part) in json.split('"').enumerate() {
        if index > 0 {
            quoted.push('"');
        }
        if index % 2 == 1 {
            quoted.push_str(part);
            continue;
        }
        let part = part
            .replace("-Infinity", "\u{1}")
            .replace("Infinity", "\"Infinity\"");
        quoted.push_str(
            &part
                .replace('\u{1}', "\"-Infinity\"")
                .replace("NaN", "\"NaN\""),
        );
    }
    quoted
}

/// One block's weights; matrices row by row.
#[derive(Debug, Clone)]
struct Block<T> {
    norm: Vec<T>,
    in_proj: Vec<T>,
    in_bias: Option<Vec<T>>,
    conv: Vec<T>,
    conv_bias: Option<Vec<T>>,
    dt_bias: Vec<T>,
    a: Vec<T>,
    d: Vec<T>,
    gated_norm: Vec<T>,
    out_proj: Vec<T>,
    out_bias: Option<Vec<T>>,
}

/// One block's memory.
#[derive(Debug, Clone)]
pub struct BlockState<T> {
    /// `[conv_kernel - 1][conv_dim]`, oldest first.
    pub conv: Vec<T>,
    /// `[num_heads][head_dim][state_size]`.
    pub heads: Vec<T>,
}

/// A network in floating point.
#[derive(Debug, Clone)]
pub struct Model<T> {
    config: Config,
    blocks: Vec<Block<T>>,
    norm_f: Vec<T>,
}

impl<T: Real> Model<T> {
    /// Loads `config.json` and `model.safetensors` from a folder.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| LoadError::Read { path, source })
        };
        let config = String::from_utf8_lossy(&read("config.json")?).into_owned();
        Self::parse(&config, &read("model.safetensors")?)
    }

    /// Reads the bytes of both files.
    pub fn parse(config: &str, weights: &[u8]) -> Result<Self, LoadError> {
        let config = Config::parse(config)?;
        let tensors = SafeTensors::deserialize(weights)?;
        let bare = tensors.tensor("norm_f.weight").is_ok();
        let file = File {
            tensors,
            prefix: if bare { "" } else { "backbone." },
        };
        let block = |index| Block::read(&config, &file, index);
        let blocks = (0..config.num_hidden_layers)
            .map(block)
            .collect::<Result<_, _>>()?;
        let norm_f = file.read("norm_f.weight", config.hidden_size)?;
        Ok(Self {
            config,
            blocks,
            norm_f,
        })
    }

    /// The settings it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A fresh memory: all zeros.
    pub fn state(&self) -> Vec<BlockState<T>> {
        let config = &self.config;
        let zeros = |count| vec![T::of(0.0); count];
        let heads = config.inner() * config.state_size;
        let conv = (config.conv_kernel - 1) * config.conv_dim();
        self.blocks
            .iter()
            .map(|_| BlockState {
                conv: zeros(conv),
                heads: zeros(heads),
            })
            .collect()
    }

    /// One step: `hidden` (an embedded input) becomes the output after the final norm.
    pub fn step(&self, state: &mut [BlockState<T>], hidden: &mut [T]) {
        for (index, state) in state.iter_mut().enumerate() {
            self.block(index, state, hidden);
        }
        normalize(hidden, &self.norm_f, self.config.layer_norm_epsilon);
    }

    /// One step of block `index`, residual included.
    pub fn block(&self, index: usize, state: &mut BlockState<T>, hidden: &mut [T]) {
        let output = self.blocks[index].step(&self.config, state, hidden);
        hidden
            .iter_mut()
            .zip(output)
            .for_each(|(hidden, value)| *hidden = *hidden + value);
    }
}

impl<T: Real> Block<T> {
    fn read(config: &Config, file: &File<'_>, index: usize) -> Result<Self, LoadError> {
        let (inner, hidden, heads) = (config.inner(), config.hidden_size, config.num_heads);
        let channels = config.conv_dim();
        let name = |name: &str| format!("layers.{index}.{name}");
        let read = |part: &str, count| file.read(&name(part), count);
        let optional = |part: &str, count| file.optional(&name(part), count);
        let a_log: Vec<T> = read("mixer.A_log", heads)?;
        Ok(Self {
            norm: read("norm.weight", hidden)?,
            in_proj: read("mixer.in_proj.weight", config.in_rows() * hidden)?,
            in_bias: optional("mixer.in_proj.bias", config.in_rows())?,
            conv: read("mixer.conv1d.weight", channels * config.conv_kernel)?,
            conv_bias: optional("mixer.conv1d.bias", channels)?,
            dt_bias: read("mixer.dt_bias", heads)?,
            a: a_log.into_iter().map(|log| -log.exp()).collect(),
            d: read("mixer.D", heads)?,
            gated_norm: read("mixer.norm.weight", inner)?,
            out_proj: read("mixer.out_proj.weight", hidden * inner)?,
            out_bias: optional("mixer.out_proj.bias", hidden)?,
        })
    }

    fn step(&self, config: &Config, state: &mut BlockState<T>, hidden: &[T]) -> Vec<T> {
        let (inner, channels) = (config.inner(), config.conv_dim());
        let mut input = hidden.to_vec();
        normalize(&mut input, &self.norm, config.layer_norm_epsilon);
        let projected = product(&self.in_proj, &input, self.in_bias.as_deref());
        let (z, rest) = projected.split_at(inner);
        let (new, raw_dt) = rest.split_at(channels);

        state.conv.extend_from_slice(new);
        let mut xbc = self
            .conv_bias
            .clone()
            .unwrap_or_else(|| vec![T::of(0.0); channels]);
        for (channel, sum) in xbc.iter_mut().enumerate() {
            let taps = &self.conv[channel * config.conv_kernel..][..config.conv_kernel];
            for (tap, past) in taps.iter().zip(state.conv.chunks(channels)) {
                *sum = *sum + *tap * past[channel];
            }
            *sum = silu(*sum);
        }
        state.conv.drain(..channels);

        let (x, bc) = xbc.split_at(inner);
        let (b, c) = bc.split_at(bc.len() / 2);
        let mut y = Vec::with_capacity(inner);
        let size = config.state_size;
        for (index, (x, state)) in x.iter().zip(state.heads.chunks_exact_mut(size)).enumerate() {
            let head = index / config.head_dim;
            let group = head * config.n_groups / config.num_heads * size;
            let dt = self.time_step(config, head, raw_dt[head]);
            let decay = (dt * self.a[head]).exp();
            let mut sum = self.d[head] * *x;
            for (n, state) in state.iter_mut().enumerate() {
                *state = decay * *state + dt * *x * b[group + n];
                sum = sum + *state * c[group + n];
            }
            y.push(sum * silu(z[index]));
        }
        normalize(&mut y, &self.gated_norm, config.layer_norm_epsilon);
        product(&self.out_proj, &y, self.out_bias.as_deref())
    }

    fn time_step(&self, config: &Config, head: usize, raw: T) -> T {
        let raw = raw + self.dt_bias[head];
        // Above 20 the library returns the number itself: the difference is below 3e-9.
        let dt = if raw > T::of(20.0) {
            raw
        } else {
            raw.exp().ln_1p()
        };
        let (least, most) = (
            T::of(config.time_step_limit.0),
            T::of(config.time_step_limit.1),
        );
        if dt < least {
            least
        } else if dt > most {
            most
        } else {
            dt
        }
    }
}

fn silu<T: Real>(x: T) -> T {
    x / (T::of(1.0) + (-x).exp())
}

fn normalize<T: Real>(values: &mut [T], weight: &[T], epsilon: f64) {
    let sum = values
        .iter()
        .fold(T::of(0.0), |sum, value| sum + *value * *value);
    let scale = T::of(1.0) / (sum / T::of(values.len() as f64) + T::of(epsilon)).sqrt();
    values
        .iter_mut()
        .zip(weight)
        .for_each(|(value, weight)| *value = *value * scale * *weight);
}

fn product<T: Real>(matrix: &[T], input: &[T], bias: Option<&[T]>) -> Vec<T> {
    let rows = matrix.chunks_exact(input.len()).enumerate();
    rows.map(|(row, weights)| {
        let start = bias.map_or(T::of(0.0), |bias| bias[row]);
        weights
            .iter()
            .zip(input)
            .fold(start, |sum, (weight, value)| sum + *weight * *value)
    })
    .collect()
}

/// A checkpoint's tensors.
struct File<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl File<'_> {
    fn read<T: Real>(&self, name: &str, expected: usize) -> Result<Vec<T>, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.tensors.tensor(&name)?;
        let found = tensor.shape().iter().product();
        if found != expected {
            return Err(LoadError::Shape {
                name,
                found,
                expected,
            });
        }
        floats(&tensor).ok_or(LoadError::Dtype {
            name,
            dtype: tensor.dtype(),
        })
    }

    fn optional<T: Real>(&self, name: &str, expected: usize) -> Result<Option<Vec<T>>, LoadError> {
        match self.tensors.tensor(&format!("{}{name}", self.prefix)) {
            Ok(_) => self.read(name, expected).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// A tensor's numbers, or `None` for a type that is not a float.
pub fn floats<T: Real>(tensor: &TensorView<'_>) -> Option<Vec<T>> {
    fn each<T: Real, const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<T> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|bytes| T::of(of(*bytes)))
            .collect()
    }
    let bytes = tensor.data();
    Some(match tensor.dtype() {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))),
        Dtype::BF16 => each(bytes, |bytes| {
            f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
        }),
        Dtype::F16 => each(bytes, |bytes| half(u16::from_le_bytes(bytes))),
        _ => return None,
    })
}

/// IEEE half precision.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_are_read_in_every_spelling() {
        let config = include_str!("../tests/data/hf-mamba2/config.json");
        let written = "{\n      \"__float__\": \"Infinity\"\n    }";
        assert!(config.contains(written));
        for spelling in [written, "Infinity", "\"inf\"", "1e999", "null"] {
            let Ok(config) = Config::parse(&config.replace(written, spelling)) else {
                assert_eq!(spelling, "1e999", "refused"); // JSON has no such number
                continue;
            };
            assert_eq!(config.time_step_limit, (0.0, f64::INFINITY), "{spelling}");
        }
        let config = Config::parse(&config.replace(written, "0.5")).unwrap();
        assert_eq!(config.time_step_limit, (0.0, 0.5));
        assert_eq!(
            quote_bare_floats("[\"NaN\", -Infinity]"),
            "[\"NaN\", \"-Infinity\"]"
        );
    }

    #[test]
    fn halves_are_what_ieee_says() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_477_539_063e-8),
        ];
        cases
            .iter()
            .for_each(|(bits, value)| assert_eq!(half(*bits), *value));
        assert_eq!(half(0x7c00), f64::INFINITY);
        assert!(half(0x7c01).is_nan());
    }
}
