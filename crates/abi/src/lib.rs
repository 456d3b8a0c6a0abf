//! worldline-abi
