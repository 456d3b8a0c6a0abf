//! worldline-mamba2
